//! The rounds themselves: temper, train, draw, evaluate, pool, until fresh draws of the flow are worth the target.
//! Invariant: everything but the ending by time follows from problem, settings, seed and device.

use super::audit::{AuditReport, audit};
use super::coverage::{CoverageReport, Seen, compare, prior_mass_limit};
use super::deep::{self, DeepScanReport, DeepScanned};
use super::draws::Fresh;
use super::evaluator::Evaluator;
use super::evidence::{Evidence, EvidenceReport};
use super::fresh::{self, FreshReport};
use super::journal::Journal;
use super::policy::{self, Next};
use super::pool::{Drawn, Pool, Worth};
use super::report::{RoundRow, RoundsEvent, RoundsReport, RoundsResult, StopCause};
use super::settings::RoundsSettings;
use super::training::Trained;
use super::twins::with_twins;
use super::verdict::Verdict;
use crate::HostError;
use crate::error::check_length;
use crate::files::LogZ;
use crate::fit::FitSettings;
use crate::likelihood::{Evaluations, Likelihood};
use crate::posterior::{Posterior, Samples};
use crate::prior::{Prior, transform_rows};
use crate::rng::{SOBOL_BLOCK, sobol_blocks};
use crate::weights::kish_ess;
use lwflow_engine::Engine;
use lwflow_model::BaseSpec;
use std::ops::ControlFlow;
use std::time::Instant;

/// What to infer.
#[derive(Debug)]
pub struct Problem<'a> {
    /// Names of the parameters, `[D]`.
    pub names: Vec<String>,
    /// LaTeX labels, `[D]`.
    pub labels: Vec<String>,
    /// The prior.
    pub prior: &'a dyn Prior,
    /// The likelihood.
    pub likelihood: &'a mut dyn Likelihood,
    /// What the first round draws from, in place of a flow trained on the scan: a flow without context that is taken for the
    /// posterior, and trained further only where its draws are not worth enough.
    pub start: Option<Posterior>,
}

/// Share of the mass that a mode may hold which the verdict does not count.
const NEGLIGIBLE: f64 = 0.01;

/// Evaluated points that a result hands over, at most.
const N_POINTS_KEPT: usize = 10_000;

