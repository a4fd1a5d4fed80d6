//! One run: trains or fits with the command, draws for each observation, and scores the draws against the references.
//! Invariant: one training serves every observation of its task; observations see one another in nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use ndarray::Array2;
use npyz::npz::NpzArchive;
use serde::{Deserialize, Serialize};

use super::c2st;
use crate::observed::task_with_observation;
use crate::script::answer;

/// How a posterior is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Amortised, by neural posterior estimation.
    Npe,
    /// Amortised, by likelihood-weighted training.
    Likelihood,
    /// Rounds from the prior and the likelihood of the one observation, without simulations.
    Rounds,
}

impl Method {
    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Npe => "npe",
            Self::Likelihood => "likelihood",
            Self::Rounds => "rounds",
        }
    }
}

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The command.
    pub lwflow: PathBuf,
    /// Python with the packages of benches/references.
    pub python: PathBuf,
    /// The wheel of sbibm.
    pub wheel: PathBuf,
    /// The repository.
    pub root: PathBuf,
    /// Folder for what is trained and drawn.
    pub out: PathBuf,
    /// Device of the trainings.
    pub device: String,
}

/// What one row is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// One of [`super::TASKS`].
    pub task: String,
    /// How.
    pub method: Method,
    /// Simulations to train with; of no meaning in rounds.
    pub simulations: usize,
    /// Whether the amortised posterior is refined with the likelihood of the observation.
    pub refine: bool,
    /// Seed of the training.
    pub seed: u64,
    /// Draws that are compared, of either side.
    pub draws: usize,
    /// Seeds of folds and classifier.
    pub fold_seeds: Vec<u64>,
}

/// What one observation came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// What was run.
    #[serde(flatten)]
    pub setup: Setup,
    /// Number of the observation, from 1.
    pub observation: usize,
    /// Mean over the fold seeds.
    pub c2st: f64,
    /// Of each fold seed.
    pub c2st_of_seeds: Vec<f64>,
    /// Likelihood evaluations: of the training, all observations of it together, and of refining this one.
    #[serde(default)]
    pub evaluations: usize,
    /// Seconds of the training, of all observations together; in rounds those of this one.
    pub seconds_train: f64,
    /// Seconds of drawing and refining.
    pub seconds_draw: f64,
    /// Seconds of the classifier.
    pub seconds_score: f64,
}

/// Draws of one observation.
struct Drawn {
    observation: usize,
    place: String,
    evaluations: usize,
    seconds_train: f64,
    seconds_draw: f64,
}

