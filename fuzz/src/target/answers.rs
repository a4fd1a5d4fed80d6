//! Answers of child processes, without a child. The first byte chooses the protocol and who is asked; the rest is what a child
//! wrote.

use lwflow_host::likelihood::{CommandLikelihood, CommandSettings, Protocol};
use lwflow_host::simulator::{CommandSimulator, has_failed};

/// Answers that are due.
const N: usize = 3;
const N_OBSERVED: usize = 2;

pub fn run(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let n_derived = usize::from(choice & 2 != 0);
    let settings = CommandSettings {
        protocol: if choice & 1 == 0 { Protocol::Binary } else { Protocol::Csv },
        derived: ["d".to_owned()][..n_derived].to_vec(),
        ..CommandSettings::default()
    };
    if choice & 4 != 0 {
        let (x, read) = CommandSimulator::read(&settings, N_OBSERVED, N, bytes);
        assert!(x.len() == N * N_OBSERVED || read.is_err());
        for row in x.chunks(N_OBSERVED) {
            assert!(row.len() == N_OBSERVED && (has_failed(row) || row.iter().all(|v| v.is_finite())));
        }
        return;
    }
    let (out, read) = CommandLikelihood::read(&settings, N, bytes);
    let n = out.log_likelihood.len();
    assert!(n == N || read.is_err());
    assert_eq!(out.derived.len(), n * n_derived);
    assert!(out.log_likelihood.iter().all(|l| l.is_finite() || *l == f64::NEG_INFINITY));
    for (l, derived) in out.log_likelihood.iter().zip(out.derived.chunks(n_derived.max(1))) {
        assert!(*l == f64::NEG_INFINITY || derived.iter().all(|v| v.is_finite()));
    }
}
