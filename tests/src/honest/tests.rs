//! The truths by importance sampling, and the judge by right and wrong claims.
use super::*;
use lwflow_host::rng::stream;
use std::collections::BTreeSet;

/// log Z with its standard error and the masses with theirs, from draws of the target's proposal; and the draws.
struct Estimate {
    log_z: f64,
    log_z_sd: f64,
    mass_sds: Vec<f64>,
    theta: Vec<f64>,
    weights: Vec<f64>,
}

fn estimate(target: &HonestTarget, truth: &Truth) -> Estimate {
    let (n, mut rng) = (proposals::n_draws(target), stream(3, target.name, 0));
    let (mut theta, mut logs) = (Vec::new(), Vec::new());
    for _ in 0..n {
        let (x, log_q) = proposals::draw(target, &mut rng);
        let log_prior = target.prior.log_prior(&x);
        let inside = log_prior > f64::NEG_INFINITY;
        logs.push(if inside { (target.log_likelihood)(&x) + log_prior - log_q } else { log_prior });
        theta.extend(x);
    }
    let log_sum = lwflow_host::weights::log_sum_exp(&logs);
    let weights: Vec<f64> = logs.iter().map(|l| (l - log_sum).exp()).collect();
    let square: f64 = weights.iter().map(|w| w * w).sum();
    let mass_sds = (0..truth.masses.len()).map(|mode| {
        let deviation = |(x, w): (&[f64], &f64)| {
            let here = f64::from(u8::from((truth.mode_of)(x) == mode));
            (w * (here - truth.masses[mode])).powi(2)
        };
        theta.chunks_exact(target.dim()).zip(&weights).map(deviation).sum::<f64>().sqrt()
    });
    let mass_sds = mass_sds.collect();
    Estimate {
        log_z: log_sum - (n as f64).ln(),
        log_z_sd: ((n as f64 * square - 1.0).max(0.0) / n as f64).sqrt(),
        mass_sds,
        theta,
        weights,
    }
}

#[test]
fn there_are_enough_targets_and_each_is_whole() {
    let suite = suite();
    assert!(suite.len() >= 30, "{} targets", suite.len());
    let names: BTreeSet<&str> = suite.iter().map(|t| t.name).collect();
    assert_eq!(names.len(), suite.len(), "names");
    for target in &suite {
        assert_eq!(target.dim(), target.prior.supports().len(), "{}", target.name);
        if let Some(truth) = &target.truth {
            assert!(truth.log_z.is_finite(), "{}", target.name);
            let sum: f64 = truth.masses.iter().sum();
            assert!((sum - 1.0).abs() < 1e-9, "{}: masses sum to {sum}", target.name);
            assert!(truth.masses.iter().all(|m| *m > 0.0), "{}", target.name);
        }
        let mut theta = vec![0.0; target.dim()];
        for u in [1e-9, 0.25, 0.5, 1.0 - 1e-9] {
            target.prior.prior_transform(&vec![u; target.dim()], &mut theta);
            assert!(target.prior.log_prior(&theta).is_finite(), "{} at {theta:?}", target.name);
        }
    }
}

#[test]
fn truths_agree_with_importance_sampling() {
    let mut worst: f64 = 0.0;
    for target in suite() {
        let Some(truth) = &target.truth else { continue };
        let got = estimate(&target, truth);
        let z = (got.log_z - truth.log_z) / (got.log_z_sd + 1e-6);
        println!(
            "{:24} log Z {:14.5} by draws {:14.5} +- {:.5}",
            target.name, truth.log_z, got.log_z, got.log_z_sd
        );
        // Of noisy targets only the noise limits this; it has a test of its own.
        if target.name.contains("noise") {
            assert!((got.log_z - truth.log_z).abs() < 1.0, "{}", target.name);
            continue;
        }
        assert!(got.log_z_sd < 0.02, "{}: sd {}", target.name, got.log_z_sd);
        assert!(
            z.abs() < 4.5,
            "{}: log Z {} +- {}, expected {}",
            target.name,
            got.log_z,
            got.log_z_sd,
            truth.log_z
        );
        worst = worst.max(z.abs());
        let masses = truth.masses_of(&got.theta, &got.weights);
        for ((mode, mass), sd) in masses.iter().enumerate().zip(&got.mass_sds) {
            let expected = truth.masses[mode];
            assert!(
                (mass - expected).abs() < 4.5 * sd + 1e-9,
                "{} mode {mode}: {mass} +- {sd}, expected {expected}",
                target.name
            );
            assert!(*sd < 0.02, "{} mode {mode}: sd {sd}", target.name);
        }
    }
    assert!(worst > 0.0, "nothing was compared");
}

