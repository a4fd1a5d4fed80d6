//! `lwflow init`: a task file with comments, from what is there. Invariant: what is written is a task (it was read as one),
//! and no file is replaced that was not meant to be.

mod guess;
mod points;
mod text;

use crate::exit::{CommandError, Status};
use crate::progress::print;
use crate::report::write_file;
use crate::task::Task;
use clap::Args;
use std::path::{Path, PathBuf};
use text::{Heading, line, quoted};

/// The WGSL file of a task that begins from nothing.
const WGSL: &str = include_str!("../../assets/likelihood.wgsl");
const WGSL_FILE: &str = "likelihood.wgsl";

/// Arguments of `lwflow init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// From a file of weighted pairs: .npz, .csv or .parquet.
    #[arg(long, group = "source", value_name = "FILE")]
    pairs: Option<PathBuf>,
    /// From a chain of GetDist, PolyChord, MultiNest or UltraNest: its path without the endings, or a folder with one chain.
    #[arg(long, group = "source", value_name = "ROOT")]
    chain: Option<PathBuf>,
    /// For a log likelihood in a WGSL file.
    #[arg(long, group = "source", value_name = "FILE")]
    wgsl: Option<PathBuf>,
    /// For a log likelihood by a program: the command and its arguments, as the last option.
    #[arg(long, group = "source", value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true)]
    command: Option<Vec<String>>,
    /// The task file to write.
    #[arg(long, default_value = "TASK.toml")]
    out: PathBuf,
    /// Names of the parameters, separated by commas: the columns to keep, or what the likelihood takes.
    #[arg(long, value_delimiter = ',')]
    parameters: Option<Vec<String>>,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

pub(super) fn run_init(args: &InitArgs) -> Result<Status, CommandError> {
    let folder = match args.out.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(|e| {
        CommandError::new(Status::Input, format!("{}: cannot write there: {e}", folder.display()))
    })?;
    let from_nothing =
        args.pairs.is_none() && args.chain.is_none() && args.wgsl.is_none() && args.command.is_none();
    let wgsl_file = from_nothing.then(|| args.out.with_file_name(WGSL_FILE));
    for file in std::iter::once(&args.out).chain(&wgsl_file) {
        if file.exists() && !args.force {
            let message = format!("{}: is there already; use --force to replace it", file.display());
            return Err(CommandError::new(Status::Input, message));
        }
    }
    let text = task_text(args, folder)?;
    // A mistake here would be the reader's to find.
    Task::parse(&text, &args.out)
        .map_err(|e| CommandError::new(Status::Other, format!("the task that was made is not one: {e}")))?;
    if let Some(file) = &wgsl_file {
        write_file(file, WGSL.as_bytes())?;
        print(&format!("{}: an example of a log likelihood, to be replaced by your own\n", file.display()))?;
    }
    write_file(&args.out, text.as_bytes())?;
    let out = args.out.display();
    print(&format!("{out}: written; look at what it calls a guess, then:  lwflow check {out}\n"))?;
    Ok(Status::Success)
}

fn task_text(args: &InitArgs, folder: &Path) -> Result<String, CommandError> {
    let task = args.out.display().to_string();
    if let Some(path) = args.pairs.as_ref().or(args.chain.as_ref()) {
        let (key, guess) = match args.pairs {
            Some(_) => ("pairs", points::of_pairs(path, args.parameters.clone())?),
            None => ("chain", points::of_chain(path, args.parameters.clone())?),
        };
        let likelihood = format!("{key} = {}\n{}", quoted(&relative(path, folder)), guess.more);
        let from = format!("from {}: {}", path.display(), guess.words);
        return Ok(text::of_points(&Heading { from, task, likelihood: &likelihood }, &guess));
    }
    let two = || vec!["a".to_owned(), "b".to_owned()];
    let (from, likelihood, names) = match (&args.wgsl, &args.command) {
        (_, Some(command)) => {
            let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
            let lines = [
                (
                    format!("command = [{}]", words.join(", ")),
                    "started in the folder of this file, without a shell",
                ),
                ("protocol = \"binary\"".into(), "or \"csv\"; both are told in docs/command-likelihood.md"),
                ("workers = 1".into(), "processes that share the work"),
                ("# derived = [\"q\"]".into(), "what the program returns beside the log likelihood"),
            ];
            let likelihood = lines.map(|(setting, comment)| line(&setting, comment)).concat();
            (
                "for a likelihood by a command".to_owned(),
                likelihood,
                args.parameters.clone().unwrap_or_else(two),
            )
        }
        (Some(path), None) => {
            let text = std::fs::read_to_string(path).map_err(|e| {
                CommandError::new(Status::Input, format!("{}: cannot read: {e}", path.display()))
            })?;
            let dim = n_parameters(&text);
            let names = || (0..dim.unwrap_or(2)).map(|i| format!("theta_{i}")).collect();
            let from = format!("for the likelihood in {}", path.display());
            (from, wgsl(&relative(path, folder)), args.parameters.clone().unwrap_or_else(names))
        }
        (None, None) => {
            let names = args.parameters.clone().unwrap_or_else(two);
            (format!("with the example in {WGSL_FILE}"), wgsl(WGSL_FILE), names)
        }
    };
    Ok(text::of_likelihood(&Heading { from, task, likelihood: &likelihood }, &names))
}

/// The lines of a likelihood in WGSL.
fn wgsl(path: &str) -> String {
    line(&format!("wgsl = {}", quoted(path)), "what it may hold is told in docs/wgsl-likelihood.md")
        + &line("# data = \"data.csv\"", "observed data: .npz, .csv or .parquet")
        + &line("# derived = [\"q\"]", "what its function `derived` returns")
}

/// Number of parameters that a WGSL function seems to take: one more than the largest index of `theta`.
fn n_parameters(text: &str) -> Option<usize> {
    let indices = text.split("theta[").skip(1).filter_map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<usize>().ok().filter(|i| *i < 1000)
    });
    indices.max().map(|largest| largest + 1)
}

/// `path` as seen from `folder`, with slashes; absolute where there is no way.
fn relative(path: &Path, folder: &Path) -> String {
    let whole = |path: &Path| {
        path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.into())
    };
    // A chain's root is no file; its folder is one.
    let parent = path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."));
    let (to, from) = (whole(parent), whole(folder));
    let n_common = to.components().zip(from.components()).take_while(|(a, b)| a == b).count();
    let name = path.file_name().unwrap_or_default();
    if n_common == 0 {
        return to.join(name).display().to_string();
    }
    let up = from.components().skip(n_common).map(|_| "..".to_owned());
    let down = to.components().skip(n_common).map(|c| c.as_os_str().to_string_lossy().into_owned());
    let words: Vec<String> = up.chain(down).chain([name.to_string_lossy().into_owned()]).collect();
    words.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_the_folder_of_the_task() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir_all(at("data/chains")).unwrap();
        std::fs::create_dir_all(at("fits")).unwrap();
        assert_eq!(relative(&at("data/chains/run"), &at("fits")), "../data/chains/run");
        assert_eq!(relative(&at("fits/pairs.csv"), &at("fits")), "pairs.csv");
        assert_eq!(relative(&at("data/../fits/a.npz"), root.path()), "fits/a.npz");
    }

    #[test]
    fn the_parameters_of_a_function_are_counted() {
        assert_eq!(n_parameters("return theta[0] + theta[12];"), Some(13));
        assert_eq!(n_parameters("for (var i = 0; i < 4; i++) { s += theta[i]; }"), None);
        assert_eq!(n_parameters(WGSL), Some(2));
    }
}
