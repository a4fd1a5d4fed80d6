//! Posteriors on circles: two angles with one mode across the bounds of both, through rounds and from pairs, against the
//! exact evidence, masses and normalisation.

use lwflow_engine::{DeviceChoice, Engine, EngineSettings};
use lwflow_host::fit::{BaseSettings, Components, FitInput, FitSettings, fit, refit};
use lwflow_host::likelihood::ClosureLikelihood;
use lwflow_host::posterior::Posterior;
use lwflow_host::prior::{IndependentPrior, Marginal, Prior};
use lwflow_host::rounds::{NoJournal, Problem, RoundsResult, RoundsSettings, run};
use lwflow_host::train::TrainSettings;
use lwflow_host::weights::{log_add, normalised_weights};
use lwflow_model::{Covariance, FlowSettings};
use std::f64::consts::TAU;
use std::ops::ControlFlow;

const KAPPA: f64 = 20.0;
/// Centres and masses of the modes; the first lies across the bounds, 0 and tau.
const MODES: [([f64; 2], f64); 2] = [([0.0, 0.0], 0.7), ([2.0, 4.0], 0.3)];

/// log of the modified Bessel function I_0, by its power series.
fn log_bessel_0(x: f64) -> f64 {
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..200 {
        term *= (x / (2.0 * f64::from(k))).powi(2);
        sum += term;
    }
    f64::ln(sum)
}

/// Two products of von Mises functions of height one, by their masses.
fn log_likelihood(theta: &[f64]) -> f64 {
    let mode = |(centre, mass): ([f64; 2], f64)| {
        mass.ln() + theta.iter().zip(centre).map(|(x, c)| KAPPA * ((x - c).cos() - 1.0)).sum::<f64>()
    };
    log_add(mode(MODES[0]), mode(MODES[1]))
}

/// E of exp(kappa (cos - 1)) over a uniform angle is exp(-kappa) I_0(kappa).
fn log_z() -> f64 {
    2.0 * (log_bessel_0(KAPPA) - KAPPA)
}

fn prior(periodic: bool) -> IndependentPrior {
    let angle = Marginal::Uniform { lower: 0.0, upper: TAU };
    let prior = IndependentPrior::new(vec![angle; 2]).unwrap();
    if periodic { prior.with_periodic(0).unwrap().with_periodic(1).unwrap() } else { prior }
}

fn cores() -> Engine {
    Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..EngineSettings::default() }).unwrap()
}

fn settings(n_components: Components) -> FitSettings {
    FitSettings {
        flow: FlowSettings { n_layers: 4, hidden: vec![16, 16], ..FlowSettings::default() },
        base: BaseSettings::Mixture {
            components: n_components,
            covariance: Covariance::Full,
            trainable: true,
        },
        training: TrainSettings { max_visits: 40_000, batch_size: 256, ..TrainSettings::default() },
        ..FitSettings::default()
    }
}

