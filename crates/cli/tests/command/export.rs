//! `lwflow export`: what it writes is read back by GetDist, anesthetic, ArviZ and fastparquet themselves, where their environment is
//! there (`cargo xtask test` makes it), and by our own readers everywhere; what cannot be exported is refused with its reason.

use crate::golden::golden;
use crate::harness::lwflow;
use lwflow_host::files::{
    ChainSettings, ColumnChoice, SampleTable, WeightKind, read_chains, read_pairs, read_samples,
    write_samples,
};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python with the three programs: that of `cargo xtask test`, or the system's.
fn readers() -> Option<PathBuf> {
    let works = |python: &PathBuf| {
        let line = "import getdist, anesthetic, arviz, fastparquet";
        Command::new(python).args(["-W", "ignore", "-c", line]).output().is_ok_and(|o| o.status.success())
    };
    let made = std::env::var_os("LWFLOW_READERS_PYTHON").map(PathBuf::from);
    let found = made.into_iter().chain([PathBuf::from("python3")]).find(works);
    if found.is_none() {
        let in_ci = std::env::var("CI").is_ok_and(|ci| !matches!(&ci[..], "" | "0" | "false" | "no"));
        assert!(!in_ci, "CI is set, but there is no Python with getdist, anesthetic, arviz and fastparquet");
        lwflow_skip::skip(
            "no Python with getdist, anesthetic, arviz and fastparquet (cargo xtask test makes one)",
        );
    }
    found
}

/// A folder as a fit without rounds leaves it: draws of equal weight.
fn unweighted(folder: &Path) {
    std::fs::create_dir(folder.join("plain")).unwrap();
    std::fs::copy(golden("v1").join("model.safetensors"), folder.join("plain/model.safetensors")).unwrap();
    let all = read_samples(&golden("v1").join("samples.npz"), &ColumnChoice::default()).unwrap();
    let mut table = SampleTable::new(all.names, all.theta).unwrap();
    table.log_prob = all.log_prob;
    write_samples(&folder.join("plain/samples.npz"), &table, &mut std::io::sink()).unwrap();
}

fn export(folder: &Path, source: &Path, to: &str, out: &str) -> crate::harness::Run {
    lwflow(folder, &format!("export {} --to {to} --out {out} --seed 3", source.display()))
}

#[test]
fn the_real_programs_read_what_is_written() {
    let Some(python) = readers() else { return };
    let folder = tempfile::tempdir().unwrap();
    unweighted(folder.path());
    let (weighted, plain) = (golden("v1"), folder.path().join("plain"));
    for (source, name) in [(&weighted, "weighted"), (&plain, "equal")] {
        for (to, ending) in [
            ("getdist", ""),
            ("anesthetic", ".csv"),
            ("arviz", ".json"),
            ("npz", ".npz"),
            ("csv", "_table.csv"),
            ("parquet", ".parquet"),
        ] {
            export(folder.path(), source, to, &format!("{name}{ending}")).expect(0, &["draws written to"]);
        }
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/command/readers.py");
    for (source, name) in [(&weighted, "weighted"), (&plain, "equal")] {
        let output = Command::new(&python)
            .current_dir(folder.path())
            .args(["-W", "ignore", script, name])
            .arg(source.join("samples.npz"))
            .env("MPLBACKEND", "agg")
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && out.contains("all as written"), "{name}\n{out}\n{err}");
    }
}

