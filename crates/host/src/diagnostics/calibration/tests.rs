//! The p-values against full enumeration, exact and wrong posteriors of a conjugate Gaussian, and a trained flow.
//! Seeds are fixed; what is to be caught is caught at every one of them.

use super::*;
use crate::fit::{BaseSettings, FitInput, FitSettings, fit};
use crate::outer::Support;
use crate::posterior::Samples;
use crate::rng::{CounterField, normal_pair, stream};
use lwflow_engine::{DeviceChoice, Engine, EngineSettings};
use lwflow_model::FlowSettings;
use std::ops::ControlFlow;

/// Every vector of n ranks on 0..=n_draws.
fn all_ranks(n: usize, n_draws: usize) -> Vec<Vec<u32>> {
    let values = n_draws + 1;
    let digit = |k: usize, i: usize| (k / values.pow(i as u32) % values) as u32;
    (0..values.pow(n as u32)).map(|k| (0..n).map(|i| digit(k, i)).collect()).collect()
}

#[test]
fn p_values_are_exact_for_discrete_ranks() {
    for (n, n_draws) in [(5, 3), (7, 2), (3, 7), (1, 4), (6, 1)] {
        let uniform = UniformRanks::new(n, n_draws).unwrap();
        let all = all_ranks(n, n_draws);
        let counts: Vec<Vec<usize>> = all.iter().map(|ranks| uniform.counts(ranks).unwrap()).collect();
        let band: Vec<f64> = counts.iter().map(|c| uniform.band_p_value(c)).collect();
        let ks: Vec<f64> = counts.iter().map(|c| uniform.largest_deviation(c).1).collect();
        for p_values in [band, ks] {
            for p in &p_values {
                // A p-value is the share of all outcomes that are at least as extreme.
                let share = p_values.iter().filter(|q| **q <= p + 1e-9).count() as f64 / all.len() as f64;
                assert!((share - p).abs() < 1e-9, "n {n}, draws {n_draws}: {p} of a share {share}");
            }
        }
        for level in [0.5, 0.9, 0.95] {
            let limits = uniform.band(level);
            let inside = |counts: &&Vec<usize>| {
                let shares = counts.iter().map(|c| *c as f64 / n as f64);
                shares.zip(&limits).all(|(s, (low, high))| s >= low - 1e-9 && s <= high + 1e-9)
            };
            let held = counts.iter().filter(inside).count() as f64 / all.len() as f64;
            assert!(held >= level, "n {n}, draws {n_draws}: {held} within the band of {level}");
        }
    }
}

#[test]
fn p_values_of_many_ranks_are_uniform_and_clear_departures_have_tiny_ones() {
    let (n, n_draws) = (2000, 250);
    let uniform = UniformRanks::new(n, n_draws).unwrap();
    let p_values: Vec<(f64, f64)> = (0..200)
        .map(|seed| {
            let mut u = vec![0.0; n];
            CounterField::new(seed, "test", 1).fill_uniform(0, &mut u);
            let ranks: Vec<u32> = u.iter().map(|u| (u * (n_draws + 1) as f64) as u32).collect();
            let counts = uniform.counts(&ranks).unwrap();
            (uniform.band_p_value(&counts), uniform.largest_deviation(&counts).1)
        })
        .collect();
    let sample = |pick: fn(&(f64, f64)) -> f64| p_values.iter().map(pick).collect::<Vec<f64>>();
    for p_values in [sample(|p| p.0), sample(|p| p.1)] {
        let distance = crate::diagnostics::ks_distance(&p_values, None, |p| p.clamp(0.0, 1.0)).unwrap();
        // The 0.1 % point of 200 values.
        assert!(distance < 1.95 / 200f64.sqrt(), "{distance}");
    }
    // All ranks alike: beyond what the exact sum covers.
    let counts = uniform.counts(&vec![3; n]).unwrap();
    assert!(uniform.band_p_value(&counts) < 1e-9 && uniform.largest_deviation(&counts).1 < 1e-9);
    // A small shift on one side is not much.
    let near: Vec<u32> = (0..n).map(|i| (i * (n_draws + 1) / n) as u32).collect();
    assert!(uniform.band_p_value(&uniform.counts(&near).unwrap()) > 0.999);
    let bins = uniform.histogram(&near, 10, 0.95);
    assert_eq!(bins.iter().map(|b| b.n).sum::<usize>(), n);
    assert!(bins.iter().all(|b| b.low < 1.0 && b.high > 1.0 && (b.n as f64 / b.expected - 1.0).abs() < 0.06));
}