fn rounds(engine: &Engine, periodic: bool) -> RoundsResult {
    let mut likelihood = ClosureLikelihood::new(2, log_likelihood);
    let names = vec!["a".to_owned(), "b".to_owned()];
    let prior = prior(periodic);
    let problem =
        Problem { labels: names.clone(), names, prior: &prior, likelihood: &mut likelihood, start: None };
    let rounds = RoundsSettings {
        target_ess: 4000.0,
        max_evaluations: 30_000,
        n_round: Some(1500),
        n_scan: Some(2000),
        ..RoundsSettings::default()
    };
    let settings = settings(Components::Auto { max: 8 });
    run(engine, problem, &settings, &rounds, 3, &mut NoJournal, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Integral over the torus of the flow's density, by midpoints.
fn integral(posterior: &Posterior) -> f64 {
    let n = 300;
    let at = |i: usize| (i as f64 + 0.5) * TAU / n as f64;
    let grid: Vec<f64> = (0..n * n).flat_map(|i| [at(i / n), at(i % n)]).collect();
    let log_q = posterior.log_prob_f64(&grid).unwrap();
    assert!(log_q.iter().all(|q| !q.is_nan()));
    log_q.iter().map(|q| q.exp()).sum::<f64>() * (TAU / n as f64).powi(2)
}

#[test]
fn rounds_on_two_angles_keep_a_mode_across_the_bounds_whole() {
    assert!((log_bessel_0(1.0) - 1.266_065_877_752_008_f64.ln()).abs() < 1e-14);
    let engine = cores();
    let result = rounds(&engine, true);
    let report = &result.report;
    let fresh = report.fresh.as_ref().unwrap();
    let share = fresh.ess.ess / fresh.weights.n as f64;
    println!(
        "share {share:.3}, log Z {} +- {} ({}), {} evaluations, {} rounds",
        fresh.weights.log_z,
        fresh.weights.log_z_sd,
        log_z(),
        report.n_evaluations,
        report.rounds.len()
    );
    assert!(report.verdict.met, "{:?}", report.verdict);
    assert!(share > 0.9, "{share}");
    assert!((fresh.weights.log_z - log_z()).abs() < 4.0 * fresh.weights.log_z_sd + 1e-4);
    // Nothing is left of the bounds: two modes, the first of them centred on the corner.
    let modes = &report.coverage.as_ref().unwrap().modes;
    assert_eq!(modes.len(), 2, "{modes:?}");
    for (mode, (centre, mass)) in modes.iter().zip(MODES) {
        assert!((mode.mass_weighted - mass).abs() < 0.04, "{mode:?}");
        for (mean, c) in mode.mean.iter().zip(centre) {
            assert!((mean - c).cos() > 0.05f64.cos(), "{mode:?}");
        }
    }
    let weights = normalised_weights(&result.log_weights(), &result.theta).unwrap();
    let corner = |t: &[f64]| (t[0].cos() + t[1].cos()) > 1.0;
    let mass: f64 =
        result.theta.chunks_exact(2).zip(&weights).filter(|(t, _)| corner(t)).map(|(_, w)| w).sum();
    assert!((mass - MODES[0].1).abs() < 0.03, "{mass}");
    assert!((integral(&result.posterior) - 1.0).abs() < 2e-3, "{}", integral(&result.posterior));
    // As bounded parameters the same angles fall into pieces.
    let bounded = rounds(&engine, false);
    let n_modes = bounded.report.coverage.as_ref().map(|c| c.n_modes);
    let fresh = bounded.report.fresh.as_ref().unwrap();
    println!("bounded: share {:.3}, {n_modes:?} modes", fresh.ess.ess / fresh.weights.n as f64);
    assert_eq!(n_modes, Some(5));
}

/// Prior draws weighted by the likelihood at angles less `turn`, as from a file of pairs.
fn pairs(turn: f64) -> FitInput {
    let points = lwflow_host::rng::sobol_blocks(2, 32_768, 2);
    let theta: Vec<f64> = points.points.iter().map(|u| TAU * u).collect();
    FitInput {
        names: vec!["a".into(), "b".into()],
        labels: vec!["a".into(), "b".into()],
        supports: prior(true).supports(),
        log_weights: theta.chunks_exact(2).map(|t| log_likelihood(&[t[0] - turn, t[1] - turn])).collect(),
        log_proposal: Some(vec![-2.0 * TAU.ln(); theta.len() / 2]),
        blocks: Some(points.blocks),
        theta,
        ..FitInput::default()
    }
}

/// Forward KL in nats, by the weighted pairs.
fn kl(posterior: &Posterior, input: &FitInput) -> f64 {
    let log_q = posterior.log_prob_f64(&input.theta).unwrap();
    let weights = normalised_weights(&input.log_weights, &input.theta).unwrap();
    let log_p = input.log_weights.iter().map(|lw| lw - 2.0 * TAU.ln() - log_z());
    let terms = weights.iter().zip(log_p.zip(&log_q)).filter(|(w, _)| **w > 0.0);
    terms.map(|(w, (p, q))| w * (p - q)).sum()
}

#[test]
fn a_fit_to_pairs_of_angles_is_a_density_on_the_circle() {
    let engine = cores();
    let settings = settings(Components::Fixed(2));
    let input = pairs(0.0);
    let go_on = |_| ControlFlow::Continue(());
    let (posterior, report) = fit(&engine, &input, &settings, 1, go_on).unwrap();
    assert!(report.notes.iter().any(|n| n.starts_with("a: periodic, cut at ")), "{:?}", report.notes);
    let lost = kl(&posterior, &input);
    println!("forward KL {lost:.5}");
    assert!((integral(&posterior) - 1.0).abs() < 2e-3, "{}", integral(&posterior));
    assert!(lost.abs() < 0.02, "{lost}");
    // On both sides of a bound the density is the same.
    let both = posterior.log_prob_f64(&[1e-9, 1.0, TAU - 1e-9, 1.0, 0.2, 1e-9, 0.2, TAU - 1e-9]).unwrap();
    assert!((both[0] - both[1]).abs() < 1e-5 && (both[2] - both[3]).abs() < 1e-5, "{both:?}");
}

/// The layers of a flow whose cut has to move, because the mass now lies there, are a start like any other.
#[test]
fn a_cut_that_moves_breaks_no_warm_start() {
    let engine = cores();
    let settings = settings(Components::Fixed(2));
    let (before, _) =
        refit(&engine, &pairs(0.0), &settings, None, 1, 1, |_, _, _| ControlFlow::Continue(())).unwrap();
    let cuts = |p: &Posterior| [0, 1].map(|j| p.outer.bijections[j].cut.unwrap());
    let old = cuts(&before);
    let turned = pairs(old[0]);
    for (input, moves) in [(pairs(0.0), false), (turned, true)] {
        let go_on = |_, _, _| ControlFlow::Continue(());
        let (after, _) = refit(&engine, &input, &settings, Some(&before), 1, 2, go_on).unwrap();
        assert_eq!(cuts(&after)[0] != old[0], moves, "{old:?}, then {:?}", cuts(&after));
        let lost = kl(&after, &input);
        println!("cuts {old:?}, then {:?}: forward KL {lost:.5}", cuts(&after));
        assert!(lost.abs() < 0.02 && (integral(&after) - 1.0).abs() < 2e-3, "{lost}");
    }
}
