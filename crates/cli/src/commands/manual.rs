//! `lwflow completions` and `lwflow man`: both are made from the command line's own definition, so that they cannot differ
//! from it.

use super::Cli;
use crate::exit::{CommandError, Status};
use crate::progress::print_raw;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::path::PathBuf;

/// Arguments of `lwflow completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Arguments of `lwflow man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder for lwflow.1 and a page for every command; files of these names are replaced. It is made if it does not exist.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(super) fn run_completions(args: &CompletionsArgs) -> Result<Status, CommandError> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lwflow", &mut text);
    print_raw(&String::from_utf8_lossy(&text))?;
    Ok(Status::Success)
}

pub(super) fn run_man(args: &ManArgs) -> Result<Status, CommandError> {
    let mut text = Vec::new();
    match &args.out {
        None => {
            clap_mangen::Man::new(Cli::command())
                .render(&mut text)
                .map_err(|e| CommandError::new(Status::Other, format!("cannot make the manual page: {e}")))?;
            print_raw(&String::from_utf8_lossy(&text))?;
        }
        Some(out) => std::fs::create_dir_all(out)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), out))
            .map_err(|e| {
                CommandError::new(Status::Other, format!("{}: cannot write there: {e}", out.display()))
            })?,
    }
    Ok(Status::Success)
}
