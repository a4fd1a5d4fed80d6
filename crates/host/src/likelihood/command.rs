//! A likelihood that other programs compute: child processes that answer with log L and what is derived.
//! Invariant: what is handed out is finite or -inf, and derived quantities are finite where there is likelihood.

use super::{Evaluations, Likelihood, is_legal};
use crate::HostError;
use crate::command::{Answer, Children, CommandSettings};
use std::path::Path;

/// The environment variable in which children find the file of the observation that their likelihood is of.
const OBSERVATION_VARIABLE: &str = "LWFLOW_OBSERVATION";

/// A log likelihood that a command computes. Its children are killed when it is dropped; one that failed is started again
/// at the next batch.
#[derive(Debug)]
pub struct CommandLikelihood(Children);

impl CommandLikelihood {
    /// Starts the children. `command` is the program and its arguments, without a shell; it runs in `folder`, in which a
    /// relative path of the program is looked up too. The path of `observation`, for a likelihood that does not know its
    /// own, is in the environment of the children as `LWFLOW_OBSERVATION`.
    ///
    /// # Errors
    /// [`HostError::Invalid`] for senseless settings; [`HostError::Likelihood`] if the command cannot be started.
    pub fn start(
        command: &[String],
        dim: usize,
        folder: &Path,
        settings: CommandSettings,
        observation: Option<&Path>,
    ) -> Result<Self, HostError> {
        let mut environment = Vec::new();
        if let Some(path) = observation {
            let path = std::path::absolute(path)
                .map_err(|e| HostError::invalid("observation", path.display(), format!("a path: {e}")))?;
            environment.push((OBSERVATION_VARIABLE, path.display().to_string()));
        }
        Children::start(command, dim, folder, settings, environment).map(Self)
    }

    /// Reads `n` answers of a child from what it wrote, without a child: all of those before the first that is not legal.
    ///
    /// # Errors
    /// With the answers before it, what is wrong with that one.
    pub fn read(settings: &CommandSettings, n: usize, bytes: &[u8]) -> (Evaluations, Result<(), String>) {
        let (mut rows, mut out) = (Vec::new(), Evaluations::default());
        let result = settings.protocol.read(bytes, n, &Row { derived: &settings.derived }, &mut rows);
        add(&rows, settings, &mut out);
        (out, result)
    }
}

/// Adds answers, `[n, 1 + M]`.
fn add(rows: &[f64], settings: &CommandSettings, out: &mut Evaluations) {
    for row in rows.chunks_exact(1 + settings.derived.len()) {
        out.log_likelihood.push(row[0]);
        out.derived.extend_from_slice(&row[1..]);
    }
}

/// log L and derived quantities.
struct Row<'a> {
    derived: &'a [String],
}

impl Answer for Row<'_> {
    fn width(&self) -> usize {
        1 + self.derived.len()
    }

    fn words(&self) -> String {
        match self.width() {
            1 => "one number, the log likelihood".to_owned(),
            width => {
                format!("{width} numbers separated by commas: the log likelihood and {} derived", width - 1)
            }
        }
    }

    fn check(&self, row: &[f64]) -> Result<(), String> {
        let log_likelihood = row[0];
        if !is_legal(log_likelihood) {
            return Err(format!(
                "answered the log likelihood {log_likelihood}, expected a finite number or -inf,"
            ));
        }
        let bad = row[1..].iter().zip(self.derived).find(|(v, _)| !v.is_finite());
        match bad {
            Some((value, name)) if log_likelihood > f64::NEG_INFINITY => {
                Err(format!("answered {value} for the derived `{name}`, expected a finite number,"))
            }
            _ => Ok(()),
        }
    }
}

impl Likelihood for CommandLikelihood {
    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn n_parallel(&self) -> usize {
        self.0.settings().workers
    }

    fn derived_names(&self) -> &[String] {
        &self.0.settings().derived
    }

    fn evaluate(&mut self, theta: &[f64], out: &mut Evaluations) -> Result<(), HostError> {
        let settings = self.0.settings().clone();
        let mut rows = Vec::new();
        let result = self.0.ask(theta, None, &Row { derived: &settings.derived }, &mut rows);
        add(&rows, &settings, out);
        result
    }

    fn audit(&mut self, theta: &[f64]) -> Result<Option<Vec<f64>>, HostError> {
        let mut out = Evaluations::default();
        self.evaluate(theta, &mut out)?;
        Ok(Some(out.log_likelihood))
    }
}
