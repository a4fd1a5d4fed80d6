//! What a crash, another version, another run or a flipped bit does to the files of a run.

use super::*;

fn identity(seed: u64) -> Identity {
    Identity::from([("seed".to_owned(), seed.to_string()), ("device".to_owned(), "a".to_owned())])
}

/// A log of three blocks of 4, 1 and 5 evaluations with two parameters and one derived quantity.
fn run_in(folder: &Path) -> FolderJournal {
    let mut journal = FolderJournal::begin(folder, &identity(1), 2, 1, false).unwrap();
    for (first, n) in [(0, 4), (4, 1), (5, 5)] {
        let value = |i: usize| (first + i) as f64;
        let theta: Vec<f64> = (0..n).flat_map(|i| [value(i), -value(i)]).collect();
        let log_l: Vec<f64> = (0..n).map(|i| 10.0 * value(i)).collect();
        let derived: Vec<f64> = (0..n).map(|i| 0.5 * value(i)).collect();
        journal.record(first, &theta, &log_l, &derived).unwrap();
    }
    journal
}

fn theta_of(range: std::ops::Range<usize>) -> Vec<f64> {
    range.flat_map(|i| [i as f64, -(i as f64)]).collect()
}

#[test]
fn a_resumed_run_recalls_what_it_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    drop(run_in(folder.path()));
    let mut journal = FolderJournal::resume(folder.path(), &identity(1), 2, 1).unwrap();
    assert_eq!(journal.n_evaluations(), 10);
    let mut out = Evaluations::default();
    journal.recall(3, &theta_of(3..6), &mut out).unwrap();
    assert_eq!((out.log_likelihood, out.derived), (vec![30.0, 40.0, 50.0], vec![1.5, 2.0, 2.5]));
    // The end of the log, and what lies beyond.
    let mut out = Evaluations::default();
    journal.recall(8, &theta_of(8..12), &mut out).unwrap();
    assert_eq!(out.log_likelihood, [80.0, 90.0]);
    let error = journal.recall(3, &[3.0, 3.0], &mut Evaluations::default()).unwrap_err().to_string();
    assert!(error.contains("evaluation 3") && error.contains("[3.0, -3.0]"), "{error}");
}

#[test]
fn a_log_that_is_cut_anywhere_keeps_its_whole_blocks() {
    let folder = tempfile::tempdir().unwrap();
    drop(run_in(folder.path()));
    let path = folder.path().join(LOG);
    let whole = std::fs::read(&path).unwrap();
    // Blocks of 4, 1 and 5 rows of 32 bytes, each with 12 bytes around it.
    let ends = [24, 24 + 140, 24 + 140 + 44, 24 + 140 + 44 + 172];
    assert_eq!(whole.len(), ends[3]);
    for length in 24..=whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let journal = FolderJournal::resume(folder.path(), &identity(1), 2, 1).unwrap();
        let kept = [10, 5, 4, 0].into_iter().zip([3, 2, 1, 0]).find(|(_, k)| ends[*k] <= length).unwrap();
        assert_eq!(journal.n_evaluations(), kept.0, "cut at {length}");
        drop(journal);
        // What was torn is gone, so that the next block follows a whole one.
        assert_eq!(std::fs::metadata(&path).unwrap().len(), ends[kept.1] as u64);
    }
}

#[test]
fn a_flipped_bit_is_found() {
    let folder = tempfile::tempdir().unwrap();
    drop(run_in(folder.path()));
    let path = folder.path().join(LOG);
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        std::fs::write(&path, &bytes).unwrap();
        match FolderJournal::resume(folder.path(), &identity(1), 2, 1) {
            Err(JournalError::Damaged { .. }) => {}
            Err(other) => panic!("{other}"),
            // In the last block a wrong checksum looks like a torn write.
            Ok(journal) => assert!(at >= 24 + 140 + 44 && journal.n_evaluations() == 5, "byte {at}"),
        }
    }
}

#[test]
fn other_runs_versions_and_owners_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    assert!(matches!(FolderJournal::resume(at, &identity(1), 2, 1), Err(JournalError::NoRun { .. })));
    let journal = run_in(at);
    assert!(matches!(FolderJournal::resume(at, &identity(1), 2, 1), Err(JournalError::InUse { .. })));
    drop(journal);
    assert!(matches!(FolderJournal::begin(at, &identity(1), 2, 1, false), Err(JournalError::HasRun { .. })));
    let error = FolderJournal::resume(at, &identity(2), 2, 1).unwrap_err().to_string();
    assert!(error.contains("begun with seed 1, now it is 2"), "{error}");
    assert!(matches!(FolderJournal::resume(at, &identity(1), 3, 1), Err(JournalError::Damaged { .. })));
    let manifest = at.join(MANIFEST);
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("\"format_version\": 2", "\"format_version\": 7")).unwrap();
    assert!(matches!(
        FolderJournal::resume(at, &identity(1), 2, 1),
        Err(JournalError::Version { got: 7, .. })
    ));
    assert_eq!(FolderJournal::begin(at, &identity(1), 2, 1, true).unwrap().n_evaluations(), 0);
}

