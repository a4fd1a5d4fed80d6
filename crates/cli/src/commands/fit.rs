//! `lwflow fit`: reads everything, refuses what it must before it works, fits, and hands the results to the report.

use super::rounds::run_rounds;
use super::truncated::run_truncated;
use super::{FitArgs, RunArgs, open_engine};
use crate::exit::{CommandError, Status};
use crate::inference::{Inference, inference};
use crate::out_folder::{OutFolder, refuse_results};
use crate::progress::interrupted;
use crate::report;
use crate::simulation::simulation;
use crate::source::{self, PairsEvidence, Source};
use crate::task::{self, Objective, Task};
use lwflow_engine::Engine;
use lwflow_host::amortise::{AmortiseReport, AmortiseSettings, check_reads, fit_likelihood_weighted};
use lwflow_host::files::LogZ;
use lwflow_host::fit::{BaseSettings, Components, FitProgress, FitReport, FitSettings, fit_with_replicas};
use lwflow_host::model_file::Precision;
use lwflow_host::posterior::Posterior;
use lwflow_host::rounds::RoundsSettings;
use lwflow_host::train::{ControlVariate, RateCourse, StopReason, TrainSettings};
use lwflow_model::{Covariance, FlowSettings, Mixing};
use std::ops::ControlFlow;
use std::time::Instant;

pub(super) fn run_fit(args: &FitArgs) -> Result<Status, CommandError> {
    let start = Instant::now();
    let console = args.run.console();
    let mut task = Task::read(&args.task)?;
    let objective = objective(&mut task, args)?;
    task.training.replicas = args.replicas.unwrap_or(task.training.replicas);
    check_counts(&task)?;
    let replace = args.run.force || args.run.resume;
    refuse_results(&args.run.out, replace)?;
    let rounds = rounds_settings(&task, &args.run)?;
    let of_points = objective.is_none() && rounds.is_none();
    check_replicas(&task, of_points)?;
    if objective == Some(Objective::Truncated) {
        return run_truncated(args, task, start);
    }
    if let (Some(settings), None | Some(Objective::Rounds)) = (rounds, objective) {
        if let task::Components::Trained { .. } = task.base.components {
            let file = task.file.display();
            let message = format!(
                "{file}: n_components = \"trained\" is for fits of points; every round of [rounds] chooses its own by \"auto\""
            );
            return Err(CommandError::new(Status::Input, message));
        }
        let _folder = OutFolder::claim(&args.run.out, replace)?;
        let engine = open_engine(&args.run.device, console)?;
        let inference = inference(&task, settings, &engine)?;
        return run_rounds(&args.run, &task, &engine, inference, console);
    }
    let (_folder, engine, source) = if objective.is_some() {
        let folder = OutFolder::claim(&args.run.out, replace)?;
        let engine = open_engine(&args.run.device, console)?;
        let simulation = simulation(&task, args.run.seed, || Ok(engine.clone()))?;
        if objective == Some(Objective::Likelihood) {
            let rounds = task.rounds.clone().unwrap_or_default();
            let likelihood = inference(&task, rounds, &engine)?.likelihood;
            check_reads(&*likelihood, simulation.observed.len()).map_err(|e| of_task(&task, e.into()))?;
        }
        let n = task.simulator.as_ref().map_or(0, |s| s.simulations);
        let bar = console.bar("simulating", "simulations");
        (folder, engine, source::draw_simulations(&task, simulation, n, args.run.seed, &bar)?)
    } else {
        let source = source::load(&task, args.run.seed)?;
        (OutFolder::claim(&args.run.out, replace)?, open_engine(&args.run.device, console)?, source)
    };
    source.notes.iter().for_each(|note| console.remark(note));
    if !source.input.context.is_empty() {
        task.use_context();
        check_replicas(&task, false)?;
    }
    let settings = fit_settings(&task);
    let bar = console.bar("", "points");
    let mut clock = report::StageClock::new(start);
    let watch = |progress: FitProgress| {
        clock.tick(progress.stage);
        bar.update_fit(progress)
    };
    let amortised = objective == Some(Objective::Likelihood);
    let (mut posterior, mut replicas, report, amortised) = if amortised {
        let (posterior, report, amortised) =
            amortise(&task, &source, &engine, &settings, args.run.seed, watch)?;
        (posterior, Vec::new(), report, Some(amortised))
    } else {
        let n_replicas = task.training.replicas;
        let fitted = fit_with_replicas(&engine, &source.input, &settings, n_replicas, args.run.seed, watch);
        let (posterior, replicas, report) = fitted.map_err(|error| of_task(&task, error.into()))?;
        (posterior, replicas, report, None)
    };
    drop(bar);
    let PairsEvidence { log_z, log_z_sd, .. } = source.evidence;
    for posterior in replicas.iter_mut().chain([&mut posterior]) {
        posterior.evidence = log_z.zip(log_z_sd).map(|(log_z, sd)| LogZ { log_z, sd });
    }
    let n_lost = task.training.replicas - replicas.len();
    if n_lost > 0 {
        console.remark(format!("{n_lost} of the replicas did not stay finite and were left out"));
    }
    report.notes.iter().for_each(|note| console.remark(note));
    let stopped = report.training.stop == StopReason::Interrupted;
    if stopped {
        console.interruption("writing the best parameters so far");
    }
    let run = report::Run {
        task: &task,
        source: &source,
        posterior: &posterior,
        report: &report,
        amortised: amortised.as_ref(),
        replicas: &replicas,
        truncated: None,
        seed: args.run.seed,
        device: engine.info().to_string(),
        seconds: start.elapsed().as_secs_f64(),
        timings: Some(clock.timings()),
        replace: args.run.force,
    };
    report::write(&args.run.out, &run, &engine, precision(&task), console)?;
    Ok(if stopped || interrupted() { Status::Interrupted } else { Status::Success })
}

