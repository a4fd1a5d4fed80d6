//! Rounds of simulations against posteriors that are known.

use super::*;
use crate::prior::{IndependentPrior, Marginal};
use crate::rng::{CounterField, normal_pair};
use crate::simulator::ClosureSimulator;
use lwflow_engine::{DeviceChoice, EngineSettings};
use rand_chacha::ChaCha8Rng;

const NOISE: f64 = 0.1;

fn engine() -> Engine {
    Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..Default::default() }).unwrap()
}

fn small(max_visits: usize) -> FitSettings {
    let mut settings = FitSettings::conditional();
    settings.flow.n_layers = 2;
    settings.flow.hidden = vec![16];
    settings.training.max_visits = max_visits;
    settings
}

type Simulate = fn(&[f64], &mut ChaCha8Rng, &mut [f64]);

/// Rounds of simulations with two parameters under a wide prior; `watch` may stop them.
fn run(
    simulate: Simulate,
    observation: &[f64],
    how: &TruncatedSettings,
    visits: usize,
    watch: impl FnMut(TruncatedEvent<'_>) -> ControlFlow<()>,
) -> TruncatedFit {
    let wide = Marginal::Normal { mean: 0.0, sd: 10.0 };
    let prior = IndependentPrior::new(vec![wide; 2]).unwrap();
    let mut simulator = ClosureSimulator::new(2, observation.len(), 3, simulate);
    let names = vec!["a".to_owned(), "b".to_owned()];
    let labels = names.clone();
    let problem = TruncatedProblem { names, labels, prior: &prior, simulator: &mut simulator, observation };
    let fitted = fit_truncated(&engine(), problem, (&small(visits), how), 1, watch).unwrap();
    for row in &fitted.report.rounds {
        println!("{row:?}");
    }
    fitted
}

fn go_on(_: TruncatedEvent<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Forward KL of the posterior of `observation` under x = theta + 0.1 n, by 20,000 exact draws.
fn distance(posterior: &Posterior, observation: &[f64]) -> f64 {
    let shrink = 1.0 / (1.0 + (NOISE / 10.0).powi(2));
    let (sd, n) = (NOISE * shrink.sqrt(), 20_000);
    let mut z = vec![0.0; 2 * n];
    CounterField::new(9, "truth", 2).fill_standard_normal(0, &mut z);
    let theta: Vec<f64> = z.iter().enumerate().map(|(i, z)| shrink * observation[i % 2] + sd * z).collect();
    let truth =
        z.iter().map(|z| -0.5 * z * z).sum::<f64>() / n as f64 - (std::f64::consts::TAU * sd * sd).ln();
    let given = posterior.given(observation).unwrap();
    let mut executor = engine().flow(given.spec()).unwrap();
    let log_q = given.log_prob(&mut executor, &theta, &[]).unwrap();
    truth - log_q.iter().sum::<f64>() / n as f64
}

fn noisy(theta: &[f64], rng: &mut ChaCha8Rng, x: &mut [f64]) {
    let (a, b) = normal_pair(rng);
    x.copy_from_slice(&[theta[0] + NOISE * a, theta[1] + NOISE * b]);
}

#[test]
fn rounds_find_a_posterior_that_is_small_in_its_prior() {
    let observation = [3.0, -2.0];
    let how = TruncatedSettings { n_simulations: 1200, ..TruncatedSettings::default() };
    let one = run(noisy, &observation, &TruncatedSettings { n_rounds: 1, ..how.clone() }, 40_000, go_on);
    let fitted = run(noisy, &observation, &how, 40_000, go_on);
    let (before, after) = (distance(&one.posterior, &observation), distance(&fitted.posterior, &observation));
    println!("KL {before:.4} in one round, {after:.4} in four");
    assert!(after < 0.3 * before && after < 0.4, "{before} {after}");
    let TruncatedReport { n_simulations, rounds, stop, .. } = &fitted.report;
    assert_eq!((*n_simulations, *stop), (1200, TruncatedStop::AllSimulated));
    let last = rounds.last().unwrap();
    assert!(last.prior_mass < 0.05 && last.leakage < 0.02, "{last:?}");
    // The weights of what lies in the last region are one, and nothing else is there.
    assert_eq!((fitted.input.log_weights.len(), fitted.fit.n), (last.n_pairs, last.n_pairs));
    assert!(fitted.input.log_weights.iter().all(|w| *w == 0.0) && last.n_pairs < 1200, "{last:?}");
    let far = fitted.posterior.novelty_scores(&[30.0, 0.0]).unwrap().unwrap();
    assert!(far[0].is_novel() && !last.novelty.unwrap().is_novel(), "{far:?} {last:?}");
}

fn square(theta: &[f64], rng: &mut ChaCha8Rng, x: &mut [f64]) {
    let (a, b) = normal_pair(rng);
    x.copy_from_slice(&[theta[0] * theta[0] + 0.5 * a, theta[1] + NOISE * b]);
}

#[test]
fn both_modes_stay() {
    let observation = [16.0, 1.0];
    let how = TruncatedSettings { n_simulations: 2000, ..TruncatedSettings::default() };
    let fitted = run(square, &observation, &how, 100_000, go_on);
    let given = fitted.posterior.given(&observation).unwrap();
    let mut executor = engine().flow(given.spec()).unwrap();
    let theta = given.sample(&mut executor, 10_000, &[], 1).unwrap().theta;
    let share =
        |inside: fn(f64) -> bool| theta.chunks_exact(2).filter(|t| inside(t[0])).count() as f64 / 10_000.0;
    let (left, right) = (share(|t| (t + 4.0).abs() < 1.0), share(|t| (t - 4.0).abs() < 1.0));
    println!("{left} at -4, {right} at 4, in {:.1e} of the prior", fitted.report.rounds[3].prior_mass);
    assert!(left > 0.2 && right > 0.2 && left + right > 0.6, "{left} {right}");
}

#[test]
fn a_wish_to_stop_leaves_the_flow_of_the_last_round_that_ended() {
    let how = TruncatedSettings {
        n_simulations: 400,
        n_rounds: 4,
        outside: 1e-3,
        quantile_draws: 10_000,
        ..TruncatedSettings::default()
    };
    let stop_at = |wanted: fn(TruncatedEvent<'_>) -> bool| {
        // Once: what follows must not need to be told again.
        let mut told = false;
        run(noisy, &[3.0, -2.0], &how, 10_000, |event| {
            let now = !told && wanted(event);
            told |= now;
            if now { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    };
    let whole = stop_at(|event| matches!(event, TruncatedEvent::Round { round: 2, .. }));
    for (what, fitted) in [
        ("drawing", stop_at(|event| matches!(event, TruncatedEvent::Drawing { round: 3, .. }))),
        ("simulating", stop_at(|event| matches!(event, TruncatedEvent::Simulating { round: 3, .. }))),
        ("fitting", stop_at(|event| matches!(event, TruncatedEvent::Fitting { round: 3, .. }))),
    ] {
        let report = &fitted.report;
        assert_eq!((report.rounds.len(), report.stop), (2, TruncatedStop::Interrupted), "{what}");
        assert_eq!(fitted.fit.training.stop, StopReason::Interrupted, "{what}");
        assert_eq!(fitted.posterior.flow.params(), whole.posterior.flow.params(), "{what}");
    }
    let early =
        stop_at(|event| matches!(event, TruncatedEvent::Simulating { round: 1, done, .. } if done > 50));
    assert_eq!((early.report.rounds.len(), early.report.stop), (1, TruncatedStop::Interrupted));
    assert!(early.report.n_simulations < 100, "{}", early.report.n_simulations);
}

#[test]
fn an_error_in_a_later_round_leaves_the_flow_before_it() {
    let how = TruncatedSettings {
        n_simulations: 400,
        n_rounds: 2,
        quantile_draws: 10_000,
        ..TruncatedSettings::default()
    };
    // Near the observation the simulator gives what is no number, which the first round's parameters are too far away to see.
    let broken = |theta: &[f64], rng: &mut ChaCha8Rng, x: &mut [f64]| {
        noisy(theta, rng, x);
        if (theta[0] - 3.0).hypot(theta[1] + 2.0) < 0.5 {
            x[0] = f64::INFINITY;
        }
    };
    let whole = run(noisy, &[3.0, -2.0], &how, 10_000, |event| match event {
        TruncatedEvent::Round { round: 1, .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let fitted = run(broken, &[3.0, -2.0], &how, 10_000, go_on);
    assert_eq!((fitted.report.rounds.len(), fitted.report.stop), (1, TruncatedStop::Failed));
    assert!(fitted.failure.unwrap().to_string().contains("inf"));
    assert_eq!(fitted.posterior.flow.params(), whole.posterior.flow.params());
}

#[test]
fn a_region_that_no_longer_shrinks_gets_the_rest_and_failures_are_counted() {
    // The data say nothing, so that the posterior is the prior; every simulation of a negative theta fails.
    let nothing = |theta: &[f64], rng: &mut ChaCha8Rng, x: &mut [f64]| {
        let (a, _) = normal_pair(rng);
        x[0] = if theta[0] < 0.0 { f64::NAN } else { a };
    };
    let how = TruncatedSettings { n_simulations: 600, n_rounds: 6, ..TruncatedSettings::default() };
    let fitted = run(nothing, &[0.1], &how, 5_000, go_on);
    let TruncatedReport { settled, rounds, n_simulations, .. } = &fitted.report;
    assert!(*settled && rounds.len() < 6 && *n_simulations == 600, "{rounds:?}");
    let made: Vec<usize> = rounds.iter().map(|r| r.n_simulations).collect();
    assert_eq!((made.iter().sum::<usize>(), made[0]), (600, 100));
    assert!((30..70).contains(&rounds[0].n_failed), "{rounds:?}");
}

#[test]
fn senseless_observations_and_settings_are_refused() {
    let prior = IndependentPrior::new(vec![Marginal::Normal { mean: 0.0, sd: 1.0 }; 2]).unwrap();
    let refuse = |observation: &[f64], how: TruncatedSettings| {
        let mut simulator = ClosureSimulator::new(2, 2, 3, noisy);
        let (names, labels) = (vec!["a".to_owned(), "b".to_owned()], vec![String::new(); 2]);
        let problem =
            TruncatedProblem { names, labels, prior: &prior, simulator: &mut simulator, observation };
        fit_truncated(&engine(), problem, (&small(100), &how), 1, go_on).unwrap_err().to_string()
    };
    let how = TruncatedSettings::default;
    assert!(refuse(&[1.0], how()).contains("observation is [1.0], expected 2 finite values"));
    assert!(refuse(&[1.0, f64::NAN], how()).contains("expected 2 finite values"));
    assert!(refuse(&[1.0, 1.0], TruncatedSettings { n_rounds: 0, ..how() }).contains("rounds = 0"));
    let few = TruncatedSettings { n_simulations: 39, ..how() };
    assert!(refuse(&[1.0, 1.0], few).contains("simulations = 39 in 4 rounds, expected at least 10"));
    assert!(refuse(&[1.0, 1.0], TruncatedSettings { outside: 0.0, ..how() }).contains("outside the region"));
}
