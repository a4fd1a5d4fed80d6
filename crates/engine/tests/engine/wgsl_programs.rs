//! Whole likelihoods in WGSL against Rust in f64, and everything about them that is not a number: errors by the user's
//! own file, line and column, values that are not finite, loops that do not end, threads and pieces.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::time::{Duration, Instant};

use crate::common::{BOUND, Random, engines, engines_with, gpu};
use lwflow_engine::{DeviceChoice, Engine, EngineError, EngineSettings, WgslData, WgslProgram, WgslSource};

const MINUTE: Duration = Duration::from_secs(60);

fn source(text: &str, dim: usize) -> WgslSource {
    WgslSource { file: "user.wgsl".into(), text: text.into(), dim, ..Default::default() }
}

fn rosenbrock10() -> WgslSource {
    source(include_str!("wgsl_files/rosenbrock10.wgsl"), 10)
}

fn mixture3() -> WgslSource {
    let x = [9.2, 9.4, 16.1, 19.5, 19.9, 20.2, 21.8, 22.4, 23.3, 26.9, 32.1, 34.3];
    let values = x.iter().enumerate().flat_map(|(i, x)| [i as f64, *x]).collect();
    let data = Some(WgslData { values, n_columns: 2 });
    WgslSource { n_derived: 2, data, ..source(include_str!("wgsl_files/mixture3.wgsl"), 8) }
}

fn lotka_volterra() -> WgslSource {
    let values = (0..20).flat_map(|i| [(f64::from(i) * 0.7).sin() + 2.0, (f64::from(i) * 0.6).cos() + 1.5]);
    let data = Some(WgslData { values: values.collect(), n_columns: 2 });
    WgslSource { data, ..source(include_str!("wgsl_files/lotka_volterra.wgsl"), 8) }
}

fn normal(x: f64, mean: f64, sd: f64) -> f64 {
    -0.5 * ((x - mean) / sd).powi(2) - 0.5 * (2.0 * std::f64::consts::PI).ln() - sd.ln()
}

fn rosenbrock10_exact(t: &[f64]) -> f64 {
    t.chunks_exact(2).map(|p| -10.0 * (p[0] * p[0] - p[1]).powi(2) - (p[0] - 1.0).powi(2)).sum()
}

fn mixture3_exact(t: &[f64]) -> f64 {
    let data = mixture3().data.unwrap();
    let logits = [t[6], t[7], 0.0];
    let norm = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
    let one = |x: f64| {
        let terms: Vec<f64> = (0..3).map(|k| logits[k] - norm + normal(x, t[k], t[k + 3].exp())).collect();
        let high = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        high + terms.iter().map(|l| (l - high).exp()).sum::<f64>().ln()
    };
    data.values.chunks_exact(2).map(|row| one(row[1])).sum()
}

fn lotka_volterra_exact(t: &[f64]) -> f64 {
    let data = lotka_volterra().data.unwrap();
    let e: Vec<f64> = t.iter().map(|v| v.exp()).collect();
    let slope = |s: [f64; 2]| [e[0] * s[0] - e[1] * s[0] * s[1], e[2] * s[0] * s[1] - e[3] * s[1]];
    let add = |s: [f64; 2], h: f64, k: [f64; 2]| [s[0] + h * k[0], s[1] + h * k[1]];
    let mut state = [e[4], e[5]];
    let mut sum = 0.0;
    for row in data.values.chunks_exact(2) {
        for _ in 0..10 {
            let k1 = slope(state);
            let k2 = slope(add(state, 0.05, k1));
            let k3 = slope(add(state, 0.05, k2));
            let k4 = slope(add(state, 0.1, k3));
            for j in 0..2 {
                state[j] += 0.1 / 6.0 * (k1[j] + 2.0 * k2[j] + 2.0 * k3[j] + k4[j]);
            }
        }
        sum += normal(row[0], state[0].ln(), e[6]) + normal(row[1], state[1].ln(), e[7]);
    }
    sum
}

/// `theta = centre + scale u`, u uniform in [-1, 1), exact in f32.
fn draws(centre: &[f64], scale: f64, n: usize) -> Vec<f32> {
    let mut random = Random::new(7);
    (0..n)
        .flat_map(|_| centre.iter().map(|c| (c + scale * random.value()) as f32).collect::<Vec<_>>())
        .collect()
}

