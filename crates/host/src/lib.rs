//! The CPU side of lwflow: importance weights, the mixture base, optimiser and schedules, exactly known targets
//! and the figures that judge a fit. Host arithmetic is f64 and deterministic in a seed; parallel sums run in a
//! fixed order, so the number of threads never changes a result.

pub mod adam;
pub mod amortise;
mod command;
pub mod diagnostics;
pub mod error;
pub mod files;
pub mod fit;
pub mod likelihood;
pub mod mixture;
pub mod model_file;
pub mod novelty;
pub mod outer;
pub mod posterior;
pub mod prior;
pub mod rng;
pub mod rounds;
pub mod schedule;
pub mod simulator;
pub mod targets;
pub mod train;
pub mod truncated;
pub mod weights;

pub use error::HostError;