/// What a claimed posterior of the conjugate model does with the exact one: factor of its width, shift in standard deviations,
/// and the correlation of the two parameters it claims.
#[derive(Clone, Copy)]
struct Claim {
    width: f64,
    shift: f64,
    correlation: f64,
}

const SD: f64 = 0.5;
const N_DRAWS: usize = 99;

/// theta ~ N(0, I), x = theta + noise that is correlated by 0.8 between the two, sd [`SD`]: the posterior given x.
fn posterior_of(x: [f64; 2]) -> ([f64; 2], f64, f64) {
    // In the sum and the difference of both, which are independent, noise has the variances SD^2 (1 +- 0.8).
    let part = |x: f64, rho: f64| {
        let noise = SD * SD * (1.0 + rho);
        (x / (1.0 + noise), noise / (1.0 + noise))
    };
    let ((sum, v_sum), (difference, v_difference)) = (part(x[0] + x[1], 0.8), part(x[0] - x[1], -0.8));
    let variance = 0.5 * (v_sum + v_difference);
    let correlation = (v_sum - v_difference) / (v_sum + v_difference);
    ([0.5 * (sum + difference), 0.5 * (sum - difference)], variance.sqrt(), correlation)
}

fn log_density(theta: [f64; 2], mean: [f64; 2], sd: f64, rho: f64) -> f64 {
    let [a, b] = [(theta[0] - mean[0]) / sd, (theta[1] - mean[1]) / sd];
    -0.5 * (a * a - 2.0 * rho * a * b + b * b) / (1.0 - rho * rho)
        - 0.5 * (1.0 - rho * rho).ln()
        - 2.0 * sd.ln()
        - std::f64::consts::TAU.ln()
}

/// Pairs theta `[n, 2]` and x `[n, 2]`.
fn pairs(n: usize, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let (mut theta, mut x) = (Vec::new(), Vec::new());
    for k in 0..n {
        let mut rng = stream(seed, "test/pairs", k as u64);
        let ((a, b), (u, v)) = (normal_pair(&mut rng), normal_pair(&mut rng));
        theta.extend([a, b]);
        x.extend([a + SD * u, b + SD * (0.8 * u + 0.6 * v)]);
    }
    (theta, x)
}

fn conjugate(claim: Claim, n: usize, seed: u64) -> CalibrationReport {
    let (theta, x) = pairs(n, seed);
    let claimed = |k: usize| {
        let (mean, sd, rho) = posterior_of([x[2 * k], x[2 * k + 1]]);
        let mean = mean.map(|m| m + claim.shift * sd);
        (mean, claim.width * sd, rho * claim.correlation)
    };
    let log_prob: Vec<f64> = (0..n)
        .map(|k| {
            let (mean, sd, rho) = claimed(k);
            log_density([theta[2 * k], theta[2 * k + 1]], mean, sd, rho)
        })
        .collect();
    let mut collector = RankCollector::new(&theta, &log_prob, 2, N_DRAWS, seed).unwrap();
    for k in 0..n {
        let (mean, sd, rho) = claimed(k);
        let mut rng = stream(seed, "test/draws", k as u64);
        let mut samples = Samples { theta: Vec::new(), log_prob: Vec::new() };
        for _ in 0..N_DRAWS {
            let (u, v) = normal_pair(&mut rng);
            let draw = [mean[0] + sd * u, mean[1] + sd * (rho * u + (1.0 - rho * rho).sqrt() * v)];
            samples.theta.extend(draw);
            samples.log_prob.push(log_density(draw, mean, sd, rho));
        }
        collector.add(samples);
    }
    let names = ["a", "b"].map(String::from);
    calibration_report(&quantities(&names), &collector.finish().unwrap(), N_DRAWS, 0.01).unwrap()
}

const EXACT: Claim = Claim { width: 1.0, shift: 0.0, correlation: 1.0 };

#[test]
fn an_exact_posterior_passes() {
    let reports: Vec<CalibrationReport> = (0..40).map(|seed| conjugate(EXACT, 400, seed)).collect();
    // Expected are at most 0.4 of 40; more than 3 come with a probability below 1e-3.
    assert!(reports.iter().filter(|r| !r.passed).count() <= 3);
    for q in 0..4 {
        let p_values: Vec<f64> = reports.iter().map(|r| r.quantities[q].p_value).collect();
        let mean = p_values.iter().sum::<f64>() / 40.0;
        assert!((mean - 0.5).abs() < 4.0 / (12.0f64 * 40.0).sqrt(), "quantity {q}: mean p-value {mean}");
    }
}