/// Runs rounds until the target is reached or a budget is spent.
///
/// # Errors
/// Those of the likelihood, the journal and the engine; [`HostError::TooFewEffective`] if the prior stage finds nothing to
/// begin with.
pub fn run(
    engine: &Engine,
    problem: Problem<'_>,
    fit: &FitSettings,
    settings: &RoundsSettings,
    seed: u64,
    journal: &mut dyn Journal,
    watch: &mut dyn FnMut(RoundsEvent<'_>) -> ControlFlow<()>,
) -> Result<RoundsResult, HostError> {
    settings.check()?;
    let Problem { names, labels, prior, likelihood, start } = problem;
    let d = prior.dim();
    for (what, got) in [("names", names.len()), ("labels", labels.len()), ("likelihood", likelihood.dim())] {
        check_length(what, got, d, "the parameters of the prior")?;
    }
    if let Some(start) = &start {
        check_length("start: parameters", start.dim(), d, "the parameters of the prior")?;
        check_length("start: context values", start.spec().context_dim, 0, "a flow without context")?;
    }
    let mut rounds = Rounds {
        engine,
        names,
        labels,
        prior,
        evaluator: Evaluator::new(likelihood, journal),
        pool: Pool::new(prior.dim()),
        settings,
        seed,
        start: Instant::now(),
        stopped: None,
        n_whole: 0,
        deep: None,
    };
    rounds.scan(watch)?;
    if rounds.stop().is_none() {
        let Worth { ess: posterior_ess, log_z, .. } = rounds.pool.worth();
        if watch(RoundsEvent::Scanned { posterior_ess, log_z }).is_break() {
            rounds.stopped = Some(StopCause::Interrupted);
        }
    }
    let mut rows: Vec<RoundRow> = Vec::new();
    let mut flow: Option<Posterior> = None;
    let mut last: Option<(Posterior, Fresh)> = None;
    let mut earlier: Vec<Evidence> = Vec::new();
    let (mut doubts, mut n_heavy, mut trust) = (0, 0, None);
    let first_round = policy::first_round(settings, d);
    let mut n_round = first_round;
    for round in 1.. {
        if rounds.stop().is_some() {
            break;
        }
        let clock = Instant::now();
        let started = start.as_ref().filter(|_| round == 1);
        let Trained { posterior: trained, beta, pooled_ess, visits } = match started {
            Some(start) => Trained { posterior: start.clone(), beta: 1.0, pooled_ess: 0.0, visits: 0 },
            None => {
                let temper_ess = policy::temper_ess(first_round, &rows);
                rounds.train(fit, round, flow.as_ref(), temper_ess, watch)?
            }
        };
        let seconds_training = clock.elapsed().as_secs_f64();
        let n_components = match &trained.spec().base {
            BaseSpec::Gaussian => 0,
            BaseSpec::Mixture(mixture) => mixture.n_components,
        };
        let n_prior = (settings.prior_share * n_round as f64).round() as usize;
        let wide = with_twins(&trained)?;
        let mut fresh = rounds.draw(&wide, round, n_round - n_prior, n_prior, watch)?;
        let fresh_ess = kish_ess(&fresh.log_weights(beta));
        let next = if beta >= 1.0 && rounds.stop().is_none() {
            rounds.finish(&wide, round, &mut fresh, &rows, watch)?
        } else {
            Next::Round
        };
        rounds.pool_round(&wide, &fresh)?;
        let worth = rounds.pool.worth();
        let row = RoundRow {
            round,
            beta,
            n_evaluations: rounds.evaluator.n,
            pooled_ess,
            n_components,
            visits,
            n_fresh: fresh.n(),
            fresh_ess,
            log_z: worth.log_z,
            log_z_sd: worth.log_z_sd,
            posterior_ess: worth.ess,
            seconds: (seconds_training, clock.elapsed().as_secs_f64() - seconds_training),
        };
        if watch(RoundsEvent::Round(&row)).is_break() {
            rounds.stopped = Some(StopCause::Interrupted);
        }
        rows.push(row);
        if let Some(report) = last.as_ref().and_then(|(_, last)| rounds.judge(last).ok()) {
            earlier.extend(Evidence::of(&report.weights).filter(|_| report.ess.lower.is_some()));
        }
        // Enough effective draws are not yet a verdict: what speaks against it is mostly mended by another round.
        let mut done = next == Next::Enough;
        if done {
            doubts += 1;
            let judged = rounds.trust(&wide, &fresh, &earlier)?;
            done = doubts > policy::MAX_DOUBTS || judged.verdict.met;
            trust = Some(judged).filter(|_| done);
        }
        n_heavy = if next == Next::HeavyTail { n_heavy + 1 } else { 0 };
        flow = Some(trained);
        last = Some((wide, fresh));
        n_round = policy::next_round(n_round, beta, first_round, rounds.left());
        if done {
            rounds.stopped = Some(StopCause::TargetEss);
            break;
        }
        if n_heavy >= policy::MAX_HEAVY {
            rounds.stopped.get_or_insert(StopCause::HeavyTail);
        }
    }
    let Some((posterior, last)) = last else {
        return Err(HostError::invalid("rounds", "stopped before the first", "time and evaluations for one"));
    };
    let trust = match trust {
        Some(trust) => trust,
        None => rounds.trust(&posterior, &last, &earlier)?,
    };
    let deep_scan = rounds.deep_report();
    let points = rounds.pool.thinned(N_POINTS_KEPT, seed);
    let Evaluator { n, made, .. } = rounds.evaluator;
    let report = RoundsReport {
        stop: rounds.stopped.unwrap_or(StopCause::MaxEvaluations),
        rounds: rows,
        n_evaluations: n,
        n_scan: rounds.n_whole + deep_scan.map_or(0, |deep| deep.n),
        deep_scan,
        evaluations_per_second: (made.1 > 0.0).then(|| made.0 as f64 / made.1),
        fresh: trust.fresh,
        evidence: trust.evidence,
        coverage: trust.coverage,
        audit: trust.audit,
        verdict: trust.verdict,
        seconds: rounds.start.elapsed().as_secs_f64(),
    };
    let evidence = report.evidence.flow.map(|e| LogZ { log_z: e.log_z, sd: e.sd });
    let posterior = Posterior { evidence, ..posterior };
    let Fresh { samples, log_likelihood, log_prior, derived, .. } = last;
    let Samples { theta, log_prob } = samples;
    Ok(RoundsResult { posterior, theta, log_prob, log_likelihood, log_prior, derived, points, report })
}

/// Tells `watch` how far a stage of evaluations is, which comes after `before` others, and stops it when the caller asks or the time is over.
fn going_on<'a>(
    start: Instant,
    limit: Option<f64>,
    round: usize,
    (before, total): (usize, usize),
    stopped: &'a mut Option<StopCause>,
    watch: &'a mut dyn FnMut(RoundsEvent<'_>) -> ControlFlow<()>,
) -> impl FnMut(usize) -> ControlFlow<()> + 'a {
    move |done| {
        let n_evaluations = before + done;
        if watch(RoundsEvent::Evaluating { round, done, total, n_evaluations }).is_break() {
            *stopped = Some(StopCause::Interrupted);
        } else if limit.is_some_and(|limit| start.elapsed().as_secs_f64() > limit) {
            *stopped = Some(StopCause::MaxTime);
        }
        if stopped.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Everything that speaks for or against a result.
struct Trust {
    fresh: Option<FreshReport>,
    evidence: EvidenceReport,
    coverage: Option<CoverageReport>,
    audit: Option<AuditReport>,
    verdict: Verdict,
}

pub(super) struct Rounds<'a> {
    pub(super) engine: &'a Engine,
    pub(super) names: Vec<String>,
    pub(super) labels: Vec<String>,
    pub(super) prior: &'a dyn Prior,
    pub(super) evaluator: Evaluator<'a>,
    pub(super) pool: Pool,
    settings: &'a RoundsSettings,
    pub(super) seed: u64,
    start: Instant,
    pub(super) stopped: Option<StopCause>,
    /// Draws of the scan that are the pool's first points.
    n_whole: usize,
    /// The scan beyond them; the draws that it kept come next in the pool.
    deep: Option<DeepScanned>,
}

