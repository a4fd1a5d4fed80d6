//! What UltraNest, nautilus, dynesty and MultiNest leave (tests/data/samplers) gives the moments and the evidence that they
//! themselves state, and what is wrong with such files is named as they call it.

use std::path::{Path, PathBuf};

use approx::assert_relative_eq;
use serde_json::Value;

use super::super::{
    ChainFormat, ChainSettings, FileError, WeightKind, WeightedPairs, read_chains, read_pairs,
};
use super::{all, folder, named, npz, put};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/samplers").join(name)
}

fn chain(root: &Path) -> Result<WeightedPairs, FileError> {
    read_chains(root, &ChainSettings::default()).map(|chains| chains.pairs)
}

/// Compares means, standard deviations and evidence with what said.json holds under `key`.
fn check(pairs: &WeightedPairs, key: &str, tolerance: f64) {
    let said: Value = serde_json::from_str(&std::fs::read_to_string(data("said.json")).unwrap()).unwrap();
    let said = &said[key];
    let weights = pairs.weights();
    for j in 0..2 {
        let moment = |value: &dyn Fn(f64) -> f64| -> f64 {
            weights.iter().zip(pairs.theta.chunks_exact(2)).map(|(w, theta)| w * value(theta[j])).sum()
        };
        let mean = moment(&|x| x);
        let sd = moment(&|x| (x - mean).powi(2)).sqrt();
        assert_relative_eq!(mean, said["mean"][j].as_f64().unwrap(), max_relative = tolerance);
        assert_relative_eq!(sd, said["sd"][j].as_f64().unwrap(), max_relative = tolerance);
    }
    let evidence = pairs.log_z();
    assert_eq!(evidence.is_some(), said["log_z"].is_f64(), "{key}");
    if let Some(evidence) = evidence {
        // The contours' volumes are expectations of log X here and of X in MultiNest's weights.
        let slack = if tolerance > 1e-9 { 0.03 } else { 1e-9 };
        assert!((evidence.log_z - said["log_z"].as_f64().unwrap()).abs() < slack, "{key} {evidence:?}");
        assert_relative_eq!(evidence.sd, said["log_z_sd"].as_f64().unwrap(), max_relative = 20.0 * tolerance);
        assert_relative_eq!(pairs.log_sum(), evidence.log_z, epsilon = 1e-9);
        // Means of few points; their own error covers the truth.
        assert!((evidence.log_z + 4f64.ln()).abs() < 3.0 * evidence.sd, "{key} {evidence:?}");
    }
}

#[test]
fn ultranest_gives_its_own_moments() {
    let found = read_chains(&data("ultranest"), &ChainSettings::default()).unwrap();
    assert_eq!(found.report.format, ChainFormat::UltraNest);
    let pairs = found.pairs;
    assert_eq!(
        (&pairs.names[..], pairs.kind),
        (&["x".to_owned(), "y".to_owned()][..], WeightKind::NestedSampling)
    );
    assert_eq!(pairs.log_likelihood.as_ref().map(Vec::len), Some(pairs.n));
    assert!(pairs.notes.iter().any(|n| n.starts_with("weighted points of UltraNest")), "{:?}", pairs.notes);
    check(&pairs, "ultranest", 1e-9);
    // Of a run whose weighted points and results are gone, the equally weighted ones are left.
    let folder = folder();
    std::fs::create_dir(folder.path().join("chains")).unwrap();
    let name = "chains/equal_weighted_post.txt";
    std::fs::copy(data("ultranest").join(name), folder.path().join(name)).unwrap();
    let pairs = chain(folder.path()).unwrap();
    check(&pairs, "ultranest_equal", 1e-9);
    assert!(pairs.notes.iter().any(|n| n.contains("results.json states no evidence")), "{:?}", pairs.notes);
}

