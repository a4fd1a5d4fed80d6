//! The base distributions on a block of samples: log q, effective weights, the gradient at z, and a mixture's moments.
//! Invariant: the mixture's derived quantities are computed in f64 from its parameters, once per `set_params`.

use lwflow_model::{BaseSpec, Covariance, FlowSpec, MixtureBase, MixtureSpec, MixtureStatistics};

use super::coupling::{Shared, sample};
use super::math;
use super::outer::{AddOuter, Outer};
use super::panel::{Extent, Panels};
use super::simd::{Job, Lanes, Level, Simd};

/// A mixture as the passes read it.
#[derive(Debug)]
struct Mixture {
    spec: MixtureSpec,
    dim: usize,
    /// The definition's own, once there are parameters.
    base: Option<MixtureBase<f64>>,
    /// `[K, D]`
    means: Vec<f32>,
    /// Rows of L_k^-1: `[K, D (D + 1) / 2]`, or their diagonals `[K, D]`.
    inverse: Vec<f32>,
    /// `[K]`
    log_norm: Vec<f32>,
}

/// A base distribution and where its moments lie in a chunk's sums.
#[derive(Debug)]
pub(super) struct BasePlan {
    dim: usize,
    mixture: Option<Mixture>,
    outer: Outer,
    first: usize,
}

/// Arrays of a block that only the base uses.
#[derive(Debug)]
pub(super) struct BaseWork {
    /// z - mu of one component.
    centred: Panels,
    /// log a_k N_k, then the responsibilities, `[K]`.
    terms: Panels,
    /// y of every component with a row of ones, `[K]` arrays (one if there is no gradient to come).
    whitened: Vec<Panels>,
    /// w rho y and w rho of one component.
    weighted: Panels,
}

impl BasePlan {
    /// The plan; the sums begin at `sums`, which is moved behind them.
    pub fn new(spec: &FlowSpec, sums: &mut usize) -> Self {
        let outer = Outer { n_left: spec.dim + 1, n_right: spec.dim };
        let first = *sums;
        let mixture = match &spec.base {
            BaseSpec::Gaussian => None,
            BaseSpec::Mixture(mixture) => {
                *sums += mixture.n_components * outer.len();
                let spec_dim = spec.dim;
                Some(Mixture {
                    spec: mixture.clone(),
                    dim: spec_dim,
                    base: None,
                    means: Vec::new(),
                    inverse: Vec::new(),
                    log_norm: Vec::new(),
                })
            }
        };
        Self { dim: spec.dim, mixture, outer, first }
    }

    /// Takes over the base's slice of the flat parameters.
    pub fn set_params(&mut self, params: &[f32]) {
        let Some(m) = &mut self.mixture else { return };
        let wide: Vec<f64> = params.iter().map(|&p| f64::from(p)).collect();
        let base = MixtureBase::new(&m.spec, m.dim, &wide);
        m.means = base.means.iter().map(|&v| v as f32).collect();
        m.log_norm = base.log_norm.iter().map(|&v| v as f32).collect();
        m.inverse.clear();
        for (i, row) in base.inverse_cholesky.chunks_exact(m.dim).enumerate() {
            let i = i % m.dim;
            let first = if m.spec.covariance == Covariance::Full { 0 } else { i };
            m.inverse.extend(row[first..=i].iter().map(|&v| v as f32));
        }
        m.base = Some(base);
    }

    /// Arrays for blocks of that many panels.
    pub fn work(&self, panels: usize) -> BaseWork {
        let (k, d) = self.mixture.as_ref().map_or((0, 0), |m| (m.spec.n_components, m.dim));
        BaseWork {
            centred: Panels::new(panels.min(1), d),
            terms: Panels::new(panels, k),
            whitened: (0..k).map(|_| Panels::with_ones(panels, d)).collect(),
            weighted: Panels::new(panels, (d + 1).next_multiple_of(4)),
        }
    }

    /// Bytes of [`BaseWork`] per panel.
    pub fn work_bytes(&self) -> usize {
        let work = self.work(1);
        work.terms.bytes() + work.weighted.bytes() + work.whitened.iter().map(Panels::bytes).sum::<usize>()
    }

    /// Vectors of scratch memory for a block.
    pub fn scratch(&self, panels: usize) -> usize {
        if self.mixture.is_some() { self.outer.scratch(panels) } else { 0 }
    }

    /// log q from z in `shared.x` and log_det.
    pub fn log_prob(&self, level: Level, shared: &mut Shared, work: &mut BaseWork, extent: Extent) {
        let Shared { x, sample, .. } = shared;
        match &self.mixture {
            None => level.run(Gaussian { dim: self.dim, x, sample, g: None, control: false, extent }),
            Some(mixture) => level.run(LogProb { mixture, x, sample, work, extent, gradient: None }),
        }
    }

