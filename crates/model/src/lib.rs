//! What a likelihood-weighted normalizing flow is: its shape ([`FlowSpec`]), its one flat parameter vector
//! ([`ParamLayout`]) and its executable definition ([`Flow`]), generic over the number type. No device code lives here;
//! this definition in `f64` is the oracle that every kernel is compared with.
//!
//! Conventions: arrays are row-major slices `[n, dim]`; logarithms are natural; `forward` runs from the base to the data;
//! every log-determinant is that of `forward`.
//!
//! ```
//! use lwflow_model::{BaseSpec, Flow, FlowSettings, FlowSpec};
//! let spec = FlowSpec::build(2, 0, &FlowSettings::default(), BaseSpec::Gaussian, 7).unwrap();
//! let flow = Flow::<f64>::init(spec, 7).unwrap();
//! // A fresh flow is the identity: its density is that of the base.
//! let log_prob = flow.log_prob(&[0.0, 0.0], &[]).unwrap();
//! assert!((log_prob[0] + (2.0 * std::f64::consts::PI).ln()).abs() < 1e-12);
//! ```

mod base;
mod bijection;
mod context;
mod context_spec;
mod coupling;
mod coupling_spec;
mod error;
mod flow;
mod layout;
mod mlp;
mod outer;
mod real;
mod spec;
mod spline;

pub use base::{MixtureBase, MixtureStatistics, standard_normal_log_prob};
pub use bijection::{Bijection, Bound, Edge};
pub use context_spec::{ContextNetworkSpec, MlpSpec, SetSpec};
pub use coupling_spec::{Activation, AffineCouplingSpec, Coupling, LayerSpec, SplineCouplingSpec};
pub use error::ModelError;
pub use flow::{Flow, Gradient};
pub use layout::{LinearBlock, ParamBlock, ParamLayout};
pub use outer::OuterTransform;
pub use real::Real;
pub use spec::{BaseSpec, Covariance, FlowSettings, FlowSpec, MAX_DIM, Mixing, MixtureSpec};
pub use spline::{MAX_BINS, MIN_BIN_SHARE, MIN_DERIVATIVE, derivative_shift, n_raw};
