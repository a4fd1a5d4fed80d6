//! The command lwflow: its task file and its figures.

pub mod figures;
pub mod task;
