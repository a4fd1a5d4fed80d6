//! Where the parameters of a round are drawn: every flow so far gives them, for the one observation, more density than all but
//! a small share of its own draws have. Invariant: a region lies within the one before it, and its draws follow the prior inside
//! it, up to a distance in total variation that is reported with them.

use super::TruncatedSettings;
use crate::HostError;
use crate::posterior::Posterior;
use crate::prior::{Prior, transform_rows};
use crate::rng::{CounterField, derived_seed, normal_quantile};
use crate::rounds::twins::with_twins_of;
use lwflow_engine::{Engine, FlowExecutor};
use std::ops::ControlFlow;

/// Proposals at a time, between two looks at the wish to stop.
const BATCH: usize = 16_384;
/// Least share of the prior's draws in the region with which they are taken as they are.
const PRIOR_SHARE: f64 = 0.02;
/// Share of the proposals that the wide twins make. The flow itself makes the rest, so that no weight in the region exceeds
/// the prior's density over this rest of the flow's least one there.
const TWINS: f64 = 0.9;
/// Weights are cut where that moves this share of the draws, the distance in total variation that they are off by.
const CUT: f64 = 1e-3;
/// Proposals for each draw, at most. Where fewer than one in so many would be taken, weights are cut further.
const MOST_EACH: usize = 200;

/// One flow and the log density that its part of the region begins at.
#[derive(Debug)]
struct Part {
    flow: Posterior,
    executor: FlowExecutor,
    threshold: f64,
}

/// The region; all of the prior's support as long as no flow has shrunk it.
#[derive(Debug, Default)]
pub(super) struct Region {
    parts: Vec<Part>,
}

/// Parameters drawn from the prior inside the region.
#[derive(Debug)]
pub(super) struct RegionDraws {
    /// `[n, D]`; fewer than asked for where the caller stopped, or if next to nothing of the region can be reached.
    pub(super) theta: Vec<f64>,
    /// Share of the prior's mass in the region, and its standard error.
    pub(super) prior_mass: (f64, f64),
    /// How far the draws are from the prior in the region, in total variation, at most; 0 for draws of the prior itself.
    pub(super) distance: f64,
}

impl Region {
    /// Takes away where `flow`, the posterior of the observation without context, has less density than all but a share
    /// [`TruncatedSettings::outside`] of its draws. Returns the share of these draws that lay outside the region before.
    pub(super) fn shrink(
        &mut self,
        engine: &Engine,
        flow: Posterior,
        settings: &TruncatedSettings,
        seed: u64,
    ) -> Result<f64, HostError> {
        let n = settings.quantile_draws;
        let mut executor = engine.flow(flow.spec())?;
        let samples = flow.sample(&mut executor, n, &[], seed)?;
        let leakage = 1.0 - self.rows_inside(&samples.theta, flow.dim())?.len() as f64 / n as f64;
        let mut log_q = samples.log_prob;
        log_q.retain(|log_q| log_q.is_finite());
        log_q.sort_by(f64::total_cmp);
        let Some(&threshold) = log_q.get((settings.outside * log_q.len() as f64) as usize) else {
            return Err(HostError::invalid("the flow's density", "not finite at any draw", "finite"));
        };
        self.parts.push(Part { flow, executor, threshold });
        Ok(leakage)
    }

    /// The rows of `theta`, `[n, dim]`, in the region, ascending.
    pub(super) fn rows_inside(&mut self, theta: &[f64], dim: usize) -> Result<Vec<usize>, HostError> {
        // Far out a draw may not be finite.
        let finite = theta.chunks_exact(dim).enumerate().filter(|(_, row)| row.iter().all(|x| x.is_finite()));
        let mut rows: Vec<usize> = finite.map(|(i, _)| i).collect();
        // The newest first: it keeps least.
        for part in self.parts.iter_mut().rev() {
            let asked: Vec<f64> = rows.iter().flat_map(|i| &theta[i * dim..][..dim]).copied().collect();
            let log_q = part.flow.log_prob(&mut part.executor, &asked, &[])?;
            let mut log_q = log_q.iter();
            rows.retain(|_| log_q.next().is_some_and(|log_q| *log_q >= part.threshold));
        }
        Ok(rows)
    }

