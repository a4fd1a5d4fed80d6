//! Every file of every corpus goes through its target, within the limit of memory.
#![allow(clippy::unwrap_used)]

use lwflow_fuzz::{MEMORY_BYTES, Target, limit_memory};

/// Fewer files than this are no corpus.
const MIN_FILES: usize = 8;

#[test]
fn every_corpus_is_survived() {
    limit_memory().unwrap();
    let too_much = usize::try_from(MEMORY_BYTES).unwrap() + 1;
    assert!(!cfg!(target_os = "linux") || Vec::<u8>::new().try_reserve_exact(too_much).is_err(), "no limit");
    for target in Target::ALL {
        let mut files: Vec<_> =
            std::fs::read_dir(target.corpus()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= MIN_FILES, "{} has {} files", target.name(), files.len());
        for file in &files {
            // libtest shows this only if what follows fails.
            println!("{}", file.display());
            target.run(&std::fs::read(file).unwrap());
        }
    }
}
