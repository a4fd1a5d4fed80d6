//! A likelihood that other programs compute: child processes that answer with log L and what is derived.
//! Invariant: what is handed out is finite or -inf, and derived quantities are finite where there is likelihood.

use super::observed::check_observed;
use super::{Evaluations, Likelihood, is_legal, own_observation};
use crate::HostError;
use crate::command::{Answer, Children, CommandSettings};
use std::path::Path;

/// The environment variable in which children find the file of the observation that their likelihood is of.
const OBSERVATION_VARIABLE: &str = "LWFLOW_OBSERVATION";

/// What the children know of the observation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Observation<'a> {
    /// Nothing: they have their own.
    Own,
    /// Its file, whose path is in their environment as `LWFLOW_OBSERVATION`.
    File(&'a Path),
    /// Its values, `[X]`, at least one, which follow every theta. Such a command has likelihoods of any observation
    /// ([`Likelihood::evaluate_observed`]); this is the one of [`Likelihood::evaluate`].
    Values(&'a [f64]),
}

/// A log likelihood that a command computes. Its children are killed when it is dropped; one that failed is started again
/// at the next batch.
#[derive(Debug)]
pub struct CommandLikelihood {
    /// They are handed rows of theta and of the observation's values.
    children: Children,
    dim: usize,
    /// `[X]`; empty where the children are not handed any.
    observation: Vec<f64>,
}

impl CommandLikelihood {
    /// Starts the children. `command` is the program and its arguments, without a shell; it runs in `folder`, in which a
    /// relative path of the program is looked up too.
    ///
    /// # Errors
    /// [`HostError::Invalid`] for senseless settings; [`HostError::Likelihood`] if the command cannot be started.
    pub fn start(
        command: &[String],
        dim: usize,
        folder: &Path,
        settings: CommandSettings,
        observation: Observation<'_>,
    ) -> Result<Self, HostError> {
        let (mut environment, mut values) = (Vec::new(), Vec::new());
        match observation {
            Observation::Own => {}
            Observation::File(path) => {
                let path = std::path::absolute(path)
                    .map_err(|e| HostError::invalid("observation", path.display(), format!("a path: {e}")))?;
                environment.push((OBSERVATION_VARIABLE, path.display().to_string()));
            }
            Observation::Values([]) => {
                return Err(HostError::invalid("observation", "empty", "at least one value"));
            }
            Observation::Values(x) => values = x.to_vec(),
        }
        if dim == 0 {
            return Err(HostError::invalid("dim", dim, "at least 1"));
        }
        let children = Children::start(command, dim + values.len(), folder, settings, environment)?;
        Ok(Self { children, dim, observation: values })
    }

    /// Has rows of theta and observation, `[n, D + X]`, evaluated.
    fn ask(&mut self, rows: &[f64], out: &mut Evaluations) -> Result<(), HostError> {
        let settings = self.children.settings().clone();
        let mut answers = Vec::new();
        let result = self.children.ask(rows, None, &Row { derived: &settings.derived }, &mut answers);
        add(&answers, &settings, out);
        result
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
        self.dim
    }

    fn n_parallel(&self) -> usize {
        self.children.settings().workers
    }

    fn derived_names(&self) -> &[String] {
        &self.children.settings().derived
    }

    fn evaluate(&mut self, theta: &[f64], out: &mut Evaluations) -> Result<(), HostError> {
        if self.observation.is_empty() {
            return self.ask(theta, out);
        }
        crate::error::n_rows("theta", theta.len(), self.dim)?;
        let rows: Vec<f64> = theta
            .chunks_exact(self.dim)
            .flat_map(|theta| theta.iter().chain(&self.observation))
            .copied()
            .collect();
        self.ask(&rows, out)
    }

    fn n_observed(&self) -> Option<usize> {
        (!self.observation.is_empty()).then_some(self.observation.len())
    }

    fn evaluate_observed(
        &mut self,
        theta: &[f64],
        observations: &[f64],
        observation: &[u32],
        out: &mut Vec<f64>,
    ) -> Result<(), HostError> {
        let n_observed = self.n_observed().ok_or_else(own_observation)?;
        check_observed(theta, self.dim, observations, n_observed, observation)?;
        let rows = theta.chunks_exact(self.dim).zip(observation);
        let x = |j: u32| &observations[j as usize * n_observed..][..n_observed];
        let rows: Vec<f64> = rows.flat_map(|(theta, &j)| theta.iter().chain(x(j))).copied().collect();
        let mut all = Evaluations::default();
        let result = self.ask(&rows, &mut all);
        out.append(&mut all.log_likelihood);
        result
    }

    fn audit(&mut self, theta: &[f64]) -> Result<Option<Vec<f64>>, HostError> {
        let mut out = Evaluations::default();
        self.evaluate(theta, &mut out)?;
        Ok(Some(out.log_likelihood))
    }
}