    /// Draws `n` parameters from the prior inside the region by rejection: from the prior itself where the region is a good
    /// part of it, else from the newest flow with wide twins, with weights pi / g that are cut at a limit. `watch` gets how many
    /// are drawn and may stop it.
    pub(super) fn draw(
        &mut self,
        engine: &Engine,
        prior: &dyn Prior,
        n: usize,
        settings: &TruncatedSettings,
        seed: u64,
        mut watch: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<RegionDraws, HostError> {
        let dim = prior.dim();
        let mut proposal = Proposal::Prior;
        let mut weights = self.weighted(&mut proposal, prior, 0, seed)?;
        let hits = weights.1.iter().filter(|w| w.is_finite()).count();
        if (hits as f64) < PRIOR_SHARE * BATCH as f64
            && let Some(newest) = self.parts.last()
        {
            let wide = with_twins_of(&newest.flow, TWINS, widening(dim, settings.outside))?;
            let executor = engine.flow(wide.spec())?;
            proposal = Proposal::Flow(Box::new((wide, executor)));
            weights = self.weighted(&mut proposal, prior, 0, seed)?;
        }
        let limit = match proposal {
            Proposal::Prior => 0.0,
            Proposal::Flow(_) => cut(&weights.1),
        };
        let mut theta = Vec::with_capacity(n * dim);
        if limit == f64::NEG_INFINITY {
            return Ok(RegionDraws { theta, prior_mass: (0.0, 0.0), distance: 0.0 });
        }
        let mut tally = Tally::default();
        let most = 2 * MOST_EACH * n / BATCH + 4;
        for batch in 0..most {
            if batch > 0 {
                weights = self.weighted(&mut proposal, prior, batch, seed)?;
            }
            let (proposed, log_weight) = &weights;
            let mut u = vec![0.0; BATCH];
            CounterField::numbered(seed, "region/accept", batch as u64, 1).fill_uniform(0, &mut u);
            for ((row, log_weight), u) in proposed.chunks_exact(dim).zip(log_weight).zip(u) {
                let w = (log_weight - limit).exp();
                tally.add(w);
                if u < w && theta.len() < n * dim {
                    theta.extend_from_slice(row);
                }
            }
            let done = theta.len() / dim;
            if watch(done).is_break() || done == n {
                break;
            }
        }
        Ok(RegionDraws { theta, prior_mass: tally.mass(limit), distance: tally.distance() })
    }

    /// The proposals of a batch, `[BATCH, D]`, and the logarithm of each one's weight, prior over proposal: -inf outside.
    fn weighted(
        &mut self,
        proposal: &mut Proposal,
        prior: &dyn Prior,
        batch: usize,
        seed: u64,
    ) -> Result<(Vec<f64>, Vec<f64>), HostError> {
        let dim = prior.dim();
        let (theta, log_q) = match proposal {
            Proposal::Prior => {
                let mut u = vec![0.0; BATCH * dim];
                CounterField::numbered(seed, "region/prior", batch as u64, dim).fill_uniform(0, &mut u);
                (transform_rows(prior, &u), None)
            }
            Proposal::Flow(flow) => {
                let (flow, executor) = &mut **flow;
                let seed = derived_seed(seed, "region/flow", batch as u64);
                let samples = flow.sample(executor, BATCH, &[], seed)?;
                (samples.theta, Some(samples.log_prob))
            }
        };
        let mut log_weight = vec![f64::NEG_INFINITY; BATCH];
        for i in self.rows_inside(&theta, dim)? {
            let of = |log_q: &Vec<f64>| prior.log_prior(&theta[i * dim..][..dim]) - log_q[i];
            log_weight[i] = log_q.as_ref().map_or(0.0, of);
        }
        // A draw at which the layers overflow has no density, and would not be in the region.
        log_weight.iter_mut().filter(|w| !w.is_finite()).for_each(|w| *w = f64::NEG_INFINITY);
        Ok((theta, log_weight))
    }
}

/// What proposes parameters.
enum Proposal {
    Prior,
    Flow(Box<(Posterior, FlowExecutor)>),
}

/// Scale of the twins in scales of a component, for which their draws lie as far out as the region of a Gaussian reaches: the
/// root of its squared radius (chi-square, by Wilson and Hilferty 1931) over the dimension. About one in sqrt(pi D) proposals
/// for a Gaussian posterior under a flat prior is then taken.
fn widening(dim: usize, outside: f64) -> f64 {
    let spread = 2.0 / (9.0 * dim as f64);
    (1.0 - spread - normal_quantile(outside) * spread.sqrt()).powi(3).max(1.0).sqrt()
}

/// The logarithm at which weights, given by theirs, are cut: the least at which the cut takes [`CUT`] of their sum, or less
/// where fewer than one proposal in [`MOST_EACH`] would be taken. -inf if none weighs anything.
fn cut(log_weights: &[f64]) -> f64 {
    let mut w: Vec<f64> = log_weights.iter().copied().filter(|w| w.is_finite()).collect();
    w.sort_by(|a, b| b.total_cmp(a));
    let Some(&largest) = w.first() else { return f64::NEG_INFINITY };
    w.iter_mut().for_each(|w| *w = (*w - largest).exp());
    let total: f64 = w.iter().sum();
    let (mut limit, mut above, mut taken) = (1.0, 0.0, 0.0);
    for (k, &w) in w.iter().enumerate() {
        let excess = above - k as f64 * w;
        if excess > CUT * total && taken * MOST_EACH as f64 >= 1.0 {
            break;
        }
        limit = w;
        taken = (total - excess) / (w * log_weights.len() as f64);
        above += w;
    }
    largest + f64::ln(limit)
}

/// Sums over the weights of all proposals, in units of the limit at which they are cut.
#[derive(Debug, Default)]
struct Tally {
    n: f64,
    sum: f64,
    square: f64,
    excess: f64,
}

impl Tally {
    fn add(&mut self, w: f64) {
        self.n += 1.0;
        self.sum += w;
        self.square += w * w;
        self.excess += (w - 1.0).max(0.0);
    }

