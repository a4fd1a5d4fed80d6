//! The command lwflow: its task file.

pub mod task;
