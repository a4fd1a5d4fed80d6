//! What a deep scan keeps against all of its draws, how it survives, and the weights of what it keeps.

use super::super::journal::NoJournal;
use super::super::pool::{Drawn, Pool};
use super::*;
use crate::likelihood::{ClosureLikelihood, Evaluations};
use crate::posterior::Posterior;
use crate::prior::{IndependentPrior, Marginal};
use crate::rng::sobol_blocks;
use lwflow_engine::{DeviceChoice, Engine, EngineSettings};

const SEED: u64 = 7;
const ON: ControlFlow<()> = ControlFlow::Continue(());

fn square(half: f64) -> IndependentPrior {
    IndependentPrior::new(vec![Marginal::Uniform { lower: -half, upper: half }; 2]).unwrap()
}

/// log L of a normal with standard deviation 0.5, and no likelihood at all below the diagonal far out.
fn normal(t: &[f64]) -> f64 {
    if t[0] + t[1] < -6.0 { f64::NEG_INFINITY } else { -2.0 * (t[0] * t[0] + t[1] * t[1]) }
}

/// Keeps the deep scan in memory, as bytes, and the block that is being evaluated.
#[derive(Default)]
struct Memory(Option<Vec<u8>>, u32, Vec<f64>);

impl Journal for Memory {
    fn recall(&mut self, _: usize, _: &[f64], _: &mut Evaluations) -> Result<(), HostError> {
        Ok(())
    }
    fn record(&mut self, _: usize, _: &[f64], _: &[f64], _: &[f64]) -> Result<(), HostError> {
        panic!("a deep scan is not logged");
    }
    fn deep_scan(&mut self) -> Result<Option<DeepScan>, HostError> {
        Ok(self.0.as_ref().map(|bytes| DeepScan::from_bytes(bytes).unwrap()))
    }
    fn keep_deep_scan(&mut self, scan: &DeepScan) -> Result<(), HostError> {
        self.0 = Some(scan.to_bytes());
        Ok(())
    }
    fn deep_block(&mut self, block: u32) -> Result<Vec<f64>, HostError> {
        Ok(if block == self.1 { self.2.clone() } else { Vec::new() })
    }
    fn keep_deep_block(&mut self, block: u32, first: usize, log_l: &[f64]) -> Result<(), HostError> {
        if first == 0 {
            (self.1, self.2) = (block, Vec::new());
        }
        assert_eq!((self.1, self.2.len()), (block, first));
        self.2.extend(log_l);
        Ok(())
    }
    fn flow(&mut self, _: usize) -> Result<Option<Posterior>, HostError> {
        Ok(None)
    }
    fn keep_flow(&mut self, _: usize, _: &Posterior) -> Result<(), HostError> {
        Ok(())
    }
}

