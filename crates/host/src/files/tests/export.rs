//! Exports that cannot hold the draws are refused, and rows of weight zero are left out where nothing reads them.

use super::super::{ExportFormat, FileError, PosteriorDraws, SampleTable, write_export};
use super::folder;

fn draws(name: &str, log_weight: Option<Vec<f64>>) -> PosteriorDraws {
    let names = vec![name.to_owned(), "b".to_owned()];
    let mut table = SampleTable::new(names, vec![1.0, 0.5, 2.0, 1e-7, 3.0, -1.0]).unwrap();
    table.log_prob = Some(vec![-1.0, -2.0, -3.0]);
    table.log_weight = log_weight;
    PosteriorDraws {
        table,
        labels: vec!["\\alpha, x".to_owned(), "b".to_owned()],
        bounds: vec![(Some(0.0), None), (None, Some(2.5))],
    }
}

#[test]
fn every_line_of_the_text_forms() {
    let folder = folder();
    let weighted = draws("a", Some(vec![700.0, f64::NEG_INFINITY, 700.0 - 2f64.ln()]));
    let root = folder.path().join("r");
    let report = write_export(ExportFormat::GetDist, &root, &weighted, 0).unwrap();
    assert_eq!((report.n_draws, report.n_rows, report.n_distinct), (3, 2, None));
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(text("r.paramnames"), "a \\alpha, x\nb b\n");
    assert_eq!(text("r.ranges"), "a 0.0 N\nb N 2.5\n");
    let lines: Vec<Vec<f64>> = text("r_1.txt")
        .lines()
        .map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect())
        .collect();
    assert_eq!(lines[0], [1.0, 1.0, 1.0, 0.5]);
    assert!(lines.len() == 2 && (lines[1][0] - 0.5).abs() < 1e-13 && lines[1][1..] == [3.0, 3.0, -1.0]);
    // As pandas writes it.
    let out = folder.path().join("r.csv");
    write_export(ExportFormat::Anesthetic, &out, &draws("a", None), 0).unwrap();
    let expected = ",,a,b,log_prob\nlabels,,\"$\\alpha, x$\",b,$\\ln q$\n,weights,,,\n0,1.0,1.0,0.5,-1.0\n\
                    1,1.0,2.0,1e-7,-2.0\n2,1.0,3.0,-1.0,-3.0\n";
    assert_eq!(text("r.csv"), expected);
    let out = folder.path().join("r.json");
    let report = write_export(ExportFormat::ArviZ, &out, &weighted, 0).unwrap();
    // The effective size of weights 1 and 1/2 is 1.8.
    assert_eq!((report.n_rows, report.n_distinct), (1, Some(1)));
    let json: serde_json::Value = serde_json::from_str(&text("r.json")).unwrap();
    assert_eq!(json["posterior"]["b"][0].as_array().map(Vec::len), Some(1));
    assert_eq!(json["posterior_attrs"]["ranges"][1], "b N 2.5");
}

#[test]
fn names_that_a_format_cannot_hold() {
    let folder = folder();
    let refuse = |format, out: &str, draws: &PosteriorDraws, words: &[&str]| {
        let error: FileError = write_export(format, &folder.path().join(out), draws, 0).unwrap_err();
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
    };
    let (getdist, anesthetic, arviz) = (ExportFormat::GetDist, ExportFormat::Anesthetic, ExportFormat::ArviZ);
    refuse(getdist, "r", &draws("my mass", None), &["r.paramnames", "`my mass`", "blank"]);
    refuse(getdist, "r", &draws("m*", None), &["`m*`", "meaning of their own"]);
    refuse(anesthetic, "r.csv", &draws("logL", None), &["`logL`", "another column"]);
    refuse(arviz, "r.json", &draws("chain", None), &["`chain`", "another column"]);
    let weightless = draws("a", Some(vec![f64::NEG_INFINITY; 3]));
    for (format, out) in
        [(getdist, "r"), (anesthetic, "r.csv"), (arviz, "r.json"), (ExportFormat::Table, "r.npz")]
    {
        refuse(format, out, &weightless, &["every one of the 3 rows has weight zero"]);
    }
    let mut short = draws("a", None);
    short.labels.pop();
    refuse(getdist, "r", &short, &["labels has 1 values, expected 2"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
