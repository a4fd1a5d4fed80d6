//! Rounds of simulations for one observation, without a likelihood: truncated sequential neural posterior estimation (Deistler,
//! Goncalves & Macke 2022, arXiv 2210.04815). Every round simulates where the flow so far has the observation's posterior, and
//! nowhere else. Invariant: all simulations that a round trains on are draws from the prior inside one region, so that each
//! weighs one and the posterior that is learned is that of the prior itself, up to the mass that the regions leave out.

mod region;
#[cfg(test)]
mod tests;
mod training;

use crate::HostError;
use crate::fit::{FitInput, FitProgress, FitReport, FitSettings, MIN_FIT_ESS, fit};
use crate::novelty::NoveltyScore;
use crate::posterior::Posterior;
use crate::prior::{Prior, prior_rows};
use crate::rng::derived_seed;
use crate::simulator::{Simulated, Simulator, simulate_rows};
use crate::train::StopReason;
use lwflow_engine::Engine;
use region::Region;
use serde::Serialize;
use std::cell::Cell;
use std::ops::{ControlFlow, Range};
use training::fit_on;

/// How simulations are spent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TruncatedSettings {
    /// Simulations, all rounds together.
    pub n_simulations: usize,
    /// Rounds among which they are split evenly.
    pub n_rounds: usize,
    /// Share of the posterior's mass, by the flow of a round, that the next region leaves out.
    pub outside: f64,
    /// Draws of the flow whose densities say where that is.
    pub quantile_draws: usize,
    /// A new region that holds a larger share of the simulations in the one before is the last: what remains is simulated there.
    pub settled: f64,
}

impl Default for TruncatedSettings {
    fn default() -> Self {
        Self { n_simulations: 10_000, n_rounds: 4, outside: 1e-4, quantile_draws: 100_000, settled: 0.9 }
    }
}

impl TruncatedSettings {
    /// Refuses settings that make no sense.
    ///
    /// # Errors
    /// [`HostError::BadSetting`] naming the setting.
    pub fn check(&self) -> Result<(), HostError> {
        let bad = |setting, got: String, expected| Err(HostError::BadSetting { setting, got, expected });
        if self.n_rounds == 0 {
            return bad("rounds", "0".to_owned(), "at least 1");
        }
        if self.n_simulations / self.n_rounds < MIN_FIT_ESS as usize {
            let got = format!("{} in {} rounds", self.n_simulations, self.n_rounds);
            return bad("simulations", got, "at least 10 in each round");
        }
        if !(self.outside > 0.0 && self.outside < 1.0 && self.quantile_draws > 0) {
            let got = format!("{} by {} draws", self.outside, self.quantile_draws);
            return bad("share outside the region", got, "a share above 0 and below 1, by at least one draw");
        }
        Ok(())
    }
}

/// What is asked.
#[derive(Debug)]
pub struct TruncatedProblem<'a> {
    /// Names of the parameters, `[D]`.
    pub names: Vec<String>,
    /// LaTeX labels, `[D]`.
    pub labels: Vec<String>,
    /// The prior.
    pub prior: &'a dyn Prior,
    /// The simulator.
    pub simulator: &'a mut dyn Simulator,
    /// The observation, `[X]`.
    pub observation: &'a [f64],
}

/// What one round did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TruncatedRound {
    /// Simulations made in this round.
    pub n_simulations: usize,
    /// Those of them that failed.
    pub n_failed: usize,
    /// Share of the prior's mass in the region that their parameters were drawn from; all of it in the first round.
    pub prior_mass: f64,
    /// Standard error of it.
    pub prior_mass_sd: f64,
    /// Distance of the parameters' distribution from the prior in the region, in total variation, at most.
    pub draw_distance: f64,
    /// Simulations of all rounds in the region, on which the flow was trained. Each weighs one.
    pub n_pairs: usize,
    /// Validation loss of the flow, in nats; those of different rounds are of different simulations and do not compare.
    pub validation_loss: f64,
    /// Share of the flow's draws for the observation that lie outside the region.
    pub leakage: f64,
    /// How new the observation is among those that the flow was trained on.
    pub novelty: Option<NoveltyScore>,
}

/// Why there were no more rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TruncatedStop {
    /// All simulations were made.
    AllSimulated,
    /// The caller asked for it.
    Interrupted,
    /// Too few simulations succeeded in the newest region, or next to nothing could be drawn in it.
    NothingInside,
    /// A later round failed: see [`TruncatedFit::failure`].
    Failed,
}