#[test]
fn wrong_posteriors_are_caught_and_named() {
    let departures = |claim, seed| {
        let report = conjugate(claim, 600, seed);
        assert!(!report.passed);
        report.quantities.iter().map(|q| q.departure).collect::<Vec<_>>()
    };
    for seed in 0..4 {
        let narrow = departures(Claim { width: 0.7, ..EXACT }, seed);
        assert_eq!(narrow[..3], [Some(Departure::TooNarrow); 3], "seed {seed}: {narrow:?}");
        let wide = departures(Claim { width: 1.4, ..EXACT }, seed);
        assert_eq!(wide[..3], [Some(Departure::TooWide); 3], "seed {seed}: {wide:?}");
        let high = departures(Claim { shift: 0.4, ..EXACT }, seed);
        assert_eq!(high[..2], [Some(Departure::TooHigh); 2], "seed {seed}: {high:?}");
        let low = departures(Claim { shift: -0.4, ..EXACT }, seed);
        assert_eq!(low[..2], [Some(Departure::TooLow); 2], "seed {seed}: {low:?}");
        // Right in every parameter, wrong in how they go together: what ranks of parameters alone cannot see.
        let joint = departures(Claim { correlation: -1.0, ..EXACT }, seed);
        assert_eq!(joint[..2], [None; 2], "seed {seed}: {joint:?}");
        assert_eq!(joint[2], Some(Departure::TooNarrow), "seed {seed}: {joint:?}");
    }
}

#[test]
fn a_trained_flow_passes_and_a_spoilt_copy_does_not() {
    let engine = Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..Default::default() }).unwrap();
    let (theta, context) = pairs(6000, 1000);
    let names: Vec<String> = ["a", "b"].map(String::from).to_vec();
    let input = FitInput {
        labels: names.clone(),
        names,
        supports: vec![Support::default(); 2],
        log_weights: vec![0.0; 6000],
        theta,
        context,
        ..FitInput::default()
    };
    let mut settings = FitSettings {
        flow: FlowSettings { n_layers: 4, hidden: vec![16], ..FlowSettings::default() },
        base: BaseSettings::Gaussian,
        ..FitSettings::default()
    };
    settings.training.max_visits = 300_000;
    settings.training.batch_size = 256;
    let (posterior, _) = fit(&engine, &input, &settings, 1, |_| ControlFlow::Continue(())).unwrap();
    let (theta, context) = pairs(400, 2000);
    let ranks = |posterior: &crate::posterior::Posterior, n_draws| {
        let mut executor = engine.flow(posterior.spec()).unwrap();
        let go_on = |_| ControlFlow::Continue(());
        posterior_ranks(posterior, &mut executor, &theta, &context, n_draws, 5, go_on).unwrap().unwrap()
    };
    let report =
        |ranks: &[Vec<u32>]| calibration_report(&quantities(&posterior.names), ranks, 199, 0.01).unwrap();
    let own = ranks(&posterior, 199);
    let passed = report(&own);
    assert!(passed.passed, "{:?}", passed.quantities);
    assert_eq!(own, ranks(&posterior, 199), "not a function of the seed");
    let mut spoilt = posterior.clone();
    spoilt.outer.scale = spoilt.outer.scale.iter().map(|s| 0.75 * s).collect();
    assert!(!report(&ranks(&spoilt, 199)).passed);
    // A break ends it without a result.
    let mut executor = engine.flow(posterior.spec()).unwrap();
    let stopped =
        posterior_ranks(&posterior, &mut executor, &theta, &context, 999, 5, |_| ControlFlow::Break(()));
    assert!(stopped.unwrap().is_none());
}

