use super::*;
use crate::rng::{CounterField, normal_cdf, stream};
use crate::targets::Target;

fn normals(n: usize, dim: usize, seed: u64) -> Vec<f64> {
    let mut z = vec![0.0; n * dim];
    CounterField::new(seed, "diagnostics/test", dim).fill_standard_normal(0, &mut z);
    z
}

/// N(0, 1) against N(m, s^2): KL = ln s + (1 + m^2) / (2 s^2) - 1/2; the other way -ln s + (s^2 + m^2)/2 - 1/2.
#[test]
fn kl_of_gaussians_is_the_analytic_one() {
    let (m, s, n) = (0.3f64, 1.25f64, 100_000);
    let log_p = |x: f64| -0.5 * x * x;
    let log_q = |x: f64| -0.5 * ((x - m) / s).powi(2) - s.ln();
    let x = normals(n, 1, 1);
    let (p, q): (Vec<f64>, Vec<f64>) = x.iter().map(|x| (log_p(*x), log_q(*x))).unzip();
    let forward = forward_kl(&p, &q).unwrap();
    let truth = s.ln() + (1.0 + m * m) / (2.0 * s * s) - 0.5;
    assert!(
        (forward.value - truth).abs() < 4.0 * forward.se && forward.se < 0.01 * truth.max(0.2),
        "{forward:?}"
    );
    let (p, q): (Vec<f64>, Vec<f64>) = x.iter().map(|x| (log_p(m + s * x), log_q(m + s * x))).unzip();
    let reverse = reverse_kl(&q, &p).unwrap();
    let truth = -s.ln() + (s * s + m * m) / 2.0 - 0.5;
    assert!((reverse.value - truth).abs() < 4.0 * reverse.se, "{reverse:?} against {truth}");
    assert_eq!((reverse.n, reverse.n_infinite), (n, 0));
    // With wider draws the weights are bounded: ESS fraction = 1 / E_q[(p/q)^2].
    let importance = importance(&q, &p).unwrap();
    let v = 2.0 * s * s - 1.0;
    let truth = v.sqrt() / (s * s) * (-(m * m) / v).exp();
    assert!(
        (importance.ess_fraction / truth - 1.0).abs() < 0.02,
        "{} against {truth}",
        importance.ess_fraction
    );
    assert!(importance.log_z.abs() < 4.0 * importance.log_z_sd);
}

#[test]
fn infinite_terms_are_counted_and_bad_ones_refused() {
    let inf = f64::INFINITY;
    let figure = reverse_kl(&[0.0, 1.0, 2.0], &[-1.0, -inf, 1.0]).unwrap();
    assert_eq!((figure.value, figure.n, figure.n_infinite, figure.finite_mean), (inf, 3, 1, 1.0));
    let json: serde_json::Value = serde_json::to_value(figure).unwrap();
    assert!(json["value"].is_null() && json["se"].is_null() && json["n_infinite"] == 1);
    let err = forward_kl(&[0.0, -inf], &[0.0, 0.0]).unwrap_err();
    assert!(matches!(err, HostError::BadLogValue { what: "log_p", row: 1, .. }), "{err}");
    assert!(matches!(forward_kl(&[0.0], &[f64::NAN]), Err(HostError::BadLogValue { what: "log_q", .. })));
    assert!(matches!(forward_kl(&[0.0], &[]), Err(HostError::Length { .. })));
    assert!(forward_kl(&[], &[]).is_err() && bridge_mass(&[], 0.0).is_err());
    let err = sliced_wasserstein2(&[0.0, inf], &[0.0, 1.0], 2, 8, 0).unwrap_err();
    assert!(matches!(err, HostError::BadValue { row: 0, column: 1, .. }), "{err}");
    assert!(sliced_wasserstein2(&[0.0; 4], &[0.0; 4], 2, 0, 0).is_err());
}

