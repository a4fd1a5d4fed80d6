//! The command lwflow.
fn main() {}
