//! `lwflow report`: the page of a folder of results, or of several, from their files alone.
//! Invariant: nothing is evaluated, and nothing of the folders is changed but the page.

use crate::exit::{CommandError, Status};
use crate::page::{PAGE_FILE, of_folders};
use crate::progress::{Console, print};
use crate::report::write_file;
use clap::Args;
use std::path::{Path, PathBuf};

/// Arguments of `lwflow report`.
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Folders that `lwflow fit` has written; the corner plot of the first shows the posteriors of all.
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// The page; report.html in the first folder if not given.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace a file that is there. The page in the folder is replaced in any case.
    #[arg(long)]
    force: bool,
}

pub(super) fn run_report(args: &ReportArgs) -> Result<Status, CommandError> {
    let console = Console::text(false);
    let out = match &args.out {
        Some(out) => out.clone(),
        None => args.folders[0].join(PAGE_FILE),
    };
    if let Some(out) = &args.out
        && out.exists()
        && (out.is_dir() || !args.force)
    {
        let what = if out.is_dir() { "is a folder" } else { "already there; use --force to replace" };
        return Err(CommandError::new(Status::Input, format!("{}: {what}", out.display())));
    }
    let folders: Vec<&Path> = args.folders.iter().map(PathBuf::as_path).collect();
    let html = of_folders(&folders)?;
    write_file(&out, html.as_bytes())?;
    console.remark(format!("{} kB", html.len().div_ceil(1000)));
    print(&format!("report: {}\n", out.display()))?;
    Ok(Status::Success)
}
