//! What a user runs first: `init`, `check`, `doctor`, completions and manual pages. A task that `init` has written is accepted
//! by `check`, and `check` refuses what `fit` refuses, in the same words.

use crate::harness::{Run, command, has_device, lwflow, points, workplace};
use std::fs;
use std::path::Path;

/// Runs on the cores, which are always there.
fn cores(folder: &Path, arguments: &str) -> Run {
    lwflow(folder, &format!("{arguments} --device cpu"))
}

/// Names of the files in a folder.
fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn a_task_with_points_is_checked() {
    let folder = workplace();
    let before = files(folder.path());
    let words =
        ["TASK.toml: usable", "points: 2000 rows", "a  uniform, -5 to 5", "fit: about", "Gaussian base"];
    cores(folder.path(), "check TASK.toml").expect(0, &words);
    let run = cores(folder.path(), "check TASK.toml --json").expect(0, &[]);
    let report: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(report["points"]["n"], 2000);
    assert_eq!(report["parameters"][1]["upper"], 1.0);
    let (visits, rate) = (&report["training"]["visits"], &report["training"]["visits_per_second"]);
    assert_eq!(*visits, 20_000);
    let seconds = report["training"]["seconds"].as_f64().unwrap();
    assert!((seconds * rate.as_f64().unwrap() - 20_000.0).abs() < 1e-3, "{report}");
    assert_eq!(files(folder.path()), before, "a check leaves nothing behind");
}

#[test]
fn a_check_refuses_what_a_fit_refuses() {
    let folder = workplace();
    let task = fs::read_to_string(folder.path().join("TASK.toml")).unwrap();
    fs::write(folder.path().join("bad.toml"), task.replacen("n_layers", "n_layer", 1)).unwrap();
    cores(folder.path(), "check nowhere.toml").expect(3, &["nowhere.toml", "cannot read"]);
    let rows = points("log_likelihood", 60);
    let cases = [
        ("bad.toml", rows.clone()),
        ("TASK.toml", rows.clone() + "1,1.0,-1\n"),
        ("TASK.toml", rows.clone() + "1,0.5,nan\n"),
        ("TASK.toml", "a,b,log_likelihood\n1,0.5,0\n2,0.6,0\n0,0.4,-1\n".to_owned()),
    ];
    for (task, rows) in cases {
        fs::write(folder.path().join("pairs.csv"), rows).unwrap();
        let check = cores(folder.path(), &format!("check {task}"));
        let fit = cores(folder.path(), &format!("fit {task} --out run"));
        assert!(check.status != 0 && check.status == fit.status, "{} {}", check.status, fit.status);
        let error = |run: &Run| run.err.lines().find(|l| l.starts_with("lwflow: error")).map(str::to_owned);
        assert_eq!(error(&check), error(&fit));
        assert!(error(&check).is_some());
    }
    let run = lwflow(folder.path(), "check TASK.toml --device nothing-of-this-name");
    assert!(run.status == 3 || run.status == 4, "{}", run.err);
}

#[test]
fn a_likelihood_is_tried_at_draws_from_the_prior() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let task = "[likelihood]\nwgsl = \"l.wgsl\"\n[parameters.a]\nprior = \"uniform\"\nlower = 0\nupper = 1\n\
                [flow]\nn_layers = 2\nhidden = [8, 8]\n[base]\nkind = \"gaussian\"\n[rounds]\nmax_evaluations = 5000\n";
    fs::write(at.join("TASK.toml"), task).unwrap();
    let wgsl = |body: &str| {
        let text = format!("fn log_likelihood(theta: array<f32, D>) -> f32 {{\n{body}\n}}\n");
        fs::write(at.join("l.wgsl"), text).unwrap();
    };
    wgsl("if (theta[0] < 0.75) { return minus_infinity(); }\nreturn theta[0];");
    let words = [
        "draws from the prior",
        "impossible",
        "most of the prior is impossible",
        "per round",
        "250 draws",
        "run: most posteriors take",
        "5000 evaluations)",
    ];
    cores(at, "check TASK.toml").expect(0, &words);
    let run = cores(at, "check TASK.toml --json").expect(0, &[]);
    let report: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    let course = |name: &str| {
        let seconds = report["run"][name]["seconds"].as_f64().unwrap();
        (report["run"][name]["n_rounds"].as_u64().unwrap(), seconds)
    };
    // 250 draws of the scan, and rounds of 500.
    let (short, longest) = (course("short"), course("longest"));
    assert!(short.0 == 2 && longest.0 == 10 && 0.0 < short.1 && short.1 < longest.1, "{report}");
    let draws = &report["prior_draws"];
    let share = draws["n_impossible"].as_f64().unwrap() / draws["n"].as_f64().unwrap();
    assert!((share - 0.75).abs() < 0.02, "{report}");
    wgsl("return minus_infinity();");
    cores(at, "check TASK.toml").expect(0, &["no draw is possible"]);
    wgsl("return log(theta[0] - 0.5);");
    cores(at, "check TASK.toml").expect(3, &["l.wgsl", "NaN", "theta = ["]);
    wgsl("return thta[0];");
    cores(at, "check TASK.toml").expect(3, &["l.wgsl:2", "thta"]);
    assert_eq!(files(at), ["TASK.toml", "l.wgsl"]);
}

