//! Posterior draws in the forms that GetDist, anesthetic and ArviZ read themselves, and as plain tables. Invariant: every form
//! holds the same posterior; where a program knows no weights the draws are resampled, and the report says so.

mod anesthetic;
mod arviz;
mod getdist;

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::Format;
use super::chain_files::numbered_files;
use super::error::FileError;
use super::samples::{SampleTable, check_folder, io_error, write_samples};
use super::whole::WholeFile;

/// For whom draws are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// `root_1.txt`, `root.paramnames`, `root.ranges` and `root.properties.ini`.
    GetDist,
    /// A .csv file as anesthetic's `to_csv` writes it.
    Anesthetic,
    /// A .json file for `arviz.from_json`: one chain of equally weighted draws.
    ArviZ,
    /// An .npz, .csv or .parquet file that is also a pairs file.
    Table,
}

/// Draws of a posterior with what programs show beside them.
#[derive(Debug, Clone)]
pub struct PosteriorDraws {
    /// The draws; weighted where they have `log_weight`, of equal weight where they have not.
    pub table: SampleTable,
    /// LaTeX labels without dollar signs, `[dim]`.
    pub labels: Vec<String>,
    /// Lower and upper bound of each parameter, `[dim]`; `None` where it is open.
    pub bounds: Vec<(Option<f64>, Option<f64>)>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportReport {
    /// Draws there were.
    pub n_draws: usize,
    /// Rows written.
    pub n_rows: usize,
    /// Distinct draws among them, where the draws were resampled.
    pub n_distinct: Option<usize>,
}

impl PosteriorDraws {
    /// Weights relative to the largest, `[n]`.
    fn weights(&self) -> Vec<f64> {
        match &self.table.log_weight {
            None => vec![1.0; self.table.n],
            Some(lw) => {
                let largest = lw.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                lw.iter().map(|lw| (lw - largest).exp()).collect()
            }
        }
    }

    /// log L + log prior of a row where both are known, else the flow's log density, `[n]`.
    fn log_posterior(&self) -> Vec<f64> {
        match (&self.table.log_likelihood, &self.table.log_prior, &self.table.log_prob) {
            (Some(l), Some(p), _) => l.iter().zip(p).map(|(l, p)| l + p).collect(),
            (_, _, Some(q)) => q.clone(),
            _ => vec![0.0; self.table.n],
        }
    }

    /// Parameters and derived quantities of a row.
    fn row(&self, row: usize) -> impl Iterator<Item = f64> {
        let (t, m) = (&self.table, self.table.derived_names.len());
        t.theta[row * t.dim..][..t.dim].iter().chain(&t.derived[row * m..][..m]).copied()
    }

    /// Names of parameters and derived quantities.
    fn names(&self) -> impl Iterator<Item = &String> {
        self.table.names.iter().chain(&self.table.derived_names)
    }

    /// `NAME LOWER UPPER` for each parameter, N for an open side, as GetDist writes it.
    fn ranges(&self) -> Vec<String> {
        let side = |bound: Option<f64>| bound.map_or_else(|| "N".to_owned(), |b| format!("{b:?}"));
        let named = self.table.names.iter().zip(&self.bounds);
        named.map(|(name, (lower, upper))| format!("{name} {} {}", side(*lower), side(*upper))).collect()
    }