/// Replicas are for weighted points of one posterior.
fn check_replicas(task: &Task, of_points: bool) -> Result<(), CommandError> {
    if task.training.replicas == 0 || of_points {
        return Ok(());
    }
    let message = format!(
        "{}: replicas are for weighted points without context (pairs, chain, target); rounds have errors from fresh draws, and \
         `lwflow calibrate` tests a posterior with context",
        task.file.display()
    );
    Err(CommandError::new(Status::Input, message))
}

/// Likelihood-weighted amortisation on simulated pairs.
fn amortise(
    task: &Task,
    source: &Source,
    engine: &Engine,
    settings: &FitSettings,
    seed: u64,
    watch: impl FnMut(FitProgress) -> ControlFlow<()>,
) -> Result<(Posterior, FitReport, AmortiseReport), CommandError> {
    let rounds = task.rounds.clone().unwrap_or_default();
    let Inference { prior, mut likelihood, .. } = inference(task, rounds, engine)?;
    let mut how = AmortiseSettings::default();
    if let Some(simulator) = &task.simulator {
        how.evaluations_per_simulation = simulator.evaluations_per_simulation;
    }
    fit_likelihood_weighted(engine, &source.input, &*prior, &mut *likelihood, (settings, &how), seed, watch)
        .map_err(|error| of_task(task, error.into()))
}

/// What a task with a simulator learns, as the command line changed it; `None` for a task without one.
fn objective(task: &mut Task, args: &FitArgs) -> Result<Option<Objective>, CommandError> {
    let file = task.file.display().to_string();
    let Some(simulator) = &mut task.simulator else {
        let flags = [
            ("--simulations", args.simulations.is_some()),
            ("--objective", args.objective.is_some()),
            ("--observation", args.observation.is_some()),
        ];
        return match flags.into_iter().find(|(_, given)| *given) {
            None => Ok(None),
            Some((flag, _)) => {
                let message = format!("{flag} is for a task with a simulator, and {file} has no [simulator]");
                Err(CommandError::new(Status::Usage, message))
            }
        };
    };
    let has_points =
        matches!(task.likelihood, Some(task::Likelihood::Pairs { .. } | task::Likelihood::Chain { .. }));
    if has_points && args.simulations.is_none() && args.objective.is_none() && args.observation.is_none() {
        return Ok(None);
    }
    simulator.simulations = args.simulations.unwrap_or(simulator.simulations);
    simulator.objective = args.objective.unwrap_or(simulator.objective);
    let objective = simulator.objective;
    if args.observation.is_some() && objective != Objective::Truncated {
        let message =
            format!("--observation is for the objective \"truncated\", and this is \"{}\"", objective.word());
        return Err(CommandError::new(Status::Usage, message));
    }
    if matches!(objective, Objective::Likelihood | Objective::Rounds) && task.rounds.is_none() {
        let message = format!(
            "{file}: the objective \"{}\" needs a likelihood that can be evaluated: a section [likelihood] with `wgsl` or `command`{}",
            objective.word(),
            if objective == Objective::Likelihood { " that reads the observation" } else { "" }
        );
        return Err(CommandError::new(Status::Input, message));
    }
    Ok(Some(objective))
}

/// How rounds run, if the task asks for them: its own settings, and over them those of the command line.
pub(super) fn rounds_settings(task: &Task, args: &RunArgs) -> Result<Option<RoundsSettings>, CommandError> {
    let flags = [
        ("--resume", args.resume),
        ("--target-ess", args.target_ess.is_some()),
        ("--max-k-hat", args.max_k_hat.is_some()),
        ("--max-log-z-sd", args.max_log_z_sd.is_some()),
        ("--max-evaluations", args.max_evaluations.is_some()),
        ("--max-time", args.max_time.is_some()),
    ];
    let Some(mut settings) = task.rounds.clone() else {
        return match flags.into_iter().find(|(_, given)| *given) {
            None => Ok(None),
            Some((flag, _)) => {
                let message = format!(
                    "{flag} is for rounds, but {} asks for none: it has no [rounds], wgsl or command",
                    task.file.display()
                );
                Err(CommandError::new(Status::Usage, message))
            }
        };
    };
    settings.target_ess = args.target_ess.unwrap_or(settings.target_ess);
    settings.max_k_hat = args.max_k_hat.unwrap_or(settings.max_k_hat);
    settings.max_log_z_sd = args.max_log_z_sd.or(settings.max_log_z_sd);
    settings.max_time = args.max_time.or(settings.max_time);
    settings.max_evaluations = args.max_evaluations.unwrap_or(settings.max_evaluations);
    // Those of the task file were checked when it was read.
    settings.check().map_err(|error| CommandError::new(Status::Usage, error))?;
    Ok(Some(settings))
}

