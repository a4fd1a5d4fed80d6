//! The published figures of neural posterior estimation, run by run: benches/references/results/sbibm_npe.csv.
//! Invariant: a mean is over the observations that were asked for and over no others.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// One published run.
#[derive(Debug, Clone, PartialEq)]
struct Run {
    task: String,
    simulations: usize,
    observation: usize,
    c2st: f64,
    /// Minutes of training and sampling; not published for all.
    minutes: Option<f64>,
}

/// All published runs.
#[derive(Debug, Clone)]
pub struct Published(Vec<Run>);

impl Published {
    /// Reads the table in the folder of the references.
    ///
    /// # Errors
    /// If it cannot be read, or a row is not one.
    pub fn read(references: &Path) -> Result<Self> {
        let path = references.join("results").join("sbibm_npe.csv");
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        let row = |line: &str| -> Result<Run> {
            let fields: Vec<&str> = line.split(',').collect();
            let [task, simulations, observation, c2st, minutes] = fields[..] else {
                anyhow::bail!("expected five fields, got {}", fields.len());
            };
            Ok(Run {
                task: task.to_owned(),
                simulations: simulations.parse()?,
                observation: observation.parse()?,
                c2st: c2st.parse()?,
                minutes: if minutes.is_empty() { None } else { Some(minutes.parse()?) },
            })
        };
        let rows: Result<Vec<Run>> = text
            .lines()
            .skip(1)
            .map(|line| row(line).with_context(|| format!("{}: `{line}`", path.display())))
            .collect();
        Ok(Self(rows?))
    }

    /// Mean C2ST over these observations; `None` unless all were published.
    pub fn c2st(&self, task: &str, simulations: usize, observations: &[usize]) -> Option<f64> {
        self.mean(task, simulations, observations, |run| Some(run.c2st))
    }

    /// Mean minutes of one run, over those observations of which they were published; `None` if of none.
    pub fn minutes(&self, task: &str, simulations: usize, observations: &[usize]) -> Option<f64> {
        let minutes = |&observation: &usize| self.mean(task, simulations, &[observation], |run| run.minutes);
        let minutes: Vec<f64> = observations.iter().filter_map(minutes).collect();
        (!minutes.is_empty()).then(|| minutes.iter().sum::<f64>() / minutes.len() as f64)
    }

    fn mean(
        &self,
        task: &str,
        simulations: usize,
        observations: &[usize],
        of: impl Fn(&Run) -> Option<f64>,
    ) -> Option<f64> {
        let find = |observation: usize| {
            self.0
                .iter()
                .find(|r| r.task == task && r.simulations == simulations && r.observation == observation)
        };
        let values: Option<Vec<f64>> = observations.iter().map(|o| find(*o).and_then(&of)).collect();
        values.filter(|v| !v.is_empty()).map(|v| v.iter().sum::<f64>() / v.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::TASKS;
    use super::*;

    #[test]
    fn means_over_all_tasks_and_observations_are_those_of_the_paper() {
        let references = Path::new(env!("CARGO_MANIFEST_DIR")).join("references");
        let published = Published::read(&references).unwrap();
        let all: Vec<usize> = (1..=10).collect();
        for (simulations, expected) in [(1000, 0.838), (10_000, 0.736), (100_000, 0.654)] {
            let means: Vec<f64> =
                TASKS.iter().map(|task| published.c2st(task, simulations, &all).unwrap()).collect();
            let mean = means.iter().sum::<f64>() / 10.0;
            assert!((mean - expected).abs() < 5e-4, "{simulations}: {mean}, expected {expected}");
        }
        assert_eq!(published.c2st("slcp", 1000, &[1, 2]), Some(0.5 * (0.98805 + 0.9754)));
        assert_eq!(published.c2st("slcp", 1000, &[11]), None);
        assert_eq!(published.c2st("slcp", 500, &[1]), None);
        assert_eq!(published.minutes("lotka_volterra", 1000, &[1]), None);
    }
}
