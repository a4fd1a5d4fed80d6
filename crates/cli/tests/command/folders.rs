//! Folders that cannot take the results, that another run is writing to, and two runs side by side.

#![cfg(unix)]

use crate::harness::{Run, command, lwflow, points, task};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// A folder with a task of a static fit (`fit.toml`), one that never ends (`long.toml`), and one of rounds (`rounds.toml`).
fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("pairs.csv", &points("log_likelihood", 600));
    let fit = |visits: &str| {
        let training = format!("max_visits = {visits}");
        task("pairs.csv", "kind = \"gaussian\"", &training, "n_samples = 2000\nfigures = false")
    };
    put("fit.toml", &fit("2000"));
    put("long.toml", &fit("1e12"));
    put("normal.wgsl", "fn log_likelihood(theta: array<f32, D>) -> f32 { return -0.5 * square(theta[0]); }");
    put(
        "rounds.toml",
        "[likelihood]\nwgsl = \"normal.wgsl\"\n[parameters.a]\nprior = \"uniform\"\nlower = -5.0\nupper = 5.0\n\
         [flow]\nn_layers = 2\nhidden = [8, 8]\n[base]\nn_components = 1\n[training]\nmax_visits = 5000\n\
         [rounds]\ntarget_ess = 500\nmax_evaluations = 8000\nn_scan = 1000\nn_round = 1000\n\
         [output]\nfigures = false\n",
    );
    folder
}

/// Runs a line of the shell with the program as `$LWFLOW`.
fn shell(folder: &Path, line: &str) -> Run {
    let program = env!("CARGO_BIN_EXE_lwflow");
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(folder).env("LWFLOW", program).env("LWFLOW_DEVICE", "cpu");
    Run::from(shell.env("NODEVICE_SELECT", "1").output().unwrap())
}

/// The words that begin a shell with mounts of its own; `None`, after a skip, where this user may not have one.
fn own_mounts() -> Option<&'static str> {
    let ways = ["unshare --mount", "unshare --user --map-root-user --mount"];
    let found = ways.into_iter().find(|way| {
        let probe = format!("{way} sh -c 'mount -t tmpfs -o size=64k none /mnt'");
        Command::new("sh").args(["-c", &probe]).output().is_ok_and(|o| o.status.success())
    });
    if found.is_none() {
        lwflow_skip::skip("this user may not mount");
    }
    found
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// A limit of the size of files stands in for a disk that fills up, and needs no rights.
#[test]
fn a_disk_that_fills_up_is_status_1_and_leaves_no_torn_file() {
    let folder = workplace();
    let at = folder.path();
    // Blocks of 512 bytes; without the trap the signal would end the program.
    let full = |blocks: u32, rest: &str| {
        shell(at, &format!("trap '' XFSZ; ulimit -f {blocks}; exec $LWFLOW {rest}"))
    };
    full(24, "fit fit.toml --out out").expect(1, &["out/samples.npz", "cannot write"]);
    assert!(names(&at.join("out")).iter().all(|n| n != "samples.npz" && !n.starts_with(".lwflow-")));
    // What there is can be replaced once there is room.
    lwflow(at, "fit fit.toml --out out --force --device cpu").expect(0, &["results in out"]);

    let run = full(32, "fit rounds.toml --out run")
        .expect(1, &["run/run/evaluations.log", "cannot write", "--resume"]);
    assert!(run.err.contains("evaluations are kept"), "{}", run.err);
    lwflow(at, "fit rounds.toml --out run --resume --device cpu")
        .expect(0, &["going on after", "contract met"]);
    lwflow(at, "fit rounds.toml --out whole --device cpu").expect(0, &[]);
    let [whole, resumed] = ["whole", "run"].map(|r| std::fs::read(at.join(r).join("samples.npz")).unwrap());
    assert!(whole == resumed, "the resumed run differs");
}

#[test]
fn full_and_read_only_file_systems_are_named() {
    let Some(own) = own_mounts() else { return };
    let folder = workplace();
    let at = folder.path();
    std::fs::create_dir(at.join("disk")).unwrap();
    let on = |options: &str, rest: &str| {
        let line = format!("mount -t tmpfs -o {options} none disk && exec $LWFLOW {rest}");
        shell(at, &format!("{own} sh -c '{line}'"))
    };
    on("size=16k", "fit fit.toml --out disk/out").expect(1, &["disk/out/", "cannot write", "No space left"]);
    on("size=16k", "fit rounds.toml --out disk/out")
        .expect(1, &["disk/out/run/", "cannot write", "No space left"]);
    on("ro", "fit fit.toml --out disk").expect(3, &["disk: cannot write there", "Read-only"]);
    on("ro", "fit rounds.toml --out disk/out").expect(3, &["disk/out: cannot write there", "Read-only"]);
}

/// What `chmod a-w` makes of a folder, which needs no mounts; but root writes in spite of it.
#[test]
fn folders_without_the_right_to_write_are_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = workplace();
    let at = folder.path();
    let locked = at.join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(locked.join("probe"), b"").is_ok() {
        lwflow_skip::skip("folders without the right to write: this user writes everywhere");
        return;
    }
    for task in ["fit.toml", "rounds.toml"] {
        for out in ["locked", "locked/out"] {
            let says = format!("{out}: cannot write there");
            lwflow(at, &format!("fit {task} --out {out} --device cpu"))
                .expect(3, &[&says, "Permission denied"]);
        }
    }
    assert!(names(&locked).is_empty(), "{:?}", names(&locked));
}

#[test]
fn a_folder_has_one_run_at_a_time() {
    let folder = workplace();
    let at = folder.path();
    let mut first = command(at)
        .args(["fit", "long.toml", "--out", "out", "--device", "cpu"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It names its device once it has its folder.
    let mut said = BufReader::new(first.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().starts_with("device: ")), "the first run never took its folder");
    lwflow(at, "fit fit.toml --out out --device cpu --force").expect(3, &["out: in use by another run"]);
    lwflow(at, "fit rounds.toml --out out --device cpu --force").expect(3, &["out: in use by another run"]);
    // Another folder is free, at the same time.
    lwflow(at, "fit fit.toml --out other --device cpu").expect(0, &[]);
    assert!(first.try_wait().unwrap().is_none(), "the first run ended by itself");
    first.kill().unwrap();
    first.wait().unwrap();
    // A lock does not outlive its owner, however that ended.
    lwflow(at, "fit fit.toml --out out --device cpu --force").expect(0, &["results in out"]);
    assert!(names(&at.join("out")).iter().all(|n| !n.contains("lock")), "{:?}", names(&at.join("out")));
}

#[test]
fn two_runs_side_by_side_reach_the_bits_of_one() {
    let folder = workplace();
    let at = folder.path();
    for (task, files) in [
        ("fit.toml", ["model.safetensors", "samples.npz"]),
        ("rounds.toml", ["samples.npz", "equal_weight.npz"]),
    ] {
        let start = |out: &str| {
            let mut command = command(at);
            command.args(["fit", task, "--device", "cpu", "--force", "--out", out]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let both = [start("a"), start("b")];
        for mut run in both {
            assert_eq!(run.wait().unwrap().code(), Some(0), "{task}");
        }
        for file in files {
            let [a, b] = ["a", "b"].map(|run| std::fs::read(at.join(run).join(file)).unwrap());
            assert!(a == b, "{file} differs");
        }
    }
}
