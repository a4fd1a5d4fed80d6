//! The command lwflow.
