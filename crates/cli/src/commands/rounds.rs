//! `lwflow fit` where the task gives a prior and a likelihood: rounds until the contract is met or the budget is spent.
//! Invariant: every evaluation is on the disk before the next piece is asked for, so that `--resume` loses nothing.

use super::RunArgs;
use crate::exit::{CommandError, Status};
use crate::inference::{Inference, identity};
use crate::progress::{Console, interrupted};
use crate::report::rounds::{RUN_FOLDER, RoundsRun, write, write_round_history};
use crate::task::Task;
use lwflow_engine::Engine;
use lwflow_host::HostError;
use lwflow_host::rounds::{FolderJournal, Journal, Problem, RoundsEvent, StopCause, run};

pub(super) fn run_rounds(
    args: &RunArgs,
    task: &Task,
    engine: &Engine,
    mut inference: Inference,
    console: Console,
) -> Result<Status, CommandError> {
    let folder = args.out.join(RUN_FOLDER);
    let (d, m) = (inference.prior.dim(), inference.likelihood.derived_names().len());
    let identity = identity(task, &inference, args.seed, engine)?;
    let mut journal = if args.resume {
        let mut journal = FolderJournal::resume(&folder, &identity, d, m).map_err(HostError::from)?;
        console.remark(format!("going on after {} evaluations", kept(&mut journal)?));
        journal
    } else {
        FolderJournal::begin(&folder, &identity, d, m, args.force).map_err(HostError::from)?
    };
    let settings = super::fit_settings(task);
    let bar = console.bar("", "evaluations");
    let derived_names = inference.likelihood.derived_names().to_vec();
    let problem = Problem {
        names: inference.names.clone(),
        labels: inference.labels.clone(),
        prior: &*inference.prior,
        likelihood: &mut *inference.likelihood,
        start: inference.start.clone(),
    };
    let result =
        run(engine, problem, &settings, &inference.settings, args.seed, &mut journal, &mut |event| {
            if let RoundsEvent::Trained { round, history } = &event {
                // For a figure alone, which is no reason to end.
                if let Err(error) = write_round_history(&args.out, *round, history) {
                    bar.remark(error);
                }
            }
            bar.update_rounds(event)
        });
    drop(bar);
    let result = match result {
        Err(_) if interrupted() => {
            console.interruption("there is no flow yet; --resume goes on with what was evaluated");
            return Ok(Status::Interrupted);
        }
        Err(error) => {
            let kept = kept(&mut journal).unwrap_or(0);
            let error = CommandError::from(error);
            let message = if kept > 0 {
                format!("{} ({kept} evaluations are kept; --resume goes on with them)", error.message)
            } else {
                error.message
            };
            return Err(CommandError::new(error.status, message));
        }
        Ok(result) => result,
    };
    let stopped = result.report.stop == StopCause::Interrupted;
    if stopped {
        console.interruption("writing what there is; --resume goes on");
    }
    let met = result.report.verdict.met;
    let run = RoundsRun {
        task,
        inference: &inference,
        derived_names: &derived_names,
        result: &result,
        seed: args.seed,
        device: engine.info().to_string(),
        replace: args.force || args.resume,
    };
    write(&args.out, &run, engine, console)?;
    Ok(if stopped || interrupted() {
        Status::Interrupted
    } else if met {
        Status::Success
    } else {
        Status::Contract
    })
}

/// Evaluations that a journal holds, one by one or in sums.
fn kept(journal: &mut FolderJournal) -> Result<usize, HostError> {
    Ok(journal.n_evaluations() + journal.deep_scan()?.map_or(0, |scan| scan.n()))
}
