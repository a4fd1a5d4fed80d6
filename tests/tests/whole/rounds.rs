//! Rounds end to end, on the cores: no good verdict on a wrong result, the same bits again, and the same bits after a run
//! was broken off anywhere and resumed.

use lwflow_engine::{DeviceChoice, Engine, EngineSettings};
use lwflow_host::HostError;
use lwflow_host::fit::{BaseSettings, Components, FitSettings};
use lwflow_host::likelihood::ClosureLikelihood;
use lwflow_host::prior::{IndependentPrior, Marginal};
use lwflow_host::rounds::{
    FolderJournal, Identity, Journal, NoJournal, Problem, RoundsEvent, RoundsResult, RoundsSettings,
    StopCause, run,
};
use lwflow_host::targets::Target;
use lwflow_host::train::TrainSettings;
use lwflow_host::weights::normalised_weights;
use lwflow_model::{Covariance, FlowSettings};
use lwflow_tests::honest::{Claim, HonestTarget, suite};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) fn cores() -> Engine {
    Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..EngineSettings::default() }).unwrap()
}

pub(crate) fn settings(visits: usize) -> FitSettings {
    FitSettings {
        flow: FlowSettings { n_layers: 6, hidden: vec![16, 16], ..FlowSettings::default() },
        base: BaseSettings::Mixture {
            components: Components::Auto { max: 8 },
            covariance: Covariance::Full,
            trainable: true,
        },
        training: TrainSettings { max_visits: visits, batch_size: 256, ..TrainSettings::default() },
        ..FitSettings::default()
    }
}

fn of_honest(target: &HonestTarget, engine: &Engine) -> Result<RoundsResult, HostError> {
    let (log_likelihood, dim) = (target.log_likelihood.clone(), target.dim());
    let mut likelihood = ClosureLikelihood::new(dim, move |theta: &[f64]| log_likelihood(theta));
    let names: Vec<String> = (0..dim).map(|j| format!("x{j}")).collect();
    let problem = Problem {
        labels: names.clone(),
        names,
        prior: &target.prior,
        likelihood: &mut likelihood,
        start: None,
    };
    let rounds = RoundsSettings {
        target_ess: 1000.0,
        max_evaluations: 12_000,
        n_round: Some(1000),
        n_scan: Some(2000),
        ..RoundsSettings::default()
    };
    run(engine, problem, &settings(20_000), &rounds, 1, &mut NoJournal, &mut |_| ControlFlow::Continue(()))
}

/// What a run of the suite comes to.
#[derive(Default)]
struct Tally {
    n_met: usize,
    n_refused: usize,
    n_errors: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, target: &HonestTarget, result: Result<RoundsResult, HostError>) {
        let result = match result {
            Ok(result) => result,
            Err(error) => {
                println!("{:28} error: {error}", target.name);
                self.n_errors += 1;
                return;
            }
        };
        let verdict = &result.report.verdict;
        if !verdict.met {
            println!("{:28} not met: {}", target.name, verdict.reasons.join("; "));
            self.n_refused += 1;
            return;
        }
        self.n_met += 1;
        let fresh = &result.report.fresh.as_ref().unwrap().weights;
        let claim = Claim {
            log_z: fresh.log_z,
            log_z_sd: fresh.log_z_sd,
            weights: normalised_weights(&result.log_weights(), &result.theta).unwrap(),
            theta: result.theta,
            prior_mass_limit: result.report.coverage.as_ref().unwrap().prior_mass_limit,
        };
        println!("{:28} met: log Z {:.4} +- {:.4}", target.name, claim.log_z, claim.log_z_sd);
        self.wrong.extend(target.refute(&claim));
    }
}

#[test]
fn no_verdict_is_good_unless_the_truth_agrees() {
    let engine = cores();
    let targets = suite();
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = of_honest(target, &engine);
                    tally.lock().unwrap().add(target, result);
                }
            });
        }
    });
    let Tally { n_met, n_refused, n_errors, wrong } = tally.into_inner().unwrap();
    println!("{n_met} met, {n_refused} not met, {n_errors} errors");
    assert!(wrong.is_empty(), "good verdicts on wrong results:\n{}", wrong.join("\n"));
    // A judge that refuses everything would be honest and of no use.
    assert!(n_met >= 3, "{n_met} met");
}

