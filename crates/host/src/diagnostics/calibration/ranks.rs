//! Ranks of true parameters among draws of their posteriors: of every parameter, of log q, and of the distance from a random
//! point. Invariant: if the draws come from the posterior, each rank is uniform on 0..=L; a rank follows from seed and data alone.

use super::Quantity;
use crate::HostError;
use crate::error::{check_length, n_rows};
use crate::posterior::{Posterior, Samples};
use crate::rng::CounterField;
use lwflow_engine::FlowExecutor;
use rayon::prelude::*;
use std::ops::ControlFlow;

/// Share of the true parameters on either side that the range of reference points leaves out: a far tail must not decide it.
const OUTER: f64 = 0.005;

/// Takes the draws of one posterior after the other and ranks the true parameters among them.
///
/// ```
/// use lwflow_host::diagnostics::calibration::RankCollector;
/// use lwflow_host::posterior::Samples;
/// // Two pairs of one parameter, three draws for each.
/// let mut collector = RankCollector::new(&[0.25, -1.0], &[0.0, 0.0], 1, 3, 7)?;
/// collector.add(Samples { theta: vec![0.0, 0.1, 0.5, 1.0, 2.0, 3.0], log_prob: vec![-1.0; 6] });
/// assert_eq!(collector.finish()?[0], [2, 0]);
/// # Ok::<(), lwflow_host::HostError>(())
/// ```
#[derive(Debug)]
pub struct RankCollector<'a> {
    theta: &'a [f64],
    log_prob: &'a [f64],
    dim: usize,
    n_draws: usize,
    /// Reference points, `[N, D]`.
    references: Vec<f64>,
    /// Scale of each parameter in a distance, `[D]`.
    scale: Vec<f64>,
    ties: CounterField,
    /// Ranks of the pairs so far, `[n, D + 2]`.
    ranks: Vec<u32>,
    pending: Samples,
}

impl<'a> RankCollector<'a> {
    /// For true parameters `theta`, `[N, D]`, at which the posteriors of their data have the log densities `log_prob`, `[N]`,
    /// and `n_draws` draws of each posterior.
    ///
    /// Reference points of the distances (Lemos et al. 2023) are uniform in the box that holds all but the outermost 1 % of the
    /// true values of each parameter, and distances are Euclidean in units of the sides of that box.
    ///
    /// # Errors
    /// [`HostError`] for lengths that do not fit, values that are not finite, a NaN or +inf log density, or no draw.
    pub fn new(
        theta: &'a [f64],
        log_prob: &'a [f64],
        dim: usize,
        n_draws: usize,
        seed: u64,
    ) -> Result<Self, HostError> {
        let n = n_rows("theta", theta.len(), dim)?;
        check_length("log_prob", log_prob.len(), n, "one per pair")?;
        crate::weights::check_log_values("log_prob", log_prob, theta, true)?;
        if let Some(i) = theta.iter().position(|x| !x.is_finite()) {
            let (row, column, value) = (i / dim, i % dim, theta[i]);
            let expected = "a finite number";
            return Err(HostError::BadValue { what: "theta", row, column, value, expected });
        }
        if n_draws == 0 || n_draws >= u32::MAX as usize {
            let (got, expected) = (n_draws.to_string(), "at least 1, below 2^32 - 1");
            return Err(HostError::BadSetting { setting: "number of draws", got, expected });
        }
        let (mut low, mut scale) = (Vec::new(), Vec::new());
        for j in 0..dim {
            let mut column: Vec<f64> = theta.iter().skip(j).step_by(dim).copied().collect();
            column.sort_by(f64::total_cmp);
            let at = |share: f64| {
                column.get((share * n.saturating_sub(1) as f64).round() as usize).copied().unwrap_or(0.0)
            };
            let side = at(1.0 - OUTER) - at(OUTER);
            low.push(at(OUTER));
            scale.push(if side > 0.0 { side } else { 1.0 });
        }
        let mut references = vec![0.0; n * dim];
        CounterField::new(seed, "calibration/references", dim).fill_uniform(0, &mut references);
        for (i, value) in references.iter_mut().enumerate() {
            *value = low[i % dim] + scale[i % dim] * *value;
        }
        let ties = CounterField::new(seed, "calibration/ties", dim + 2);
        let (ranks, pending) = (Vec::new(), Samples { theta: Vec::new(), log_prob: Vec::new() });
        Ok(Self { theta, log_prob, dim, n_draws, references, scale, ties, ranks, pending })
    }

    /// Number of pairs that are ranked.
    pub fn n_done(&self) -> usize {
        self.ranks.len() / (self.dim + 2)
    }

