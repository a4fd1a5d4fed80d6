//! Chains and their ranges: an input is several files, each after a line that names it; the first byte says how they are read.

use std::fs;

use lwflow_host::files::{ChainSettings, ranges_file, read_chains, read_ranges};

use super::{pairs, scratch, several};

/// Files that any of the readers looks for under the root `run`.
const NAMES: [&str; 12] = [
    "run.paramnames",
    "run.ranges",
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
    several::write(&folder, &NAMES, bytes);
    let burn_in = if choice & 1 == 0 { 0.0 } else { 0.3 };
    let parameters = (choice & 2 != 0).then(|| vec!["a".to_owned()]);
    let settings = ChainSettings { parameters, burn_in };
    if let Ok(ranges) = read_ranges(&ranges_file(&folder.join("run"))) {
        assert!(ranges.iter().all(|r| r.lower.is_none_or(|l| r.upper.is_none_or(|u| l < u))));
    }
    if let Ok(read) = read_chains(&folder.join("run"), &settings) {
        pairs::check(&read.pairs);
        assert!(!read.report.kish_ess.is_nan(), "Kish's effective size is NaN");
        if let Some(blocks) = read.blocks {
            assert_eq!(blocks.len(), read.pairs.n);
        }
    }
}
