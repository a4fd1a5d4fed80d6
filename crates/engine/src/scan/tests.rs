//! Scans on the cores and on the adapter: the integers of the draws, sums against f64, what is kept, what is not legal.
#![allow(clippy::print_stdout)]

use super::quantiles::{N_CUBICS, place};
use super::*;
use crate::{DeviceChoice, Engine, EngineSettings, ScanExecutor, WgslProgram, WgslSource};

fn engines(settings: &EngineSettings) -> Vec<Engine> {
    let of = |device| Engine::new(&EngineSettings { device, ..settings.clone() });
    [of(DeviceChoice::Cpu).unwrap()].into_iter().chain(lwflow_skip::adapter(of(DeviceChoice::Gpu))).collect()
}

const KEY: u32 = 0x1234_abcd;

fn scan(engine: &Engine, text: &str, quantiles: &[QuantileTable]) -> ScanExecutor {
    let source = WgslSource {
        file: "user.wgsl".into(),
        text: text.into(),
        dim: quantiles.len(),
        n_derived: 1,
        ..WgslSource::default()
    };
    let text =
        format!("{text} fn derived(theta: array<f32, D>) -> array<f32, M> {{ return array<f32, M>(1.0); }}");
    let program = WgslProgram::new(&WgslSource { text, ..source }).unwrap();
    engine.likelihood(&program).unwrap().scan(KEY, quantiles).unwrap()
}

fn normal(sd: f64) -> QuantileTable {
    QuantileTable::new(0.0, |u| {
        // Winitzki's approximation: any increasing function does.
        let (s, a) = (2.0 * u - 1.0, 0.147);
        let l = (-s * s).ln_1p();
        let b = 2.0 / (std::f64::consts::PI * a) + 0.5 * l;
        sd * s.signum() * ((b * b - l / a).sqrt() - b).sqrt()
    })
    .unwrap()
}

#[test]
fn devices_draw_the_integers_of_the_host() {
    // One table tells the cubic that the bits of u fall into, the other where in it: together 31 of the 32 bits next to the
    // middle, and all further out.
    let cubic = QuantileTable { cubics: (0..N_CUBICS).map(|i| [i as f32, 0.0, 0.0, 0.0]).collect() };
    let inside = QuantileTable { cubics: vec![[0.0, 1.0, 0.0, 0.0]; N_CUBICS] };
    let dim = 7;
    for engine in engines(&EngineSettings::default()) {
        for j in [0, 1, 4, 6] {
            let text = format!("fn log_likelihood(theta: array<f32, D>) -> f32 {{ return theta[{j}]; }}");
            for (table, which) in [(&cubic, 0), (&inside, 1)] {
                let mut scan = scan(&engine, &text, &vec![table.clone(); dim]);
                for first in [0, 0xffff_fff0] {
                    let scanned = scan.blocks(first, 2, f64::NEG_INFINITY).unwrap();
                    assert_eq!(scanned.kept.len(), 2 * SOBOL_BLOCK);
                    let mut bits = vec![0; dim];
                    for (i, draw) in scanned.kept.iter().enumerate() {
                        let (block, row) = (first + (i / SOBOL_BLOCK) as u32, (i % SOBOL_BLOCK) as u32);
                        assert_eq!((draw.block, draw.row), (block, row));
                        SobolBlock::new(KEY, block, dim).point(row, &mut bits);
                        let (at, t) = place(bits[j]);
                        let expected = [at as f64, f64::from(t)][which];
                        assert_eq!(
                            draw.log_likelihood,
                            expected,
                            "{} block {block} row {row}",
                            engine.info()
                        );
                    }
                }
            }
        }
    }
}

/// log L of [`ROUND`] in f64 at the draws of a block.
fn exact(block: u32, quantiles: &[QuantileTable]) -> Vec<f64> {
    let mut bits = vec![0; quantiles.len()];
    let points = SobolBlock::new(KEY, block, quantiles.len());
    let value = |row| {
        points.point(row, &mut bits);
        let theta = quantiles.iter().zip(&bits).map(|(q, b)| f64::from(q.at(*b)));
        -theta.map(|t| 2.0 * t * t).sum::<f64>()
    };
    (0..SOBOL_BLOCK as u32).map(value).collect()
}

const ROUND: &str = "fn log_likelihood(theta: array<f32, D>) -> f32 {
    var s = 0.0; for (var j = 0u; j < D; j = j + 1u) { s = s - 2.0 * theta[j] * theta[j]; } return s;
}";