/// A complaint about the points or the settings, with the file that they come from.
pub(super) fn of_task(task: &Task, error: CommandError) -> CommandError {
    if error.status != Status::Input {
        return error;
    }
    let file = match &task.likelihood {
        None | Some(task::Likelihood::Target { .. } | task::Likelihood::Command { .. }) => &task.file,
        Some(task::Likelihood::Wgsl { path, .. }) => path,
        Some(task::Likelihood::Pairs { path }) => path,
        Some(task::Likelihood::Chain { root, .. }) => root,
    };
    CommandError::new(error.status, format!("{}: {}", file.display(), error.message))
}

/// Most draws of a target; they are held in memory.
const MAX_DRAWS: usize = 100_000_000;
/// Most posterior samples of a fit; `lwflow sample` draws more.
const MAX_SAMPLES: usize = 1_000_000_000;

/// Refuses counts that no memory or disk holds, before any work.
pub(super) fn check_counts(task: &Task) -> Result<(), CommandError> {
    let refuse = |key: &str, got: usize, most: usize| {
        let message = format!("{}: `{key}` is {got}, expected at most {most}", task.file.display());
        Err(CommandError::new(Status::Input, message))
    };
    match task.likelihood {
        Some(task::Likelihood::Target { n_draws, .. }) if n_draws > MAX_DRAWS => {
            refuse("likelihood.n_draws", n_draws, MAX_DRAWS)
        }
        _ if task.output.n_samples > MAX_SAMPLES => {
            refuse("output.n_samples", task.output.n_samples, MAX_SAMPLES)
        }
        _ => Ok(()),
    }
}

pub(super) fn precision(task: &Task) -> Precision {
    match task.output.precision {
        task::Precision::F32 => Precision::F32,
        task::Precision::F16 => Precision::F16,
    }
}

/// The host's settings of a task.
pub fn fit_settings(task: &Task) -> FitSettings {
    let (flow, base, training) = (&task.flow, &task.base, &task.training);
    let activations: Vec<_> = flow.activations.iter().copied().map(task::model_activation).collect();
    FitSettings {
        activations: if activations.len() > 1 { activations.clone() } else { Vec::new() },
        flow: FlowSettings {
            n_layers: flow.n_layers,
            hidden: flow.hidden.clone(),
            activation: activations.first().copied().unwrap_or(FlowSettings::default().activation),
            s_max: flow.s_max,
            coupling: flow.model_coupling(),
            context_network: flow.context_network.clone(),
            mixing: match flow.mixing {
                task::Mixing::Alternate => Mixing::Alternate,
                task::Mixing::Permute => Mixing::Permute,
            },
        },
        base: match base.kind {
            task::BaseKind::Gaussian => BaseSettings::Gaussian,
            task::BaseKind::Mixture => BaseSettings::Mixture {
                components: match base.components {
                    task::Components::Fixed(k) => Components::Fixed(k),
                    task::Components::Auto { max } => Components::Auto { max },
                    task::Components::Trained { max } => Components::Trained { max },
                },
                covariance: match base.covariance {
                    task::Covariance::Full => Covariance::Full,
                    task::Covariance::Diagonal => Covariance::Diagonal,
                },
                trainable: base.trainable,
            },
        },
        training: TrainSettings {
            batch_size: training.batch_size,
            max_visits: training.max_visits,
            learning_rate: training.learning_rate,
            schedule: match training.schedule {
                task::Schedule::Cosine => RateCourse::Cosine,
                task::Schedule::Plateau => RateCourse::Plateau,
                task::Schedule::Constant => RateCourse::Constant,
            },
            clip_norm: training.clip_norm,
            validation_share: training.validation_share,
            patience: training.patience,
            control_variate: match training.control_variate {
                task::ControlVariate::Auto => ControlVariate::Auto,
                task::ControlVariate::On => ControlVariate::On,
                task::ControlVariate::Off => ControlVariate::Off,
            },
            averaging: training.averaging,
            weight_decay: training.weight_decay,
            ..TrainSettings::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_task_that_says_nothing_has_the_hosts_defaults() {
        let task = Task::parse("[likelihood]\ntarget = \"gauss1\"\n", Path::new("TASK.toml")).unwrap();
        assert_eq!(fit_settings(&task), FitSettings::default());
        let mut task = task;
        task.use_context();
        assert_eq!(fit_settings(&task), FitSettings::conditional());
    }
}