#[test]
fn a_task_from_pairs_has_their_bounds_and_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir(at.join("data")).unwrap();
    fs::write(at.join("data/pairs.csv"), points("log_likelihood", 2000)).unwrap();
    lwflow(at, "init --pairs data/pairs.csv --out fits/first.toml").expect(0, &["fits/first.toml: written"]);
    let text = fs::read_to_string(at.join("fits/first.toml")).unwrap();
    for line in [
        "pairs = \"../data/pairs.csv\"",
        "lower = -5.0",
        "upper = 5.0",
        "lower = 0.0",
        "upper = 1.0",
        "a guess",
    ] {
        assert!(text.contains(line), "no `{line}` in {text}");
    }
    assert!(text.contains("\nn_components = ") && text.contains(" seen. K counts Gaussians"), "{text}");
    cores(at, "check fits/first.toml").expect(0, &["usable", "a  -5 to 5", "b  0 to 1"]);
    lwflow(at, "init --pairs data/pairs.csv --out fits/first.toml").expect(3, &["first.toml", "--force"]);
    assert_eq!(
        fs::read_to_string(at.join("fits/first.toml")).unwrap(),
        text,
        "a refused call changed the file"
    );
    lwflow(at, "init --pairs data/pairs.csv --out fits/first.toml --force --parameters b").expect(0, &[]);
    cores(at, "check fits/first.toml").expect(0, &["left out: a"]);
    // A parameter without spread cannot be fitted, and is not.
    let constant: String = points("weight", 600)
        .lines()
        .map(|l| l.replacen(',', if l.starts_with('a') { ",c," } else { ",3," }, 1) + "\n")
        .collect();
    fs::write(at.join("constant.csv"), constant).unwrap();
    lwflow(at, "init --pairs constant.csv --out constant.toml").expect(0, &[]);
    let text = fs::read_to_string(at.join("constant.toml")).unwrap();
    assert!(
        text.contains("# c is 3 in every weighted point") && text.contains("too few effective points"),
        "{text}"
    );
    cores(at, "check constant.toml").expect(0, &["left out: c", "a  unbounded"]);
    lwflow(at, "init --pairs data/pairs.csv --chain c").expect(2, &["--chain"]);
    lwflow(at, "init --pairs none.csv").expect(3, &["none.csv", "cannot open"]);
}

#[test]
fn a_task_from_a_chain_has_its_labels_and_ranges_and_is_accepted() {
    let chains = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/chains");
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for name in [
        "gd_1.txt",
        "gd_2.txt",
        "gd.paramnames",
        "pc_dead-birth.txt",
        "pc_phys_live-birth.txt",
        "pc.paramnames",
    ] {
        fs::copy(chains.join(name), at.join(name)).unwrap();
    }
    // x3 lies in (0, 1), and 0.5 is not its bound.
    fs::write(at.join("gd.ranges"), "x2 0 N\nx3 0.5 1\nx4 2 4\n").unwrap();
    lwflow(at, "init --chain gd").expect(0, &["TASK.toml: written"]);
    let text = fs::read_to_string(at.join("TASK.toml")).unwrap();
    for line in [
        "chain = \"gd\"",
        "format = \"getdist\"",
        "burn_in = 0.3",
        "label = \"x_0\"",
        "lower = 2.0",
        "upper = 4.0",
    ] {
        assert!(text.contains(line), "no `{line}` in {text}");
    }
    assert!(text.contains("# lower = 0.5") && text.contains("weighted points lie on or outside"), "{text}");
    cores(at, "check TASK.toml")
        .expect(0, &["x2  above 0", "x3  unbounded", "x4  2 to 4", "autocorrelation"]);
    // The folder of one chain stands for it, and a folder of two names them.
    lwflow(at, "init --chain . --out two.toml").expect(3, &["2 roots, `gd`, `pc`"]);
    fs::create_dir(at.join("one")).unwrap();
    for name in ["gd_1.txt", "gd_2.txt", "gd.paramnames", "gd.ranges"] {
        fs::copy(at.join(name), at.join("one").join(name)).unwrap();
    }
    lwflow(at, "init --chain one --out one.toml").expect(0, &[]);
    let one = fs::read_to_string(at.join("one.toml")).unwrap();
    let parameters = |text: &str| text.split_once("[parameters.").unwrap().1.to_owned();
    assert!(one.contains("chain = \"one\"") && parameters(&one) == parameters(&text), "{one}");
    cores(at, "check one.toml").expect(0, &["x2  above 0", "x4  2 to 4"]);
    lwflow(at, "init --chain pc --out pc.toml").expect(0, &[]);
    cores(at, "check pc.toml").expect(0, &["usable", "log Z of the points"]);
    let samplers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/samplers");
    for (root, format) in
        [("multinest/new-", "multinest"), ("multinest/old-", "multinest"), ("ultranest", "ultranest")]
    {
        let chain = samplers.join(root);
        lwflow(at, &format!("init --chain {} --out other.toml --force", chain.display())).expect(0, &[]);
        let text = fs::read_to_string(at.join("other.toml")).unwrap();
        assert!(text.contains(&format!("format = \"{format}\"")) && !text.contains("burn_in"), "{text}");
        cores(at, "check other.toml").expect(0, &["usable", "log Z of the points"]);
    }
}

