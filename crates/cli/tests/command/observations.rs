//! A conditional model asked about observations, on the command line and in files: which columns are written, which rows are named
//! as new, and what does not fit together.

use crate::harness::{Run, csv_rows as rows, on_cores as run};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A folder with the model `run` of joint draws: a is uniform within 0.5 of its context, which is within (-2, 2).
fn trained() -> &'static PathBuf {
    static TRAINED: OnceLock<PathBuf> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lwflow-observations");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let mut text = String::from("a,context_0\n");
        for i in 0..2000 {
            let (u, v) = ((0.7549 * i as f64).fract(), (0.5698 * i as f64).fract());
            let _ = writeln!(text, "{},{}", 4.0 * u - 2.0 + v - 0.5, 4.0 * u - 2.0);
        }
        fs::write(folder.join("c.csv"), text).unwrap();
        let task = "[likelihood]\npairs = \"c.csv\"\n[flow]\nn_layers = 2\nhidden = [8, 8]\n\
                    [training]\nbatch_size = 128\nmax_visits = 20000\n[output]\nfigures = false\n";
        fs::write(folder.join("c.toml"), task).unwrap();
        run(&folder, "fit c.toml --out run").expect(0, &["every pair has weight one", "log Z: none"]);
        fs::write(folder.join("points.csv"), "a\n-0.3\n0.2\n0.9\n").unwrap();
        folder
    })
}

fn put(name: &str, text: &str) {
    fs::write(trained().join(name), text).unwrap();
}

fn head(name: &str) -> String {
    fs::read_to_string(trained().join(name)).unwrap().lines().next().unwrap().to_owned()
}

fn log_prob(rest: &str) -> Run {
    run(trained(), &format!("log-prob run/model.safetensors {rest}"))
}

#[test]
fn log_prob_takes_one_observation_or_one_a_row() {
    let at = trained();
    log_prob("--in points.csv --context 0.5 --out one.csv").expect(0, &["log_prob of 3 rows"]);
    assert_eq!(head("one.csv"), "a,log_prob");
    put("half.csv", "u\n0.5\n");
    log_prob("--in points.csv --context half.csv --out file.csv").expect(0, &[]);
    assert_eq!(rows(at, "file.csv"), rows(at, "one.csv"));
    // A row for each point is written beside it; densities are those of the same contexts in the table itself.
    put("each.csv", "u\n0.5\n0.5\n-1\n");
    log_prob("--in points.csv --context each.csv --out each-out.csv").expect(0, &[]);
    assert_eq!(head("each-out.csv"), "a,context_u,log_prob");
    put("beside.csv", "context_u,a\n0.5,-0.3\n0.5,0.2\n-1,0.9\n");
    log_prob("--in beside.csv --out beside-out.csv").expect(0, &[]);
    let (one, each) = (rows(at, "one.csv"), rows(at, "each-out.csv"));
    assert_eq!(each, rows(at, "beside-out.csv"));
    for k in 0..2 {
        assert!((one[k][1] - each[k][2]).abs() < 1e-3, "row {k}: {} and {}", one[k][1], each[k][2]);
    }
    assert!((one[2][1] - each[2][2]).abs() > 0.1, "row 2 has another observation: {one:?} {each:?}");
    // A density: it integrates to one over a.
    let grid: String = (0..2001).map(|i| format!("{}\n", -9.5 + 0.01 * f64::from(i))).collect();
    put("grid.csv", &format!("a\n{grid}"));
    log_prob("--in grid.csv --context 0.5 --out grid-out.csv").expect(0, &[]);
    let mass: f64 = rows(at, "grid-out.csv").iter().map(|row| 0.01 * row[1].exp()).sum();
    assert!((mass - 1.0).abs() < 0.02, "mass {mass}");
    // What does not fit.
    put("two.csv", "u\n0.5\n1\n");
    let words =
        "two.csv: 2 observations for the 3 rows of points.csv; expected one for all rows, or one for each";
    log_prob("--in points.csv --context two.csv --out no.csv").expect(3, &[words]);
    log_prob("--in beside.csv --context 0.5 --out no.csv").expect(3, &["beside.csv", "keep one of them"]);
    log_prob("--in points.csv --out no.csv")
        .expect(3, &["points.csv: holds 0", "takes 1", "--context gives"]);
    log_prob("--in points.csv --context 1,2 --out no.csv").expect(3, &["--context has 2 values", "takes 1"]);
    assert!(!at.join("no.csv").exists());
}

#[test]
fn log_prob_names_rows_with_a_new_context_also_beside_a_table_on_stdout() {
    let at = trained();
    let found = log_prob("--in points.csv --context 50 --out - --novelty one-new.csv")
        .expect(0, &["observation 1: farther out than all", "(distance "]);
    assert!(found.out.starts_with("a,log_prob\n") && found.out.lines().count() == 4, "{}", found.out);
    assert!(found.err.lines().count() == 1, "{}", found.err);
    assert_eq!(head("one-new.csv"), "observation,distance,tail");
    put("far.csv", "u\n0.5\n50\n50\n");
    let found = log_prob("--in points.csv --context far.csv --out - --novelty new.csv")
        .expect(0, &["rows 2 to 3: farther out than all", "is an extrapolation"]);
    assert!(found.err.lines().count() == 1 && !found.err.contains("row 1"), "{}", found.err);
    assert_eq!(head("new.csv"), "row,distance,tail");
    let novelty = rows(at, "new.csv");
    assert_eq!(novelty.iter().map(|row| row[0]).collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
    assert!(novelty[0][2] > 0.1 && novelty[1][2] == 0.0 && novelty[1][1] > 20.0, "{novelty:?}");
    // Of many only the first few are named.
    let many: String = (0..9).map(|k| format!("0,{}\n", 50 + k)).collect();
    put("many.csv", &format!("a,context_0\n0,0\n{many}"));
    let found =
        log_prob("--in many.csv --out many-out.csv").expect(0, &["row 2: ", "and 4 more of 10 contexts"]);
    assert!(found.err.contains("row 6: ") && !found.err.contains("row 7: "), "{}", found.err);
}

#[test]
fn draws_stand_beside_their_observations_where_there_are_several() {
    let at = trained();
    put("only.csv", "u\n0.5\n");
    put("several.csv", "u\n0.5\n-1\n");
    for (context, out) in
        [("0.5", "value.csv"), ("only.csv", "only-out.csv"), ("several.csv", "several-out.csv")]
    {
        let arguments =
            format!("sample run/model.safetensors -n 200 --seed 3 --context {context} --out {out}");
        run(at, &arguments).expect(0, &[]);
    }
    let read = |name: &str| fs::read_to_string(at.join(name)).unwrap();
    assert!(read("value.csv").starts_with("a,log_prob\n") && read("only-out.csv") == read("value.csv"));
    assert_eq!(head("several-out.csv"), "a,context_u,log_prob");
    let (one, several) = (rows(at, "value.csv"), rows(at, "several-out.csv"));
    assert_eq!((one.len(), several.len()), (200, 400));
    for (one, several) in one.iter().zip(&several) {
        let close = (one[0] - several[0]).abs() < 1e-3 && (one[1] - several[2]).abs() < 1e-2;
        assert!(close && several[1] == 0.5, "{one:?} {several:?}");
    }
    assert!(several[200..].iter().all(|row| row[1] == -1.0));
    // What was drawn of one observation is judged with the same words.
    log_prob("--in value.csv --context 0.5 --out again.csv").expect(0, &[]);
    let again = rows(at, "again.csv");
    assert!(one.iter().zip(&again).all(|(a, b)| (a[1] - b[1]).abs() < 1e-2));
}
