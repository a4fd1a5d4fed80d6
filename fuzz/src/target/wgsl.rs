//! Likelihoods and simulators in WGSL: parsing, the splice, the lowering for the cores, and their evaluation in 32 and in 64 bits.

use std::time::Duration;

use lwflow_engine::{SimulatorProgram, WgslData, WgslProgram, WgslSource};

use super::model::engine;

/// Two points, of two parameters each.
const THETA: [f32; 4] = [0.5, -1.5, 3.0, 0.0];

pub fn run(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let source = WgslSource {
        file: "likelihood.wgsl".into(),
        text: String::from_utf8_lossy(bytes).into_owned(),
        dim: 2,
        n_derived: usize::from(choice & 1),
        n_observed: 2,
        data: (choice & 2 != 0).then(|| WgslData { values: vec![1.0, 2.0, 3.0, 4.0], n_columns: 2 }),
    };
    if let Ok(program) = SimulatorProgram::new(&source)
        && let Ok(x) = engine().simulator(&program).unwrap().simulate(1, u64::MAX, &THETA)
    {
        assert_eq!(x.len(), 4);
    }
    let Ok(program) = WgslProgram::new(&source) else { return };
    let mut likelihood = engine().likelihood(&program).unwrap();
    // Loops without end are broken off by the time limit, and NaN is refused.
    if let Ok((log_likelihood, derived)) = likelihood.evaluate(&THETA) {
        assert_eq!((log_likelihood.len(), derived.len()), (2, 2 * source.n_derived));
        assert!(log_likelihood.iter().all(|l| l.is_finite() || *l == f32::NEG_INFINITY));
    }
    let theta = THETA.map(f64::from);
    if let Ok(Some((log_likelihood, _))) = program.audit(&theta, Duration::from_millis(20)) {
        assert_eq!(log_likelihood.len(), 2);
    }
}