    /// log q, effective weights, `shared.g = -w d log p / dz`, and the moments into the chunk's `sums`.
    pub fn gradient(
        &self,
        level: Level,
        shared: &mut Shared,
        work: &mut BaseWork,
        extent: Extent,
        control: bool,
        (sums, set): (&mut [Lanes], bool),
    ) {
        let Shared { x, sample, g, scratch, .. } = shared;
        let Some(mixture) = &self.mixture else {
            level.run(Gaussian { dim: self.dim, x, sample, g: Some(g), control, extent });
            return;
        };
        level.run(LogProb { mixture, x, sample, work, extent, gradient: Some(control) });
        for (k, sums) in sums[self.first..].chunks_exact_mut(self.outer.len()).enumerate() {
            let BaseWork { terms, whitened, weighted, .. } = &mut *work;
            let Some(y) = whitened.get(k) else { break };
            level.run(Weigh { mixture, k, terms, y, weighted, sample, g, extent });
            if mixture.spec.trainable {
                let (left, right, scratch) = (&*weighted, y, &mut scratch.strips[..]);
                level.run(AddOuter { shape: self.outer, left, right, extent, sums, set, scratch });
            }
        }
    }

    /// Adds the gradient with respect to the base's parameters to `grad`, from the sums over all samples.
    pub fn add_gradient(&self, sums: &[Lanes], grad: &mut [f32]) {
        let Some(Mixture { spec, dim, base: Some(base), .. }) = &self.mixture else { return };
        if !spec.trainable {
            return;
        }
        let mut statistics = MixtureStatistics::<f64>::zeros(spec, *dim);
        let n_scales = spec.n_scales(*dim);
        for (k, sums) in sums.chunks_exact(self.outer.len()).enumerate() {
            self.outer.unpack(sums, |i, j, value| {
                let value = f64::from(value);
                match j {
                    None if i == *dim => statistics.n[k] = value,
                    None => statistics.first[k * dim + i] = value,
                    Some(j) if i < *dim && j <= i => match spec.covariance {
                        Covariance::Full => statistics.second[k * n_scales + i * (i + 1) / 2 + j] = value,
                        Covariance::Diagonal if i == j => statistics.second[k * n_scales + i] = value,
                        Covariance::Diagonal => {}
                    },
                    Some(_) => {}
                }
            });
        }
        for (to, value) in grad.iter_mut().zip(base.gradient(&statistics)) {
            *to += value as f32;
        }
    }

    /// The moments in a chunk's sums.
    pub fn sums(&self) -> std::ops::Range<usize> {
        let k = self.mixture.as_ref().map_or(0, |m| m.spec.n_components);
        self.first..self.first + k * self.outer.len()
    }
}

/// w, or w - exp(log q + lv) with a control variate.
#[inline(always)]
fn effective_weight<S: Simd>(s: S, w: S::V, log_prob: S::V, lv: &Lanes, control: bool) -> S::V {
    if control { s.sub(w, math::exp(s, s.add(log_prob, s.load(lv)))) } else { w }
}

/// The standard normal.
struct Gaussian<'a> {
    dim: usize,
    x: &'a Panels,
    sample: &'a mut Panels,
    g: Option<&'a mut Panels>,
    control: bool,
    extent: Extent,
}

impl Job for Gaussian<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let norm = s.splat((-0.5 * self.dim as f64 * (2.0 * std::f64::consts::PI).ln()) as f32);
        let half = s.splat(0.5);
        for p in 0..self.extent.panels() {
            let (x, per_sample) = (self.x.panel(p), self.sample.panel_mut(p));
            for v in 0..self.extent.vectors(p) {
                let mut squares = s.splat(0.0);
                for row in x {
                    let z = s.load(&row.0[v]);
                    squares = s.fma(z, z, squares);
                }
                let log_base = s.fnma(half, squares, norm);
                let log_prob = s.sub(log_base, s.load(&per_sample[sample::LOG_DET].0[v]));
                s.store(log_prob, &mut per_sample[sample::LOG_PROB].0[v]);
                let Some(g) = &mut self.g else { continue };
                let w = s.load(&per_sample[sample::WEIGHT].0[v]);
                let lv = &per_sample[sample::LOG_INV_PROPOSAL].0[v];
                let w = effective_weight(s, w, log_prob, lv, self.control);
                s.store(w, &mut per_sample[sample::WEIGHT].0[v]);
                for (to, row) in g.panel_mut(p).iter_mut().zip(x) {
                    s.store(s.mul(w, s.load(&row.0[v])), &mut to.0[v]);
                }
            }
        }
    }
}

/// log q of a mixture; for a gradient (with or without control variate) also effective weights, y and responsibilities.
struct LogProb<'a> {
    mixture: &'a Mixture,
    x: &'a Panels,
    sample: &'a mut Panels,
    work: &'a mut BaseWork,
    extent: Extent,
    gradient: Option<bool>,
}