#[test]
fn our_readers_read_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let table = read_samples(&golden("v1").join("samples.npz"), &ColumnChoice::default()).unwrap();
    let log_weights = table.log_weight.as_ref().unwrap();
    let named = ColumnChoice { parameters: Some(table.names.clone()), context: None };
    for kind in ["npz", "csv", "parquet"] {
        let words: &[&str] = if kind == "npz" { &[] } else { &["the columns sum are derived"] };
        let file = format!("t.{kind}");
        export(folder.path(), &golden("v1"), kind, &file)
            .expect(0, words)
            .expect(0, &["490 draws written to t."]);
        let pairs = read_pairs(&at(&file), &named, None).unwrap();
        assert_eq!(
            (pairs.kind, &pairs.log_weights, &pairs.theta),
            (WeightKind::LogWeight, log_weights, &table.theta)
        );
        // The weights are not rescaled, so their evidence is that of the rounds.
        assert!((pairs.log_z().unwrap().log_z + 3.8141).abs() < 1e-4, "{kind}");
    }
    let npz = read_samples(&at("t.npz"), &ColumnChoice::default()).unwrap();
    assert_eq!(
        (&npz.labels[0][..], &npz.derived, &npz.log_prob),
        ("\\alpha", &table.derived, &table.log_prob)
    );
    assert_eq!(npz.bounds, [(Some(-4.0), Some(4.0)), (None, None), (Some(0.0), None)]);
    assert!(npz.left_out.is_empty(), "{:?}", npz.left_out);
    export(folder.path(), &golden("v1"), "getdist", "chain").expect(0, &["chain_1.txt", "chain.ranges"]);
    let chain = read_chains(&at("chain"), &ChainSettings::default()).unwrap().pairs;
    assert_eq!((&chain.names[..], &chain.labels[0][..]), (&table.names[..], "\\alpha"));
    let largest = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for (row, (ours, lw)) in chain.log_weights.iter().zip(log_weights).enumerate() {
        assert!((ours - (lw - largest)).abs() < 1e-12, "row {row}");
    }
    // The same seed resamples the same draws, and the message says what was done.
    let words = ["ArviZ knows no weights", "of them distinct", "from 490 weighted ones (systematic, seed 3)"];
    export(folder.path(), &golden("v1"), "arviz", "a.json").expect(0, &words);
    export(folder.path(), &golden("v1"), "arviz", "b.json").expect(0, &words);
    assert!(std::fs::read(at("a.json")).unwrap() == std::fs::read(at("b.json")).unwrap());
    unweighted(folder.path());
    let run =
        export(folder.path(), &at("plain"), "arviz", "c.json").expect(0, &["490 draws written to c.json"]);
    assert!(!run.err.contains("resampled"), "{}", run.err);
    assert!(!run.err.contains("contract"), "{}", run.err);
    std::fs::write(at("plain/verdict.json"), "{\"met\": false}").unwrap();
    let words = ["the verdict on these draws is: contract not met"];
    export(folder.path(), &at("plain"), "parquet", "p.parquet").expect(0, &words);
    let pairs = read_pairs(&at("p.parquet"), &ColumnChoice::default(), None).unwrap();
    assert!(pairs.kind == WeightKind::Weight && pairs.log_weights.iter().all(|lw| *lw == 0.0));
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let good = golden("v1");
    let refused = |source: &Path, to: &str, out: &str, words: &[&str]| {
        export(folder.path(), source, to, out).expect(3, words);
    };
    refused(&at("nowhere"), "npz", "o.npz", &["nowhere: no such folder"]);
    std::fs::create_dir_all(at("begun/run")).unwrap();
    refused(&at("begun"), "npz", "o.npz", &["begun: no model.safetensors"]);
    std::fs::write(at("begun/run/run.json"), "{}").unwrap();
    refused(&at("begun"), "npz", "o.npz", &["the rounds have not ended", "--resume"]);
    unweighted(folder.path());
    std::fs::remove_file(at("plain/samples.npz")).unwrap();
    refused(&at("plain"), "npz", "o.npz", &["samples.npz: not there", "n_samples"]);
    let other = SampleTable::new(vec!["q".to_owned()], vec![1.0, 2.0]).unwrap();
    write_samples(&at("plain/samples.npz"), &other, &mut std::io::sink()).unwrap();
    refused(
        &at("plain"),
        "npz",
        "o.npz",
        &["samples.npz: holds the parameters q, the model beside it a, b, c"],
    );
    std::fs::write(at("plain/model.safetensors"), "none").unwrap();
    refused(&at("plain"), "npz", "o.npz", &["model.safetensors: not a usable model file"]);

    refused(&good, "npz", "o.csv", &["o.csv: expected a path that ends in .npz"]);
    refused(&good, "anesthetic", "o.txt", &["`out`", "o.txt", "ends in .csv"]);
    refused(&good, "arviz", "o.nc", &["ends in .json"]);
    refused(&good, "csv", "none/o.csv", &["the folder none does not exist"]);
    refused(&good, "getdist", ".", &["the path of a file, not a folder"]);
    std::fs::write(at("o_2.txt"), "1 2 3").unwrap();
    refused(&good, "getdist", "o", &["a root without other chain files"]);
    export(folder.path(), &good, "getdist", "r").expect(0, &[]);
    refused(&good, "getdist", "r", &["r.paramnames", "r_1.txt", "already there", "--force"]);
    lwflow(folder.path(), &format!("export {} --to getdist --out r --force", good.display()))
        .expect(0, &["r_1.txt"]);
    let own = format!("export {0} --to npz --out {0}/samples.npz --force", good.display());
    lwflow(folder.path(), &own).expect(3, &["is the file that the draws are read from"]);
    lwflow(folder.path(), "export x --to xml --out y").expect(2, &["possible values", "getdist"]);
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 7, "refusals leave no files: {names:?}");
}