/// What the rounds did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TruncatedReport {
    /// The observation, `[X]`.
    pub observation: Vec<f64>,
    /// Settings.
    pub settings: TruncatedSettings,
    /// Simulations made, also those of a round that gave no flow.
    pub n_simulations: usize,
    /// One row for every flow.
    pub rounds: Vec<TruncatedRound>,
    /// Whether the region had settled before the last round, which then took all the simulations that were left.
    pub settled: bool,
    /// Why there were no more rounds.
    pub stop: TruncatedStop,
}

/// The flow of the last round and how it came about.
#[derive(Debug)]
pub struct TruncatedFit {
    /// The posterior, with the observation as its context; its novelty is that of the last round's simulations.
    pub posterior: Posterior,
    /// What it was trained on.
    pub input: FitInput,
    /// How it was trained.
    pub fit: FitReport,
    /// The rounds.
    pub report: TruncatedReport,
    /// What ended them, where it was an error: the posterior is that of the round before.
    pub failure: Option<HostError>,
}

/// What the rounds are busy with.
#[derive(Debug, Clone, Copy)]
pub enum TruncatedEvent<'a> {
    /// Parameters are drawn in the region.
    Drawing {
        /// Round, from 1.
        round: usize,
        /// Parameters drawn.
        done: usize,
        /// Parameters that the round draws.
        total: usize,
    },
    /// Simulations are made.
    Simulating {
        /// Round, from 1.
        round: usize,
        /// Simulations made in it.
        done: usize,
        /// Simulations of the round.
        total: usize,
    },
    /// A flow is fitted.
    Fitting {
        /// Round, from 1.
        round: usize,
        /// How far it is.
        progress: FitProgress,
    },
    /// A round is over.
    Round {
        /// Round, from 1.
        round: usize,
        /// What it did.
        row: &'a TruncatedRound,
    },
}