impl Bench {
    /// Runs one setup on some observations, and hands each figure on as it is there.
    ///
    /// # Errors
    /// If a program cannot be started or fails, or a file cannot be read or written.
    pub fn run(
        &self,
        setup: &Setup,
        observations: &[usize],
        mut each: impl FnMut(&Figure) -> Result<()>,
    ) -> Result<()> {
        let folder = self.folder(setup);
        fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        let mut drawn = Vec::new();
        if setup.method == Method::Rounds {
            for &observation in observations {
                drawn.push(self.fit_in_rounds(setup, observation, &folder)?);
            }
        } else {
            let model = folder.join("model");
            let seconds_train = self.train(setup, &model)?;
            for &observation in observations {
                drawn.push(self.draw(setup, observation, &folder, &model, seconds_train)?);
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for part in drawn.chunks(cores) {
            let answers: Vec<Result<Figure>> = std::thread::scope(|scope| {
                let handles: Vec<_> =
                    part.iter().map(|drawn| scope.spawn(move || self.score(setup, drawn))).collect();
                handles
                    .into_iter()
                    .map(|h| h.join().unwrap_or_else(|_| bail!("a thread of the classifier ended")))
                    .collect()
            });
            for answer in answers {
                each(&answer?)?;
            }
        }
        Ok(())
    }

    fn folder(&self, setup: &Setup) -> PathBuf {
        let Setup { task, simulations, seed, .. } = setup;
        self.out.join(format!("{task}_{}_{simulations}_{seed}", setup.method.word()))
    }

    fn task(&self, setup: &Setup) -> PathBuf {
        self.root.join("examples").join("sbibm").join(&setup.task).join("TASK.toml")
    }

    /// The observation as a file.
    fn observation(&self, setup: &Setup, observation: usize, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(format!("observation_{observation}.csv"));
        let mut command = self.script("observation");
        command.arg(&setup.task).arg(observation.to_string()).arg(&path);
        answer(&mut command)?;
        Ok(path)
    }

    /// Trains one model for all observations and returns its seconds.
    fn train(&self, setup: &Setup, model: &Path) -> Result<f64> {
        let mut command = self.command("fit");
        command.arg(self.task(setup)).arg("--out").arg(model).args(["--device", &self.device]);
        command.args(["--simulations", &setup.simulations.to_string(), "--objective", setup.method.word()]);
        command.args(["--seed", &setup.seed.to_string(), "--quiet", "--force"]);
        timed(&mut command)
    }

    fn draw(
        &self,
        setup: &Setup,
        observation: usize,
        folder: &Path,
        model: &Path,
        seconds_train: f64,
    ) -> Result<Drawn> {
        let context = self.observation(setup, observation, folder)?;
        let mut evaluations = evaluations(&model.join("metrics.json"), "/amortised/n_evaluations")?;
        let model = model.join("model.safetensors");
        let (mut command, draws) = if setup.refine {
            let out = folder.join(format!("refined_{observation}"));
            let mut command = self.command("refine");
            // The likelihood gets the context as its data.
            command.arg(model).arg("--context").arg(context).arg("--task").arg(self.task(setup));
            command.arg("--out").arg(&out).args(["--quiet", "--force"]);
            (command, out.join("equal_weight.npz"))
        } else {
            let out = folder.join(format!("draws_{observation}.npz"));
            let mut command = self.command("sample");
            command.arg(model).arg("--context").arg(context).arg("--out").arg(&out);
            // A few more than are compared: draws in f32 may coincide.
            command.args(["-n", &(setup.draws + setup.draws / 50 + 1).to_string()]);
            (command, out)
        };
        command.args(["--device", &self.device, "--seed", &setup.seed.to_string()]);
        let seconds_draw = timed(&mut command)?;
        if setup.refine {
            evaluations += self::evaluations(&draws.with_file_name("verdict.json"), "/n_evaluations")?;
        }
        let place = format!("{}:theta", draws.display());
        Ok(Drawn { observation, place, evaluations, seconds_train, seconds_draw })
    }

    fn fit_in_rounds(&self, setup: &Setup, observation: usize, folder: &Path) -> Result<Drawn> {
        let data = self.observation(setup, observation, folder)?;
        let task = folder.join(format!("task_{observation}.toml"));
        let task = task_with_observation(&self.task(setup), &data, &task)?;
        let out = folder.join(format!("rounds_{observation}"));
        let mut command = self.command("fit");
        command.arg(task).arg("--out").arg(&out).args(["--device", &self.device]);
        command.args(["--objective", setup.method.word()]);
        command.args(["--seed", &setup.seed.to_string(), "--quiet", "--force"]);
        let seconds_train = timed(&mut command)?;
        let place = format!("{}:theta", out.join("equal_weight.npz").display());
        let evaluations = evaluations(&out.join("verdict.json"), "/n_evaluations")?;
        Ok(Drawn { observation, place, evaluations, seconds_train, seconds_draw: 0.0 })
    }

    fn score(&self, setup: &Setup, drawn: &Drawn) -> Result<Figure> {
        let start = Instant::now();
        let pair = self.folder(setup).join(format!("pair_{}.npz", drawn.observation));
        let mut command = self.script("pair");
        command.arg(&setup.task).arg(drawn.observation.to_string()).arg(&drawn.place).arg(&pair);
        command.args(["--n", &setup.draws.to_string()]);
        answer(&mut command)?;
        let [x, y] = ["reference", "draws"].map(|name| samples(&pair, name));
        let (x, y) = (x?, y?);
        let c2st_of_seeds: Vec<f64> =
            setup.fold_seeds.iter().map(|&seed| c2st(x.view(), y.view(), seed)).collect();
        Ok(Figure {
            setup: setup.clone(),
            observation: drawn.observation,
            c2st: c2st_of_seeds.iter().sum::<f64>() / c2st_of_seeds.len() as f64,
            c2st_of_seeds,
            evaluations: drawn.evaluations,
            seconds_train: drawn.seconds_train,
            seconds_draw: drawn.seconds_draw,
            seconds_score: start.elapsed().as_secs_f64(),
        })
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.lwflow);
        command.arg(name);
        command
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.root.join("benches").join("references").join("sbibm.py")).arg(name).arg(&self.wheel);
        command
    }
}

/// A number of likelihood evaluations in a file of JSON; none where it tells of none.
fn evaluations(path: &Path, pointer: &str) -> Result<usize> {
    let place = || format!("{}", path.display());
    let text = fs::read_to_string(path).with_context(place)?;
    let json: serde_json::Value = serde_json::from_str(&text).with_context(place)?;
    Ok(json.pointer(pointer).and_then(serde_json::Value::as_u64).map_or(0, |n| n as usize))
}

/// An array of samples, \[n, D\].
fn samples(path: &Path, name: &str) -> Result<Array2<f32>> {
    let place = || format!("{}: {name}", path.display());
    let mut file = NpzArchive::open(path).with_context(place)?;
    let array = file.by_name(name).with_context(place)?.with_context(place)?;
    let shape = array.shape().to_vec();
    anyhow::ensure!(shape.len() == 2, "{}: not of two dimensions", place());
    let values: Vec<f32> = array.into_vec().with_context(place)?;
    Array2::from_shape_vec((shape[0] as usize, shape[1] as usize), values).with_context(place)
}

/// Runs a command of `lwflow` and returns its seconds; what it says is told only if it fails.
fn timed(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {command:?}"))?;
    // 6: a contract was missed, which is a result.
    if !matches!(output.status.code(), Some(0 | 6)) {
        bail!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(start.elapsed().as_secs_f64())
}