fn scanned(
    log_l: fn(&[f64]) -> f64,
    n_blocks: usize,
    journal: &mut dyn Journal,
    go_on: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<DeepScanned, HostError> {
    let mut likelihood = ClosureLikelihood::new(2, log_l);
    let mut evaluator = Evaluator::new(&mut likelihood, journal);
    let done = evaluator.deep_scan(&square(4.0), SEED, (3, n_blocks), go_on)?;
    assert_eq!(evaluator.n, done.scan.n());
    Ok(done)
}

#[test]
fn a_scan_is_whole_up_to_twelve_blocks_and_then_goes_deep_by_whole_ones() {
    assert_eq!(parts(1), (1, 0));
    assert_eq!(parts(100_000), (100_000, 0));
    assert_eq!(parts(13 * SOBOL_BLOCK), (12 * SOBOL_BLOCK, 1));
    let (n_whole, n_blocks) = parts(100_000_000);
    assert_eq!((n_whole, n_whole + n_blocks * SOBOL_BLOCK), (98_304 + 256, 100_000_000));
}

#[test]
fn what_is_kept_are_the_best_of_all_draws() {
    let done = scanned(normal, 8, &mut NoJournal, &mut |_| ON).unwrap();
    assert_eq!((done.made.0, done.on_device), (8 * SOBOL_BLOCK, false));
    let points = sobol_blocks(SEED, 11 * SOBOL_BLOCK, 2).points.split_off(3 * SOBOL_BLOCK * 2);
    let theta: Vec<[f64; 2]> = points.chunks(2).map(|u| [8.0 * u[0] - 4.0, 8.0 * u[1] - 4.0]).collect();
    let log_l: Vec<f64> = theta.iter().map(|t| normal(t)).collect();
    for (sums, log_l) in done.scan.blocks().iter().zip(log_l.chunks(SOBOL_BLOCK)) {
        let twice: Vec<f64> = log_l.iter().map(|l| 2.0 * l).collect();
        assert!((sums.log_sum - log_sum_exp(log_l)).abs() < 1e-9);
        assert!((sums.log_sum_squares - log_sum_exp(&twice)).abs() < 1e-9);
    }
    let mut sorted = log_l.clone();
    sorted.sort_by(|a, b| b.total_cmp(a));
    assert!((done.scan.threshold() - sorted[KEPT]).abs() < 1e-9);
    let kept = done.scan.kept();
    assert_eq!(kept.len(), KEPT);
    for (draw, t) in kept.iter().zip(super::theta(&square(4.0), SEED, &kept).chunks(2)) {
        let place = (draw.block as usize - 3) * SOBOL_BLOCK + draw.row as usize;
        assert!((t[0] - theta[place][0]).abs() + (t[1] - theta[place][1]).abs() < 1e-12);
        assert!(draw.log_likelihood == normal(t) && draw.log_likelihood > done.scan.threshold());
    }
    let share = done.scan.share_below(&[]);
    let below: f64 = sorted[KEPT..].iter().map(|l| l.exp()).sum();
    assert!((share - below / sorted.iter().map(|l| l.exp()).sum::<f64>()).abs() < 1e-9, "{share}");
}

#[test]
fn a_broken_off_scan_goes_on_to_the_same_bits() {
    let whole = scanned(normal, 9, &mut NoJournal, &mut |_| ON).unwrap();
    let mut memory = Memory::default();
    for attempt in 0..50 {
        let mut calls = 0;
        let done = scanned(normal, 9, &mut memory, &mut |_| {
            calls += 1;
            if calls == 10 + attempt { ControlFlow::Break(()) } else { ON }
        });
        let done = done.unwrap();
        if done.scan.n() == 9 * SOBOL_BLOCK {
            assert!(attempt > 0, "it was never broken off");
            assert_eq!(done.scan, whole.scan);
            // Another plan is another run.
            let error = scanned(normal, 8, &mut memory, &mut |_| ON).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("of 9 blocks from block 3 on"), "{error}");
            return;
        }
    }
    panic!("it never ended");
}

#[test]
fn a_block_of_a_slow_likelihood_is_kept_piece_by_piece() {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let slow = |t: &[f64]| {
        if CALLS.fetch_add(1, Relaxed).is_multiple_of(64) {
            std::thread::sleep(Duration::from_millis(10));
        }
        normal(t)
    };
    let mut memory = Memory::default();
    // Stops in the middle of the second block.
    let stop = SOBOL_BLOCK + SOBOL_BLOCK / 2;
    let done = scanned(slow, 2, &mut memory, &mut |n| if n >= stop { ControlFlow::Break(()) } else { ON });
    assert_eq!(done.unwrap().scan.n(), SOBOL_BLOCK);
    let before = CALLS.swap(0, Relaxed);
    assert!((stop..2 * SOBOL_BLOCK).contains(&before), "{before} evaluations");
    let done = scanned(slow, 2, &mut memory, &mut |_| ON).unwrap();
    // No draw was evaluated twice.
    assert_eq!(before + CALLS.load(Relaxed), 2 * SOBOL_BLOCK);
    assert_eq!(done.scan, scanned(normal, 2, &mut NoJournal, &mut |_| ON).unwrap().scan);
}

#[test]
fn equal_values_at_the_threshold_are_none_of_them_kept() {
    let steps = |t: &[f64]| if t[0] < -3.0 { 1.0 } else { 0.0 };
    let done = scanned(steps, 8, &mut NoJournal, &mut |_| ON).unwrap();
    assert_eq!((done.scan.threshold(), done.scan.kept().len()), (0.0, SOBOL_BLOCK));
    // Nothing without likelihood is kept.
    let nearly_none = |t: &[f64]| if t[0] < -3.99 { 1.0 } else { f64::NEG_INFINITY };
    let done = scanned(nearly_none, 8, &mut NoJournal, &mut |_| ON).unwrap();
    assert_eq!(done.scan.threshold(), f64::NEG_INFINITY);
    assert!((70..90).contains(&done.scan.kept().len()), "{}", done.scan.kept().len());
    assert_eq!(done.scan.share_below(&[]), 0.0);
}