/// Spends simulations where the posterior of `problem.observation` is. The first round draws parameters from the prior and fits
/// a flow to them; each that follows draws them from the prior inside the region where the flows so far see all but a share
/// [`TruncatedSettings::outside`] of the posterior, and lets the flow learn on from all simulations in it.
///
/// Once `progress` breaks, simulations end at their next piece. A fit of the first round ends as [`fit`] does; one that comes
/// later is given up, and the flow before it is what there is. So it is after an error in a later round.
///
/// # Errors
/// Those of [`fit`] in the first round and those of simulator and engine; [`HostError::Invalid`] for an observation of another
/// length or one that is not finite; [`HostError::BadSetting`] for settings that make no sense.
pub fn fit_truncated(
    engine: &Engine,
    problem: TruncatedProblem<'_>,
    settings: (&FitSettings, &TruncatedSettings),
    seed: u64,
    mut progress: impl FnMut(TruncatedEvent<'_>) -> ControlFlow<()>,
) -> Result<TruncatedFit, HostError> {
    let (settings, how) = settings;
    let TruncatedProblem { names, labels, prior, simulator, observation } = problem;
    how.check()?;
    let expected = simulator.n_observed();
    if observation.len() != expected || !observation.iter().all(|x| x.is_finite()) {
        let got = format!("{observation:?}");
        return Err(HostError::invalid("observation", got, format!("{expected} finite values")));
    }
    if let Some(network) = &settings.flow.context_network {
        network.check(observation, expected)?;
    }
    let dim = prior.dim();
    let (mut region, mut all) = (Region::default(), Pairs::default());
    // A wish to stop holds for all that follows, whether or not the caller repeats it.
    let stopped = Cell::new(false);
    let mut watch = |event: TruncatedEvent<'_>| {
        stopped.set(stopped.get() || progress(event).is_break());
        if stopped.get() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut report = TruncatedReport {
        observation: observation.to_vec(),
        settings: how.clone(),
        n_simulations: 0,
        rounds: Vec::new(),
        settled: false,
        stop: TruncatedStop::AllSimulated,
    };
    let mut fitted: Option<(Posterior, FitInput, FitReport)> = None;
    let mut failure = None;
    /// Ends the rounds at an error, or the whole where there is no flow yet.
    macro_rules! kept {
        ($result:expr) => {
            match $result {
                Ok(value) => value,
                Err(error) if fitted.is_none() => return Err(error),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        };
    }
    loop {
        let round = report.rounds.len() + 1;
        let round_seed = derived_seed(seed, "truncated", round as u64);
        let first = report.n_simulations;
        // The last round takes what is left of the division, and of the rounds that a settled region saves.
        let last = report.settled || round >= how.n_rounds;
        let total = if last { how.n_simulations - first } else { how.n_simulations / how.n_rounds };
        let (theta, prior_mass, distance) = if round == 1 {
            (prior_rows(prior, seed, 0..total), (1.0, 0.0), 0.0)
        } else {
            let drawn = kept!(region.draw(engine, prior, total, how, round_seed, |done| {
                watch(TruncatedEvent::Drawing { round, done, total })
            }));
            (drawn.theta, drawn.prior_mass, drawn.distance)
        };
        let total = theta.len() / dim;
        let of = |rows: Range<usize>| theta[(rows.start - first) * dim..(rows.end - first) * dim].to_vec();
        let simulated = kept!(simulate_rows(simulator, first..first + total, of, |done| {
            watch(TruncatedEvent::Simulating { round, done, total })
        }));
        report.n_simulations += simulated.done;
        let (made, n_failed) = (simulated.done, simulated.done - simulated.rows.len());
        all.append(simulated);
        if fitted.is_some() && !stopped.get() && (total == 0 || (all.n(dim) as f64) < MIN_FIT_ESS) {
            report.stop = TruncatedStop::NothingInside;
            break;
        }
        let input = all.input((&names, &labels), prior);
        let watch_fit = |progress| watch(TruncatedEvent::Fitting { round, progress });
        let (posterior, fit_report) = match &fitted {
            None => fit(engine, &input, settings, seed, watch_fit)?,
            Some(_) if stopped.get() => break,
            Some((before, _, report)) => {
                // The same seed in all rounds: the same simulations are held out.
                let result = kept!(fit_on(engine, &input, settings, (before, report), seed, watch_fit));
                // Of a round that was not finished, the flow before it is better.
                if stopped.get() {
                    break;
                }
                result
            }
        };
        let leakage = kept!(region.shrink(engine, posterior.given(observation)?, how, round_seed));
        let row = TruncatedRound {
            n_simulations: made,
            n_failed,
            prior_mass: prior_mass.0,
            prior_mass_sd: prior_mass.1,
            draw_distance: distance,
            n_pairs: all.n(dim),
            validation_loss: fit_report.training.best_validation_loss,
            leakage,
            novelty: posterior.novelty_scores(observation)?.and_then(|scores| scores.first().copied()),
        };
        fitted = Some((posterior, input, fit_report));
        let go_on = watch(TruncatedEvent::Round { round, row: &row });
        report.rounds.push(row);
        if go_on.is_break() || report.n_simulations >= how.n_simulations {
            break;
        }
        let before = all.n(dim);
        all.keep(&region.rows_inside(&all.theta, dim)?, dim);
        report.settled = all.n(dim) as f64 > how.settled * before as f64;
    }
    let Some((posterior, input, mut fit)) = fitted else {
        return Err(HostError::invalid("the first round", "without a flow", "one"));
    };
    if failure.is_some() {
        report.stop = TruncatedStop::Failed;
    } else if stopped.get() {
        report.stop = TruncatedStop::Interrupted;
        fit.training.stop = StopReason::Interrupted;
    }
    Ok(TruncatedFit { posterior, input, fit, report, failure })
}

/// Simulations of all rounds in the newest region. Round k drew its parameters with density pi(theta) / P_k inside its region
/// and never outside. Every later region lies within it, and so the mixture of all rounds, sum over k of n_k pi(theta) / P_k
/// over the number of all simulations, is a constant times pi(theta) in the newest one: the weight pi / mixture of the balance
/// heuristic is the same for all that are left there, and what is not there is dropped.
#[derive(Debug, Default)]
struct Pairs {
    theta: Vec<f64>,
    x: Vec<f64>,
    /// Numbers of the simulations.
    numbers: Vec<usize>,
}

/// Parts that simulations are dealt to, some of which are held out for validation in all rounds.
const PARTS: usize = 20;

impl Pairs {
    fn n(&self, dim: usize) -> usize {
        self.theta.len() / dim
    }

    fn append(&mut self, simulated: Simulated) {
        self.theta.extend(simulated.theta);
        self.x.extend(simulated.x);
        self.numbers.extend(simulated.rows);
    }

    /// Keeps the rows `rows`.
    fn keep(&mut self, rows: &[usize], dim: usize) {
        let width = self.x.len() / self.n(dim).max(1);
        let picked = |values: &[f64], width: usize| -> Vec<f64> {
            rows.iter().flat_map(|row| &values[row * width..][..width]).copied().collect()
        };
        (self.theta, self.x) = (picked(&self.theta, dim), picked(&self.x, width));
        self.numbers = rows.iter().map(|row| self.numbers[*row]).collect();
    }

    fn input(&self, (names, labels): (&[String], &[String]), prior: &dyn Prior) -> FitInput {
        FitInput {
            names: names.to_vec(),
            labels: labels.to_vec(),
            supports: prior.supports(),
            theta: self.theta.clone(),
            context: self.x.clone(),
            log_weights: vec![0.0; self.n(prior.dim())],
            blocks: Some(self.numbers.iter().map(|number| (number % PARTS) as u32).collect()),
            ..FitInput::default()
        }
    }
}
