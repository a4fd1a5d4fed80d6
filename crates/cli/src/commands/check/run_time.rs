//! How long a run of rounds will take, from its parts. Invariant: what the likelihood decides is not guessed, but
//! told as courses that the rounds may take; audit, modes and figures are not in it.

use super::training::TrainingTime;
use crate::commands::fit_settings;
use crate::exit::CommandError;
use crate::task::Task;
use lwflow_host::fit::{try_refit_start, visits_of_refit_starts};
use lwflow_host::rounds::{RoundsOutline, RoundsSettings};
use serde::Serialize;
use std::time::Instant;

/// How long rounds take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunTime {
    /// Of a posterior that makes no difficulties.
    pub short: Course,
    /// Of one that takes many rounds, but no more than most do.
    pub long: Course,
    /// Of one that takes the whole budget.
    pub longest: Course,
    /// Seconds of the mixtures and of the starts that compete, for each round.
    pub start_seconds: f64,
}

/// A course of the rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Course {
    /// Rounds.
    pub n_rounds: usize,
    /// Likelihood evaluations.
    pub n_evaluations: usize,
    /// Seconds, at most those of `max_time`.
    pub seconds: f64,
}

/// Reckons a run of a task with `dim` parameters from the rate of its evaluations and of its training, and from the time of a
/// mixture, which is tried.
///
/// # Errors
/// Those of the settings.
pub fn time_run(
    task: &Task,
    settings: &RoundsSettings,
    dim: usize,
    evaluations_per_second: f64,
    training: &TrainingTime,
    seed: u64,
) -> Result<RunTime, CommandError> {
    let fit = fit_settings(task);
    let clock = Instant::now();
    try_refit_start(dim, &fit, seed)?;
    // Every round but the first has two starts: anew, and from the flow before it.
    let visits = visits_of_refit_starts(&fit) as f64;
    let start_seconds = 2.0 * clock.elapsed().as_secs_f64() + visits / training.visits_per_second;
    let course = |outline: RoundsOutline| Course {
        n_rounds: outline.n_rounds,
        n_evaluations: outline.n_evaluations,
        seconds: (outline.n_evaluations as f64 / evaluations_per_second
            + outline.visits as f64 / training.visits_per_second
            + outline.n_rounds as f64 * start_seconds)
            .min(settings.max_time.unwrap_or(f64::INFINITY)),
    };
    Ok(RunTime {
        short: course(RoundsOutline::short(settings, dim, training.visits)),
        long: course(RoundsOutline::long(settings, dim, training.visits)),
        longest: course(RoundsOutline::longest(settings, dim, training.visits)),
        start_seconds,
    })
}
