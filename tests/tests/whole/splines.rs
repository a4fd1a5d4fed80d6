//! Fits with spline couplings end to end, on the cores: they learn modes that the base does not have, and rounds with
//! their wide twins reach a good verdict.

use crate::rounds::cores;
use lwflow_host::diagnostics::forward_kl;
use lwflow_host::fit::{BaseSettings, Components, FitSettings, fit};
use lwflow_host::rounds::{NoJournal, Problem, RoundsSettings, run};
use lwflow_host::targets::Target;
use lwflow_host::train::TrainSettings;
use lwflow_model::{Coupling, Covariance, FlowSettings};
use lwflow_tests::target_input;
use std::ops::ControlFlow;

fn settings(base: BaseSettings, coupling: Coupling, max_visits: usize) -> FitSettings {
    FitSettings {
        flow: FlowSettings { n_layers: 4, hidden: vec![16, 16], coupling, ..FlowSettings::default() },
        base,
        training: TrainSettings { max_visits, batch_size: 256, ..TrainSettings::default() },
        ..FitSettings::default()
    }
}

/// Forward KL from 10,000 exact draws; affine couplings leave bridges between the modes.
#[test]
fn eight_modes_from_one_gaussian() {
    let engine = cores();
    let target = Target::Circle8;
    let input = target_input(target, 32_768, 1);
    let settings = settings(BaseSettings::Gaussian, Coupling::SPLINE, 800_000);
    let (posterior, _) = fit(&engine, &input, &settings, 2, |_| ControlFlow::Continue(())).unwrap();
    assert!(posterior.flow.params().iter().all(|p| p.is_finite()));
    let mut executor = engine.flow(posterior.spec()).unwrap();
    let theta = target.sample(10_000, 3).unwrap();
    let log_q = posterior.log_prob(&mut executor, &theta, &[]).unwrap();
    let kl = forward_kl(&target.log_prob_rows(&theta).unwrap(), &log_q).unwrap().value;

    let samples = posterior.sample(&mut executor, 4000, &[], 9).unwrap();
    assert!(samples.theta.iter().all(|x| x.abs() < 4.0), "a sample on or outside a bound");
    let again = posterior.log_prob(&mut executor, &samples.theta, &[]).unwrap();
    let gap = samples.log_prob.iter().zip(&again).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(gap < 1e-3, "log_prob of samples and of their theta differ by {gap}");
    println!("forward KL {kl:.4}, gap {gap:.1e}");
    assert!(kl < 0.05, "forward KL {kl}");
}

#[test]
fn rounds_with_wide_twins_reach_a_good_verdict() {
    let mut target = Target::Gauss3;
    let prior = target;
    let problem = Problem {
        names: target.parameter_names(),
        labels: target.parameter_labels(),
        prior: &prior,
        likelihood: &mut target,
        start: None,
    };
    let components = Components::Fixed(3);
    let base = BaseSettings::Mixture { components, covariance: Covariance::Full, trainable: true };
    let rounds = RoundsSettings { target_ess: 2000.0, max_evaluations: 30_000, ..RoundsSettings::default() };
    let fit = settings(base, Coupling::Spline { n_bins: 5, bound: 4.0 }, 60_000);
    let go_on = &mut |_: lwflow_host::rounds::RoundsEvent<'_>| ControlFlow::Continue(());
    let result = run(&cores(), problem, &fit, &rounds, 1, &mut NoJournal, go_on).unwrap();
    let verdict = &result.report.verdict;
    assert!(verdict.met, "{:?}", verdict.reasons);
    // The base has a twin of every component.
    let spec = result.posterior.spec();
    assert!(matches!(&spec.base, lwflow_model::BaseSpec::Mixture(m) if m.n_components == 6));
    let fresh = &result.report.fresh.as_ref().unwrap().weights;
    let error = (fresh.log_z - target.log_z()).abs();
    assert!(error < 5.0 * fresh.log_z_sd.max(0.01), "log Z {} +- {}", fresh.log_z, fresh.log_z_sd);
}