#[test]
fn a_task_from_nothing_is_accepted_and_so_is_one_for_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    lwflow(at, "init").expect(0, &["likelihood.wgsl", "TASK.toml: written"]);
    cores(at, "check TASK.toml")
        .expect(0, &["a  uniform, -5 to 5", "likelihood (wgsl)", "0 of them impossible"]);
    // The example's comment states its evidence.
    cores(at, "fit TASK.toml --out run")
        .expect(0, &["verdict: contract met", "flow: -4.60", "modes: 2 found"]);
    fs::remove_file(at.join("TASK.toml")).unwrap();
    lwflow(at, "init").expect(3, &["likelihood.wgsl", "--force"]);
    assert!(!at.join("TASK.toml").exists());
    lwflow(at, "init --wgsl likelihood.wgsl").expect(0, &[]);
    cores(at, "check TASK.toml").expect(0, &["theta_0  uniform", "theta_1  uniform"]);
    let more = "init --force --parameters x,y.z --command python3 -u likelihood.py";
    lwflow(at, more).expect(0, &[]);
    let text = fs::read_to_string(at.join("TASK.toml")).unwrap();
    for line in ["command = [\"python3\", \"-u\", \"likelihood.py\"]", "[parameters.\"y.z\"]", "[rounds]"] {
        assert!(text.contains(line), "no `{line}` in {text}");
    }
    lwflow(at, "init --wgsl none.wgsl --out b.toml").expect(3, &["none.wgsl", "cannot read"]);
}

#[test]
fn the_doctor_passes_the_cores_and_finds_no_gpu_of_no_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // Without any driver, as on a bare machine.
    let run = |arguments: &str| {
        let mut command = command(at);
        command.env("VK_DRIVER_FILES", at.join("none.json")).env("VK_ICD_FILENAMES", at.join("none.json"));
        Run::from(command.args(arguments.split_whitespace()).output().unwrap())
    };
    run("doctor --device cpu").expect(0, &["devices:", "self-test: passed", "--device cpu takes"]);
    if cfg!(target_os = "linux") {
        run("doctor --device gpu")
            .expect(4, &["no device fits `gpu`", "findings:", "VK_DRIVER_FILES", "unset it"]);
    }
    if has_device() {
        lwflow(at, "doctor").expect(0, &["self-test: passed", "takes"]);
    }
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        lwflow(at, &format!("completions {shell}")).expect(0, &["log-prob", "doctor", "max-evaluations"]);
    }
    lwflow(at, "completions tcsh").expect(2, &["bash"]);
    lwflow(at, "man").expect(0, &[".TH lwflow 1", "check", "Exit status"]);
    lwflow(at, "man --out pages").expect(0, &[]);
    let pages = files(&at.join("pages"));
    for name in ["lwflow.1", "lwflow-fit.1", "lwflow-log-prob.1", "lwflow-doctor.1"] {
        assert!(pages.iter().any(|page| page == name), "{name} is not in {pages:?}");
    }
    let page = fs::read_to_string(at.join("pages/lwflow-fit.1")).unwrap();
    assert!(page.contains("Examples"), "{page}");
}
