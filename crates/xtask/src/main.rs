//! Set-up, demo, test and bench commands.
fn main() {}
