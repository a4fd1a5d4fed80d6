//! Measures every kernel, pass and training step of the engine on one device, side by side in one run.
//! Invariant: what is compared takes turns, so that a change of the machine's load falls on all of it alike.

mod measure;
mod path;
mod row;
mod shape;

pub use measure::{Options, run};
pub use path::{Call, PathBench, Workload, paths};
pub use row::{Row, commit, date};
pub use shape::{Base, Shape};