impl Job for LogProb<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let m = self.mixture;
        let (d, n_components) = (m.dim, m.spec.n_components);
        let full = m.spec.covariance == Covariance::Full;
        let stride = if full { d * (d + 1) / 2 } else { d };
        let BaseWork { centred, terms, whitened, .. } = self.work;
        let centred = centred.panel_mut(0);
        let half = s.splat(0.5);
        for p in 0..self.extent.panels() {
            let (x, terms) = (self.x.panel(p), terms.panel_mut(p));
            let per_sample = self.sample.panel_mut(p);
            for v in 0..self.extent.vectors(p) {
                let mut largest = s.splat(f32::MIN);
                for k in 0..n_components {
                    let means = &m.means[k * d..][..d];
                    let inverse = &m.inverse[k * stride..][..stride];
                    let whitened = whitened[k].panel_mut(p);
                    let mut squares = s.splat(0.0);
                    if full {
                        let mut rest = inverse;
                        for i in 0..d {
                            let centre = s.sub(s.load(&x[i].0[v]), s.splat(means[i]));
                            s.store(centre, &mut centred[i].0[v]);
                            let (row, after) = rest.split_at(i + 1);
                            rest = after;
                            let mut y = s.mul(s.splat(row[i]), centre);
                            for (&a, centre) in row[..i].iter().zip(centred.iter()) {
                                y = s.fma(s.splat(a), s.load(&centre.0[v]), y);
                            }
                            s.store(y, &mut whitened[i].0[v]);
                            squares = s.fma(y, y, squares);
                        }
                    } else {
                        for i in 0..d {
                            let centre = s.sub(s.load(&x[i].0[v]), s.splat(means[i]));
                            let y = s.mul(s.splat(inverse[i]), centre);
                            s.store(y, &mut whitened[i].0[v]);
                            squares = s.fma(y, y, squares);
                        }
                    }
                    let term = s.fnma(half, squares, s.splat(m.log_norm[k]));
                    s.store(term, &mut terms[k].0[v]);
                    largest = s.max(largest, term);
                }
                let mut sum = s.splat(0.0);
                for term in terms.iter_mut() {
                    let e = math::exp(s, s.sub(s.load(&term.0[v]), largest));
                    s.store(e, &mut term.0[v]);
                    sum = s.add(sum, e);
                }
                // No term above -inf: log 0.
                let log_base = s.add(largest, math::ln(s, sum));
                let log_base =
                    s.select_lt(s.splat(0.0), sum, log_base, s.add(sum, s.splat(f32::NEG_INFINITY)));
                let log_prob = s.sub(log_base, s.load(&per_sample[sample::LOG_DET].0[v]));
                s.store(log_prob, &mut per_sample[sample::LOG_PROB].0[v]);
                let Some(control) = self.gradient else { continue };
                let w = s.load(&per_sample[sample::WEIGHT].0[v]);
                let lv = &per_sample[sample::LOG_INV_PROPOSAL].0[v];
                let w = effective_weight(s, w, log_prob, lv, control);
                s.store(w, &mut per_sample[sample::WEIGHT].0[v]);
                // The sum is at least 1 unless there is no density at all, and then no component has a share.
                let share = s.select_lt(s.splat(0.0), sum, s.recip(sum), s.splat(0.0));
                for term in terms.iter_mut() {
                    s.store(s.mul(s.load(&term.0[v]), share), &mut term.0[v]);
                }
            }
        }
    }
}

/// w rho and w rho y of component k, and its share of the gradient at z: g = sum_k L_k^-T (w rho y).
struct Weigh<'a> {
    mixture: &'a Mixture,
    k: usize,
    terms: &'a Panels,
    y: &'a Panels,
    weighted: &'a mut Panels,
    sample: &'a Panels,
    g: &'a mut Panels,
    extent: Extent,
}

impl Job for Weigh<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let d = self.mixture.dim;
        let full = self.mixture.spec.covariance == Covariance::Full;
        let stride = if full { d * (d + 1) / 2 } else { d };
        let inverse = &self.mixture.inverse[self.k * stride..][..stride];
        for p in 0..self.extent.panels() {
            let (y, g) = (&self.y.panel(p)[..d], self.g.panel_mut(p));
            let weighted = self.weighted.panel_mut(p);
            let (rho, w) = (&self.terms.panel(p)[self.k], &self.sample.panel(p)[sample::WEIGHT]);
            for v in 0..self.extent.vectors(p) {
                let w_rho = s.mul(s.load(&w.0[v]), s.load(&rho.0[v]));
                s.store(w_rho, &mut weighted[d].0[v]);
                for (to, y) in weighted.iter_mut().zip(y) {
                    s.store(s.mul(w_rho, s.load(&y.0[v])), &mut to.0[v]);
                }
                for j in 0..d {
                    let mut sum = if self.k == 0 { s.splat(0.0) } else { s.load(&g[j].0[v]) };
                    if full {
                        let mut at = j * (j + 1) / 2 + j;
                        for i in j..d {
                            sum = s.fma(s.splat(inverse[at]), s.load(&weighted[i].0[v]), sum);
                            at += i + 1;
                        }
                    } else {
                        sum = s.fma(s.splat(inverse[j]), s.load(&weighted[j].0[v]), sum);
                    }
                    s.store(sum, &mut g[j].0[v]);
                }
            }
        }
    }
}