#[test]
fn sliced_w2_of_shifted_and_stretched_samples_is_the_analytic_one() {
    // A shift by v moves each projection by d.v, so the mean square is |v|^2 / D over the sphere.
    let (n, dim, n_directions) = (2000, 3, 4096);
    let a = normals(n, dim, 2);
    let shift = [3.0, 0.0, -4.0];
    let b: Vec<f64> =
        a.chunks(dim).flat_map(|r| [r[0] + shift[0], r[1] + shift[1], r[2] + shift[2]]).collect();
    let distance = sliced_wasserstein2(&a, &b, dim, n_directions, 5).unwrap();
    assert!((distance * distance / (25.0 / 3.0) - 1.0).abs() < 0.06, "{distance}");
    assert_eq!(distance, sliced_wasserstein2(&a, &b, dim, n_directions, 5).unwrap());
    // On a line every direction is +-1: a shift is itself, a permutation is nothing, and sizes may differ.
    let line = normals(1000, 1, 3);
    let moved: Vec<f64> = line.iter().rev().map(|x| x + 0.5).collect();
    assert!((sliced_wasserstein2(&line, &moved, 1, 3, 0).unwrap() - 0.5).abs() < 1e-12);
    let thrice: Vec<f64> = line.iter().flat_map(|x| [x + 0.5; 3]).collect();
    assert!((sliced_wasserstein2(&line, &thrice, 1, 3, 0).unwrap() - 0.5).abs() < 1e-12);
    // W2^2 of {0, 1} and {0, 0, 3}: quantile pieces 1/2 of 0, 1/6 of 1, 1/3 of (1 - 3)^2.
    let uneven = sliced_wasserstein2(&[1.0, 0.0], &[3.0, 0.0, 0.0], 1, 1, 0).unwrap();
    assert!((uneven * uneven - (1.0 / 6.0 + 4.0 / 3.0)).abs() < 1e-12);
    // N(0, 1) against N(0, 4) on a line: W2 = 1.
    let wide: Vec<f64> = normals(100_000, 1, 4).iter().map(|x| 2.0 * x).collect();
    assert!((sliced_wasserstein2(&normals(100_000, 1, 6), &wide, 1, 1, 0).unwrap() - 1.0).abs() < 0.02);
}

#[test]
fn ks_distances_are_the_known_ones() {
    // n equally spaced points of a uniform: exactly 1/(2n). With weights 2x the points follow x^2.
    let n = 500;
    let grid: Vec<f64> = (0..n).map(|i| (f64::from(i) + 0.5) / f64::from(n)).collect();
    let cdf = |x: f64| x.clamp(0.0, 1.0);
    assert!((ks_distance(&grid, None, cdf).unwrap() - 0.5 / f64::from(n)).abs() < 1e-12);
    assert!(ks_distance(&grid, Some(&grid), |x| x * x).unwrap() < 1.01 / f64::from(n));
    assert!((ks_distance(&grid, Some(&grid), cdf).unwrap() - 0.25).abs() < 2.0 / f64::from(n));
    // Random uniforms: sqrt(n) D has mean 0.8687 and 99.9 % quantile 1.95.
    let mut u = vec![0.0; 10_000];
    CounterField::new(1, "ks", 1).fill_uniform(0, &mut u);
    let scaled = 100.0 * ks_distance(&u, None, cdf).unwrap();
    assert!((0.3..1.95).contains(&scaled), "{scaled}");
    let z = normals(10_000, 1, 8);
    assert!(100.0 * ks_distance(&z, None, normal_cdf).unwrap() < 1.95);
    // Two samples: ties step together; weights equal repetition.
    assert_eq!(ks_two_sample(&[1.0, 2.0, 3.0], None, &[3.0, 1.0, 2.0], None).unwrap(), 0.0);
    assert_eq!(ks_two_sample(&[0.0, 1.0], None, &[5.0, 6.0, 7.0], None).unwrap(), 1.0);
    let weighted = ks_two_sample(&[1.0, 2.0], Some(&[3.0, 1.0]), &[1.0, 1.0, 1.0, 2.0], None).unwrap();
    assert!(weighted.abs() < 1e-15);
    assert!((ks_two_sample(&u, None, &u, Some(&u)).unwrap() - 0.25).abs() < 0.02);
    assert!(matches!(ks_distance(&[1.0], Some(&[-1.0]), cdf), Err(HostError::BadValue { row: 0, .. })));
    assert!(matches!(ks_distance(&[1.0], Some(&[0.0]), cdf), Err(HostError::AllWeightsZero { .. })));
    assert!(ks_distance(&[], None, cdf).is_err());
}