#[test]
fn multinest_is_read_with_and_without_birth_contours() {
    let new = read_chains(&data("multinest/new-"), &ChainSettings::default()).unwrap();
    assert_eq!((new.report.format, new.report.files.len()), (ChainFormat::MultiNest, 2));
    assert_eq!((new.pairs.n, &new.pairs.labels[0][..]), (140, "\\alpha"));
    check(&new.pairs, "multinest", 0.02);
    let old = read_chains(&data("multinest/old-"), &ChainSettings::default()).unwrap();
    assert_eq!((old.report.format, &old.pairs.labels[1][..]), (ChainFormat::MultiNest, "\\beta"));
    check(&old.pairs, "multinest", 1e-9);
    for (a, b) in new.pairs.log_likelihood.unwrap().iter().zip(old.pairs.log_likelihood.unwrap()) {
        assert_relative_eq!(*a, b, epsilon = 1e-9);
    }
    // A root that ends with a bar is MultiNest's, though PolyChord's names would fit.
    let folder = folder();
    for name in ["dead-birth.txt", "phys_live-birth.txt"] {
        std::fs::copy(data("multinest").join(format!("new-{name}")), folder.path().join(format!("r_{name}")))
            .unwrap();
    }
    put(&folder, "r_stats.dat", "");
    for root in ["r", "r_", "r_dead-birth.txt", "r_stats.dat"] {
        let read = read_chains(&folder.path().join(root), &ChainSettings::default()).unwrap();
        assert_eq!((read.report.format, read.pairs.n), (ChainFormat::MultiNest, 140), "{root}");
    }
}

#[test]
fn a_folder_with_one_chain_stands_for_its_root() {
    let chains = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/chains");
    let (multinest, none) = (data("multinest"), folder());
    for (source, root, ending, others) in [
        (&multinest, "new-", "new-stats.dat", &["new-.txt", "new-summary.txt", "new-phys_live.points"][..]),
        (&multinest, "old-", "old-ev.dat", &["old-post_equal_weights.dat", "old-summary.txt"]),
        (&chains, "pc", "pc.stats", &["pc.txt", "pc_equal_weights.txt", "pc_dead.txt", "notes.txt"]),
        (&chains, "gd", "gd.ranges", &["gd.updated.yaml", "README.txt"]),
    ] {
        let alone = folder();
        for entry in std::fs::read_dir(source).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.starts_with(root) {
                std::fs::copy(&path, alone.path().join(name)).unwrap();
            }
        }
        for other in [ending].iter().chain(others).filter(|name| !alone.path().join(name).exists()) {
            put(&alone, other, "");
        }
        let settings = ChainSettings::default();
        let read = read_chains(alone.path(), &settings).unwrap();
        let (found, named) = (&read.report, read_chains(&source.join(root), &settings).unwrap().report);
        assert_eq!((found.format, found.kish_ess), (named.format, named.kish_ess), "{root}");
        assert_eq!((found.root.file_name(), named.root), (Some(root.as_ref()), source.join(root)));
        assert_eq!(read.pairs.names, chain(&source.join(root)).unwrap().names, "{root}");
    }
    refused(chain(&multinest), &["2 roots, `new-`, `old-`;"]);
    refused(chain(&chains), &["2 roots, `gd`, `pc`;"]);
    put(&none, "notes.txt", "1 2 3");
    refused(chain(none.path()), &["no chain found", "stats.dat"]);
}

#[test]
fn arrays_of_dynesty_and_nautilus_are_pairs() {
    let pairs = read_pairs(&data("dynesty.npz"), &named(&["a", "b"]), None).unwrap();
    assert_eq!(
        (&pairs.names[..], pairs.kind),
        (&["a".to_owned(), "b".to_owned()][..], WeightKind::NestedSampling)
    );
    assert!(pairs.notes.iter().any(|n| n.contains("arrays of dynesty")) && pairs.log_likelihood.is_some());
    check(&pairs, "dynesty", 1e-9);
    let pairs = read_pairs(&data("nautilus.npz"), &all(), None).unwrap();
    check(&pairs, "nautilus", 1e-9);
    for word in ["arrays of nautilus", "log Z is null"] {
        assert!(pairs.notes.iter().any(|n| n.contains(word)), "{:?}", pairs.notes);
    }
}

#[track_caller]
fn refused(read: Result<WeightedPairs, FileError>, words: &[&str]) {
    let text = read.unwrap_err().to_string();
    for word in words {
        assert!(text.contains(word), "no `{word}` in {text}");
    }
}

