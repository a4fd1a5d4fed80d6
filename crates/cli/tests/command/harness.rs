//! Runs the command and holds the inputs that the tests share: a weighted set whose posterior is known and its task.
//! Invariant: a test that a machine without a device cannot run is counted as skipped.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// What a run of the command gave.
pub struct Run {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Run {
    /// Fails unless the command ended with this status and its messages hold all of these words.
    #[track_caller]
    pub fn expect(self, status: i32, words: &[&str]) -> Self {
        assert_eq!(self.status, status, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        for word in words {
            let found = self.out.contains(word) || self.err.contains(word);
            assert!(found, "no `{word}` in stdout:\n{}\nstderr:\n{}", self.out, self.err);
        }
        self
    }
}

/// The command with the tests' device: the software adapter, or the only one there is.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lwflow"));
    let device = if cfg!(target_os = "macos") { "gpu" } else { "software" };
    // Mesa's device-select layer writes to stderr where there is no display; these tests read what lwflow itself says.
    command
        .current_dir(folder)
        .env("LWFLOW_DEVICE", device)
        .env_remove("LWFLOW_LOG")
        .env("NODEVICE_SELECT", "1");
    command
}

/// Runs `lwflow` with arguments separated by blanks, in `folder`.
pub fn lwflow(folder: &Path, arguments: &str) -> Run {
    Run::from(command(folder).args(arguments.split_whitespace()).output().unwrap())
}

/// Runs the command on the cores, in `folder`.
pub fn on_cores(folder: &Path, arguments: &str) -> Run {
    let mut command = command(folder);
    Run::from(command.env("LWFLOW_DEVICE", "cpu").args(arguments.split_whitespace()).output().unwrap())
}

/// The numbers of a .csv file, without its header.
pub fn csv_rows(folder: &Path, name: &str) -> Vec<Vec<f64>> {
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(|x| x.parse().unwrap()).collect()).collect()
}

/// Whether there is a device; without one the calling test counts as skipped.
pub fn has_device() -> bool {
    static FOUND: OnceLock<Result<(), String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let run = lwflow(folder.path(), "devices --json");
        // The cores are always there; these tests are about the kernels.
        let found = run.out.matches("\"kind\": ").count() > 1;
        found.then_some(()).ok_or_else(|| format!("no adapter {}", run.err.trim()))
    });
    lwflow_skip::adapter(found.as_ref()).is_some()
}

/// Weighted points: a is normal(1, 0.8), b is exponential with rate 4 cut at 1; prior uniform on (-5, 5) x (0, 1).
/// The last column is called `column` and holds the log likelihood, or its exponential if that is `weight`.
pub fn points(column: &str, n: usize) -> String {
    let mut text = format!("a,b,{column}\n");
    for i in 0..n {
        // An additive recurrence (Roberts 2018) fills the square evenly.
        let u = (0.5 + 0.754_877_666_246_692_8 * i as f64).fract();
        let v = (0.5 + 0.569_840_290_998_053_3 * i as f64).fract();
        let (a, b) = (10.0 * u - 5.0, v);
        let log_likelihood = -0.5 * ((a - 1.0) / 0.8).powi(2) - 4.0 * b;
        let value = if column == "weight" { log_likelihood.exp() } else { log_likelihood };
        let _ = writeln!(text, "{a},{b},{value}");
    }
    text
}

/// A task for [`points`] in `pairs`, with a line in `[training]` and `[output]` each for what the test is about.
pub fn task(pairs: &str, base: &str, training: &str, output: &str) -> String {
    format!(
        "[likelihood]\npairs = \"{pairs}\"\n\
         [parameters.a]\nlower = -5\nupper = 5\nprior = \"uniform\"\nlabel = '\\alpha'\n\
         [parameters.b]\nlower = 0\nupper = 1\nprior = \"uniform\"\n\
         [flow]\nn_layers = 2\nhidden = [8, 8]\n[base]\n{base}\n\
         [training]\nbatch_size = 128\n{training}\n[output]\n{output}\n"
    )
}

/// A folder with `pairs.csv` and `TASK.toml` (Gaussian base, a few visits).
pub fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pairs.csv"), points("log_likelihood", 2000)).unwrap();
    let text = task("pairs.csv", "kind = \"gaussian\"", "max_visits = 20000", "n_samples = 400");
    std::fs::write(folder.path().join("TASK.toml"), text).unwrap();
    folder
}

/// A folder of [`workplace`] in which `fit` has written to `run`, made once for all tests that only look.
pub fn fitted() -> &'static (PathBuf, Run) {
    static FITTED: OnceLock<(PathBuf, Run)> = OnceLock::new();
    FITTED.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lwflow-command");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["pairs.csv", "TASK.toml"] {
            std::fs::copy(workplace().path().join(name), folder.join(name)).unwrap();
        }
        let run = lwflow(&folder, "fit TASK.toml --out run --seed 7").expect(0, &[]);
        (folder, run)
    })
}