    /// The next draws, in the order of the pairs; they may begin and end within those of a pair.
    pub fn add(&mut self, mut samples: Samples) {
        self.pending.theta.append(&mut samples.theta);
        self.pending.log_prob.append(&mut samples.log_prob);
        let done = self.n_done();
        let n = (self.pending.log_prob.len() / self.n_draws).min(self.log_prob.len() - done);
        let (values, rows) = (n * self.n_draws * self.dim, n * self.n_draws);
        let theta: Vec<f64> = self.pending.theta.drain(..values).collect();
        let log_prob: Vec<f64> = self.pending.log_prob.drain(..rows).collect();
        let each =
            theta.par_chunks_exact(self.n_draws * self.dim).zip(log_prob.par_chunks_exact(self.n_draws));
        let ranks: Vec<Vec<u32>> =
            each.enumerate().map(|(k, (theta, log_prob))| self.ranks_of(done + k, theta, log_prob)).collect();
        self.ranks.extend(ranks.into_iter().flatten());
    }

    /// The ranks of pair `k` among its draws theta `[L, D]` with densities `log_prob` `[L]`: those of the parameters, of
    /// log q, and of the distance.
    fn ranks_of(&self, k: usize, theta: &[f64], log_prob: &[f64]) -> Vec<u32> {
        let d = self.dim;
        let truth = &self.theta[k * d..][..d];
        let reference = &self.references[k * d..][..d];
        let distance =
            |theta: &[f64]| (0..d).map(|j| ((theta[j] - reference[j]) / self.scale[j]).powi(2)).sum::<f64>();
        let mut ranks: Vec<u32> =
            (0..d).map(|j| self.rank(k, j, truth[j], theta.iter().skip(j).step_by(d).copied())).collect();
        ranks.push(self.rank(k, d, self.log_prob[k], log_prob.iter().copied()));
        ranks.push(self.rank(k, d + 1, distance(truth), theta.chunks_exact(d).map(distance)));
        ranks
    }

    /// How many draws lie below the truth; equal ones are put on either side by chance.
    fn rank(&self, k: usize, quantity: usize, truth: f64, draws: impl Iterator<Item = f64>) -> u32 {
        let (mut below, mut equal) = (0, 0);
        for draw in draws {
            below += u32::from(draw < truth);
            equal += u32::from(draw == truth);
        }
        if equal == 0 {
            return below;
        }
        below + (self.ties.uniform(k as u64, quantity) * f64::from(equal + 1)) as u32
    }

    /// The ranks of every quantity, `[D + 2][N]`: parameters, log q, distance.
    ///
    /// # Errors
    /// [`HostError::Length`] if there were too few draws or too many.
    pub fn finish(self) -> Result<Vec<Vec<u32>>, HostError> {
        let width = self.dim + 2;
        let given = self.n_done() * self.n_draws + self.pending.log_prob.len();
        check_length("draws", given, self.log_prob.len() * self.n_draws, "so many for each pair")?;
        let column = |q: usize| self.ranks.iter().skip(q).step_by(width).copied().collect();
        Ok((0..width).map(column).collect())
    }
}

/// The quantities of [`RankCollector::finish`], `[D + 2]`, for parameters of these names.
pub fn quantities(names: &[String]) -> Vec<Quantity> {
    let parameters = names.iter().map(|name| Quantity::Parameter { name: name.clone() });
    parameters.chain([Quantity::LogProb, Quantity::Distance]).collect()
}

/// Ranks of `theta`, `[N, D]`, among `n_draws` draws of the posterior of each `context`, `[N, C]`; `None` if `progress`, which
/// gets the pairs done, breaks.
///
/// # Errors
/// Those of [`Posterior::log_prob`], [`Posterior::sample_many`] and [`RankCollector::new`].
pub fn posterior_ranks(
    posterior: &Posterior,
    executor: &mut FlowExecutor,
    theta: &[f64],
    context: &[f64],
    n_draws: usize,
    seed: u64,
    mut progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Vec<Vec<u32>>>, HostError> {
    let log_prob = posterior.log_prob(executor, theta, context)?;
    let mut collector = RankCollector::new(theta, &log_prob, posterior.dim(), n_draws, seed)?;
    let mut stopped = false;
    posterior.sample_many(executor, n_draws, context, seed, |piece| {
        collector.add(piece);
        stopped = progress(collector.n_done()).is_break();
        if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    // What was complete when it broke is complete.
    if stopped && collector.n_done() < log_prob.len() { Ok(None) } else { collector.finish().map(Some) }
}
