//! Mixture tests: densities against closed forms and quadrature, samples against their moments, fits against the truth.

use super::*;
use crate::rng::CounterField;
use std::ops::ControlFlow;

fn on(_: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn three_modes() -> GaussianMixture {
    GaussianMixture {
        dim: 2,
        n_components: 3,
        covariance: Covariance::Full,
        logits: vec![0.5f64.ln(), 0.3f64.ln(), 0.2f64.ln()],
        means: vec![-4.0, -2.5, 4.0, -2.0, 0.0, 4.0],
        cholesky: vec![1.0, 0.0, 1.0, 1.0, 0.49, (0.49f64 - 0.49 * 0.49).sqrt(), 0.8, 0.0, 0.8],
    }
}

#[test]
fn density_agrees_with_the_closed_form_and_integrates_to_one() {
    let mixture = three_modes();
    let x = [3.3, -2.9];
    let mut expected = 0.0;
    for k in 0..3 {
        let c = mixture.covariance_of(k);
        let det = c[0] * c[3] - c[1] * c[2];
        let (a, b) = (x[0] - mixture.means[2 * k], x[1] - mixture.means[2 * k + 1]);
        let square = (c[3] * a * a - 2.0 * c[1] * a * b + c[0] * b * b) / det;
        expected += mixture.weights()[k] * (-0.5 * square).exp() / (TAU * det.sqrt());
    }
    assert!((mixture.log_density(&x).unwrap()[0] - expected.ln()).abs() < 1e-13);
    assert!((mixture.covariance_of(1)[1] - 0.49).abs() < 1e-15);
    let (n, h) = (400, 0.06);
    let grid: Vec<f64> = (0..n * n)
        .flat_map(|i| [-12.0 + h * ((i % n) as f64 + 0.5), -12.0 + h * ((i / n) as f64 + 0.5)])
        .collect();
    let sum: f64 = mixture.log_density(&grid).unwrap().iter().map(|l| l.exp()).sum();
    assert!((sum * h * h - 1.0).abs() < 1e-10);
}

#[test]
fn responsibilities_are_shares_of_the_density() {
    let mixture = three_modes();
    let rho = mixture.responsibilities(&[-4.0, -2.5, 0.0, 0.0, 1e3, -1e3]).unwrap();
    for row in rho.chunks(3) {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{row:?}");
    }
    assert!(rho[0] > 0.999 && rho.iter().all(|r| r.is_finite()));
}

#[test]
fn samples_are_those_of_the_mixture_and_do_not_depend_on_the_batch() {
    let mixture = three_modes();
    let n = 100_000;
    let (points, components) = mixture.sample(5, 0, n);
    let (part, part_components) = mixture.sample(5, 777, 50);
    assert_eq!(part, points[1554..1654]);
    assert_eq!(part_components, components[777..827]);
    for k in 0..3u32 {
        let rows: Vec<&[f64]> =
            points.chunks(2).zip(&components).filter(|r| *r.1 == k).map(|r| r.0).collect();
        let (m, a) = (rows.len() as f64, mixture.weights()[k as usize]);
        assert!((m / n as f64 - a).abs() < 4.0 * (a * (1.0 - a) / n as f64).sqrt());
        let mean = [0, 1].map(|j| rows.iter().map(|x| x[j]).sum::<f64>() / m);
        let covariance = mixture.covariance_of(k as usize);
        for i in 0..2 {
            assert!(
                (mean[i] - mixture.means[2 * k as usize + i]).abs() < 4.0 * (covariance[3 * i] / m).sqrt()
            );
            for j in 0..2 {
                let c = rows.iter().map(|x| (x[i] - mean[i]) * (x[j] - mean[j])).sum::<f64>() / m;
                assert!((c - covariance[2 * i + j]).abs() < 6.0 / m.sqrt(), "{c} {}", covariance[2 * i + j]);
            }
        }
    }
}

/// Prior draws weighted by the mixture density: most weights are almost zero.
fn weighted_prior_draws(n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut points = vec![0.0; 2 * n];
    CounterField::new(1, "fit", 2).fill_uniform(0, &mut points);
    points.iter_mut().for_each(|u| *u = 16.0 * *u - 8.0);
    let lw = three_modes().log_density(&points).unwrap();
    (points, lw.iter().map(|l| l.exp()).collect())
}

#[test]
fn a_weighted_fit_finds_the_modes_and_reaches_the_likelihood_of_the_truth() {
    let (points, weights) = weighted_prior_draws(131_072);
    let fit = fit_mixture(&points, &weights, 2, 3, &MixtureFitSettings::default(), 3, on).unwrap();
    assert!(fit.n_points < 110_000 && fit.pruned_share < 1e-10 && fit.converged, "{} points", fit.n_points);
    let truth = three_modes();
    let total: f64 = weights.iter().sum();
    let truth_mean: f64 =
        truth.log_density(&points).unwrap().iter().zip(&weights).map(|(l, w)| w * l).sum::<f64>() / total;
    // Excess over the truth is at most the fitted noise, about P / (2 ESS).
    let excess = fit.mean_log_likelihood - truth_mean;
    assert!(excess > -1e-3 && excess < 17.0 / fit.ess + 1e-3, "excess {excess}, ess {}", fit.ess);
    for k in 0..3 {
        let mean = &truth.means[2 * k..2 * k + 2];
        let near = (0..3)
            .find(|c| (0..2).all(|j| (fit.mixture.means[2 * c + j] - mean[j]).abs() < 0.15))
            .expect("a component at every mode");
        assert!((fit.mixture.weights()[near] - truth.weights()[k]).abs() < 0.02);
        for (a, b) in fit.mixture.covariance_of(near).iter().zip(truth.covariance_of(k)) {
            assert!((a - b).abs() < 0.15);
        }
    }
    fit.mixture.validate().unwrap();
}

#[test]
fn a_fit_is_the_same_on_one_thread_and_on_many() {
    let (points, weights) = weighted_prior_draws(20_000);
    let settings = MixtureFitSettings { n_restarts: 3, n_polish: 5, ..Default::default() };
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let fit = || fit_mixture(&points, &weights, 2, 4, &settings, 3, on).unwrap();
    assert_eq!(pool(1).install(fit), pool(4).install(fit));
}

#[test]
fn bic_chooses_the_true_number_of_components() {
    let (points, _) = three_modes().sample(2, 0, 6000);
    let settings = MixtureFitSettings { n_restarts: 4, ..Default::default() };
    let selection = select_mixture(&points, &[0.1; 6000], 2, &[1, 2, 3, 4, 5], 5, &settings, 0, on).unwrap();
    assert_eq!(selection.fit.mixture.n_components, 3, "{:?}", selection.table);
    assert_eq!(selection.table.iter().map(|r| r.n_params).collect::<Vec<_>>(), [5, 11, 17, 23, 29]);
    let (best, row) = (&selection.fit, &selection.table[2]);
    assert!((row.bic - (17.0 * 6000f64.ln() - 12_000.0 * best.mean_log_likelihood)).abs() < 1e-6);
}

#[test]
fn diagonal_components_have_no_correlation_and_match_the_moments() {
    let (points, _) = three_modes().sample(4, 0, 5000);
    let settings =
        MixtureFitSettings { covariance: Covariance::Diagonal, weight_floor: 0.0, ..Default::default() };
    let fit = fit_mixture(&points, &[1.0; 5000], 2, 1, &settings, 0, on).unwrap();
    let covariance = fit.mixture.covariance_of(0);
    assert_eq!(covariance[1], 0.0);
    let mean = points.chunks(2).map(|x| x[0]).sum::<f64>() / 5000.0;
    let variance = points.chunks(2).map(|x| (x[0] - mean).powi(2)).sum::<f64>() / 5000.0;
    assert!((fit.mixture.means[0] - mean).abs() < 1e-10 && (covariance[0] - variance - 1e-6).abs() < 1e-9);
}

#[test]
fn a_fit_that_is_told_to_stop_returns_what_there_is() {
    let (points, _) = three_modes().sample(2, 0, 6000);
    let tolerance = f64::NEG_INFINITY; // never converged
    let settings =
        MixtureFitSettings { n_restarts: 4, n_short: 5, n_polish: 20, tolerance, ..Default::default() };
    let stop_at = |limit: usize| {
        let mut last = None;
        move |done: usize, total: usize| {
            assert!(done < total && last.is_none_or(|l| done > l), "{done} of {total} after {last:?}");
            last = Some(done);
            if done >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    };
    for (limit, n_polish) in [(0, 0), (3, 0), (5, 0), (8, 3)] {
        let fit = fit_mixture(&points, &[0.1; 6000], 2, 3, &settings, 0, stop_at(limit)).unwrap();
        assert!(fit.interrupted && !fit.converged && fit.n_polish == n_polish, "{limit}: {fit:?}");
        fit.mixture.validate().unwrap();
    }
    let select = |limit| {
        select_mixture(&points, &[0.1; 6000], 2, &[1, 2, 3, 4, 5], 5, &settings, 0, stop_at(limit)).unwrap()
    };
    // In the middle of K = 1, of K = 4, and never.
    let (early, late, whole) = (select(2), select(3 * 25 + 2), select(usize::MAX));
    assert!(early.fit.interrupted && early.fit.mixture.n_components == 1 && early.table.len() == 1);
    assert!(late.fit.interrupted && late.fit.mixture.n_components == 3 && late.table.len() == 3);
    assert!(!whole.fit.interrupted && whole.table.len() == 5);
    assert_eq!(late.fit.mixture, whole.fit.mixture);
}

#[test]
fn one_overwhelming_point_does_not_collapse_a_component() {
    let (mut points, _) = three_modes().sample(6, 0, 300);
    points[0..2].copy_from_slice(&[7.0, 7.0]);
    let mut weights = vec![1e-3; 300];
    weights[0] = 10.0;
    let fit = fit_mixture(&points, &weights, 2, 2, &MixtureFitSettings::default(), 0, on).unwrap();
    fit.mixture.validate().unwrap();
    for k in 0..2 {
        let c = fit.mixture.covariance_of(k);
        assert!(c[0] * c[3] - c[1] * c[2] > 1e-6, "component {k} collapsed: {c:?}");
    }
    assert!(fit.mixture.weights().iter().all(|a| *a >= 1e-3 - 1e-12));
}

#[test]
fn bad_input_is_named() {
    let settings = MixtureFitSettings::default();
    let fit = |points: &[f64], weights: &[f64], k| {
        fit_mixture(points, weights, 2, k, &settings, 0, on).unwrap_err()
    };
    let err = fit(&[0.0, 1.0, f64::NAN, 2.0], &[1.0, 1.0], 1);
    assert!(err.to_string().contains("points: value NaN at row 1, column 0"), "{err}");
    let err = fit(&[0.0, 1.0, 3.0, 2.0], &[1.0, -1.0], 1);
    assert!(err.to_string().contains("weights: value -1 at row 1"), "{err}");
    assert!(matches!(fit(&[1.0; 6], &[1.0; 3], 2), HostError::TooFewPoints { n_components: 2, n_points: 1 }));
    assert!(matches!(fit(&[1.0; 6], &[0.0; 3], 1), HostError::AllWeightsZero { .. }));
    assert!(matches!(fit(&[1.0; 5], &[0.0; 3], 1), HostError::Length { .. }));
    let most =
        |k| matches!(fit(&[1.0; 6], &[1.0; 3], k), HostError::BadSetting { setting: "weight_floor", .. });
    assert!(most(MAX_COMPONENTS + 1) && !most(MAX_COMPONENTS));
    let mut bad = three_modes();
    bad.cholesky[4] = f64::INFINITY;
    assert!(bad.validate().unwrap_err().to_string().contains("row 1, column 1"));
    assert!(three_modes().log_density(&[f64::INFINITY, 0.0]).unwrap()[0] == f64::NEG_INFINITY);
}
