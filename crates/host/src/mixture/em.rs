//! Weighted expectation maximisation: short runs from several k-means++ starts on a subsample, the best one polished
//! on all points. Each component covariance is shrunk towards the pooled one as by `prior_points` effective points
//! (Fraley and Raftery 2007) and floored, so no component collapses onto a single heavy point.

use super::kmeans::kmeans;
use super::points::WeightedPoints;
use super::{Covariance, GaussianMixture, triangle};
use crate::error::HostError;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// How a mixture is fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MixtureFitSettings {
    /// Shape of the component covariances.
    pub covariance: Covariance,
    /// Number of k-means++ starts.
    pub n_restarts: usize,
    /// EM steps of each start, on the subsample.
    pub n_short: usize,
    /// Points of the subsample on which starts compete.
    pub n_subsample: usize,
    /// Largest number of EM steps on all points.
    pub n_polish: usize,
    /// Polishing stops when a step gains less than this in mean log likelihood (nats).
    pub tolerance: f64,
    /// Smallest standard deviation of a component in any direction, in the units of the points.
    pub scale_floor: f64,
    /// Smallest component weight eps: a_k = eps + (1 - K eps) r_k, r_k the share of the weight.
    pub weight_floor: f64,
    /// Effective points by which the pooled covariance (times K^(-2/D)) counts in each component.
    pub prior_points: f64,
}

/// Most components of a fit with the default `weight_floor`, which leaves each of them its share.
pub const MAX_COMPONENTS: usize = 999;

impl Default for MixtureFitSettings {
    fn default() -> Self {
        Self {
            covariance: Covariance::Full,
            n_restarts: 8,
            n_short: 25,
            n_subsample: 4096,
            n_polish: 100,
            tolerance: 1e-6,
            scale_floor: 1e-3,
            weight_floor: 1e-3,
            prior_points: 1.0,
        }
    }
}

/// A fitted mixture and how it came about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MixtureFit {
    /// The mixture.
    pub mixture: GaussianMixture,
    /// Weighted mean of the log density over the points (nats).
    pub mean_log_likelihood: f64,
    /// EM steps on all points.
    pub n_polish: usize,
    /// Whether the gain of the last step fell below the tolerance.
    pub converged: bool,
    /// Whether the caller asked to stop; the mixture is then what there was.
    pub interrupted: bool,
    /// Kish's effective sample size of the weights.
    pub ess: f64,
    /// Points used, after pruning.
    pub n_points: usize,
    /// Share of the weight that pruning dropped, below 1e-10.
    pub pruned_share: f64,
}