#[test]
fn shares_of_modes_and_bridges() {
    let masses = mode_masses(&[-1.0, 2.0, 3.0, 4.0], 1, &|r: &[f64]| usize::from(r[0] > 0.0), 2).unwrap();
    assert_eq!(masses, [0.25, 0.75]);
    assert_eq!(mode_mass_error(&masses, &[0.5, 0.5]).unwrap(), 0.25);
    assert!(mode_mass_error(&masses, &[1.0]).is_err());
    assert_eq!(share_standard_errors(&[0.5, 1.0], 100), [0.05, 0.0]);
    let err = mode_masses(&[0.0, 1.0], 1, &|r: &[f64]| r[0] as usize, 1).unwrap_err();
    assert!(matches!(err, HostError::BadValue { what: "mode_of", row: 1, .. }));
    let share = bridge_mass(&[f64::NEG_INFINITY, -9.0, -1.0, 0.0], -5.0).unwrap();
    assert_eq!((share.value, share.se, share.n), (0.5, 0.25, 4));
    let none = bridge_mass(&vec![0.0; 10_000], -5.0).unwrap();
    assert!(none.value == 0.0 && (none.se * 1e4 - 1.0).abs() < 1e-3);
}

fn small() -> EvaluationSettings {
    EvaluationSettings { n_kl: 20_000, n_bridge: 60_000, n_sw: 5000, n_directions: 32 }
}

#[test]
fn exact_draws_judged_against_themselves_are_perfect() {
    for target in Target::ALL {
        let mut sample = |n: usize, seed: u64| -> Result<_, HostError> {
            let theta = target.sample(n, seed).unwrap_or_default();
            let log_q = target.log_prob_rows(&theta)?;
            Ok((theta, log_q))
        };
        let mut log_prob = |theta: &[f64]| target.log_prob_rows(theta);
        let found = evaluate(&target, &mut sample, &mut log_prob, &small(), 3).unwrap();
        let forward = found.forward_kl.unwrap();
        assert_eq!((forward.value, forward.se, forward.n), (0.0, 0.0, 20_000), "{target}");
        assert_eq!((found.reverse_kl.value, found.reverse_kl.n_infinite), (0.0, 0));
        assert!((found.importance.ess_fraction - 1.0).abs() < 1e-12);
        assert!(found.log_z.error.unwrap().abs() < 1e-10, "{target}: {:?}", found.log_z);
        assert!((found.bridge.value - 1e-4).abs() < 4.0 * (1e-4f64 / 60_000.0).sqrt(), "{:?}", found.bridge);
        for k in 0..target.n_modes() {
            let difference = (found.modes.masses[k] - found.modes.reference[k]).abs();
            assert!(difference <= 4.0 * found.modes.se[k], "{target}: mode {k} of {:?}", found.modes);
        }
        let sw = found.sliced_wasserstein2.unwrap();
        assert!(sw.value < 4.0 * sw.floor && sw.floor < 4.0 * sw.value && sw.floor > 0.0, "{target}: {sw:?}");
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(json["target"], target.name());
        assert_eq!(json["modes"]["n"], 60_000);
    }
}

