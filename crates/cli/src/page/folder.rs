//! A folder of results as the page needs it. Only the model has to be there: what else is missing, because the folder is
//! older or the run was interrupted, is `None`; what is there and damaged is an error that names the file.

use crate::calibration::{Calibration, checksum};
use crate::exit::{CommandError, Status};
use crate::report::rounds::RUN_FOLDER;
use crate::report::{MODEL_FILE, POINTS_FILE};
use lwflow_figures::vector::TrainingCurve;
use lwflow_host::files::{ColumnChoice, SampleTable, read_samples};
use lwflow_host::model_file::read_model;
use lwflow_host::posterior::Posterior;
use lwflow_host::prior::Marginal;
use lwflow_host::targets::Target;
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn input(path: &Path, message: impl std::fmt::Display) -> CommandError {
    CommandError::new(Status::Input, format!("{}: {message}", path.display()))
}

/// The model of a folder that `lwflow fit` has written.
///
/// # Errors
/// [`Status::Input`] saying what is there instead.
pub fn read_folder_model(folder: &Path) -> Result<Posterior, CommandError> {
    if !folder.is_dir() {
        let what = if folder.exists() { "is no folder" } else { "no such folder" };
        return Err(input(folder, format!("{what}; expected one that `lwflow fit` has written")));
    }
    let model = folder.join(MODEL_FILE);
    if !model.is_file() {
        let why = if folder.join(RUN_FOLDER).join("run.json").is_file() {
            format!("the rounds have not ended: no {MODEL_FILE}; `lwflow fit --resume` goes on with them")
        } else {
            format!("no {MODEL_FILE}; expected a folder that `lwflow fit` has written")
        };
        return Err(input(folder, why));
    }
    Ok(read_model(&model)?)
}

/// What the task says of a parameter, as far as the page shows it.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct ParameterNote {
    pub(super) name: String,
    #[serde(default)]
    pub(super) prior: Option<Marginal>,
    #[serde(default)]
    pub(super) truth: Option<f64>,
}

/// What was read.
#[derive(Debug)]
pub(super) struct ResultFolder {
    pub(super) path: PathBuf,
    /// Last part of its path, or the whole of it.
    pub(super) name: String,
    pub(super) posterior: Posterior,
    /// metrics.json; null if it is not there.
    pub(super) metrics: Value,
    /// verdict.json, of rounds; null if it is not there.
    pub(super) verdict: Value,
    /// samples.npz.
    pub(super) samples: Option<SampleTable>,
    /// equal_weight.npz, of rounds.
    pub(super) equal: Option<SampleTable>,
    /// points.npz.
    pub(super) points: Option<SampleTable>,
    /// history.csv.
    pub(super) history: Vec<TrainingCurve>,
    /// The target, where it is known.
    pub(super) target: Option<Target>,
    pub(super) parameters: Vec<ParameterNote>,
    /// calibration.json, of `lwflow calibrate`.
    pub(super) calibration: Option<Calibration>,
    /// Checksum of the model file; empty without a calibration.
    pub(super) model_checksum: String,
}

impl ResultFolder {
    pub(super) fn read(path: &Path) -> Result<Self, CommandError> {
        let posterior = read_folder_model(path)?;
        let metrics = json(&path.join("metrics.json"))?;
        let target = metrics.pointer("/task/likelihood/target/name");
        let target = target.and_then(Value::as_str).and_then(|name| name.parse().ok());
        let parameters = match metrics.pointer("/task/parameters") {
            None => Vec::new(),
            Some(value) => Vec::deserialize(value)
                .map_err(|e| input(&path.join("metrics.json"), format!("task.parameters: {e}")))?,
        };
        // Of `.` the folder has a name all the same.
        let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let name =
            whole.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into());
        let calibration = Calibration::read(path)?;
        let model_checksum = match &calibration {
            Some(_) => checksum(&path.join(MODEL_FILE))?,
            None => String::new(),
        };
        Ok(Self {
            name,
            calibration,
            model_checksum,
            verdict: json(&path.join("verdict.json"))?,
            samples: table(&path.join("samples.npz"), &posterior)?,
            equal: table(&path.join("equal_weight.npz"), &posterior)?,
            points: table(&path.join(POINTS_FILE), &posterior)?,
            history: history(&path.join("history.csv"))?,
            path: path.to_path_buf(),
            posterior,
            metrics,
            target,
            parameters,
        })
    }

    /// Whether it holds the result of rounds.
    pub(super) fn is_rounds(&self) -> bool {
        self.verdict.is_object() || self.metrics.get("rounds").is_some()
    }

    /// What rounds of simulations for one observation did, of a fit by these.
    pub(super) fn truncated(&self) -> Option<&Value> {
        self.metrics.get("truncated").filter(|rounds| rounds.is_object())
    }

    /// A number of metrics.json.
    pub(super) fn number(&self, pointer: &str) -> Option<f64> {
        self.metrics.pointer(pointer).and_then(Value::as_f64)
    }

    /// A text of metrics.json.
    pub(super) fn text(&self, pointer: &str) -> Option<&str> {
        self.metrics.pointer(pointer).and_then(Value::as_str)
    }

    pub(super) fn note(&self, name: &str) -> Option<&ParameterNote> {
        self.parameters.iter().find(|p| p.name == name)
    }

    /// The prior of parameter `j` alone.
    pub(super) fn prior(&self, j: usize) -> Option<Marginal> {
        match self.target {
            Some(target) => target.prior_marginals().into_iter().nth(j),
            None => self.note(&self.posterior.names[j])?.prior,
        }
    }
}