#[test]
fn sums_and_kept_draws_are_those_of_all_log_l() {
    let quantiles = vec![normal(1.0), normal(2.0), normal(0.5)];
    for engine in engines(&EngineSettings::default()) {
        let mut scan = scan(&engine, ROUND, &quantiles);
        // All come back, some as a list that fits, some as one that does not.
        for (threshold, first) in [(f64::NEG_INFINITY, 5), (-0.1, 9), (-0.7, 2)] {
            let scanned = scan.blocks(first, 3, threshold).unwrap();
            assert_eq!((scanned.blocks.len(), scanned.illegal), (3, None));
            let mut n_kept = 0;
            for (block, sums) in (first..).zip(&scanned.blocks) {
                let exact = exact(block, &quantiles);
                let log = |power: f64| exact.iter().map(|l| (power * l).exp()).sum::<f64>().ln();
                assert!((sums.log_sum - log(1.0)).abs() < 2e-6, "{}: {sums:?}", engine.info());
                assert!((sums.log_sum_squares - log(2.0)).abs() < 2e-6, "{}: {sums:?}", engine.info());
                let kept: Vec<&ScanDraw> = scanned.kept.iter().filter(|d| d.block == block).collect();
                assert!(kept.windows(2).all(|pair| pair[0].row < pair[1].row));
                n_kept += kept.len();
                for draw in &kept {
                    let l = exact[draw.row as usize];
                    assert!(draw.log_likelihood > threshold);
                    assert!((draw.log_likelihood - l).abs() <= 1e-6 * (1.0 + l.abs()), "{draw:?}: {l}");
                }
                let rows: Vec<u32> = kept.iter().map(|draw| draw.row).collect();
                for (row, l) in (0..).zip(&exact).filter(|(_, l)| (*l - threshold).abs() > 1e-5) {
                    assert_eq!(rows.binary_search(&row).is_ok(), *l > threshold, "block {block} row {row}");
                }
            }
            println!("{}: {n_kept} kept above {threshold}", engine.info());
            assert!(n_kept > 0);
        }
    }
}

#[test]
fn cutting_changes_nothing() {
    let quantiles = vec![normal(1.0), normal(2.0)];
    let whole = engines(&EngineSettings::default());
    let pieces = engines(&EngineSettings { piece_samples: Some(2 * SOBOL_BLOCK), ..Default::default() });
    for (whole, pieces) in whole.iter().zip(&pieces) {
        let all = scan(whole, ROUND, &quantiles).blocks(3, 5, -0.2).unwrap();
        assert_eq!(scan(pieces, ROUND, &quantiles).blocks(3, 5, -0.2).unwrap(), all, "{}", whole.info());
        let mut single = Scanned::default();
        let mut executor = scan(whole, ROUND, &quantiles);
        (3..8).for_each(|block| single.append(executor.blocks(block, 1, -0.2).unwrap()));
        assert_eq!(single, all, "{}", whole.info());
    }
}

#[test]
fn nothing_and_illegal_values_are_told_apart() {
    let u = QuantileTable::new(0.0, |u| u).unwrap();
    let text = |value: &str| {
        format!(
            "fn log_likelihood(theta: array<f32, D>) -> f32 {{
                if theta[0] > 0.75 {{ return {value}; }} if theta[0] < 0.5 {{ return minus_infinity(); }} return 1.5;
            }}"
        )
    };
    let mut bits = [0];
    let first = (0..).find(|row| {
        SobolBlock::new(KEY, 2, 1).point(*row, &mut bits);
        bits[0] > 0xc000_0100
    });
    for engine in engines(&EngineSettings::default()) {
        let mut nothing = scan(&engine, &text("minus_infinity()"), std::slice::from_ref(&u));
        let scanned = nothing.blocks(1, 2, f64::NEG_INFINITY).unwrap();
        assert_eq!((scanned.kept.len(), scanned.illegal), (2 * SOBOL_BLOCK / 4, None));
        for sums in scanned.blocks {
            assert!((sums.log_sum - 1.5 - 2048f64.ln()).abs() < 1e-6, "{}: {sums:?}", engine.info());
        }
        let none = "fn log_likelihood(theta: array<f32, D>) -> f32 { return minus_infinity(); }";
        let scanned = scan(&engine, none, std::slice::from_ref(&u)).blocks(0, 1, f64::NEG_INFINITY).unwrap();
        assert_eq!(scanned.blocks[0].log_sum, f64::NEG_INFINITY);
        assert!(scanned.kept.is_empty());
        for value in ["sqrt(-theta[0])", "exp(1e3 * theta[0])"] {
            let mut bad = scan(&engine, &text(value), std::slice::from_ref(&u));
            let illegal = bad.blocks(2, 1, 0.0).unwrap().illegal.unwrap();
            assert_eq!((illegal.block, Some(illegal.row)), (2, first), "{}: {illegal:?}", engine.info());
            let value = illegal.log_likelihood;
            assert!(value.is_nan() || value == f64::INFINITY, "{value}");
        }
    }
}

#[test]
fn a_wrong_number_of_quantiles_is_refused() {
    let engine = &engines(&EngineSettings::default())[0];
    let source = WgslSource { file: "user.wgsl".into(), text: ROUND.into(), dim: 2, ..Default::default() };
    let likelihood = engine.likelihood(&WgslProgram::new(&source).unwrap()).unwrap();
    let error = likelihood.scan(KEY, &[normal(1.0)]).unwrap_err().to_string();
    assert!(error.contains("got 1 values, expected one for each of 2 parameters"), "{error}");
}
