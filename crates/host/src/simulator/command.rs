//! A simulator that another program is: child processes that are handed theta and answer with x.
//! Invariant: a child is told the seed and the number of every simulation, so that it can give the same x for both again.

use super::{Simulator, check_width, illegal};
use crate::HostError;
use crate::command::{Answer, Children, CommandSettings};
use std::path::Path;

/// The environment variable in which children find the seed.
const SEED_VARIABLE: &str = "LWFLOW_SEED";

/// A simulator that a command is. Its children are killed when it is dropped; one that failed is started again at the next batch.
#[derive(Debug)]
pub struct CommandSimulator {
    children: Children,
    n_observed: usize,
}

impl CommandSimulator {
    /// Starts the children for `dim` parameters and `n_observed` values, with `seed` in their environment. `command` is the
    /// program and its arguments, without a shell; it runs in `folder`, in which a relative path of the program is looked up too.
    ///
    /// # Errors
    /// [`HostError::Invalid`] for senseless settings, such as derived quantities; [`HostError::Likelihood`] if the command
    /// cannot be started.
    pub fn start(
        command: &[String],
        dim: usize,
        n_observed: usize,
        folder: &Path,
        settings: CommandSettings,
        seed: u64,
    ) -> Result<Self, HostError> {
        check_width(n_observed)?;
        if !settings.derived.is_empty() {
            let got = settings.derived.join(", ");
            return Err(HostError::invalid("derived", got, "nothing: a simulator has no derived quantities"));
        }
        let environment = vec![(SEED_VARIABLE, seed.to_string())];
        let children = Children::start(command, dim, folder, settings, environment)?;
        Ok(Self { children, n_observed })
    }

    /// Reads `n` simulations of `n_observed` values from what a child wrote, without a child: x, `[n, X]`, of all of those before
    /// the first that is not legal.
    ///
    /// # Errors
    /// With the simulations before it, what is wrong with that one.
    pub fn read(
        settings: &CommandSettings,
        n_observed: usize,
        n: usize,
        bytes: &[u8],
    ) -> (Vec<f64>, Result<(), String>) {
        let mut x = Vec::new();
        let result = settings.protocol.read(bytes, n, &Row { n_observed }, &mut x);
        (x, result)
    }
}

/// A row of x.
struct Row {
    n_observed: usize,
}

impl Answer for Row {
    fn width(&self) -> usize {
        self.n_observed
    }

    fn words(&self) -> String {
        match self.n_observed {
            1 => "one number, the simulated value".to_owned(),
            n => format!("{n} numbers separated by commas, the simulated values"),
        }
    }

    fn check(&self, row: &[f64]) -> Result<(), String> {
        match illegal(row) {
            None => Ok(()),
            Some(column) => {
                let value = row[column];
                Err(format!(
                    "answered x[{column}] = {value}, expected finite numbers, or NaN alone if it failed,"
                ))
            }
        }
    }
}

impl Simulator for CommandSimulator {
    fn dim(&self) -> usize {
        self.children.dim()
    }

    fn n_observed(&self) -> usize {
        self.n_observed
    }

    fn n_parallel(&self) -> usize {
        self.children.settings().workers
    }

    fn simulate(&mut self, first: u64, theta: &[f64], x: &mut Vec<f64>) -> Result<(), HostError> {
        let row = Row { n_observed: self.n_observed };
        self.children.ask(theta, Some(first), &row, x)
    }
}