#[test]
fn zeros_at_the_end_are_what_a_crash_left() {
    let folder = tempfile::tempdir().unwrap();
    drop(run_in(folder.path()));
    let path = folder.path().join(LOG);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.resize(bytes.len() + 100, 0);
    std::fs::write(&path, bytes).unwrap();
    let mut journal = FolderJournal::resume(folder.path(), &identity(1), 2, 1).unwrap();
    assert_eq!(journal.n_evaluations(), 10);
    journal.record(10, &theta_of(10..11), &[1.0], &[2.0]).unwrap();
    drop(journal);
    assert_eq!(FolderJournal::resume(folder.path(), &identity(1), 2, 1).unwrap().n_evaluations(), 11);
}

#[test]
fn parts_of_a_block_of_the_deep_scan_come_back_as_far_as_they_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = run_in(folder.path());
    assert!(journal.deep_block(3).unwrap().is_empty());
    journal.keep_deep_block(3, 0, &[1.0, f64::NEG_INFINITY]).unwrap();
    journal.keep_deep_block(3, 2, &[3.0]).unwrap();
    assert_eq!(journal.deep_block(3).unwrap(), [1.0, f64::NEG_INFINITY, 3.0]);
    let path = folder.path().join(DEEP_BLOCK);
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(whole.len(), 16 + 16 + 16 + 8);
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(journal.deep_block(3).unwrap().len(), if length < 32 { 0 } else { 2 }, "cut at {length}");
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(journal.deep_block(3).unwrap().len(), if at < 32 { 0 } else { 2 }, "byte {at}");
    }
    // After a torn end the next part follows what came back.
    std::fs::write(&path, &whole[..40]).unwrap();
    assert_eq!(journal.deep_block(3).unwrap().len(), 2);
    journal.keep_deep_block(3, 2, &[4.0]).unwrap();
    assert_eq!(journal.deep_block(3).unwrap(), [1.0, f64::NEG_INFINITY, 4.0]);
    // The next block takes its place.
    journal.keep_deep_block(4, 0, &[5.0]).unwrap();
    assert_eq!((journal.deep_block(4).unwrap(), journal.deep_block(3).unwrap()), (vec![5.0], vec![]));
    drop(journal);
    FolderJournal::begin(folder.path(), &identity(1), 2, 1, true).unwrap();
    assert!(!path.exists());
}

/// Runs have no earlier versions to read; this one goes on being read as it was written (tests/data/golden/README.md).
#[test]
fn a_recorded_run_is_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/golden/checkpoint2/run");
    let folder = tempfile::tempdir().unwrap();
    for name in [MANIFEST, LOG, "round_1.flow", "round_2.flow"] {
        std::fs::copy(golden.join(name), folder.path().join(name)).unwrap();
    }
    let manifest = std::fs::read(folder.path().join(MANIFEST)).unwrap();
    let Manifest { format_version, identity } = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(format_version, FORMAT_VERSION);
    let mut journal = FolderJournal::resume(folder.path(), &identity, 3, 1).unwrap();
    assert_eq!(journal.n_evaluations(), 1000);
    let theta: Vec<f64> = journal.rows.chunks_exact(5).flat_map(|row| row[..3].to_vec()).collect();
    let mut out = Evaluations::default();
    journal.recall(0, &theta, &mut out).unwrap();
    // The likelihood of its two.wgsl, and its derived quantity.
    let normal = |x: f64, mean: f64| {
        -0.5 * ((x - mean) / 0.3).powi(2) - (0.3 * (2.0 * std::f64::consts::PI).sqrt()).ln()
    };
    for (i, t) in theta.chunks_exact(3).enumerate() {
        let (a, b) = (normal(t[0], -2.0) + normal(t[1], 1.0), normal(t[0], 2.0) + normal(t[1], -1.0));
        let log_l = a.max(b) + (-(a - b).abs()).exp().ln_1p() - 2f64.ln();
        assert!((out.log_likelihood[i] - log_l).abs() < 1e-5 * (1.0 + log_l.abs()), "row {i}");
        assert!((out.derived[i] - t[0] - t[1]).abs() < 1e-6, "row {i}");
    }
    for round in 1..=2 {
        let flow = journal.flow(round).unwrap().unwrap();
        assert_eq!(flow.names, ["a", "b", "c"]);
    }
    assert!(journal.flow(3).unwrap().is_none());
}
