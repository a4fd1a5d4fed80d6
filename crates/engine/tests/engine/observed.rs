//! Log likelihoods of many observations in one call, against the likelihood with that one observation as its data, theta by theta.
//! Invariant: an observation is read from its own values alone, whatever the indices and whatever is beside it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use crate::common::{BOUND, Random, engines_with, error, wide};
use lwflow_engine::{
    DeviceInfo, DeviceKind, Engine, EngineError, EngineSettings, WgslData, WgslProgram, WgslSource,
};

/// Indices that all theta share and indices of theta, both also outside the data; under a mask and not.
const TEXT: &str = "
    fn log_likelihood(theta: array<f32, D>) -> f32 {
        let row = u32(abs(theta[0]) * 4.0);
        let column = u32(abs(theta[1]) * 6.0);
        var total = data(row, column) + 2.0 * data(row, 1u) + 3.0 * data(99u, 99u);
        if theta[0] > 0.0 { total += 0.5 * data(0u, column) * theta[1]; }
        for (var r = 0u; r < n_rows; r++) {
            for (var c = 0u; c < n_columns; c++) { total -= square(data(r, c) - theta[0]); }
        }
        return total;
    }
    fn derived(theta: array<f32, D>) -> array<f32, M> {
        return array<f32, M>(theta[0] + data(0u, 0u), data(u32(abs(theta[1]) * 6.0), 2u));
    }";

fn program(text: &str, n_derived: usize, values: &[f64]) -> WgslProgram {
    let data = Some(WgslData { values: values.to_vec(), n_columns: 3 });
    let (file, text) = ("user.wgsl".into(), text.into());
    WgslProgram::new(&WgslSource { file, text, dim: 2, n_derived, data, ..Default::default() }).unwrap()
}

/// Small pieces, so that an adapter has borders of pieces too.
fn engines() -> Vec<Engine> {
    engines_with(&EngineSettings { piece_samples: Some(100), ..Default::default() })
}

/// The cores do the same operations on the same numbers; the compiler of an adapter may order them differently.
fn same(info: &DeviceInfo, got: &[f32], expected: &[f32]) {
    if info.kind == DeviceKind::Cpu {
        return assert_eq!(got, expected, "{info}");
    }
    let expected = wide(expected);
    let magnitude: Vec<f64> = expected.iter().map(|e| 20.0 + e.abs()).collect();
    assert!(error("observed", got, &expected, &magnitude) <= BOUND, "{info}");
}

#[test]
fn every_theta_has_the_value_of_its_own_observation() {
    for (n_rows, n_observations, n, step) in [
        (1, 1, 129, 1),
        (1, 3, 1, 1),
        (1, 3, 513, 1),
        (2, 3, 700, 1),
        (1, 1000, 512, 50),
        (2, 1000, 1500, 50),
    ] {
        let mut random = Random::new(3);
        let n_values = 3 * n_rows;
        let observations = wide(&random.values(n_observations * n_values, 2.0));
        let theta = random.values(2 * n, 1.0);
        let mut index = || ((random.value() + 1.0) * 0.5 * n_observations as f64) as u32;
        let observation: Vec<u32> = (0..n).map(|_| index()).collect();
        let zero = program(TEXT, 2, &vec![0.0; n_values]);
        assert_eq!(zero.n_observed(), Some(n_values));
        for engine in engines() {
            let mut executor = engine.likelihood(&zero).unwrap();
            let before = executor.evaluate(&theta).unwrap();
            executor.observe(&observations).unwrap();
            let (got, derived) = executor.evaluate_observed(&theta, &observation).unwrap();
            let mut n_compared = 0;
            assert_eq!((got.len(), derived.len()), (n, 2 * n));
            for j in (0..n_observations).step_by(step) {
                let one = program(TEXT, 2, &observations[j * n_values..(j + 1) * n_values]);
                let (values, of_them) = engine.likelihood(&one).unwrap().evaluate(&theta).unwrap();
                for i in (0..n).filter(|i| observation[*i] as usize == j) {
                    same(engine.info(), &got[i..=i], &values[i..=i]);
                    same(engine.info(), &derived[2 * i..2 * i + 2], &of_them[2 * i..2 * i + 2]);
                    n_compared += 1;
                }
            }
            assert!(n_compared >= n / step / 2, "{n_compared} of {n}");
            // The data of the program itself are still there, and neighbours change nothing.
            assert_eq!(executor.evaluate(&theta).unwrap(), before);
            let from = n / 3;
            let (part, _) = executor.evaluate_observed(&theta[2 * from..], &observation[from..]).unwrap();
            assert_eq!(part, got[from..]);
        }
    }
}

