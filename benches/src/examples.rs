//! The examples against their truths: what each must reach, and what one run reached.
//! Invariant: figures are taken from the files that the command writes, as a user would read them.

use std::f64::consts::LN_2;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use npyz::npz::NpzArchive;
use serde_json::Value;

use crate::observed::task_with_observation;
use crate::script::answer;

/// Shares of the weighted draws whose truth is known.
#[derive(Debug, Clone, Copy)]
pub enum Masses {
    /// Those of the deeper well of every pair of coordinates of many_well; they begin where the ridge is.
    Wells {
        /// x at the ridge between the wells.
        ridge: f64,
        /// Share of the deeper well.
        deeper: f64,
    },
    /// Those of the six orderings of the first three coordinates.
    Orderings,
}

/// An example and what it must reach.
#[derive(Debug, Clone)]
pub struct Example {
    /// Name of the row.
    pub name: &'static str,
    /// Task file under examples/.
    pub task: &'static str,
    /// The observation that replaces observation 1 of the task, with the name of its exact draws, for C2ST.
    pub observation: Option<(usize, &'static str)>,
    /// log Z, and the largest error that is allowed.
    pub log_z: Option<(f64, f64)>,
    /// Least effective share of fresh draws.
    pub ess_fraction: Option<f64>,
    /// Shares with a known truth, and the largest error that is allowed.
    pub masses: Option<(Masses, f64)>,
    /// Most evaluations.
    pub evaluations: f64,
    /// Most seconds.
    pub seconds: f64,
}

/// Largest C2ST against exact draws.
const C2ST: f64 = 0.52;

/// The examples that run in rounds and reach their bounds; many_well in 32 dimensions does not. Truths: their task files and benches/references.
pub fn examples() -> Vec<Example> {
    let usual = Example {
        name: "",
        task: "",
        observation: None,
        log_z: None,
        ess_fraction: None,
        masses: None,
        evaluations: 2e6,
        seconds: 600.0,
    };
    let wells = Masses::Wells { ridge: -0.042, deeper: 0.8443 };
    let simple =
        |name, task, log_z, error| Example { name, task, log_z: Some((log_z, error)), ..usual.clone() };
    let mut all = vec![
        Example {
            evaluations: 50_000.0,
            seconds: 150.0,
            ..simple("rosenbrock10", "rosenbrock10/TASK.toml", -21.402, 0.03)
        },
        Example { masses: Some((wells, 0.01)), ..simple("many_well", "many_well/TASK.toml", 17.0649, 0.01) },
        Example { ess_fraction: Some(0.3), ..simple("gauss12", "gauss12/TASK.toml", -27.7259, 0.05) },
        Example {
            ess_fraction: Some(0.3),
            ..simple("lotka_volterra", "lotka_volterra/TASK.toml", -141.3929, 0.05)
        },
        Example {
            masses: Some((Masses::Orderings, 0.02)),
            ..simple("galaxies", "galaxies/TASK.toml", -222.81, 0.05)
        },
    ];
    for (name, task, observations) in [
        ("two_moons", "two_moons/TASK.toml", [(1, -LN_2), (2, -LN_2), (3, -LN_2)]),
        ("slcp", "slcp/TASK.toml", [(1, -18.7607), (3, -16.279), (8, -18.574)]),
    ] {
        for (number, log_z) in observations {
            all.push(Example { observation: Some((number, name)), ..simple(name, task, log_z, 0.05) });
        }
    }
    all
}

impl Example {
    /// Name with the number of the observation.
    pub fn title(&self) -> String {
        self.observation.map_or_else(|| self.name.to_owned(), |(number, _)| format!("{} {number}", self.name))
    }
}

/// What one run reached.
#[derive(Debug, Clone)]
pub struct Reached {
    /// Example.
    pub example: String,
    /// Seed.
    pub seed: u64,
    /// Whether the contract was met.
    pub met: bool,
    /// Evaluations in all.
    pub evaluations: f64,
    /// Seconds of the whole command.
    pub seconds: f64,
    /// Effective size of the fresh draws by its bound; `None` if not bounded.
    pub ess_bound: Option<f64>,
    /// Effective share of the fresh draws.
    pub ess_fraction: f64,
    /// log Z less its truth.
    pub log_z_error: Option<f64>,
    /// Largest error of the shares.
    pub mass_error: Option<f64>,
    /// Accuracy of a classifier between equally weighted and exact draws.
    pub c2st: Option<f64>,
}

/// Runs `lwflow fit` on an example and reads what it wrote to `out`, which is replaced.
///
/// # Errors
/// If the command fails for another reason than its contract, or a file cannot be read.
pub fn run(
    example: &Example,
    lwflow: &Path,
    examples: &Path,
    out: &Path,
    device: &str,
    seed: u64,
    c2st: Option<(&Path, &Path)>,
) -> Result<Reached> {
    let mut task = examples.join(example.task);
    if let Some((number, _)) = example.observation.filter(|(number, _)| *number != 1) {
        let observation = task.with_file_name(format!("observation_{number}.csv"));
        task = task_with_observation(&task, &observation, &out.with_extension("task").join("TASK.toml"))?;
    }
    let start = Instant::now();
    let mut command = Command::new(lwflow);
    command.arg("fit").arg(&task).arg("--out").arg(out);
    command.args(["--device", device, "--seed", &seed.to_string(), "--quiet", "--force"]);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot start {}", lwflow.display()))?;
    let seconds = start.elapsed().as_secs_f64();
    // 6: the contract was missed, which is a result.
    if !matches!(status.code(), Some(0 | 6)) {
        bail!("{} with seed {seed}: {status}", example.title());
    }
    let path = out.join("metrics.json");
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let metrics: Value = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
    let rounds = &metrics["rounds"];
    let number = |pointer: &str| rounds.pointer(pointer).and_then(Value::as_f64);
    let need = |pointer: &str| number(pointer).with_context(|| format!("{}: no {pointer}", path.display()));
    let log_z = number("/fresh/weights/log_z");
    Ok(Reached {
        example: example.title(),
        seed,
        met: status.success(),
        evaluations: need("/n_evaluations")?,
        seconds,
        ess_bound: number("/fresh/ess/lower"),
        ess_fraction: need("/fresh/weights/ess_fraction")?,
        log_z_error: example.log_z.zip(log_z).map(|((truth, _), log_z)| log_z - truth),
        mass_error: example
            .masses
            .map(|(masses, _)| mass_error(masses, &out.join("samples.npz")))
            .transpose()?,
        c2st: example.observation.zip(c2st).map(|(o, tools)| compare(o, out, tools)).transpose()?,
    })
}

/// Largest error of the shares of weighted draws.
fn mass_error(masses: Masses, path: &Path) -> Result<f64> {
    let mut file = NpzArchive::open(path).with_context(|| format!("{}", path.display()))?;
    let mut array = |name: &str| -> Result<Vec<f64>> {
        let array = file.by_name(name)?.with_context(|| format!("{}: no array {name}", path.display()))?;
        Ok(array.into_vec()?)
    };
    let (theta, log_weight) = (array("theta")?, array("log_weight")?);
    let dim = theta.len() / log_weight.len().max(1);
    let max = log_weight.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = log_weight.iter().map(|lw| (lw - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    let share = |inside: &dyn Fn(&[f64]) -> bool| -> f64 {
        theta.chunks_exact(dim).zip(&weights).filter(|(t, _)| inside(t)).map(|(_, w)| w / total).sum()
    };
    Ok(match masses {
        Masses::Wells { ridge, deeper } => {
            (0..dim / 2).map(|pair| (share(&|t| t[2 * pair] > ridge) - deeper).abs()).fold(0.0, f64::max)
        }
        Masses::Orderings => [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
            .into_iter()
            .map(|[a, b, c]| (share(&|t| t[a] < t[b] && t[b] < t[c]) - 1.0 / 6.0).abs())
            .fold(0.0, f64::max),
    })
}

/// C2ST of the equally weighted draws in `out` against exact ones; `tools` are Python and the folder of the references.
fn compare((number, name): (usize, &str), out: &Path, (python, references): (&Path, &Path)) -> Result<f64> {
    let mut command = Command::new(python);
    command
        .arg(references.join("c2st.py"))
        .arg(format!("{}:theta", out.join("equal_weight.npz").display()))
        .arg(format!("{}:observation_{number}", references.join(format!("results/{name}.npz")).display()));
    let answer = answer(&mut command)?;
    answer["c2st"].as_f64().context("c2st.py gave no figure")
}

/// One figure of an example over all seeds.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What it is.
    pub name: &'static str,
    /// Its bound.
    pub bound: f64,
    /// Whether the bound is a least one.
    pub least: bool,
    /// Median over the seeds.
    pub median: f64,
    /// The worst of them.
    pub worst: f64,
}

impl Figure {
    fn new(name: &'static str, bound: f64, least: bool, values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&low, &high) = (sorted.first()?, sorted.last()?);
        let n = sorted.len();
        let median = 0.5 * (sorted[(n - 1) / 2] + sorted[n / 2]);
        Some(Self { name, bound, least, median, worst: if least { low } else { high } })
    }

    /// Whether the median keeps the bound.
    pub fn holds(&self) -> bool {
        if self.least { self.median >= self.bound } else { self.median <= self.bound }
    }
}

/// The figures of an example that have a bound.
pub fn figures(example: &Example, runs: &[Reached]) -> Vec<Figure> {
    let all =
        |value: &dyn Fn(&Reached) -> Option<f64>| -> Vec<f64> { runs.iter().filter_map(value).collect() };
    let contract = all(&|r| Some(f64::from(u8::from(r.met))));
    let mut out = vec![Figure::new("contract met", 1.0, true, &contract)];
    out.push(Figure::new("evaluations", example.evaluations, false, &all(&|r| Some(r.evaluations))));
    out.push(Figure::new("seconds", example.seconds, false, &all(&|r| Some(r.seconds))));
    if let Some((_, bound)) = example.log_z {
        // Without a log Z the error has no bound.
        let errors = all(&|r| Some(r.log_z_error.map_or(f64::INFINITY, f64::abs)));
        out.push(Figure::new("error of log Z", bound, false, &errors));
    }
    if let Some(bound) = example.ess_fraction {
        out.push(Figure::new("ESS fraction", bound, true, &all(&|r| Some(r.ess_fraction))));
    }
    if let Some((_, bound)) = example.masses {
        out.push(Figure::new("error of the masses", bound, false, &all(&|r| r.mass_error)));
    }
    out.push(Figure::new("C2ST", C2ST, false, &all(&|r| r.c2st)));
    out.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_decide_and_the_worst_is_told() {
        let figure = Figure::new("x", 2.0, false, &[5.0, 1.0, 1.5]).unwrap();
        assert!((figure.median, figure.worst) == (1.5, 5.0) && figure.holds());
        let figure = Figure::new("x", 2.0, true, &[5.0, 1.0, 1.5, 2.0]).unwrap();
        assert!((figure.median, figure.worst) == (1.75, 1.0) && !figure.holds());
        assert!(Figure::new("x", 2.0, true, &[]).is_none());
    }

    #[test]
    fn every_example_has_its_files() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for example in examples() {
            let task = root.join("examples").join(example.task);
            let text = fs::read_to_string(&task).unwrap();
            if let Some((number, name)) = example.observation {
                assert!(text.contains("observation_1.csv"));
                assert!(task.with_file_name(format!("observation_{number}.csv")).is_file());
                assert!(root.join(format!("benches/references/results/{name}.npz")).is_file());
            }
        }
    }
}