#[test]
fn broken_files_of_samplers_are_refused_in_their_own_words() {
    let folder = folder();
    let arrays = |samples: &[f64], logwt: &[f64], logz: &[f64]| {
        let n = logwt.len() as u64;
        let bytes = npz(&[
            ("samples", &[samples.len() as u64, 1], samples),
            ("logwt", &[n], logwt),
            ("logz", &[logz.len() as u64], logz),
            ("logzerr", &[1], &[0.1]),
        ]);
        read_pairs(&put(&folder, "d.npz", bytes), &all(), None)
    };
    assert!(arrays(&[1.0, 2.0], &[-1.0, -2.0], &[-0.5]).is_ok());
    refused(
        arrays(&[1.0, 2.0], &[-1.0, f64::NAN], &[-0.5]),
        &["d.npz: row 1, field `logwt`", "NaN", "theta = [2]"],
    );
    refused(
        arrays(&[1.0, 2.0], &[-1.0], &[-0.5]),
        &["`logwt` has shape [1]", "one value per row of samples"],
    );
    refused(arrays(&[1.0], &[f64::NEG_INFINITY], &[-0.5]), &["weight zero", "logwt is -inf"]);
    refused(arrays(&[1.0], &[0.0], &[f64::NAN]), &["dynesty", "array `logz` ends with NaN"]);
    refused(arrays(&[1.0], &[0.0], &[]), &["`logz` has shape [0]"]);

    let nest = |text: &str, results: &str| {
        std::fs::create_dir_all(folder.path().join("u/chains")).unwrap();
        std::fs::create_dir_all(folder.path().join("u/info")).unwrap();
        put(&folder, "u/chains/weighted_post.txt", text);
        put(&folder, "u/info/results.json", results);
        chain(&folder.path().join("u"))
    };
    let good = "{\"logz\": -1, \"logzerr\": NaN, \"paramnames\": [\"a\"]}";
    assert_eq!(nest("weight logl a\n0.5 -1 3\n", good).unwrap().log_z(), None);
    refused(
        nest("weight logl a\n0.5 -1 x\n", good),
        &["weighted_post.txt: row 0 (line 2)", "`x` is not a number"],
    );
    refused(
        nest("weight logl a\n-0.5 -1 3\n", good),
        &["row 0 (line 2), field `weight`", "-0.5", "theta = [3]"],
    );
    refused(nest("weight logl a\n0.5 nan 3\n", good), &["field `logl`", "NaN"]);
    refused(nest("weight logl a\n0.5 -1 inf\n", good), &["theta[0] (a)", "inf"]);
    refused(nest("weight logl a\n0 -1 1\n", good), &["weight is 0 everywhere"]);
    refused(nest("weight logl a b\n0.5 -1 3 4\n", good), &["results.json", "[1]", "2 names"]);
    refused(nest("weight logl\n0.5 -1\n", good), &["2 columns", "at least 3: weight, log L, parameters"]);
    refused(nest("weight logl a\n", good), &["it has no rows"]);
    refused(nest("weight logl a\n0.5 -1 3\n", "{"), &["results.json", "UltraNest results"]);
    std::fs::remove_dir_all(folder.path().join("u/chains")).unwrap();
    refused(chain(&folder.path().join("u")), &["no chain found", "u/chains/weighted_post.txt"]);

    let multi = |text: &str, stats: &str| {
        put(&folder, "m-.txt", text);
        put(&folder, "m-stats.dat", stats);
        chain(&folder.path().join("m-"))
    };
    let stats = " Global Evidence:   -0.5E+01  +/-  0.1E+00\n";
    assert_eq!(multi("1 4 3\n", stats).unwrap().log_z().map(|z| (z.log_z, z.sd)), Some((-5.0, 0.1)));
    refused(multi("1 4 3\n", "nothing"), &["m-stats.dat", "Nested Sampling Global Log-Evidence"]);
    refused(multi("1 -inf 3\n", stats), &["row 0 (line 1), field `-2 log L (second column)`", "-inf"]);
    std::fs::remove_file(folder.path().join("m-.txt")).unwrap();
    refused(chain(&folder.path().join("m-")), &["m-.txt", "cannot open"]);
    put(&folder, "n-dead-birth.txt", "1 2\n");
    refused(
        chain(&folder.path().join("n-")),
        &["at least 5: parameters, log L, birth log L, log weight, cluster"],
    );
    let settings = ChainSettings { burn_in: 0.3, ..ChainSettings::default() };
    let text = read_chains(&data("ultranest"), &settings).unwrap_err().to_string();
    assert!(text.contains("no burn-in"), "{text}");
}