#[test]
fn observations_may_change_and_grow() {
    let text = "fn log_likelihood(theta: array<f32, D>) -> f32 { return data(0u, 2u) + theta[0]; }";
    let program = program(text, 0, &[0.0; 3]);
    for engine in engines() {
        let mut executor = engine.likelihood(&program).unwrap();
        for n in [2_u32, 1, 500, 3] {
            let observations: Vec<f64> = (0..3 * n).map(|v| f64::from(v + n)).collect();
            executor.observe(&observations).unwrap();
            let indices: Vec<u32> = (0..n).rev().collect();
            let (got, _) = executor.evaluate_observed(&vec![0.5; 2 * n as usize], &indices).unwrap();
            let expected: Vec<f32> = indices.iter().map(|j| (3 * j + 2 + n) as f32 + 0.5).collect();
            assert_eq!(got, expected, "{}", engine.info());
            // Also where a buffer has room for more.
            let error = executor.evaluate_observed(&[0.0; 4], &[0, n]).unwrap_err();
            let told = format!("observation: {n} at row 1, expected below {n}");
            assert_eq!(error.to_string(), told);
        }
        let none = executor.evaluate_observed(&[], &[]).unwrap();
        assert!(none.0.is_empty() && none.1.is_empty());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let text = "fn log_likelihood(theta: array<f32, D>) -> f32 {
        if data(0u, 0u) > 5.0 { return sqrt(-data(0u, 0u)); }
        return select(theta[0], minus_infinity(), data(0u, 0u) > 4.0);
    }";
    let reading = program(text, 0, &[0.0; 3]);
    let constant = "fn log_likelihood(theta: array<f32, D>) -> f32 { return theta[0]; }";
    let blind = program(constant, 0, &[0.0; 3]);
    assert_eq!(blind.n_observed(), None);
    for engine in engines() {
        let error = engine.likelihood(&blind).unwrap().observe(&[0.0; 3]).unwrap_err();
        assert!(error.to_string().contains("does not call `data`"), "{error}");
        let mut executor = engine.likelihood(&reading).unwrap();
        let index = |error| matches!(error, EngineError::Index { row: 0, got: 0, len: 0, .. });
        assert!(index(executor.evaluate_observed(&[1.0, 1.0], &[0]).unwrap_err()));
        for wrong in [&[][..], &[1.0; 4]] {
            let error = executor.observe(wrong).unwrap_err();
            assert!(
                error.to_string().contains("a positive multiple of 3 (the program reads 1 x 3"),
                "{error}"
            );
        }
        executor.observe(&[1.0, 0.0, 0.0, 4.5, 0.0, 0.0, 6.0, 0.0, 0.0]).unwrap();
        let theta = [0.5, 0.0, 0.25, 0.0];
        let (values, _) = executor.evaluate_observed(&theta, &[1, 0]).unwrap();
        assert_eq!(values, [f32::NEG_INFINITY, 0.25]);
        match executor.evaluate_observed(&theta, &[0, 2]).unwrap_err() {
            EngineError::BadLogLikelihood { row: 1, theta, value } => {
                assert!(theta == [0.25, 0.0] && value.is_nan());
            }
            other => panic!("{other}"),
        }
        let length = |error| matches!(error, EngineError::Length { what: "observation", got: 1, .. });
        assert!(length(executor.evaluate_observed(&theta, &[0]).unwrap_err()));
        let error = executor.evaluate_observed(&[0.5, f32::NAN], &[0]).unwrap_err();
        assert!(matches!(error, EngineError::NonFinite { what: "theta", .. }), "{error}");
        for bad in [f64::NAN, 1e39] {
            let error = executor.observe(&[0.0, 0.0, 0.0, 0.0, bad, 0.0]).unwrap_err();
            assert!(matches!(error, EngineError::NonFinite { row: 1, column: 1, .. }), "{error}");
        }
        // Observations that were refused do not leave the earlier ones in their place.
        assert!(index(executor.evaluate_observed(&[1.0, 1.0], &[0]).unwrap_err()));
    }
}