/// Sum of the magnitudes of the terms grows with log L, and steps of an ODE multiply the rounding of each.
fn compare(name: &str, source: &WgslSource, theta: &[f32], exact: fn(&[f64]) -> f64, amplified: f64) {
    let program = WgslProgram::new(source).unwrap();
    let wide: Vec<f64> = theta.iter().map(|v| f64::from(*v)).collect();
    let expected: Vec<f64> = wide.chunks_exact(source.dim).map(exact).collect();
    let (audit, _) = program.audit(&wide, MINUTE).unwrap().unwrap();
    for (a, e) in audit.iter().zip(&expected) {
        assert!((a - e).abs() <= 1e-12 * amplified * e.abs().max(1.0), "{name} in f64: {a}, expected {e}");
    }
    let magnitude: Vec<f64> = expected.iter().map(|e| amplified * e.abs().max(10.0)).collect();
    for engine in engines() {
        let (got, _) = engine.likelihood(&program).unwrap().evaluate(theta).unwrap();
        let worst = crate::common::error(name, &got, &expected, &magnitude);
        println!("{name} on {}: {worst:.1} units", engine.info());
        assert!(worst <= BOUND, "{name} on {}: {worst}", engine.info());
    }
}

#[test]
fn rosenbrock10_agrees() {
    compare("rosenbrock10", &rosenbrock10(), &draws(&[0.0; 10], 3.0, 1000), rosenbrock10_exact, 1.0);
}

#[test]
fn mixture3_agrees() {
    let centre = [10.0, 20.0, 30.0, 0.5, 0.5, 0.5, 0.0, 0.0];
    compare("mixture3", &mixture3(), &draws(&centre, 1.0, 500), mixture3_exact, 1.0);
}

#[test]
fn lotka_volterra_agrees() {
    let centre = [-0.6, -0.6, -0.6, -0.6, 0.0, 0.0, 0.0, 0.0];
    compare("lotka_volterra", &lotka_volterra(), &draws(&centre, 0.3, 500), lotka_volterra_exact, 10.0);
}

#[test]
fn derived_quantities_come_with_the_values() {
    let program = WgslProgram::new(&mixture3()).unwrap();
    let theta = draws(&[10.0, 20.0, 30.0, 0.5, 0.5, 0.5, 0.0, 0.0], 1.0, 300);
    for engine in engines() {
        let (_, derived) = engine.likelihood(&program).unwrap().evaluate(&theta).unwrap();
        assert_eq!(derived.len(), 600);
        for (row, t) in derived.chunks_exact(2).zip(theta.chunks_exact(8)) {
            assert_eq!(row[0], t[0].min(t[1]).min(t[2]));
            assert!((row[1] - t[3].exp()).abs() <= 1e-5 * row[1], "{} {}", row[1], t[3].exp());
        }
    }
}

#[test]
fn pieces_and_threads_change_no_bit() {
    let program = WgslProgram::new(&lotka_volterra()).unwrap();
    let theta = draws(&[-0.6, -0.6, -0.6, -0.6, 0.0, 0.0, 0.0, 0.0], 0.3, 2500);
    let mut all: Vec<Vec<f32>> = Vec::new();
    for (n_threads, piece) in [(None, None), (Some(1), Some(1000)), (Some(3), Some(64))] {
        let settings = EngineSettings { n_threads, piece_samples: piece, ..Default::default() };
        for (kind, engine) in engines_with(&settings).iter().enumerate() {
            let (got, _) = engine.likelihood(&program).unwrap().evaluate(&theta).unwrap();
            match all.get(kind) {
                Some(first) => assert_eq!(&got, first),
                None => all.push(got),
            }
        }
    }
    // A theta does not know its neighbours.
    let engine = Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..Default::default() }).unwrap();
    let (alone, _) = engine.likelihood(&program).unwrap().evaluate(&theta[8 * 777..8 * 778]).unwrap();
    assert_eq!(alone[0], all[0][777]);
}

#[test]
fn nan_is_an_error_with_its_theta_and_minus_infinity_is_legal() {
    let text = "fn log_likelihood(theta: array<f32, D>) -> f32 {
        if theta[0] > 2.0 { return sqrt(-theta[0]); }
        if theta[0] > 1.0 { return log_add(minus_infinity(), log_sum_exp3(vec3(minus_infinity()))); }
        return theta[1];
    }";
    let program = WgslProgram::new(&source(text, 2)).unwrap();
    for engine in engines() {
        let mut executor = engine.likelihood(&program).unwrap();
        let (got, _) = executor.evaluate(&[0.5, 3.0, 1.5, 4.0]).unwrap();
        assert_eq!(got, [3.0, f32::NEG_INFINITY]);
        let error = executor.evaluate(&[0.5, 3.0, 2.5, 4.0]).unwrap_err();
        match &error {
            EngineError::BadLogLikelihood { row: 1, theta, value } => {
                assert_eq!(theta, &[2.5, 4.0]);
                assert!(value.is_nan());
            }
            other => panic!("{other}"),
        }
        assert!(error.is_recoverable());
        let (raw, _) = executor.evaluate_unchecked(&[0.5, 3.0, 2.5, 4.0]).unwrap();
        assert!(raw[0] == 3.0 && raw[1].is_nan());
        assert!(matches!(executor.evaluate(&[1.0]), Err(EngineError::Length { .. })));
        assert!(matches!(executor.evaluate(&[1.0, f32::NAN]), Err(EngineError::NonFinite { .. })));
        assert_eq!(executor.evaluate(&[]).unwrap().0.len(), 0);
    }
}

