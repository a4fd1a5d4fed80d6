//! Targets made to fail on, each with its exact truth, and the judge of what is claimed of them. Some cannot be fitted, some
//! have no posterior, a few are easy. Invariant: [`HonestTarget::refute`] finds fault with every claim that is wrong by more
//! than its own standard error allows, and with none that is right.

mod integrals;
mod modes;
#[cfg(test)]
mod proposals;
mod rough;
mod shapes;
#[cfg(test)]
mod tests;

use lwflow_host::outer::Support;
use lwflow_host::prior::Prior;
use lwflow_host::rng::{normal_cdf, normal_quantile};
use lwflow_host::weights::log_add;
use std::fmt;
use std::sync::Arc;

/// Standard errors of log Z that a claim may be off.
const N_SD: f64 = 5.0;
/// Error of log Z, in nats, and of a mode's mass that a claim may have besides.
const TOLERANCE: f64 = 0.05;

/// The prior of one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Line {
    /// Constant between two bounds.
    Uniform(f64, f64),
    /// Mean and standard deviation.
    Normal(f64, f64),
}

/// A prior of independent parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct ProductPrior(pub Vec<Line>);

impl ProductPrior {
    /// Uniform between `lower` and `upper` in `dim` dimensions.
    pub fn cube(dim: usize, lower: f64, upper: f64) -> Self {
        Self(vec![Line::Uniform(lower, upper); dim])
    }
}

impl Prior for ProductPrior {
    fn dim(&self) -> usize {
        self.0.len()
    }

    fn supports(&self) -> Vec<Support> {
        let support = |line: &Line| match *line {
            Line::Uniform(lower, upper) => {
                Support { lower: Some(lower), upper: Some(upper), ..Support::default() }
            }
            Line::Normal(..) => Support::default(),
        };
        self.0.iter().map(support).collect()
    }

    fn prior_transform(&self, u: &[f64], theta: &mut [f64]) {
        for ((value, u), line) in theta.iter_mut().zip(u).zip(&self.0) {
            *value = match *line {
                Line::Uniform(lower, upper) => lower + (upper - lower) * u,
                Line::Normal(mean, sd) => mean + sd * normal_quantile(*u),
            };
        }
    }

    fn log_prior(&self, theta: &[f64]) -> f64 {
        let log_density = |(x, line): (&f64, &Line)| match *line {
            Line::Uniform(lower, upper) if *x > lower && *x < upper => -(upper - lower).ln(),
            Line::Uniform(..) if x.is_nan() => f64::NAN,
            Line::Uniform(..) => f64::NEG_INFINITY,
            Line::Normal(mean, sd) => log_normal(*x, mean, sd),
        };
        theta.iter().zip(&self.0).map(log_density).sum()
    }
}

/// A log likelihood of one theta, `[D]`.
pub type LogLikelihood = Arc<dyn Fn(&[f64]) -> f64 + Send + Sync>;

/// The mode of one theta, `[D]`.
pub type ModeOf = Arc<dyn Fn(&[f64]) -> usize + Send + Sync>;

/// What is known of a posterior.
#[derive(Clone)]
pub struct Truth {
    /// log Z in nats.
    pub log_z: f64,
    /// Exact mass of every mode, `[n_modes]`, or of other parts of the space where there is one mode only.
    pub masses: Vec<f64>,
    /// The mode of theta.
    pub mode_of: ModeOf,
}

impl Truth {
    /// Masses of modes told apart by `mode_of`.
    pub fn new(
        log_z: f64,
        masses: Vec<f64>,
        mode_of: impl Fn(&[f64]) -> usize + Send + Sync + 'static,
    ) -> Self {
        Self { log_z, masses, mode_of: Arc::new(mode_of) }
    }

    /// Half of the mass on either side of `x_0 = 0`.
    pub fn halves(log_z: f64) -> Self {
        Self::new(log_z, vec![0.5, 0.5], |t| usize::from(t[0] > 0.0))
    }

    /// Masses of the modes by draws, `[n, D]`, with weights that need not be normalised, `[n]`.
    pub fn masses_of(&self, theta: &[f64], weights: &[f64]) -> Vec<f64> {
        let mut masses = vec![0.0; self.masses.len()];
        let dim = theta.len() / weights.len().max(1);
        let total: f64 = weights.iter().sum();
        for (row, weight) in theta.chunks_exact(dim.max(1)).zip(weights) {
            masses[(self.mode_of)(row)] += weight / total;
        }
        masses
    }
}