    /// The region's share of the prior's mass, the mean weight, and its standard error.
    fn mass(&self, log_limit: f64) -> (f64, f64) {
        let (mean, unit) = (self.sum / self.n, log_limit.exp());
        (unit * mean, unit * ((self.square / self.n - mean * mean).max(0.0) / self.n).sqrt())
    }

    /// Draws with min(w, 1) in place of w are off by no more than the share of the weight that was cut.
    fn distance(&self) -> f64 {
        if self.sum > 0.0 { self.excess / self.sum } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prior::{IndependentPrior, Marginal};
    use crate::rng::normal_cdf;
    use lwflow_engine::{DeviceChoice, EngineSettings};
    use lwflow_model::{BaseSpec, Bijection, Flow, FlowSettings, FlowSpec, OuterTransform};

    /// A normal posterior, exactly.
    fn normal(mean: &[f64], sd: f64) -> Posterior {
        let dim = mean.len();
        let settings = FlowSettings { n_layers: 0, ..FlowSettings::default() };
        let spec = FlowSpec::build(dim, 0, &settings, BaseSpec::Gaussian, 1).unwrap();
        let mut outer = OuterTransform::new(vec![Bijection::UNBOUNDED; dim]);
        (outer.location, outer.scale) = (mean.to_vec(), vec![sd; dim]);
        Posterior {
            names: (0..dim).map(|j| format!("x{j}")).collect(),
            labels: vec![String::new(); dim],
            outer,
            flow: Flow::from_params(spec, Vec::new()).unwrap(),
            context_location: Vec::new(),
            context_scale: Vec::new(),
            novelty: None,
            seed: 1,
            evidence: None,
        }
    }

    fn engine() -> Engine {
        Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..Default::default() }).unwrap()
    }

    /// The region of `flows`, one after the other, with the leakage of the last.
    fn region(flows: Vec<Posterior>) -> (Region, f64) {
        let (mut region, mut leakage) = (Region::default(), 0.0);
        for flow in flows {
            leakage = region.shrink(&engine(), flow, &TruncatedSettings::default(), 5).unwrap();
        }
        (region, leakage)
    }

    fn draw(region: &mut Region, prior: &IndependentPrior, n: usize) -> RegionDraws {
        let how = TruncatedSettings::default();
        region.draw(&engine(), prior, n, &how, 7, |_| ControlFlow::Continue(())).unwrap()
    }

    /// Kolmogorov's distance of `values` from the uniform distribution, times the root of their number; 1.95 has p = 0.001.
    fn kolmogorov(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        let n = values.len() as f64;
        let gap = |(i, u): (usize, &f64)| (u - i as f64 / n).abs().max((u - (i + 1) as f64 / n).abs());
        values.iter().enumerate().map(gap).fold(0.0, f64::max) * n.sqrt()
    }

    /// Radius of the region of [`normal`] in two dimensions with sd 1.
    fn radius(region: &Region) -> f64 {
        (-2.0 * (region.parts[0].threshold + std::f64::consts::TAU.ln())).sqrt()
    }