    /// Refuses names that `allowed` refuses, and those that occur twice or are in `taken`.
    fn check_names(
        &self,
        path: &Path,
        taken: &[&str],
        allowed: impl Fn(&str) -> Result<(), &'static str>,
    ) -> Result<(), FileError> {
        let mut seen: HashSet<&str> = taken.iter().copied().collect();
        for name in self.names() {
            let fresh = seen.insert(name);
            let fresh = if fresh { Ok(()) } else { Err("the format has another column of this name") };
            fresh.and_then(|()| allowed(name)).map_err(|reason| FileError::BadName {
                path: path.into(),
                name: name.clone(),
                reason,
            })?;
        }
        Ok(())
    }
}

/// The files that an export to `out` writes, the last of which makes it complete. Says before any work whether they can be
/// written: an ending that does not fit, a folder that is not there.
///
/// # Errors
/// [`FileError::BadSetting`], [`FileError::UnknownExtension`], [`FileError::Io`].
pub fn export_files(format: ExportFormat, out: &Path) -> Result<Vec<PathBuf>, FileError> {
    let bad = |expected| FileError::BadSetting { name: "out", got: out.display().to_string(), expected };
    let ends = |ending: &str| out.extension().is_some_and(|e| e == ending);
    let name = out.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if name.is_empty() || out.is_dir() {
        return Err(bad("the path of a file, not a folder"));
    }
    let files = match format {
        ExportFormat::GetDist => {
            getdist::ENDINGS.map(|ending| out.with_file_name(format!("{name}{ending}"))).to_vec()
        }
        ExportFormat::Anesthetic if !ends("csv") => return Err(bad("a path that ends in .csv")),
        ExportFormat::ArviZ if !ends("json") => return Err(bad("a path that ends in .json")),
        ExportFormat::Table => {
            Format::of(out)?;
            vec![out.to_owned()]
        }
        _ => vec![out.to_owned()],
    };
    let folder = check_folder(out)?;
    if format == ExportFormat::GetDist {
        let mut others = numbered_files(folder, &name, '_')?;
        others.extend(numbered_files(folder, &name, '.')?);
        others.push(folder.join(format!("{name}.txt")));
        others.retain(|path| path.file_name() != files[files.len() - 1].file_name() && path.exists());
        if !others.is_empty() {
            return Err(bad(
                "a root without other chain files: GetDist would join root_2.txt, root.txt and the like",
            ));
        }
    }
    Ok(files)
}

/// Writes draws to `out`; `seed` is that of the resampling where there is one.
///
/// # Errors
/// Those of [`export_files`]; [`FileError::BadName`] for a name that the format cannot hold,
/// [`FileError::AllWeightsZero`], [`FileError::BadTable`], [`FileError::Io`].
pub fn write_export(
    format: ExportFormat,
    out: &Path,
    draws: &PosteriorDraws,
    seed: u64,
) -> Result<ExportReport, FileError> {
    let files = export_files(format, out)?;
    let table = &draws.table;
    table.check_lengths()?;
    for (what, got) in [("labels", draws.labels.len()), ("bounds", draws.bounds.len())] {
        if got != table.dim {
            return Err(FileError::BadTable { what: what.to_owned(), got, expected: table.dim });
        }
    }
    if table.log_weight.as_ref().is_some_and(|lw| lw.iter().all(|lw| *lw == f64::NEG_INFINITY)) {
        let (path, n) = (out.to_owned(), table.n);
        return Err(FileError::AllWeightsZero { path, n, field: "log_weight", value: "-inf" });
    }
    let mut report = ExportReport { n_draws: table.n, n_rows: table.n, n_distinct: None };
    match format {
        ExportFormat::GetDist => report.n_rows = getdist::write(&files, draws)?,
        ExportFormat::Anesthetic => report.n_rows = anesthetic::write(out, draws)?,
        ExportFormat::ArviZ => (report.n_rows, report.n_distinct) = arviz::write(out, draws, seed)?,
        ExportFormat::Table => write_samples(out, &pairs_table(draws), &mut std::io::sink())?,
    }
    Ok(report)
}

/// The table with one kind of weights alone, as a reader of pairs needs it. The log likelihood can be had from
/// log_weight = log_likelihood + log_prior - log_prob.
fn pairs_table(draws: &PosteriorDraws) -> SampleTable {
    let (labels, bounds) = (draws.labels.clone(), draws.bounds.clone());
    let mut table = SampleTable { log_likelihood: None, labels, bounds, ..draws.table.clone() };
    if table.log_weight.is_none() {
        table.weight = Some(vec![1.0; table.n]);
    }
    table
}

/// Writes a file whole.
fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<(), FileError> {
    let file = WholeFile::create(path).map_err(|e| io_error(path, "create", e))?;
    let written = || -> std::io::Result<()> {
        let mut out = BufWriter::new(file.handle()?);
        fill(&mut out)?;
        out.flush()?;
        drop(out);
        file.finish()
    };
    written().map_err(|e| io_error(path, "write", e))
}