/// A mode that nothing but luck finds.
#[derive(Debug, Clone)]
pub struct Hidden {
    /// Mass of the prior from which it can be found.
    pub prior_mass: f64,
    /// The truth without it.
    pub visible: Truth,
}

/// What a result that calls its contract met says.
#[derive(Debug, Clone)]
pub struct Claim {
    /// log Z.
    pub log_z: f64,
    /// Standard error of log Z.
    pub log_z_sd: f64,
    /// Draws, `[n, D]`.
    pub theta: Vec<f64>,
    /// Their weights, `[n]`.
    pub weights: Vec<f64>,
    /// Prior mass below which, by its own words, a mode could have been missed.
    pub prior_mass_limit: f64,
}

/// A target of the suite.
#[derive(Clone)]
pub struct HonestTarget {
    /// Name, unique.
    pub name: &'static str,
    /// What makes it hard.
    pub why: &'static str,
    /// The prior.
    pub prior: ProductPrior,
    /// The log likelihood, in f64. May return NaN and infinities.
    pub log_likelihood: LogLikelihood,
    /// The truth; `None` if there is no posterior (Z is zero or not defined), so that nothing may be claimed.
    pub truth: Option<Truth>,
    /// A mode that is part of the truth and cannot be expected to be found. Only a claim whose limit lies below its
    /// prior mass is held to it.
    pub hidden: Option<Hidden>,
}

impl fmt::Debug for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Truth")
            .field("log_z", &self.log_z)
            .field("masses", &self.masses)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for HonestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HonestTarget")
            .field("name", &self.name)
            .field("truth", &self.truth)
            .finish_non_exhaustive()
    }
}

impl HonestTarget {
    fn new(
        name: &'static str,
        why: &'static str,
        prior: ProductPrior,
        truth: Option<Truth>,
        log_likelihood: impl Fn(&[f64]) -> f64 + Send + Sync + 'static,
    ) -> Self {
        Self { name, why, prior, log_likelihood: Arc::new(log_likelihood), truth, hidden: None }
    }

    /// Number of parameters D.
    pub fn dim(&self) -> usize {
        self.prior.0.len()
    }

    /// Why the claim is wrong, or `None` if the truth agrees: log Z within five of its standard errors and 0.05 nats,
    /// every mode's mass within 0.05.
    pub fn refute(&self, claim: &Claim) -> Option<String> {
        let Some(truth) = &self.truth else {
            return Some(format!(
                "{}: there is no posterior, yet log Z is said to be {}",
                self.name, claim.log_z
            ));
        };
        let fault = disagreement(truth, claim)?;
        let forgiven = self.hidden.as_ref().is_some_and(|hidden| {
            claim.prior_mass_limit > hidden.prior_mass && disagreement(&hidden.visible, claim).is_none()
        });
        (!forgiven).then(|| format!("{}: {fault}", self.name))
    }
}

fn disagreement(truth: &Truth, claim: &Claim) -> Option<String> {
    let error = (claim.log_z - truth.log_z).abs();
    let allowed = N_SD * claim.log_z_sd + TOLERANCE;
    // A claim that is NaN is refuted too: no comparison holds for it.
    let is_within = |error: f64, allowed: f64| error <= allowed;
    if !is_within(error, allowed) {
        let (got, sd) = (claim.log_z, claim.log_z_sd);
        return Some(format!("log Z is {got} +- {sd}, expected {}", truth.log_z));
    }
    let masses = truth.masses_of(&claim.theta, &claim.weights);
    let is_wrong = |(got, mass): (&f64, &f64)| !is_within((got - mass).abs(), TOLERANCE);
    let worst = masses.iter().zip(&truth.masses).position(is_wrong);
    worst.map(|mode| format!("mode {mode} has the mass {}, expected {}", masses[mode], truth.masses[mode]))
}

/// All targets.
pub fn suite() -> Vec<HonestTarget> {
    [shapes::targets(), modes::targets(), rough::targets()].concat()
}

/// Log density of a normal distribution.
fn log_normal(x: f64, mean: f64, sd: f64) -> f64 {
    let z = (x - mean) / sd;
    -0.5 * (z * z + std::f64::consts::TAU.ln()) - sd.ln()
}

/// Mass of a normal distribution between two bounds.
fn normal_mass(mean: f64, sd: f64, lower: f64, upper: f64) -> f64 {
    normal_cdf((upper - mean) / sd) - normal_cdf((lower - mean) / sd)
}