fn json(path: &Path) -> Result<Value, CommandError> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(input(path, format!("cannot read: {error}"))),
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| input(path, format!("damaged: {error}"))),
    }
}

fn table(path: &Path, posterior: &Posterior) -> Result<Option<SampleTable>, CommandError> {
    if !path.is_file() {
        return Ok(None);
    }
    let table = read_samples(path, &ColumnChoice::default())?;
    if table.names != posterior.names {
        let (here, model) = (table.names.join(", "), posterior.names.join(", "));
        return Err(input(path, format!("holds the parameters {here}, the model beside it {model}")));
    }
    Ok(Some(table))
}

/// history.csv: of rounds with a first column `round`.
fn history(path: &Path) -> Result<Vec<TrainingCurve>, CommandError> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(input(path, format!("cannot read: {error}"))),
        Ok(text) => text,
    };
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let at = |name: &str| {
        let found = head.iter().position(|h| *h == name);
        found.ok_or_else(|| input(path, format!("damaged: no column `{name}`")))
    };
    let columns = [at("visits")?, at("training_loss")?, at("validation_loss")?, at("learning_rate")?];
    let round = at("round").ok();
    let mut curves: Vec<TrainingCurve> = Vec::new();
    for (row, line) in lines.enumerate() {
        let cells: Vec<&str> = line.split(',').collect();
        let cell = |column: usize| match cells.get(column).copied() {
            // A loss that no step gave.
            Some("") => Ok(f64::NAN),
            cell => cell.and_then(|cell| cell.parse::<f64>().ok()).ok_or_else(|| {
                input(path, format!("damaged: row {}, `{}` is no number", row + 1, head[column]))
            }),
        };
        let round = round.map(&cell).transpose()?.map(|round| round as usize);
        if curves.last().is_none_or(|last| last.round != round) {
            curves.push(TrainingCurve { round, rows: Vec::new() });
        }
        let [visits, training, validation, rate] = columns;
        let values = [cell(visits)?, cell(training)?, cell(validation)?, cell(rate)?];
        if let Some(curve) = curves.last_mut() {
            curve.rows.push(values);
        }
    }
    Ok(curves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_of_fits_and_of_rounds_are_read_and_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.csv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            history(&path)
        };
        let head = "step,visits,learning_rate,training_loss,validation_loss\n";
        let curves = read(&format!("{head}1,10,0.1,,2\n2,20,0.2,3,4\n")).unwrap();
        assert_eq!((curves.len(), curves[0].rows[1]), (1, [20.0, 3.0, 4.0, 0.2]));
        assert!(curves[0].rows[0][1].is_nan());
        let curves = read(&format!("round,{head}1,1,10,0.1,1,2\n1,2,20,0.2,3,4\n2,1,9,0.1,1,2\n")).unwrap();
        assert_eq!((curves.len(), curves[1].round, curves[0].rows.len()), (2, Some(2), 2));
        let error = read(&format!("{head}1,ten,0.1,1,2\n")).unwrap_err();
        assert!(error.message.ends_with("history.csv: damaged: row 1, `visits` is no number"), "{error}");
        assert!(read("step\n1\n").unwrap_err().message.contains("no column `visits`"));
        assert!(history(&folder.path().join("none.csv")).unwrap().is_empty());
    }
}
