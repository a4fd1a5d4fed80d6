//! The files of a run of rounds. The first byte says which of them the input is, and whether its checksum is made to fit.

use std::fs;
use std::path::Path;

use lwflow_host::rounds::{FolderJournal, Identity, Journal};

use super::scratch;

const DIM: usize = 2;
const N_DERIVED: usize = 1;
/// Bytes of an evaluation.
const ROW: usize = 8 * (DIM + 1 + N_DERIVED);
const LOG_HEAD: &[u8] = b"lwfloev1\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0";
/// The block of a deep scan that is being evaluated.
const BLOCK: u32 = 12;
const MANIFEST: &str = r#"{"format_version": 2, "identity": {"seed": "1"}}"#;

pub fn run(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let folder = scratch::folder().join("run");
    fs::create_dir_all(&folder).unwrap();
    let (name, contents) = match choice % 9 {
        0 => ("evaluations.log", bytes.to_vec()),
        1 => ("evaluations.log", log(bytes)),
        2 => ("round_1.flow", bytes.to_vec()),
        3 => ("round_1.flow", checked(b"lwflofl1", bytes)),
        4 => ("scan.deep", bytes.to_vec()),
        5 => ("scan.deep", checked(b"lwflodp1", bytes)),
        6 => ("run.json", bytes.to_vec()),
        7 => ("scan.block", bytes.to_vec()),
        _ => ("scan.block", part(bytes)),
    };
    for other in ["round_1.flow", "scan.deep", "scan.block"] {
        scratch::remove(&folder.join(other));
    }
    fs::write(folder.join("run.json"), MANIFEST).unwrap();
    fs::write(folder.join("evaluations.log"), LOG_HEAD).unwrap();
    fs::write(folder.join(name), contents).unwrap();
    survive(&folder);
}

fn checked(magic: &[u8], bytes: &[u8]) -> Vec<u8> {
    [magic, &crc32fast::hash(bytes).to_le_bytes(), bytes].concat()
}

/// A part of block [`BLOCK`] of a deep scan, from its first draw on, that checks.
fn part(bytes: &[u8]) -> Vec<u8> {
    let values = &bytes[..bytes.len() / 8 * 8];
    let head = [BLOCK, 0, (values.len() / 8) as u32].map(u32::to_le_bytes).concat();
    let check = crc32fast::hash(&[&head[..], values].concat());
    [&head[..], &check.to_le_bytes(), values].concat()
}

/// A log of blocks that check: each begins with its number of rows, one byte; what is left over stands at the end.
fn log(mut bytes: &[u8]) -> Vec<u8> {
    let mut log = LOG_HEAD.to_vec();
    while let Some((n, rest)) = bytes.split_first() {
        let Some((rows, rest)) = rest.split_at_checked(usize::from(*n) * ROW) else { break };
        let count = u32::from(*n);
        let block = [&count.to_le_bytes(), &(!count).to_le_bytes(), rows].concat();
        log.extend(&block);
        log.extend(crc32fast::hash(&block).to_le_bytes());
        bytes = rest;
    }
    log.extend(bytes);
    log
}

fn survive(folder: &Path) {
    let identity = Identity::from([("seed".to_owned(), "1".to_owned())]);
    let resume = || FolderJournal::resume(folder, &identity, DIM, N_DERIVED);
    let Ok(mut journal) = resume() else { return };
    let n = journal.n_evaluations();
    let _ = journal.flow(1);
    if let Ok(Some(scan)) = journal.deep_scan() {
        journal.keep_deep_scan(&scan).unwrap();
        assert_eq!(journal.deep_scan().unwrap(), Some(scan));
    }
    if let Ok(part) = journal.deep_block(BLOCK) {
        assert!(part.len() <= 8192 && part.iter().all(|l| *l < f64::INFINITY));
    }
    journal.record(n, &[0.5, 1.5], &[-2.0], &[0.0]).unwrap();
    drop(journal);
    assert_eq!(resume().unwrap().n_evaluations(), n + 1);
}