    #[test]
    fn a_millionth_of_a_flat_prior_is_found_and_filled_evenly() {
        let (mean, sd) = ([0.2, -0.3], 0.001);
        let (mut region, leakage) = region(vec![normal(&mean, sd)]);
        // exp(-r^2 / 2) of a normal's mass lies beyond the radius r: here a ten-thousandth, by 100,000 draws.
        let scale = -2.0 * (region.parts[0].threshold + (std::f64::consts::TAU * sd * sd).ln());
        assert!((scale / (-2.0 * 1e-4f64.ln()) - 1.0).abs() < 0.15 && leakage == 0.0, "{scale}");
        let area = std::f64::consts::PI * scale * sd * sd;
        let half = (area * 1e6).sqrt() / 2.0;
        let flat = Marginal::Uniform { lower: -half, upper: half };
        let draws = draw(&mut region, &IndependentPrior::new(vec![flat; 2]).unwrap(), 4000);
        let (mass, mass_sd) = draws.prior_mass;
        println!("prior mass {mass:.3e} +- {mass_sd:.1e} of 1e-6, distance {:.1e}", draws.distance);
        assert!((mass - 1e-6).abs() < 4.0 * mass_sd && mass_sd < 3e-8, "{mass} +- {mass_sd}");
        assert!(draws.distance < 2e-3, "{}", draws.distance);
        let rows = || draws.theta.chunks_exact(2).map(|t| [(t[0] - mean[0]) / sd, (t[1] - mean[1]) / sd]);
        assert_eq!(rows().len(), 4000);
        let radii: Vec<f64> = rows().map(|[a, b]| (a * a + b * b) / scale).collect();
        let angles: Vec<f64> = rows().map(|[a, b]| b.atan2(a) / std::f64::consts::TAU + 0.5).collect();
        assert!(radii.iter().all(|r| *r < 1.001));
        let statistics = (kolmogorov(radii), kolmogorov(angles));
        assert!(statistics.0 < 1.95 && statistics.1 < 1.95, "{statistics:?}");
    }

    #[test]
    fn draws_follow_a_steep_prior_in_the_region() {
        let prior = IndependentPrior::new(vec![Marginal::Normal { mean: 0.0, sd: 1.0 }]).unwrap();
        // A good part of the prior, and its far tail, across which it falls by e^9.
        for (mean, sd) in [(0.5, 0.3), (4.0, 0.3)] {
            let (mut region, _) = region(vec![normal(&[mean], sd)]);
            let half =
                (-2.0 * (region.parts[0].threshold + (std::f64::consts::TAU * sd * sd).ln() / 2.0)).sqrt();
            let (lower, upper) = (normal_cdf(mean - sd * half), normal_cdf(mean + sd * half));
            let draws = draw(&mut region, &prior, 4000);
            let (mass, mass_sd) = draws.prior_mass;
            println!("prior mass {mass:.4e} +- {mass_sd:.1e}, distance {:.1e}", draws.distance);
            assert!((mass - (upper - lower)).abs() < 4.0 * mass_sd, "{mass} and {}", upper - lower);
            assert!(draws.distance < 2e-3 && draws.theta.len() == 4000, "{}", draws.distance);
            let u = draws.theta.iter().map(|t| (normal_cdf(*t) - lower) / (upper - lower)).collect();
            let statistic = kolmogorov(u);
            assert!(statistic < 1.95, "{statistic} at {mean}");
        }
    }

    #[test]
    fn a_region_lies_within_the_one_before_it() {
        let (one, other) = (vec![0.0, 0.0], vec![3.0, 0.0]);
        let (mut first, _) = region(vec![normal(&one, 1.0)]);
        let r = radius(&first);
        let (mut both, leakage) = region(vec![normal(&one, 1.0), normal(&other, 1.0)]);
        // A normal three to the right leaves the disk of radius r, about 4.3, with a tenth of its mass.
        assert!((0.05..0.2).contains(&leakage), "{leakage}");
        let flat = IndependentPrior::new(vec![Marginal::Uniform { lower: -20.0, upper: 20.0 }; 2]).unwrap();
        let draws = draw(&mut both, &flat, 500);
        assert_eq!(draws.theta.len(), 1000);
        assert_eq!(first.rows_inside(&draws.theta, 2).unwrap().len(), 500);
        let inside = |t: &[f64], at: f64| ((t[0] - at).powi(2) + t[1] * t[1]).sqrt() < r + 0.1;
        assert!(draws.theta.chunks_exact(2).all(|t| inside(t, 0.0) && inside(t, 3.0)));
        let rows = both.rows_inside(&[1.5, 0.0, -3.0, 0.0, f64::NAN, 0.0, 6.0, 0.0], 2).unwrap();
        assert_eq!(rows, [0]);
    }

    #[test]
    fn weights_are_cut_by_a_thousandth_or_until_enough_are_taken() {
        let even = vec![2.0; 1000];
        assert!((cut(&even) - 2.0).abs() < 1e-9);
        assert_eq!(cut(&[f64::NEG_INFINITY; 3]), f64::NEG_INFINITY);
        // One weight holds a third of everything, and would let one proposal in 7500 through.
        let mut heavy = vec![0.0; 10_000];
        heavy[17] = 5000f64.ln();
        assert!((cut(&heavy) - 0.0).abs() < 1e-9, "{}", cut(&heavy));
        // Of a thousandth it takes what it may.
        heavy[17] = 5f64.ln();
        assert!(cut(&heavy).exp() <= 1.0 + 1e-9, "{}", cut(&heavy));
    }
}
