use super::*;
use quadrature::{Grid, block};

/// Integral of the normalised density, and entropy, by the midpoint rule on a grid no code under test uses.
fn integral_and_entropy(target: &Target) -> (f64, f64) {
    let (log_prob, bounds, n_blocks) = block(target);
    let grid = Grid::new(&bounds, if bounds.len() > 2 { 88 } else { 610 });
    let terms = grid.map(|theta| {
        let log_p = log_prob(theta);
        let p = log_p.exp();
        (p, if p > 0.0 { -p * log_p } else { 0.0 })
    });
    let sum = terms.iter().fold((0.0, 0.0), |s, t| (s.0 + t.0, s.1 + t.1));
    (sum.0 * grid.volume(), n_blocks as f64 * sum.1 * grid.volume())
}

#[test]
fn every_density_integrates_to_one_and_has_the_known_entropy() {
    for target in Target::ALL {
        let (integral, entropy) = integral_and_entropy(&target);
        assert!((integral - 1.0).abs() < 2e-6, "{target}: integral {integral}");
        // Exact draws must agree with the density: E[-log p] is the entropy.
        let n = 40_000;
        let log_p = target.log_prob_rows(&target.sample(n, 5).unwrap()).unwrap();
        let mean = -log_p.iter().sum::<f64>() / n as f64;
        let variance = log_p.iter().map(|v| (v + mean).powi(2)).sum::<f64>() / n as f64;
        let z = (mean - entropy) / (variance / n as f64).sqrt();
        assert!(z.abs() < 4.0, "{target}: entropy {entropy}, of draws {mean}, z {z}");
        let truth = match target {
            Target::TwoMoonsS => Some(1.57106),
            Target::Circle8 => Some(2.17760),
            Target::Rings2 => Some(2.27589),
            _ => None,
        };
        assert!(truth.is_none_or(|t| (entropy - t).abs() < 1e-5), "{target}: entropy {entropy}");
    }
}

#[test]
fn evidence_is_that_of_the_definitions() {
    for (target, truth, tolerance) in [
        (Target::Gauss1, -2.0 * 16f64.ln(), 1e-6),
        (Target::Gauss2, -2.0 * 16f64.ln(), 1e-5),
        (Target::Gauss3, -2.0 * 16f64.ln(), 1e-4),
        (Target::Gauss3d, -3.0 * 16f64.ln(), 1e-4),
        (Target::TwoMoonsS, 2.23494f64.ln() - 2.0 * 8f64.ln(), 1e-5),
        (Target::Circle8, -2.0 * 8f64.ln(), 1e-12),
        (Target::Rings2, 5.90610f64.ln() - 2.0 * 8f64.ln(), 1e-5),
        (Target::Rosenbrock10, -21.402, 1e-3),
        (Target::ManyWell(3), 3.0 * (10.29348 - 2.0 * 10f64.ln()), 2e-5),
    ] {
        assert!((target.log_z() - truth).abs() < tolerance, "{target}: {} against {truth}", target.log_z());
    }
}