#[test]
fn an_illegal_value_is_told_with_its_theta() {
    let bad = |t: &[f64]| if t[0] > 3.9 && t[1] > 3.9 { f64::NAN } else { 0.0 };
    match scanned(bad, 8, &mut NoJournal, &mut |_| ON).map(|_| ()).unwrap_err() {
        HostError::BadLogValue { value, theta, .. } => {
            assert!(value.is_nan() && theta[0] > 3.9 && theta[1] > 3.9);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn damaged_bytes_are_refused() {
    let scan = scanned(normal, 1, &mut NoJournal, &mut |_| ON).unwrap().scan;
    let bytes = scan.to_bytes();
    assert_eq!(DeepScan::from_bytes(&bytes), Some(scan));
    for at in (0..bytes.len()).step_by(997).chain(0..40) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 16;
        assert_eq!(DeepScan::from_bytes(&flipped), None, "byte {at}");
        assert_eq!(DeepScan::from_bytes(&bytes[..at]), None, "cut at {at}");
    }
}

#[test]
fn weights_of_kept_draws_are_exact_at_every_power_of_the_likelihood() {
    let engine = Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..Default::default() }).unwrap();
    let prior = square(4.0);
    let gauss = |t: &[f64]| -2.0 * (t[0] * t[0] + t[1] * t[1]);
    let done = scanned(gauss, 40, &mut NoJournal, &mut |_| ON).unwrap();
    let mut pool = Pool::new(2);
    let draws: Vec<ScanDraw> = (0..2 * SOBOL_BLOCK as u32)
        .map(|i| ScanDraw { block: i / SOBOL_BLOCK as u32, row: i % SOBOL_BLOCK as u32, log_likelihood: 0.0 })
        .collect();
    let drawn = |draws: &[ScanDraw]| {
        let theta = theta(&prior, SEED, draws);
        let log_likelihood = theta.chunks(2).map(gauss).collect();
        Drawn { theta, log_likelihood }
    };
    pool.add(&engine, &prior, None, draws.len(), drawn(&draws)).unwrap();
    pool.add_deep(&engine, &prior, done.scan.n(), done.scan.threshold(), drawn(&done.scan.kept())).unwrap();
    assert_eq!(pool.n(), 2 * SOBOL_BLOCK + KEPT);
    let log_proposal = pool.log_proposal();
    for beta in [0.01_f64, 0.1, 0.3, 1.0, 3.0] {
        // The integral over the square, and the mean square of a coordinate: normals of variance 1 / (4 beta), cut at 4.
        let root = (2.0 * beta).sqrt();
        let inside = libm::erf(4.0 * root);
        let z = (std::f64::consts::PI / (2.0 * beta)) * inside * inside / 64.0;
        let cut = 8.0 * root / std::f64::consts::PI.sqrt() * (-32.0 * beta).exp() / inside;
        let variance = (1.0 - cut) / (4.0 * beta);
        let log_weights = pool.log_weights(&log_proposal, beta);
        let log_z = log_sum_exp(&log_weights) - (pool.n() as f64).ln();
        assert!((log_z - z.ln()).abs() < 2e-3, "beta {beta}: log Z {log_z}, expected {}", z.ln());
        let norm = log_sum_exp(&log_weights);
        let mean: f64 =
            log_weights.iter().zip(pool.theta.chunks(2)).map(|(lw, t)| (lw - norm).exp() * t[0] * t[0]).sum();
        assert!((mean / variance - 1.0).abs() < 4e-3, "beta {beta}: mean square {mean}, expected {variance}");
    }
    // By the scan alone, the same evidence at power one.
    let log_weights = pool.scan_log_weights(2 * SOBOL_BLOCK, pool.n());
    let z: f64 = std::f64::consts::PI / 2.0 / 64.0;
    assert!((log_sum_exp(&log_weights) - z.ln()).abs() < 2e-3);
}
