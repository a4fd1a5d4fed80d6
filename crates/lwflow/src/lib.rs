//! Likelihood-weighted normalizing flows for Rust programs: [`Fit`] goes from a prior and a likelihood, or from weighted points,
//! to a [`Posterior`] that is sampled, evaluated, saved, and used as the next prior. It composes the engine and the host crate
//! and has no mathematics of its own; both are there for what it leaves out.
//!
//! ```
//! use lwflow::{DeviceChoice, Fit, FlowSettings, IndependentPrior, Marginal};
//!
//! let prior = IndependentPrior::new(vec![Marginal::Normal { mean: 0.0, sd: 3.0 }; 2])?;
//! let outcome = Fit::new(prior)
//!     .log_likelihood(|theta| -0.5 * (theta[0] - 1.0).powi(2) - 0.5 * (theta[1] / 0.5).powi(2))
//!     .rounds(|rounds| (rounds.target_ess, rounds.max_evaluations) = (500.0, 20_000))
//!     .fit(|fit| (fit.flow, fit.training.max_visits) = (FlowSettings { n_layers: 2, ..fit.flow.clone() }, 20_000))
//!     .device(DeviceChoice::Cpu)
//!     .run()?;
//! let evidence = outcome.posterior.evidence().ok_or("no evidence")?;
//! // The integral of the likelihood over the prior, in closed form.
//! let exact = -0.05 - 0.5 * f64::ln(10.0) - 0.5 * f64::ln(37.0);
//! assert!((evidence.log_z - exact).abs() < 6.0 * evidence.sd + 1e-3, "{evidence:?} and {exact}");
//! assert_eq!(outcome.posterior.sample(100, 7)?.theta.len(), 200);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod fit;
mod options;
mod posterior;
mod weighted;

pub use error::Error;
pub use fit::{Fit, Outcome, Wgsl};
pub use lwflow_engine::{DeviceChoice, DeviceInfo, Engine, EngineSettings, wgpu};
pub use lwflow_host::files::LogZ;
pub use lwflow_host::fit::{BaseSettings, Components, FitProgress, FitReport, FitSettings, Stage};
pub use lwflow_host::likelihood::{BatchLikelihood, ClosureLikelihood, Evaluations, Likelihood};
pub use lwflow_host::novelty::NoveltyScore;
pub use lwflow_host::outer::{EdgeChoice, Support};
pub use lwflow_host::posterior::Samples;
pub use lwflow_host::prior::{FlowPrior, IndependentPrior, JointPrior, Marginal, Prior};
pub use lwflow_host::rounds::{RoundsEvent, RoundsReport, RoundsResult, RoundsSettings, StopCause, Verdict};
pub use lwflow_host::train::{StopReason, TrainSettings};
pub use lwflow_model::{Coupling, FlowSettings};
pub use posterior::Posterior;
pub use weighted::{WeightedFit, WeightedOutcome};