impl Rounds<'_> {
    /// Evaluations left.
    pub(super) fn left(&self) -> usize {
        self.settings.max_evaluations.saturating_sub(self.evaluator.n)
    }

    /// Why rounds must end now, if they must.
    pub(super) fn stop(&mut self) -> Option<StopCause> {
        if self.stopped.is_none() {
            let late = |limit| self.start.elapsed().as_secs_f64() > limit;
            if self.left() == 0 {
                self.stopped = Some(StopCause::MaxEvaluations);
            } else if self.settings.max_time.is_some_and(late) {
                self.stopped = Some(StopCause::MaxTime);
            }
        }
        self.stopped
    }

    /// Evaluates `theta`, `[n, D]`, as far as the budget goes, and says how far that was.
    pub(super) fn evaluate(
        &mut self,
        round: usize,
        theta: &[f64],
        watch: &mut dyn FnMut(RoundsEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Evaluations, HostError> {
        let d = self.prior.dim();
        let total = (theta.len() / d).min(self.left());
        let counts = (self.evaluator.n, total);
        let mut go_on = going_on(self.start, self.settings.max_time, round, counts, &mut self.stopped, watch);
        self.evaluator.evaluate(&theta[..total * d], &mut go_on)
    }

    /// The prior stage: scrambled Sobol points.
    fn scan(&mut self, watch: &mut dyn FnMut(RoundsEvent<'_>) -> ControlFlow<()>) -> Result<(), HostError> {
        let d = self.prior.dim();
        let (n_whole, n_blocks) = deep::parts(self.settings.scan());
        let mut theta = transform_rows(self.prior, &sobol_blocks(self.seed, n_whole, d).points);
        let log_likelihood = self.evaluate(0, &theta, watch)?.log_likelihood;
        let n = log_likelihood.len();
        theta.truncate(n * d);
        self.n_whole = n;
        self.pool.add(self.engine, self.prior, None, n, Drawn { theta, log_likelihood })?;
        if self.stop().is_none() {
            self.deep_scan(n_blocks, watch)?;
        }
        if n > 0 && self.pool.log_likelihood.iter().all(|l| *l == f64::NEG_INFINITY) {
            let n = n + self.deep.as_ref().map_or(0, |deep| deep.scan.n());
            return Err(HostError::invalid(
                "log L",
                format!("-inf at all {n} draws of the scan of the prior"),
                "a finite one somewhere: a larger n_scan, a narrower prior, or a log L that falls off instead of ending",
            ));
        }
        Ok(())
    }

    /// What the scan draws beyond the points that are kept one by one.
    fn deep_scan(
        &mut self,
        n_blocks: usize,
        watch: &mut dyn FnMut(RoundsEvent<'_>) -> ControlFlow<()>,
    ) -> Result<(), HostError> {
        // A block is never shared, so that blocks stay independent.
        let first = self.n_whole.div_ceil(SOBOL_BLOCK);
        let n_blocks = n_blocks.min(self.left() / SOBOL_BLOCK).min(u32::MAX as usize - first);
        if n_blocks == 0 {
            return Ok(());
        }
        let total = n_blocks * SOBOL_BLOCK;
        let counts = (self.evaluator.n, total);
        let mut go_on = going_on(self.start, self.settings.max_time, 0, counts, &mut self.stopped, watch);
        let done = self.evaluator.deep_scan(self.prior, self.seed, (first as u32, n_blocks), &mut go_on)?;
        let kept = done.scan.kept();
        let drawn = Drawn {
            theta: deep::theta(self.prior, self.seed, &kept),
            log_likelihood: kept.iter().map(|draw| draw.log_likelihood).collect(),
        };
        self.pool.add_deep(self.engine, self.prior, done.scan.n(), done.scan.threshold(), drawn)?;
        self.deep = Some(done);
        Ok(())
    }

    /// The deep scan in figures.
    fn deep_report(&self) -> Option<DeepScanReport> {
        self.deep.as_ref().map(|deep| deep.report(&self.pool.log_likelihood[..self.n_whole]))
    }

    fn judge(&self, fresh: &Fresh) -> Result<FreshReport, HostError> {
        fresh::judge(&fresh.log_weights(1.0), &fresh.samples.theta, self.settings.max_k_hat, self.seed)
    }

    /// Judges the final flow by its fresh draws, and holds it against all that was evaluated.
    fn trust(&mut self, flow: &Posterior, fresh: &Fresh, earlier: &[Evidence]) -> Result<Trust, HostError> {
        let judged = self.judge(fresh).ok();
        let whole = &self.pool.log_likelihood[..self.n_whole];
        let deep = self.deep_report();
        let deep_blocks = self.deep.as_ref().map_or(&[][..], |deep| deep.scan.blocks());
        let n_scan_points = self.n_whole + deep.map_or(0, |deep| deep.n_kept);
        let evidence = EvidenceReport::new(
            judged.as_ref().and_then(|fresh| Evidence::of(&fresh.weights)),
            Evidence::joined(earlier),
            Evidence::of_scan(whole, deep_blocks),
        );
        let (mut coverage, mut audited) = (None, None);
        if let Some(report) = &judged {
            // What the deep scan alone has hit is known only if draws there were kept. What it has hit below their threshold
            // fills less of the prior than the other draws can miss, and so can hold no more than this share of the mass.
            let n_prior = self.pool.n_prior();
            let unseen = |t: f64| prior_mass_limit(n_prior).ln() + t - report.weights.log_z < NEGLIGIBLE.ln();
            let n_deep = deep.filter(|deep| deep.threshold.is_none_or(unseen)).map_or(0, |deep| deep.n);
            let fresh_log_weights = fresh.log_weights(1.0);
            let log_proposal = self.pool.log_proposal();
            let mut executor = self.engine.flow(flow.spec())?;
            let log_q = flow.log_prob(&mut executor, &self.pool.theta, &[])?;
            let target = |log_l: &[f64], log_prior: &[f64]| -> Vec<f64> {
                log_l.iter().zip(log_prior).map(|(l, p)| l + p).collect()
            };
            let seen = Seen {
                theta: &self.pool.theta,
                log_target: &target(&self.pool.log_likelihood, &self.pool.log_prior),
                log_weights: &self.pool.log_weights(&log_proposal, 1.0),
                scan_log_weights: &self.pool.scan_log_weights(self.n_whole, n_scan_points),
                n_prior: n_prior + n_deep,
                fresh_theta: &fresh.samples.theta,
                fresh_log_target: &target(&fresh.log_likelihood, &fresh.log_prior),
                fresh_log_weights: &fresh_log_weights,
                log_z: report.weights.log_z,
            };
            coverage = compare(flow, &log_q, &seen, self.seed).ok();
            let evaluator = &mut self.evaluator;
            audited = Some(audit(
                flow,
                &fresh.samples.theta,
                &fresh.samples.log_prob,
                &fresh.log_likelihood,
                &fresh_log_weights,
                &mut |theta| evaluator.audit(theta),
                self.seed,
            )?);
        }
        let verdict =
            Verdict::new(self.settings, judged.as_ref(), &evidence, coverage.as_ref(), audited.as_ref());
        Ok(Trust { fresh: judged, evidence, coverage, audit: audited, verdict })
    }

    /// What the draws come to, after drawing more of them where that is the cheapest way to the target. `before` are the rounds
    /// before this one.
    fn finish(
        &mut self,
        flow: &Posterior,
        round: usize,
        fresh: &mut Fresh,
        before: &[RoundRow],
        watch: &mut dyn FnMut(RoundsEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Next, HostError> {
        loop {
            let Ok(FreshReport { ess, .. }) = self.judge(fresh) else { return Ok(Next::Round) };
            match policy::next(&ess, fresh.n(), self.left(), self.settings.target_ess, before) {
                Next::Draw(more) if self.stop().is_none() => {
                    self.draw_more(flow, round, fresh, more, watch)?
                }
                Next::Draw(_) => return Ok(Next::Round),
                next => return Ok(next),
            }
        }
    }
}