#[test]
fn a_loop_that_does_not_end_is_a_timeout_at_its_place() {
    let text = "fn log_likelihood(theta: array<f32, D>) -> f32 {\n    var x = theta[0];\n    loop {\n        x = x * 0.5;\n        if x > 9.0 { break; }\n    }\n    return x;\n}";
    let program = WgslProgram::new(&source(text, 1)).unwrap();
    let settings = EngineSettings { device: DeviceChoice::Cpu, timeout_seconds: 0.3, ..Default::default() };
    let begin = Instant::now();
    let mut executor = Engine::new(&settings).unwrap().likelihood(&program).unwrap();
    let error = executor.evaluate(&vec![1.0; 5000]).unwrap_err();
    assert!(matches!(error, EngineError::Timeout { .. }), "{error}");
    assert!(error.to_string().contains("user.wgsl:3:5"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert!(program.audit(&[1.0], Duration::from_millis(100)).is_err());
}

#[test]
fn a_program_without_a_meaning_in_64_bits_says_so_and_runs() {
    let text =
        "fn log_likelihood(theta: array<f32, D>) -> f32 {\n    return f32(bitcast<u32>(theta[0]) >> 23u);\n}";
    let program = WgslProgram::new(&source(text, 1)).unwrap();
    assert!(program.no_audit().unwrap().starts_with("user.wgsl:2"), "{:?}", program.no_audit());
    assert!(program.audit(&[1.0], MINUTE).unwrap().is_none());
    for engine in engines() {
        assert_eq!(engine.likelihood(&program).unwrap().evaluate(&[1.0, 4.0]).unwrap().0, [127.0, 129.0]);
    }
}

/// Text, derived quantities, line, column and a part of the message.
const WRONG: &[(&str, usize, usize, usize, &str)] = &[
    ("fn log_likelihood(theta: array<f32, D>) -> f32 {\n    return theta[0] +;\n}", 0, 2, 22, "expected"),
    ("fn log_likelihood(theta: array<f32, D>) -> f32 {\n\treturn nothing(theta[0]);\n}", 0, 2, 9, "nothing"),
    (
        "fn log_likelihood(theta: array<f32, D>) -> f32 {\n    let x = 1u + theta[0];\n    return x;\n}",
        0,
        2,
        13,
        "",
    ),
    ("fn log_likelihood(theta: array<f32, D>) -> f32 {\n    return 1u;\n}", 0, 2, 12, ""),
    (
        "fn log_likelihood(theta: array<f32, 3>) -> f32 {\n    return 1.0;\n}",
        0,
        1,
        1,
        "expected `fn log_likelihood(theta: array<f32, 2>) -> f32`",
    ),
    (
        "// nothing\n\nfn log_likelihood(x: f32) -> f32 {\n    return x;\n}",
        0,
        3,
        1,
        "declared as `fn log_likelihood(x: f32) -> f32`",
    ),
    ("fn likelihood(x: f32) -> f32 {\n    return x;\n}", 0, 1, 1, "function `log_likelihood` is missing"),
    (
        "fn log_likelihood(theta: array<f32, D>) -> f32 { return 1.0; }",
        2,
        1,
        1,
        "function `derived` is missing",
    ),
    (
        "fn log_likelihood(theta: array<f32, D>) -> f32 { return 1.0; }\nfn derived(theta: array<f32, D>) -> array<f32, 3> {\n    return array<f32, 3>();\n}",
        2,
        2,
        1,
        "array<f32, 2>",
    ),
    (
        "fn log_likelihood(theta: array<f32, D>) -> f32 { return 1.0; }\nfn derived(theta: array<f32, D>) -> f32 { return 1.0; }",
        0,
        2,
        1,
        "names no derived",
    ),
    (
        "\nfn lgamma(x: f32) -> f32 { return x; }\nfn log_likelihood(theta: array<f32, D>) -> f32 { return 1.0; }",
        0,
        2,
        4,
        "lgamma",
    ),
    ("fn log_likelihood(theta: array<f32, D>) -> f32 { return data(0u, 0u); }", 0, 1, 57, "names no data"),
    (
        "fn log_likelihood(theta: array<f32, D>) -> f32 { return 1.0; }\n  @group(0) @binding(7) var<storage> mine: array<f32>;",
        0,
        2,
        25,
        "data(row, column)",
    ),
    (
        "fn log_likelihood(theta: array<f32, D>) -> f32 { return 1.0; }\n@compute @workgroup_size(1) fn other() {}",
        0,
        2,
        32,
        "entry point",
    ),
    (
        "override k: f32 = 1.0;\nfn log_likelihood(theta: array<f32, D>) -> f32 { return k; }",
        0,
        1,
        1,
        "override",
    ),
    (
        "fn log_likelihood(theta: array<f32, D>) -> f32 {\n    return quantizeToF16(theta[0]);\n}",
        0,
        2,
        12,
        "quantizeToF16",
    ),
    (
        "fn log_likelihood(theta: array<f32, D>) -> f32 {\n    let v = unpack4x8unorm(7u);\n    return v.x;\n}",
        0,
        2,
        13,
        "unpack4x8unorm",
    ),
    (
        "fn bump(p: ptr<function, f32>) { *p = 1.0; }\nfn log_likelihood(theta: array<f32, D>) -> f32 {\n    var a = array<f32, 2>();\n    bump(&a[1]);\n    return a[1];\n}",
        0,
        4,
        11,
        "a pointer to a part",
    ),
    ("fn log_likelihood(theta: array<f32, D>) -> f32 {\n    return theta[0];\n", 0, 2, 21, ""),
    ("", 0, 1, 1, "missing"),
];

#[test]
fn mistakes_are_told_by_the_users_own_place() {
    for (text, n_derived, line, column, part) in WRONG {
        let source = WgslSource { n_derived: *n_derived, ..source(text, 2) };
        let error = WgslProgram::new(&source).unwrap_err();
        let EngineError::Wgsl(error) = error else { panic!("{text}: {error}") };
        assert!(error.message.contains(part), "{text}\n{error}");
        assert_eq!((error.line, error.column), (*line, *column), "{text}\n{error}");
        assert!(error.to_string().starts_with(&format!("user.wgsl:{line}:{column}: ")), "{error}");
        assert!(!error.to_string().contains("lwflow"), "{error}");
    }
}

#[test]
fn names_of_the_kernel_are_the_users_to_take() {
    let text = "struct Batch { id: f32 }\nfn shape(batch: Batch) -> f32 { return batch.id; }
        fn log_likelihood(theta: array<f32, D>) -> f32 { let group = Batch(theta[0]); return shape(group); }";
    let program = WgslProgram::new(&source(text, 1)).unwrap();
    for engine in engines() {
        assert_eq!(engine.likelihood(&program).unwrap().evaluate(&[0.25]).unwrap().0, [0.25]);
    }
}

/// Prints evaluations per second: `cargo test -p lwflow-engine --test wgsl_programs -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn evaluations_per_second() {
    for (name, source, n) in [
        ("rosenbrock10", rosenbrock10(), 1 << 20),
        ("lotka_volterra", lotka_volterra(), 1 << 17),
        ("mixture3", mixture3(), 1 << 18),
    ] {
        let program = WgslProgram::new(&source).unwrap();
        let centre = if source.dim == 10 { vec![0.0; 10] } else { vec![-0.6; 8] };
        let theta = draws(&centre, 0.3, n);
        let one = EngineSettings { device: DeviceChoice::Cpu, n_threads: Some(1), ..Default::default() };
        for engine in engines().into_iter().chain([Engine::new(&one).unwrap()]) {
            let mut executor = engine.likelihood(&program).unwrap();
            executor.evaluate(&theta[..source.dim * 1000]).unwrap();
            let begin = Instant::now();
            executor.evaluate(&theta).unwrap();
            println!(
                "{name} on {}: {:.3e} per second",
                engine.info(),
                n as f64 / begin.elapsed().as_secs_f64()
            );
        }
        let wide: Vec<f64> = theta[..source.dim * n / 16].iter().map(|v| f64::from(*v)).collect();
        let begin = Instant::now();
        program.audit(&wide, MINUTE).unwrap();
        println!("{name} in f64: {:.3e} per second", (n / 16) as f64 / begin.elapsed().as_secs_f64());
    }
    assert!(gpu().is_some() || engines().len() == 1);
}

#[test]
fn the_example_of_the_documentation_runs() {
    let text = include_str!("../../../../docs/wgsl-likelihood.md");
    let text = text.split("```wgsl\n").nth(1).unwrap().split("```").next().unwrap();
    let data = Some(WgslData { values: vec![0.0, 1.1, 1.0, 2.9, 2.0, 5.2], n_columns: 2 });
    let program = WgslProgram::new(&WgslSource { n_derived: 1, data, ..source(text, 3) }).unwrap();
    assert_eq!(program.no_audit(), None);
    let (exact, _) = program.audit(&[2.0, 1.0, -1.0], MINUTE).unwrap().unwrap();
    for engine in engines() {
        let (got, derived) = engine.likelihood(&program).unwrap().evaluate(&[2.0, 1.0, -1.0]).unwrap();
        assert!((f64::from(got[0]) - exact[0]).abs() < 1e-5);
        assert_eq!(derived, [-0.5]);
    }
}