#[test]
fn what_does_not_fit_is_refused() {
    let report = |n: usize, value: u32, alpha: f64| {
        calibration_report(&[Quantity::LogProb], &[vec![value; n]], 99, alpha).unwrap_err().to_string()
    };
    assert_eq!(report(49, 0, 0.01), "the number of pairs is 49, expected at least 50");
    assert_eq!(
        report(50, 100, 0.01),
        "ranks: value 100 at row 0, column 0, expected a rank of at most the number of draws"
    );
    assert!(report(50, 0, 1.0).starts_with("alpha is 1"));
    let refused = |theta: &[f64], log_prob: &[f64], n_draws| {
        RankCollector::new(theta, log_prob, 2, n_draws, 0).unwrap_err().to_string()
    };
    assert!(refused(&[0.0, f64::NAN], &[0.0], 5).contains("theta: value NaN at row 0, column 1"));
    assert!(refused(&[0.0; 2], &[f64::NAN], 5).contains("log_prob: value NaN"));
    assert!(refused(&[0.0; 3], &[0.0], 5).contains("theta: length 3"));
    assert!(refused(&[0.0; 2], &[0.0], 0).contains("number of draws = 0"));
    let theta = [0.0; 4];
    let mut collector = RankCollector::new(&theta, &[0.0, f64::NEG_INFINITY], 2, 3, 0).unwrap();
    collector.add(Samples { theta: vec![1.0; 8], log_prob: vec![0.0; 4] });
    assert_eq!(collector.n_done(), 1);
    assert!(collector.finish().unwrap_err().to_string().contains("draws: length 4, expected 6"));
    assert!(UniformRanks::new(0, 5).is_err() && UniformRanks::new(5, 0).is_err());
}

#[test]
fn equal_values_are_ranked_by_chance() {
    let n = 2000;
    let theta = vec![1.0; n];
    let mut collector = RankCollector::new(&theta, &theta, 1, 9, 3).unwrap();
    collector.add(Samples { theta: vec![1.0; 9 * n], log_prob: vec![1.0; 9 * n] });
    let ranks = collector.finish().unwrap();
    let report = calibration_report(&quantities(&["a".into()]), &ranks, 9, 0.01).unwrap();
    assert!(report.passed, "{:?}", report.quantities);
}

/// Predictions `[n, 3]`: two values correlated by 0.95 and one that never varies.
fn predictions(n: usize, seed: u64) -> Vec<f64> {
    let row = |k: usize| {
        let (u, v) = normal_pair(&mut stream(seed, "test/predictions", k as u64));
        [u, 0.95 * u + (1.0 - 0.95f64.powi(2)).sqrt() * v, 2.0]
    };
    (0..n).flat_map(row).collect()
}

#[test]
fn predictions_hold_one_more_of_their_kind_and_show_another() {
    let checks: Vec<PredictiveCheck> = (0..300)
        .map(|seed| {
            let all = predictions(200, seed);
            predictive_check(&all[..3], &all[3..]).unwrap()
        })
        .collect();
    for p_of in [|c: &PredictiveCheck| c.p_values[1], |c: &PredictiveCheck| c.p_value_distance] {
        let share = checks.iter().filter(|c| p_of(c) <= 0.1).count() as f64 / 300.0;
        assert!((share - 0.1).abs() < 4.0 * (0.09f64 / 300.0).sqrt(), "{share} below 0.1");
    }
    assert!(checks.iter().all(|c| c.p_values[2] == 1.0 && c.sd[2] == 0.0));
    let cloud = predictions(2000, 1);
    // Each value is well within its own range, the two together are not.
    let off = predictive_check(&[1.0, -1.0, 2.0], &cloud).unwrap();
    assert!(off.p_values[0] > 0.2 && off.p_values[1] > 0.2 && off.p_value_distance < 1e-3, "{off:?}");
    assert!(off.least() < 0.01 && (off.below[0] - 0.84).abs() < 0.03);
    // For a figure of every value and of the distance, with what was observed.
    let values: Vec<Option<usize>> = off.histograms.iter().map(|h| h.value).collect();
    assert_eq!(values, [Some(0), Some(1), Some(2), None]);
    let distance = &off.histograms[3];
    assert!(distance.observed > distance.central.1 && off.histograms[1].observed == -1.0, "{off:?}");
    let text = serde_json::to_string(&off).unwrap();
    assert_eq!(serde_json::from_str::<PredictiveCheck>(&text).unwrap(), off);
    // A value that never varied and now does.
    let new = predictive_check(&[0.0, 0.0, 2.1], &cloud).unwrap();
    assert!(new.p_values[2] < 2e-3 && new.p_value_distance < 1e-3, "{new:?}");
    let refused =
        |observed: &[f64], cloud: &[f64]| predictive_check(observed, cloud).unwrap_err().to_string();
    assert!(refused(&[f64::NAN, 0.0, 0.0], &cloud).contains("observation: value NaN"));
    assert!(refused(&[0.0; 3], &cloud[..27]).contains("the number of predictions is 9"));
    assert!(refused(&[0.0; 3], &cloud[..31]).contains("length 31"));
}