/// Mass that piles up at a bound: the logarithm of the distance has tails that no Gaussian base has, here against a bound of
/// k-hat that allows none.
#[test]
fn tails_that_no_flow_follows_do_not_cost_the_whole_budget() {
    let prior = IndependentPrior::new(vec![Marginal::Uniform { lower: 0.0, upper: 1.0 }; 6]).unwrap();
    let log_likelihood = |theta: &[f64]| theta.iter().map(|x| -0.4 * x.ln()).sum::<f64>();
    let mut likelihood = ClosureLikelihood::new(6, log_likelihood);
    let names: Vec<String> = (0..6).map(|j| format!("x{j}")).collect();
    let problem =
        Problem { labels: names.clone(), names, prior: &prior, likelihood: &mut likelihood, start: None };
    let rounds = RoundsSettings {
        target_ess: 300.0,
        max_k_hat: 0.01,
        max_evaluations: 100_000,
        n_round: Some(1000),
        n_scan: Some(2000),
        ..RoundsSettings::default()
    };
    let watch = &mut |_: RoundsEvent<'_>| ControlFlow::Continue(());
    let fit = FitSettings {
        flow: FlowSettings { n_layers: 2, hidden: vec![8], ..FlowSettings::default() },
        base: BaseSettings::Gaussian,
        ..settings(20_000)
    };
    let report = run(&cores(), problem, &fit, &rounds, 1, &mut NoJournal, watch).unwrap().report;
    let rows: Vec<_> = report.rounds.iter().map(|row| (row.beta, row.n_fresh, row.fresh_ess)).collect();
    assert_eq!(report.stop, StopCause::HeavyTail, "{rows:?}");
    assert!(
        !report.verdict.met && report.verdict.reasons.join(" ").contains("k-hat"),
        "{:?}",
        report.verdict
    );
    assert!(report.n_evaluations < 50_000, "{}", report.n_evaluations);
    let fresh = report.fresh.unwrap();
    assert!(fresh.ess.lower.is_none() && fresh.ess.ess >= 300.0, "{:?}", fresh.ess);
}

fn of_target(
    engine: &Engine,
    journal: &mut dyn Journal,
    watch: &mut dyn FnMut(RoundsEvent<'_>) -> ControlFlow<()>,
) -> Result<RoundsResult, HostError> {
    let mut target = Target::Gauss2;
    let prior = target;
    let problem = Problem {
        names: target.parameter_names(),
        labels: target.parameter_labels(),
        prior: &prior,
        likelihood: &mut target,
        start: None,
    };
    // A target that three rounds do not reach.
    let rounds = RoundsSettings {
        target_ess: 2500.0,
        max_evaluations: 5000,
        n_round: Some(600),
        n_scan: Some(600),
        ..RoundsSettings::default()
    };
    run(engine, problem, &settings(20_000), &rounds, 5, journal, watch)
}

pub(crate) fn assert_same(a: &RoundsResult, b: &RoundsResult) {
    assert_eq!(a.theta, b.theta);
    assert_eq!(a.log_prob, b.log_prob);
    assert_eq!(a.log_likelihood, b.log_likelihood);
    assert_eq!(a.posterior.flow.params(), b.posterior.flow.params());
    assert_eq!(a.report.verdict, b.report.verdict);
    assert_eq!(a.report.evidence, b.report.evidence);
    assert_eq!(a.report.n_evaluations, b.report.n_evaluations);
}

#[test]
fn a_run_replays_and_survives_being_broken_off_anywhere() {
    let engine = cores();
    let mut n_events = 0;
    let whole = of_target(&engine, &mut NoJournal, &mut |_| {
        n_events += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(whole.report.rounds.len() >= 2, "{:?}", whole.report.rounds.len());
    let again = of_target(&engine, &mut NoJournal, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_same(&whole, &again);

    let identity = Identity::from([("seed".to_owned(), "5".to_owned())]);
    let begin = |folder: &Path| FolderJournal::begin(folder, &identity, 2, 0, true).unwrap();
    let resume = |folder: &Path| FolderJournal::resume(folder, &identity, 2, 0).unwrap();
    for part in [0.02, 0.3, 0.55, 0.97] {
        let folder = tempfile::tempdir().unwrap();
        let stop_at = (part * f64::from(n_events)) as i32;
        let mut seen = 0;
        let mut journal = begin(folder.path());
        let broken = of_target(&engine, &mut journal, &mut |_| {
            seen += 1;
            if seen > stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if let Ok(broken) = broken {
            assert_eq!(broken.report.stop, StopCause::Interrupted);
        }
        drop(journal);
        let mut journal = resume(folder.path());
        let resumed = of_target(&engine, &mut journal, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_same(&whole, &resumed);
    }
}
