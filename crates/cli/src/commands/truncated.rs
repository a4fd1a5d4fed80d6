//! `lwflow fit` with the objective "truncated": rounds of simulations for one observation, without a likelihood.
//! Everything that can be wrong with task and observation is found before the first simulation.

use super::fit::{fit_settings, precision};
use super::observations::{read_observations, warn_of_novel};
use super::{FitArgs, open_engine};
use crate::exit::{CommandError, Status};
use crate::out_folder::{OutFolder, refuse_results};
use crate::progress::{Console, interrupted};
use crate::report;
use crate::simulation::{Simulation, simulation};
use crate::source::{NO_EVIDENCE_WITH_CONTEXT, PairsEvidence, Source};
use crate::task::{SimulatorSection, Task};
use crate::wgsl_file::of;
use lwflow_host::truncated::{
    TruncatedFit, TruncatedProblem, TruncatedReport, TruncatedSettings, TruncatedStop, fit_truncated,
};
use lwflow_host::weights::weight_report;
use std::time::Instant;

pub(super) fn run_truncated(args: &FitArgs, mut task: Task, start: Instant) -> Result<Status, CommandError> {
    let console = args.run.console();
    refuse_results(&args.run.out, args.run.force)?;
    let Some(section) = &task.simulator else {
        return Err(CommandError::new(Status::Input, format!("{}: no [simulator]", task.file.display())));
    };
    let observation = observation(&task, section, args)?;
    let how = TruncatedSettings {
        n_simulations: section.simulations,
        n_rounds: section.rounds,
        ..TruncatedSettings::default()
    };
    how.check().map_err(|error| of(&task.file, error))?;
    let _folder = OutFolder::claim(&args.run.out, args.run.force)?;
    let engine = open_engine(&args.run.device, console)?;
    let mut simulation = simulation(&task, args.run.seed, || Ok(engine.clone()))?;
    task.use_context();
    let settings = fit_settings(&task);
    let Simulation { names, labels, prior, simulator, .. } = &mut simulation;
    let problem = TruncatedProblem {
        names: names.clone(),
        labels: labels.clone(),
        prior: &**prior,
        simulator: &mut **simulator,
        observation: &observation,
    };
    let bar = console.bar("", "simulations");
    let fitted = fit_truncated(&engine, problem, (&settings, &how), args.run.seed, |event| {
        bar.update_truncated(event)
    });
    let fitted = fitted.map_err(|error| of(&task.file, error))?;
    drop(bar);
    let TruncatedFit { posterior, input, fit, report, failure } = fitted;
    fit.notes.iter().for_each(|note| console.remark(note));
    let written = format!("writing the flow of round {}", report.rounds.len());
    match report.stop {
        TruncatedStop::Interrupted => console.interruption(written),
        TruncatedStop::Failed => console.remark(format!("an error: {written}")),
        TruncatedStop::AllSimulated | TruncatedStop::NothingInside => {}
    }
    warn(&report, console);
    let scores = posterior.novelty_scores(&observation)?.unwrap_or_default();
    warn_of_novel(&posterior, &scores, console);
    let source = Source {
        evidence: PairsEvidence { log_z: None, log_z_sd: None, how: NO_EVIDENCE_WITH_CONTEXT },
        weights: weight_report(&input.log_weights, None, &input.theta)?,
        input,
        target: None,
        autocorrelation_ess: None,
        notes: notes(&report),
    };
    let run = report::Run {
        task: &task,
        source: &source,
        posterior: &posterior,
        report: &fit,
        amortised: None,
        replicas: &[],
        truncated: Some(&report),
        seed: args.run.seed,
        device: engine.info().to_string(),
        seconds: start.elapsed().as_secs_f64(),
        timings: None,
        replace: args.run.force,
    };
    report::write(&args.run.out, &run, &engine, precision(&task), console)?;
    if let Some(error) = failure {
        return Err(of(&task.file, error));
    }
    let stopped = report.stop == TruncatedStop::Interrupted || interrupted();
    Ok(if stopped { Status::Interrupted } else { Status::Success })
}

/// The observation, `[X]`, of the command line or of the task.
fn observation(task: &Task, section: &SimulatorSection, args: &FitArgs) -> Result<Vec<f64>, CommandError> {
    let input = |message: String| CommandError::new(Status::Input, message);
    let file = task.file.display();
    let (option, text) = match (&args.observation, &section.observation) {
        (Some(text), _) => ("--observation", text.clone()),
        (None, Some(path)) => ("`simulator.observation`", path.to_string_lossy().into_owned()),
        (None, None) => {
            let words = "the objective \"truncated\" is for one observation: give it by";
            return Err(input(format!("{file}: {words} `simulator.observation` or --observation")));
        }
    };
    let whose = (&*task.file, "the simulator gives");
    let found = read_observations(option, &text, section.observed.len(), whose)?;
    if found.n != 1 {
        let words = "the objective \"truncated\" is for one";
        return Err(input(format!("{file}: {option} has {} rows, and {words}", found.n)));
    }
    Ok(found.values)
}

/// Says what makes a result of rounds doubtful.
fn warn(report: &TruncatedReport, console: Console) {
    let first = report.rounds.first().and_then(|round| round.novelty);
    if report.rounds.len() > 1
        && let Some(score) = first.filter(lwflow_host::novelty::NoveltyScore::is_novel)
    {
        let (distance, tail) = (score.distance, 100.0 * score.tail);
        console.remark(format!(
            "the observation is farther out than all but {tail:.2} % of the simulations of the first round (distance \
             {distance:.1}): prior and simulator may not describe it"
        ));
    }
    if report.stop == TruncatedStop::NothingInside {
        console.remark(format!(
            "ended after round {}: too few simulations succeed in the region of the posterior",
            report.rounds.len()
        ));
    }
}

/// What made the pairs that the last flow was trained on.
fn notes(report: &TruncatedReport) -> Vec<String> {
    let failed: usize = report.rounds.iter().map(|round| round.n_failed).sum();
    let mut notes = vec![format!(
        "{} simulations in {} rounds for one observation; the pairs are those in the region of the last",
        report.n_simulations,
        report.rounds.len()
    )];
    if failed > 0 {
        notes.push(format!("{failed} of them failed (NaN alone) and are left out"));
    }
    notes
}