#[test]
fn noise_lifts_the_mean_as_stated() {
    for target in suite().iter().filter(|t| t.name.contains("noise")) {
        let (n, mut rng) = (100_000, stream(5, target.name, 0));
        let noise: Vec<f64> = (0..n)
            .map(|_| {
                let theta = proposals::draw(target, &mut rng).0;
                (target.log_likelihood)(&theta) - modes::log_round(&theta, &[0.0; 2], 0.1)
            })
            .collect();
        // E exp(t x) of N(0, s^2) is exp(t^2 s^2 / 2); t = 1/3 has a small variance.
        for (t, tolerance) in [(1.0 / 3.0, 0.03), (-1.0 / 3.0, 0.03), (0.1, 0.005)] {
            let mean = noise.iter().map(|x| (t * x).exp()).sum::<f64>() / f64::from(n);
            let expected = (0.5 * t * t * rough::NOISE.powi(2)).exp();
            assert!(
                (mean - expected).abs() < tolerance,
                "{} at {t}: {mean}, expected {expected}",
                target.name
            );
        }
    }
}

/// A claim from the proposal's draws: as right as it gets.
fn right_claim(target: &HonestTarget, truth: &Truth) -> Claim {
    let Estimate { log_z, log_z_sd, theta, weights, .. } = estimate(target, truth);
    Claim { log_z, log_z_sd, theta, weights, prior_mass_limit: 1e-4 }
}

#[test]
fn right_claims_stand_and_wrong_ones_fall() {
    for target in suite().iter().filter(|t| !t.name.contains("noise")) {
        let Some(truth) = &target.truth else {
            let claim = Claim {
                log_z: 0.0,
                log_z_sd: 0.01,
                theta: vec![0.5; target.dim()],
                weights: vec![1.0],
                prior_mass_limit: 1e-4,
            };
            assert!(target.refute(&claim).is_some(), "{}", target.name);
            continue;
        };
        let right = right_claim(target, truth);
        assert_eq!(target.refute(&right), None);
        let wrong = Claim { log_z: right.log_z + 0.06 + 5.0 * right.log_z_sd + 0.1, ..right.clone() };
        assert!(target.refute(&wrong).is_some(), "{}: log Z", target.name);
        let unknown = Claim { log_z: f64::NAN, ..right.clone() };
        assert!(target.refute(&unknown).is_some(), "{}: NaN", target.name);
        if truth.masses.len() > 1 {
            // The first mode gains three quarters of what it lacks.
            let mut lost = right.clone();
            for (row, weight) in lost.theta.chunks_exact(target.dim()).zip(&mut lost.weights) {
                *weight *= if (truth.mode_of)(row) == 0 { 1.0 } else { 0.25 };
            }
            assert!(target.refute(&lost).is_some(), "{}: a mode", target.name);
        }
    }
}

#[test]
fn a_hidden_mode_is_forgiven_only_where_the_limit_admits_it() {
    let suite = suite();
    let hidden: Vec<_> = suite.iter().filter(|t| t.hidden.is_some()).collect();
    assert_eq!(hidden.len(), 2);
    for target in hidden {
        let (truth, hiding) = (target.truth.as_ref().unwrap(), target.hidden.as_ref().unwrap());
        let mut claim = right_claim(target, truth);
        for (row, weight) in claim.theta.chunks_exact(target.dim()).zip(&mut claim.weights) {
            *weight *= f64::from(u8::from((truth.mode_of)(row) == 0));
        }
        claim.log_z = hiding.visible.log_z;
        assert!(hiding.prior_mass < 1e-6 && hiding.prior_mass > 0.0, "{}", target.name);
        assert_eq!(target.refute(&claim), None);
        claim.prior_mass_limit = 0.5 * hiding.prior_mass;
        assert!(target.refute(&claim).is_some(), "{}", target.name);
    }
}

#[test]
fn illegal_values_are_where_they_are_said_to_be() {
    let suite = suite();
    let value =
        |name: &str, theta: &[f64]| (suite.iter().find(|t| t.name == name).unwrap().log_likelihood)(theta);
    assert!(value("nan_half_2d", &[-0.5, 0.0]).is_nan() && value("nan_half_2d", &[0.5, 0.0]).is_finite());
    assert!(
        value("nan_corner_2d", &[0.95, 0.95]).is_nan() && value("nan_corner_2d", &[0.95, 0.0]).is_finite()
    );
    assert_eq!(value("infinite_2d", &[0.0, 0.0]), f64::INFINITY);
    assert_eq!(value("impossible_2d", &[0.3, 0.2]), f64::NEG_INFINITY);
    assert_ne!(value("noise_2d", &[0.3, 0.2]), value("noise_2d", &[0.3, 0.2]));
    assert_eq!(value("frozen_noise_2d", &[0.3, 0.2]), value("frozen_noise_2d", &[0.3, 0.2]));
}
