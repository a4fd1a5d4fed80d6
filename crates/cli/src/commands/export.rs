//! `lwflow export`: the draws that a fit has written, for other programs. Names, labels and bounds come from the model file.
//! Invariant: nothing is evaluated and nothing of the folder is changed.

use super::ExportArgs;
use crate::exit::{CommandError, Status};
use crate::page::read_folder_model;
use crate::progress::Console;
use clap::ValueEnum;
use lwflow_host::files::{
    ColumnChoice, ExportFormat, ExportReport, PosteriorDraws, SampleTable, export_files, read_samples,
    write_export,
};
use lwflow_host::posterior::Posterior;
use std::path::{Path, PathBuf};

/// What `--to` can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum To {
    /// root_1.txt with root.paramnames, root.ranges and root.properties.ini.
    Getdist,
    /// CSV with weights and labels, for anesthetic.read_csv.
    Anesthetic,
    /// JSON of equally weighted draws, for arviz.from_json.
    Arviz,
    /// Arrays theta, log_weight or weight, log_prob, names, labels.
    Npz,
    /// One column per parameter, with weights.
    Csv,
    /// The same columns.
    Parquet,
}

pub(super) fn run_export(args: &ExportArgs) -> Result<Status, CommandError> {
    let console = Console::text(false);
    let posterior = draws_model(&args.folder)?;
    let samples = args.folder.join("samples.npz");
    let files = output_files(args, &samples)?;
    let draws = PosteriorDraws {
        table: read_draws(&samples, &posterior)?,
        labels: posterior.labels.clone(),
        bounds: posterior
            .outer
            .bijections
            .iter()
            .map(|b| (b.lower.map(|bound| bound.value), b.upper.map(|bound| bound.value)))
            .collect(),
    };
    if verdict_is_missed(&args.folder) {
        console.remark("the verdict on these draws is: contract not met (verdict.json says why)");
    }
    let report = write_export(format_of(args.to), &args.out, &draws, args.seed)?;
    remark_on(args, &draws.table, &report, console);
    let names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    console.remark(format!("{} draws written to {}", report.n_rows, names.join(", ")));
    Ok(Status::Success)
}

fn format_of(to: To) -> ExportFormat {
    match to {
        To::Getdist => ExportFormat::GetDist,
        To::Anesthetic => ExportFormat::Anesthetic,
        To::Arviz => ExportFormat::ArviZ,
        To::Npz | To::Csv | To::Parquet => ExportFormat::Table,
    }
}

fn input(path: &Path, message: &str) -> CommandError {
    CommandError::new(Status::Input, format!("{}: {message}", path.display()))
}

/// The model of a folder whose draws need no context, or which holds those of its one observation.
fn draws_model(folder: &Path) -> Result<Posterior, CommandError> {
    let posterior = read_folder_model(folder)?;
    if posterior.spec().context_dim > 0 && !folder.join("samples.npz").is_file() {
        return Err(input(folder, "the model takes a context; `lwflow sample --context` draws for one"));
    }
    Ok(posterior)
}

/// The files to write, none of which is there unless they are to be replaced.
fn output_files(args: &ExportArgs, samples: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let extension = match args.to {
        To::Npz => Some("npz"),
        To::Csv => Some("csv"),
        To::Parquet => Some("parquet"),
        _ => None,
    };
    if let Some(extension) = extension
        && args.out.extension().is_none_or(|e| e != extension)
    {
        return Err(input(&args.out, &format!("expected a path that ends in .{extension}, as --to says")));
    }
    let files = export_files(format_of(args.to), &args.out)?;
    if let (Ok(source), Ok(out)) = (samples.canonicalize(), args.out.canonicalize())
        && source == out
    {
        return Err(input(&args.out, "is the file that the draws are read from; write to another"));
    }
    let there: Vec<String> =
        files.iter().filter(|path| path.exists()).map(|path| path.display().to_string()).collect();
    if !args.force && !there.is_empty() {
        let message = format!("{}: already there; use --force to replace", there.join(", "));
        return Err(CommandError::new(Status::Input, message));
    }
    Ok(files)
}

fn read_draws(samples: &Path, posterior: &Posterior) -> Result<SampleTable, CommandError> {
    if !samples.is_file() {
        return Err(input(samples, "not there: a fit writes it unless `output.n_samples` is 0"));
    }
    let table = read_samples(samples, &ColumnChoice::default())?;
    if table.names != posterior.names {
        let message = format!(
            "holds the parameters {}, the model beside it {}",
            table.names.join(", "),
            posterior.names.join(", ")
        );
        return Err(input(samples, &message));
    }
    Ok(table)
}

/// Whether rounds ended without keeping their contract.
fn verdict_is_missed(folder: &Path) -> bool {
    let text = std::fs::read_to_string(folder.join("verdict.json")).ok();
    let json = text.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    json.is_some_and(|json| json["met"] == false)
}

/// What is lost or changed on the way.
fn remark_on(args: &ExportArgs, table: &SampleTable, report: &ExportReport, console: Console) {
    let left_out = report.n_draws - report.n_rows;
    match report.n_distinct {
        Some(distinct) => console.remark(format!(
            "ArviZ knows no weights: {} draws of equal weight, {distinct} of them distinct, were resampled from {} \
             weighted ones (systematic, seed {}); they are no more than those are worth",
            report.n_rows, report.n_draws, args.seed
        )),
        None if left_out > 0 => console.remark(format!("{left_out} draws of weight zero are left out")),
        None => {}
    }
    if matches!(args.to, To::Csv | To::Parquet) && !table.derived_names.is_empty() {
        console.remark(format!(
            "the columns {} are derived, which the file does not show: where lwflow reads it, sections \
             [parameters.NAME] choose the parameters",
            table.derived_names.join(", ")
        ));
    }
}
