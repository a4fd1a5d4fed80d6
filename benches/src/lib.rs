//! Measures every kernel, pass and training step of the engine on one device, and lwflow beside other frameworks.
//! Invariant: what is compared takes turns, so that a change of the machine's load falls on all of it alike.

pub mod contest;
pub mod examples;
mod measure;
pub mod memory;
pub mod observed;
mod path;
pub mod peak;
mod problem;
mod programs;
pub mod quality;
mod row;
pub mod sbibm;
pub mod scaling;
mod script;
mod shape;
mod spread;
mod stamp;
pub mod together;
mod worker;

pub use measure::{Options, run};
pub use path::{Call, PathBench, Workload, paths};
pub use problem::{CHECK_STEPS, Difference, Outcome, Problem, compare};
pub use row::{Row, commit, date};
pub use shape::{Base, Shape, multiply_adds};
pub use spread::Spread;
pub use stamp::Stamp;
pub use worker::{Hello, Worker};