/// A model that has lost a mode and fills the gap must fail in the figures that are there to see it.
#[test]
fn a_wrong_model_is_found_out() {
    let target = Target::Gauss2;
    let log_uniform = -2.0 * 16f64.ln();
    // Half uniform over the box, half the first of the target's modes alone (0.6 of its mass).
    let log_q = |row: &[f64]| {
        let mode = if target.mode_of(row) == 0 { target.log_prob(row).exp() / 0.6 } else { 0.0 };
        (0.5 * log_uniform.exp() + 0.5 * mode).ln()
    };
    let mut sample = |n: usize, seed: u64| -> Result<_, HostError> {
        let mut rng = stream(seed, "wrong", 0);
        let pool = target.sample(2 * n + 100, seed).unwrap_or_default();
        let mut first = pool.chunks(2).filter(|row| target.mode_of(row) == 0);
        let mut theta = Vec::new();
        for i in 0..n {
            let u = [crate::rng::open_uniform(&mut rng), crate::rng::open_uniform(&mut rng)];
            match first.next() {
                Some(row) if i % 2 == 0 => theta.extend_from_slice(row),
                _ => theta.extend(target.prior_sample(&u)),
            }
        }
        let log_q = theta.chunks(2).map(log_q).collect();
        Ok((theta, log_q))
    };
    let mut log_prob = |theta: &[f64]| Ok(theta.chunks(2).map(log_q).collect());
    let found = evaluate::<HostError>(&target, &mut sample, &mut log_prob, &small(), 3).unwrap();
    assert!(found.forward_kl.unwrap().value > 0.5 && found.reverse_kl.value > 1.0);
    assert!(found.importance.ess_fraction < 0.5);
    assert!(found.log_z.z_score.unwrap().abs() < 4.0, "{:?}", found.log_z);
    assert!(found.bridge.value > 0.2 && found.modes.error > 0.1);
    let sw = found.sliced_wasserstein2.unwrap();
    assert!(sw.value > 10.0 * sw.floor);
    let none = EvaluationSettings { n_sw: 0, ..small() };
    let err = evaluate::<HostError>(&target, &mut sample, &mut log_prob, &none, 3).unwrap_err();
    assert!(matches!(err, HostError::BadSetting { setting: "n_sw", .. }));
}

/// With `--ignored --nocapture` in an optimised build: the own cost of a full evaluation of every target.
#[test]
#[ignore = "prints timings"]
fn timings() {
    for target in Target::ALL.into_iter().chain([Target::ManyWell(16)]) {
        let start = std::time::Instant::now();
        target.bridge_level();
        let level = start.elapsed();
        let start = std::time::Instant::now();
        let draws = target.sample(1_000_000, 1).unwrap();
        let draw = start.elapsed();
        let start = std::time::Instant::now();
        let log_q = target.log_prob_rows(&draws).unwrap();
        let density = start.elapsed();
        let start = std::time::Instant::now();
        let mut sample = |_: usize, _: u64| -> Result<_, HostError> { Ok((draws.clone(), log_q.clone())) };
        let mut log_prob = |theta: &[f64]| target.log_prob_rows(theta);
        evaluate(&target, &mut sample, &mut log_prob, &EvaluationSettings::default(), 1).unwrap();
        let all = start.elapsed();
        println!(
            "{target}: level {level:.2?}, 1e6 draws {draw:.2?}, 1e6 log p {density:.2?}, evaluate {all:.2?}"
        );
    }
}

#[test]
fn evidence_of_too_few_effective_draws_is_not_given() {
    let target = Target::ManyWell(16);
    let (dim, log_q) = (target.dim(), -(target.dim() as f64) * 10f64.ln());
    let mut sample = |n: usize, seed: u64| -> Result<_, HostError> {
        let mut rng = stream(seed, "prior", 0);
        let mut row =
            || target.prior_sample(&(0..dim).map(|_| crate::rng::open_uniform(&mut rng)).collect::<Vec<_>>());
        let theta: Vec<f64> = (0..n).flat_map(|_| row()).collect();
        Ok((theta, vec![log_q; n]))
    };
    let mut log_prob = |theta: &[f64]| Ok(vec![log_q; theta.len() / dim]);
    let settings = EvaluationSettings { n_kl: 2000, n_bridge: 2000, n_sw: 100, n_directions: 4 };
    let found = evaluate::<HostError>(&target, &mut sample, &mut log_prob, &settings, 3).unwrap();
    assert!(found.importance.ess < 100.0, "{}", found.importance.ess);
    assert_eq!((found.log_z.error, found.log_z.z_score), (None, None));
}
