//! Chains: an input is several files, each after a line that names it; the first byte says how they are read.

use std::fs;

use lwflow_host::files::{ChainSettings, read_chains};

use super::{pairs, scratch};

/// Begins the line of a name.
const MARK: u8 = b'>';
/// Files that any of the readers looks for under the root `run`.
const NAMES: [&str; 11] = [
    "run.paramnames",
    "run_1.txt",
    "run_2.txt",
    "run.txt",
    "run_dead-birth.txt",
    "run_phys_live-birth.txt",
    "rundead-birth.txt",
    "runphys_live-birth.txt",
    "runstats.dat",
    "run/chains/weighted_post.txt",
    "run/info/results.json",
];

pub fn run(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let folder = scratch::folder().join("chains");
    scratch::remove(&folder);
    for name in NAMES {
        fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
    }
    let mut name = None;
    let mut contents: Vec<u8> = Vec::new();
    let write = |name: Option<&str>, contents: &mut Vec<u8>| {
        if let Some(name) = name {
            fs::write(folder.join(name), &contents).unwrap();
        }
        contents.clear();
    };
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let named = line.strip_prefix(&[MARK]).map(<[u8]>::trim_ascii);
        match named.and_then(|named| NAMES.into_iter().find(|name| name.as_bytes() == named)) {
            Some(next) => {
                write(name, &mut contents);
                name = Some(next);
            }
            None => contents.extend(line),
        }
    }
    write(name, &mut contents);
    let burn_in = if choice & 1 == 0 { 0.0 } else { 0.3 };
    let parameters = (choice & 2 != 0).then(|| vec!["a".to_owned()]);
    let settings = ChainSettings { parameters, burn_in };
    if let Ok(read) = read_chains(&folder.join("run"), &settings) {
        pairs::check(&read.pairs);
        assert!(!read.report.kish_ess.is_nan(), "Kish's effective size is NaN");
        if let Some(blocks) = read.blocks {
            assert_eq!(blocks.len(), read.pairs.n);
        }
    }
}