/// Fits `n_components` Gaussians to `points`, `[n, dim]`, with non-negative `weights`, `[n]`, of any positive sum.
///
/// `progress` gets the EM steps made and the most that can be made, before every step; where it breaks, the mixture so
/// far is returned.
///
/// # Errors
/// Non-finite points, negative or non-finite weights (naming row and column), all weights zero, settings out of range,
/// or fewer distinct weighted points than components.
pub fn fit_mixture(
    points: &[f64],
    weights: &[f64],
    dim: usize,
    n_components: usize,
    settings: &MixtureFitSettings,
    seed: u64,
    mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<MixtureFit, HostError> {
    check_settings(settings, n_components)?;
    let n_steps = settings.n_steps();
    let data = WeightedPoints::new(points, weights, dim)?;
    fit(&data, n_components, settings, seed, &mut |done| progress(done, n_steps))
}

/// At most `n_steps` EM steps on all points from a mixture that fitted others like them.
///
/// # Errors
/// As [`fit_mixture`].
pub(crate) fn refit_mixture(
    points: &[f64],
    weights: &[f64],
    start: &GaussianMixture,
    settings: &MixtureFitSettings,
    n_steps: usize,
) -> Result<GaussianMixture, HostError> {
    check_settings(settings, start.n_components)?;
    let data = WeightedPoints::new(points, weights, start.dim)?;
    let em = Em::new(&data, start.n_components, settings);
    let mut run = em.begin(start.clone());
    while !run.converged && run.steps < n_steps {
        em.step(&mut run);
    }
    Ok(run.mixture)
}

impl MixtureFitSettings {
    /// Most EM steps of one fit: those of the starts, which go in step, and those on all points.
    pub(super) fn n_steps(&self) -> usize {
        self.n_short.saturating_add(self.n_polish)
    }
}

pub(super) fn check_settings(settings: &MixtureFitSettings, n_components: usize) -> Result<(), HostError> {
    let bad =
        |setting, got: f64, expected| Err(HostError::BadSetting { setting, got: got.to_string(), expected });
    if n_components == 0 {
        return bad("n_components", 0.0, "at least 1");
    }
    let MixtureFitSettings { scale_floor, weight_floor, prior_points, tolerance, .. } = *settings;
    if !(scale_floor > 0.0 && scale_floor.is_finite()) {
        return bad("scale_floor", scale_floor, "a positive finite number");
    }
    if !(weight_floor >= 0.0 && weight_floor * (n_components as f64) < 1.0) {
        return bad("weight_floor", weight_floor, "at least 0 and below 1 / n_components");
    }
    if !(prior_points >= 0.0 && prior_points.is_finite()) {
        return bad("prior_points", prior_points, "a finite number of at least 0");
    }
    if tolerance.is_nan() {
        return bad("tolerance", tolerance, "a number");
    }
    if settings.n_restarts == 0 || settings.n_subsample < n_components {
        let least = settings.n_restarts.min(settings.n_subsample) as f64;
        return bad("n_restarts, n_subsample", least, "at least one start and n_components points");
    }
    Ok(())
}

/// The fit on checked points; `progress` gets the steps made.
pub(super) fn fit(
    data: &WeightedPoints,
    n_components: usize,
    settings: &MixtureFitSettings,
    seed: u64,
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<MixtureFit, HostError> {
    let n_distinct = data.n_distinct(n_components);
    if n_distinct < n_components {
        return Err(HostError::TooFewPoints { n_components, n_points: n_distinct });
    }
    let small = data.subsample(settings.n_subsample, seed);
    let small_em = Em::new(&small, n_components, settings);
    let mut starts: Vec<Run> = (0..settings.n_restarts as u64)
        .into_par_iter()
        .map(|restart| {
            let labels = kmeans(&small, n_components, 10, seed, restart);
            small_em.begin(small_em.clusters(&labels))
        })
        .collect();
    let mut interrupted = false;
    for step in 0..settings.n_short {
        interrupted = progress(step).is_break();
        if interrupted {
            break;
        }
        starts.par_iter_mut().for_each(|start| small_em.step(start));
    }
    let mut best = 0;
    for (i, start) in starts.iter().enumerate() {
        if start.log_likelihood() > starts[best].log_likelihood() {
            best = i;
        }
    }
    let em = Em::new(data, n_components, settings);
    let mut run = em.begin(starts.swap_remove(best).mixture);
    while !interrupted && !run.converged && run.steps < settings.n_polish {
        interrupted = progress(settings.n_short + run.steps).is_break();
        if !interrupted {
            em.step(&mut run);
        }
    }
    Ok(MixtureFit {
        mean_log_likelihood: run.log_likelihood(),
        mixture: run.mixture,
        n_polish: run.steps,
        converged: run.converged,
        interrupted,
        ess: data.ess,
        n_points: data.len(),
        pruned_share: data.pruned_share,
    })
}

/// A mixture on its way, with the sums of [`Em::expect`] under it.
struct Run {
    mixture: GaussianMixture,
    sums: Vec<f64>,
    steps: usize,
    converged: bool,
}

impl Run {
    /// Mean log likelihood of the mixture.
    fn log_likelihood(&self) -> f64 {
        self.sums[0]
    }
}

/// Points and settings of one EM run.
struct Em<'a> {
    data: &'a WeightedPoints,
    settings: &'a MixtureFitSettings,
    n_components: usize,
    mean: Vec<f64>,
    /// `[D, D]`: pooled covariance times K^(-2/D).
    prior: Vec<f64>,
}

impl<'a> Em<'a> {
    fn new(data: &'a WeightedPoints, n_components: usize, settings: &'a MixtureFitSettings) -> Self {
        let (mean, mut prior) = data.moments();
        let shrink = (n_components as f64).powf(-2.0 / data.dim as f64);
        prior.iter_mut().for_each(|v| *v *= shrink);
        Self { data, settings, n_components, mean, prior }
    }

    /// Sums per component: mass, first moments `[D]`, lower triangle of second moments; about the centre in use.
    fn n_sums(&self) -> usize {
        1 + self.data.dim + triangle(self.data.dim)
    }

    /// Adds point `x` with weight `w`, about `centre`, to the sums of one component.
    fn add(&self, sums: &mut [f64], x: &[f64], centre: &[f64], w: f64) {
        let dim = self.data.dim;
        sums[0] += w;
        let (first, second) = sums[1..].split_at_mut(dim);
        let mut entry = 0;
        for i in 0..dim {
            let wd = w * (x[i] - centre[i]);
            first[i] += wd;
            if self.settings.covariance == Covariance::Full {
                for j in 0..=i {
                    second[entry + j] += wd * (x[j] - centre[j]);
                }
            } else {
                second[entry + i] += wd * (x[i] - centre[i]);
            }
            entry += i + 1;
        }
    }

    /// The mixture whose components are the clusters `labels`, `[n]`.
    fn clusters(&self, labels: &[usize]) -> GaussianMixture {
        let (dim, n_sums) = (self.data.dim, self.n_sums());
        let mut sums = vec![0.0; self.n_components * n_sums];
        for ((x, w), k) in self.data.points.chunks(dim).zip(&self.data.weights).zip(labels) {
            self.add(&mut sums[k * n_sums..(k + 1) * n_sums], x, &self.mean, *w);
        }
        self.maximise(&sums, &self.mean.repeat(self.n_components), None)
    }

    /// A run that starts from `mixture`.
    fn begin(&self, mixture: GaussianMixture) -> Run {
        Run { sums: self.expect(&mixture), mixture, steps: 0, converged: false }
    }

    /// One step, unless the run has converged.
    fn step(&self, run: &mut Run) {
        if run.converged {
            return;
        }
        let next = self.maximise(&run.sums[1..], &run.mixture.means, Some(&run.mixture));
        let sums = self.expect(&next);
        let gain = sums[0] - run.sums[0];
        run.steps += 1;
        run.converged = gain < self.settings.tolerance;
        // The floors and the prior make a step that is not of pure EM; one that loses likelihood only by them is
        // still the better-regularised mixture, so it is taken.
        (run.mixture, run.sums) = (next, sums);
    }

    /// Mean log likelihood, then the sums of every component about its own mean.
    fn expect(&self, mixture: &GaussianMixture) -> Vec<f64> {
        let (dim, k, n_sums) = (self.data.dim, self.n_components, self.n_sums());
        let prepared = mixture.prepared();
        self.data.sum_over_tasks(1 + k * n_sums, |rows, weights, sums| {
            let (mut y, mut joint) = (vec![0.0; dim], vec![0.0; k]);
            for (x, w) in rows.chunks(dim).zip(weights) {
                let norm = prepared.log_joint(x, &mut y, &mut joint);
                sums[0] += w * norm;
                for (c, log_joint) in joint.iter().enumerate() {
                    // A responsibility below e^-40 changes no sum in its last bit.
                    if log_joint - norm > -40.0 {
                        let share = &mut sums[1 + c * n_sums..1 + (c + 1) * n_sums];
                        let centre = &mixture.means[c * dim..(c + 1) * dim];
                        self.add(share, x, centre, w * (log_joint - norm).exp());
                    }
                }
            }
        })
    }

    /// The mixture of given sums, `[K, n_sums]`, taken about `centres`, `[K, D]`.
    fn maximise(&self, sums: &[f64], centres: &[f64], old: Option<&GaussianMixture>) -> GaussianMixture {
        let (dim, k, tri) = (self.data.dim, self.n_components, triangle(self.data.dim));
        let eps = self.settings.weight_floor;
        let floor2 = self.settings.scale_floor.powi(2);
        let full = self.settings.covariance == Covariance::Full;
        let mut out = GaussianMixture {
            dim,
            n_components: k,
            covariance: self.settings.covariance,
            logits: vec![0.0; k],
            means: centres.to_vec(),
            cholesky: vec![0.0; k * tri],
        };
        for (c, sums) in sums.chunks(self.n_sums()).enumerate() {
            let mass = sums[0];
            out.logits[c] = (eps + (1.0 - k as f64 * eps) * mass).max(f64::MIN_POSITIVE).ln();
            if mass < 1e-12 {
                // Nothing is known of an empty component: it keeps its place, or gets the pooled shape.
                if let Some(old) = old {
                    out.cholesky[c * tri..(c + 1) * tri]
                        .copy_from_slice(&old.cholesky[c * tri..(c + 1) * tri]);
                    continue;
                }
            }
            let inverse = 1.0 / mass.max(1e-300);
            let shift: Vec<f64> = sums[1..=dim].iter().map(|s| s * inverse).collect();
            out.means[c * dim..(c + 1) * dim].iter_mut().zip(&shift).for_each(|(m, s)| *m += s);
            let n_k = mass * self.data.ess;
            let prior_share = match self.settings.prior_points {
                prior if prior > 0.0 => prior / (n_k + prior),
                _ => 0.0,
            };
            let factor = &mut out.cholesky[c * tri..(c + 1) * tri];
            for i in 0..dim {
                for j in if full { 0 } else { i }..=i {
                    let own = sums[1 + dim + triangle(i) + j] * inverse - shift[i] * shift[j];
                    let shrunk = (1.0 - prior_share) * own + prior_share * self.prior[i * dim + j];
                    factor[triangle(i) + j] = shrunk + if i == j { floor2 } else { 0.0 };
                }
            }
            cholesky_in_place(factor, dim, floor2);
        }
        out
    }
}

/// Replaces a lower triangle of a covariance by its Cholesky factor; a pivot below `floor2` (rounding) is raised to it.
fn cholesky_in_place(a: &mut [f64], dim: usize, floor2: f64) {
    for i in 0..dim {
        for j in 0..=i {
            let (ri, rj) = (triangle(i), triangle(j));
            let dot: f64 = (0..j).map(|l| a[ri + l] * a[rj + l]).sum();
            let rest = a[ri + j] - dot;
            a[ri + j] = if i == j { rest.max(floor2).sqrt() } else { rest / a[rj + j] };
        }
    }
}
