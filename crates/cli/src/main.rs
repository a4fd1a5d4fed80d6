//! The command `lwflow`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lwflow_cli::run()
}