#[test]
fn masses_of_modes_and_the_bridge_level_hold_for_exact_draws() {
    for target in Target::ALL {
        let (n, k) = (60_000, target.n_modes());
        let draws = target.sample(n, 17).unwrap();
        let masses = target.mode_masses();
        assert_eq!(masses.len(), k);
        assert!((masses.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{target}: {masses:?}");
        let mut counts = vec![0.0; k];
        draws.chunks(target.dim()).for_each(|row| counts[target.mode_of(row)] += 1.0);
        for (mode, (count, mass)) in counts.iter().zip(&masses).enumerate() {
            let se = (mass * (1.0 - mass) / n as f64).sqrt();
            assert!(
                (count / n as f64 - mass).abs() <= 4.0 * se,
                "{target} mode {mode}: {count} of {n}, {mass}"
            );
        }
        let level = target.bridge_level();
        let below = target.log_prob_rows(&draws).unwrap().iter().filter(|p| **p < level).count() as f64;
        let expected = BRIDGE_SHARE * n as f64;
        assert!((below - expected).abs() < 4.0 * expected.sqrt() + 1.0, "{target}: {below} below the level");
        // Sharper where it is cheap: an optimised build.
        if !cfg!(debug_assertions) {
            let draws = target.sample(4_000_000, 3).unwrap();
            let below = target.log_prob_rows(&draws).unwrap().iter().filter(|p| **p < level).count() as f64;
            assert!((below - 400.0).abs() < 80.0, "{target}: {below} of 4e6 below the level");
        }
    }
    assert!((deep_well_mass() - 0.8443).abs() < 5e-5);
    assert!((Target::Gauss3.mode_masses()[0] - 0.5).abs() < 1e-4);
}

#[test]
fn a_prior_scan_finds_the_evidence() {
    for target in [Target::Gauss1, Target::Gauss3d, Target::TwoMoonsS, Target::ManyWell(1)] {
        let points = crate::rng::sobol_blocks(4, 4 * 8192, target.dim());
        let logs: Vec<f64> = points
            .points
            .chunks(target.dim())
            .map(|u| target.log_likelihood(&target.prior_sample(u)))
            .collect();
        let report = crate::weights::weight_report(&logs, Some(&points.blocks), &[]).unwrap();
        let error = (report.log_z - target.log_z()).abs();
        assert!(error < 8.0 * report.log_z_sd + 1e-3, "{target}: error {error}, sd {}", report.log_z_sd);
    }
    let theta = Target::Rosenbrock10.prior_sample(&[0.5; 10]);
    assert!(theta.iter().all(|x| x.abs() < 1e-12));
}

#[test]
fn draws_lie_inside_the_box_and_do_not_depend_on_the_batch() {
    for target in Target::ALL {
        let long = target.sample(9000, 2).unwrap();
        assert_eq!(target.sample(4100, 2).unwrap()[..], long[..4100 * target.dim()], "{target}");
        assert_ne!(target.sample(10, 3).unwrap()[..], long[..10 * target.dim()]);
        assert!(long.chunks(target.dim()).all(|row| target.log_prob(row).is_finite()));
    }
}

#[test]
fn outside_is_minus_infinity_and_misuse_is_nan() {
    assert_eq!(Target::Gauss1.log_prob(&[8.0, 0.0]), f64::NEG_INFINITY);
    assert_eq!(Target::ManyWell(2).log_prob(&[0.0, 0.0, 0.0, -5.1]), f64::NEG_INFINITY);
    assert!(Target::Rings2.log_prob(&[f64::NAN, 0.0]).is_nan());
    assert!(Target::Rings2.log_prob(&[0.0]).is_nan());
    assert!(matches!(Target::Gauss3d.log_prob_rows(&[0.0; 4]), Err(HostError::Length { got: 4, .. })));
}

#[test]
fn names_go_round_and_a_wrong_one_names_the_nearest() {
    for target in Target::ALL.into_iter().chain([Target::ManyWell(16)]) {
        assert_eq!(target.name().parse::<Target>().unwrap(), target);
        let json = serde_json::to_string(&target).unwrap();
        assert_eq!(serde_json::from_str::<Target>(&json).unwrap(), target);
        assert_eq!((target.supports().len(), target.parameter_names().len()), (target.dim(), target.dim()));
    }
    let err = "gaus3".parse::<Target>().unwrap_err().to_string();
    assert!(err.contains("did you mean \"gauss3\"?"), "{err}");
    assert!("many_well_17".parse::<Target>().unwrap_err().to_string().contains("N = 1 to 16"));
    assert_eq!("many_well".parse::<Target>().unwrap(), Target::ManyWell(2));
    assert_eq!(Target::Rosenbrock10.parameter_labels()[9], "x_{10}");
}
