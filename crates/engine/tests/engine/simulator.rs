//! Simulators in WGSL: numbers that belong to a simulation and not to its batch, cores against the adapter, pointers in the
//! interpreter, and mistakes by the user's own place.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use crate::common::{Random, engines, engines_with};
use lwflow_engine::{
    DeviceChoice, Engine, EngineError, EngineSettings, SimulatorProgram, WgslData, WgslProgram, WgslSource,
};

fn source(text: &str, dim: usize, n_observed: usize) -> WgslSource {
    WgslSource { file: "user.wgsl".into(), text: text.into(), dim, n_observed, ..Default::default() }
}

fn simulate(engine: &Engine, program: &SimulatorProgram, seed: u64, first: u64, theta: &[f32]) -> Vec<f32> {
    engine.simulator(program).unwrap().simulate(seed, first, theta).unwrap()
}

/// Every function of random numbers, a stochastic differential equation and a loop whose length is drawn.
const ALL: &str = "
    fn noise(scale: f32, stream: ptr<function, Random>) -> f32 { return scale * normal(stream); }
    fn walk(n: u32, stream: ptr<function, Random>) -> f32 {
        var at = 0.0;
        for (var i = 0u; i < n; i++) { if uniform01(stream) < 0.5 { at -= 1.0; } else { at += noise(0.5, stream); } }
        return at;
    }
    fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X> {
        var level = theta[0];
        for (var i = 0; i < 50; i++) { level += 0.02 * (theta[1] - level) + noise(0.05, stream); }
        let n = poisson(3.0 + theta[0] * theta[0], stream);
        return array<f32, X>(
            level, exponential(stream), gamma(1.5, stream), student_t(4.0, stream), f32(n), walk(n, stream),
            f32(binomial(40u, 0.25, stream)), f32(poisson(60.0, stream)), f32(binomial(500u, 0.6, stream)),
        );
    }";

#[test]
fn a_simulation_depends_on_seed_number_and_theta_alone() {
    let program = SimulatorProgram::new(&source(ALL, 2, 9)).unwrap();
    let theta = Random::new(1).values(2 * 1500, 1.0);
    let small = EngineSettings { piece_samples: Some(100), ..Default::default() };
    for (engine, pieces) in engines().into_iter().zip(engines_with(&small)) {
        let all = simulate(&engine, &program, 5, 7, &theta);
        assert_eq!(all, simulate(&engine, &program, 5, 7, &theta), "{}", engine.info());
        assert_eq!(all, simulate(&pieces, &program, 5, 7, &theta), "{}", engine.info());
        for (from, to) in [(0, 1), (3, 140), (1000, 1500)] {
            let part = simulate(&engine, &program, 5, 7 + from as u64, &theta[2 * from..2 * to]);
            assert_eq!(part, all[9 * from..9 * to]);
        }
        for (seed, first) in [(6, 7), (5 + (1 << 32), 7), (5, 7 + (1 << 32)), (5, 8)] {
            let other = simulate(&engine, &program, seed, first, &theta);
            let same = other.iter().zip(&all).step_by(9).filter(|(a, b)| a == b).count();
            assert!(same < 5, "seed {seed}, first {first}: {same} levels are the same");
        }
        // The number of a simulation goes on through 2^32 and from its end to zero.
        for (first, at) in [((1 << 32) - 2, 1 << 32), (u64::MAX - 1, 0)] {
            let across = simulate(&engine, &program, 5, first, &theta[..8]);
            assert_eq!(across[18..], simulate(&engine, &program, 5, at, &theta[4..8]));
        }
        assert!(simulate(&engine, &program, 5, 7, &[]).is_empty());
        let mut executor = engine.simulator(&program).unwrap();
        assert!(matches!(executor.simulate(0, 0, &[1.0]), Err(EngineError::Length { .. })));
        assert!(matches!(executor.simulate(0, 0, &[1.0, f32::NAN]), Err(EngineError::NonFinite { .. })));
    }
}

#[test]
fn threads_do_not_change_what_cores_simulate() {
    let program = SimulatorProgram::new(&source(ALL, 2, 9)).unwrap();
    let theta = Random::new(1).values(2 * 3000, 1.0);
    let with = |n_threads| {
        let settings = EngineSettings { device: DeviceChoice::Cpu, n_threads, ..Default::default() };
        simulate(&Engine::new(&settings).unwrap(), &program, 1, 0, &theta)
    };
    assert_eq!(with(Some(1)), with(Some(3)));
}

#[test]
fn cores_and_adapter_agree() {
    let program = SimulatorProgram::new(&source(ALL, 2, 9)).unwrap();
    let theta = Random::new(2).values(2 * 5000, 1.0);
    let engines = engines();
    let results: Vec<_> = engines.iter().map(|e| simulate(e, &program, 3, 0, &theta)).collect();
    let [cores, adapter] = &results[..] else { return };
    // Where a rounding decides about a rejection, everything behind it is another draw.
    let close = |a: f32, b: f32| (a - b).abs() <= 2e-5 * (1.0 + a.abs());
    let rows = cores.chunks_exact(9).zip(adapter.chunks_exact(9));
    let differ = rows.filter(|(a, b)| !a.iter().zip(*b).all(|(a, b)| close(*a, *b))).count();
    println!("{differ} of 5000 simulations differ");
    assert!(differ <= 10, "{differ} of 5000 simulations differ");
    assert!(cores.chunks_exact(9).zip(adapter.chunks_exact(9)).all(|(a, b)| close(a[0], b[0])));
}

#[test]
fn data_and_derived_stand_in_the_same_file() {
    let text = "
        fn mean(theta: array<f32, D>, row: u32) -> f32 { return theta[0] + theta[1] * data(row, 0u); }
        fn log_likelihood(theta: array<f32, D>) -> f32 {
            var total = 0.0;
            for (var row = 0u; row < n_rows; row++) { total += normal_log_pdf(data(row, 1u), mean(theta, row), 0.5); }
            return total;
        }
        fn derived(theta: array<f32, D>) -> array<f32, M> { return array<f32, M>(theta[0] - theta[1]); }
        fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X> {
            var x: array<f32, X>;
            for (var row = 0u; row < X; row++) { x[row] = mean(theta, row) + 0.5 * normal(stream); }
            return x;
        }";
    let data = WgslData { values: vec![0.0, 1.0, 1.0, 2.0, 2.0, 2.5], n_columns: 2 };
    let source = WgslSource { n_derived: 1, data: Some(data), ..source(text, 2, 3) };
    let likelihood = WgslProgram::new(&source).unwrap();
    assert_eq!(likelihood.no_audit(), None);
    let program = SimulatorProgram::new(&source).unwrap();
    let theta: Vec<f32> = (0..40_000).flat_map(|_| [0.5, 1.0]).collect();
    for engine in engines() {
        let (values, derived) = engine.likelihood(&likelihood).unwrap().evaluate(&[0.5, 1.0]).unwrap();
        let exact: f64 = [0.5f64, 0.5, 0.0].iter().map(|r| -2.0 * r * r).sum::<f64>()
            - 3.0 * (0.5 * (2.0 * std::f64::consts::PI).ln() + 0.5f64.ln());
        assert!((f64::from(values[0]) - exact).abs() < 1e-5 && derived == [-0.5], "{values:?} {exact}");
        let x = simulate(&engine, &program, 1, 0, &theta);
        for (column, expected) in [0.5, 1.5, 2.5].into_iter().enumerate() {
            let mean = x.iter().skip(column).step_by(3).map(|v| f64::from(*v)).sum::<f64>() / 40_000.0;
            assert!((mean - expected).abs() < 5.0 * 0.5 / 200.0, "{mean}, expected {expected}");
        }
    }
}

#[test]
fn pointers_to_variables_of_a_function_are_followed() {
    // Straight functions, which the interpreter puts where they are called, and others; values beside pointers to them.
    let text = "
        struct State { at: vec2<f32>, n: u32 }
        fn push(by: f32, state: ptr<function, State>) -> f32 {
            let before = (*state).at.x;
            (*state).at.x = before + by;
            (*state).at.y += 2.0 * before;
            (*state).n += 1u;
            return before;
        }
        fn twice(by: f32, state: ptr<function, State>) -> f32 { return push(by, state) + 10.0 * push(by, state); }
        fn often(n: u32, state: ptr<function, State>) -> f32 {
            var sum = 0.0;
            while (*state).n < n { sum += push(0.5, state); if sum > 4.0 { return -sum; } }
            return sum;
        }
        fn exchange(a: ptr<function, f32>, b: ptr<function, f32>) -> f32 { let c = *a; *a = *b; *b = c; return c; }
        fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X> {
            var state: State;
            state.at = vec2<f32>(theta[0], theta[1]);
            let first = state.at;
            let a = push(state.at.x, &state);
            let b = twice(state.at.y, &state);
            if theta[1] > 0.0 { state.at.y = push(1.0, &state); }
            let c = often(u32(4.0 + 3.0 * abs(theta[0])), &state);
            var p = theta[0]; var q = theta[1];
            let d = exchange(&p, &q) + exchange(&q, &p);
            return array<f32, X>(first.x, a, b, c, d, state.at.x, state.at.y, f32(state.n), p, q);
        }";
    let exact = |t: &[f32]| -> Vec<f64> {
        let (t0, t1) = (f64::from(t[0]), f64::from(t[1]));
        let (mut x, mut y, mut n) = (t0, t1, 0);
        let mut push = |by: f64, x: &mut f64, y: &mut f64| {
            let before = *x;
            *x += by;
            *y += 2.0 * before;
            n += 1;
            before
        };
        let by = x;
        let a = push(by, &mut x, &mut y);
        let by = y;
        let b = push(by, &mut x, &mut y) + 10.0 * push(by, &mut x, &mut y);
        if t1 > 0.0 {
            let before = push(1.0, &mut x, &mut y);
            y = before;
        }
        let wanted = (4.0 + 3.0 * t[0].abs()) as i32;
        let (mut c, mut made) = (0.0, if t1 > 0.0 { 4 } else { 3 });
        while made < wanted {
            c += push(0.5, &mut x, &mut y);
            made += 1;
            if c > 4.0 {
                c = -c;
                break;
            }
        }
        vec![t0, a, b, c, t0 + t0, x, y, f64::from(n), t0, t1]
    };
    let program = SimulatorProgram::new(&source(text, 2, 10)).unwrap();
    let theta = Random::new(4).values(2 * 700, 2.0);
    for engine in engines() {
        let x = simulate(&engine, &program, 1, 0, &theta);
        for (got, t) in x.chunks_exact(10).zip(theta.chunks_exact(2)) {
            for (column, (got, exact)) in got.iter().zip(exact(t)).enumerate() {
                let off = (f64::from(*got) - exact).abs();
                assert!(
                    off < 2e-5 * (10.0 + exact.abs()),
                    "column {column} of {t:?}: {got}, expected {exact}"
                );
            }
        }
    }
}

#[test]
fn arguments_without_a_meaning_end_in_infinity() {
    let text = "fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X> {
        let value = array<f32, 6>(gamma(theta[1], stream), student_t(theta[1], stream), f32(poisson(theta[1], stream)),
            f32(binomial(10u, theta[1], stream)), 1.0, 2.0);
        return array<f32, X>(normal(stream), value[u32(theta[0])]);
    }";
    // Each row has one senseless argument at least, the last has none.
    let theta = [0.0, -1.0, 1.0, 0.0, 2.0, -0.5, 3.0, 1.5, 4.0, 3e38, 5.0, 0.5];
    let program = SimulatorProgram::new(&source(text, 2, 2)).unwrap();
    for engine in engines() {
        let x = simulate(&engine, &program, 1, 0, &theta);
        let infinite: Vec<bool> = x.chunks_exact(2).map(|row| row[0] == f32::INFINITY).collect();
        assert_eq!(infinite, [true, true, true, true, true, false], "{x:?}");
    }
}

const WRONG: &[(&str, usize, usize, &str)] = &[
    (
        "fn other() -> f32 { return 1.0; }",
        1,
        1,
        "function `simulate` is missing, expected `fn simulate(theta: array<f32, 2>, stream: ptr<function, Random>) -> array<f32, 3>`",
    ),
    (
        "fn simulate(theta: array<f32, D>) -> array<f32, X> { return array<f32, X>(); }",
        1,
        1,
        "is declared as `fn simulate(theta: array<f32, D>) -> array<f32, X>`, expected",
    ),
    (
        "\nfn simulate(theta: array<f32, D>, stream: ptr<function, u32>) -> array<f32, X> { return array<f32, X>(); }",
        2,
        1,
        "expected `fn simulate(theta",
    ),
    (
        "fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, 2> { return array<f32, 2>(); }",
        1,
        1,
        "-> array<f32, 3>`",
    ),
    (
        "fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> f32 { return 0.0; }",
        1,
        1,
        "-> array<f32, 3>`",
    ),
    ("fn normal(x: f32) -> f32 { return x; }", 1, 4, "normal"),
    (
        "fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X> {\n    return array<f32, X>(data(0u, 0u), 0.0, 0.0);\n}",
        2,
        26,
        "the task names no data",
    ),
    (
        "fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X> {\n    return array<f32, X>(quantizeToF16(theta[0]), 0.0, 0.0);\n}",
        2,
        26,
        "in a simulator",
    ),
    ("var<workgroup> a: f32;", 1, 1, "a simulator has no buffers"),
];

#[test]
fn mistakes_are_told_by_the_users_own_place() {
    for (text, line, column, part) in WRONG {
        let error = SimulatorProgram::new(&source(text, 2, 3)).unwrap_err();
        let EngineError::Wgsl(error) = error else { panic!("{text}: {error}") };
        assert!(error.message.contains(part), "{text}\n{error}");
        assert_eq!((error.line, error.column), (*line, *column), "{text}\n{error}");
        assert!(!error.to_string().contains("lwflow"), "{error}");
    }
    let error = SimulatorProgram::new(&source("", 2, 0)).unwrap_err().to_string();
    assert_eq!(error, "simulated values of a WGSL simulator: got 0 values, expected at least one");
    let text = "fn log_likelihood(theta: array<f32, D>) -> f32 { return f32(X); }";
    let error = WgslProgram::new(&source(text, 2, 0)).unwrap_err().to_string();
    assert!(error.contains("the task has no [simulator]"), "{error}");
    WgslProgram::new(&source(text, 2, 1)).unwrap();
}

#[test]
fn names_of_random_numbers_are_free_in_a_likelihood_alone() {
    let text = "struct Random { a: f32 }
        fn normal(x: f32) -> f32 { return x; }
        fn log_likelihood(theta: array<f32, D>) -> f32 { return normal(Random(theta[0]).a); }";
    for engine in engines() {
        let program = WgslProgram::new(&source(text, 1, 0)).unwrap();
        assert_eq!(engine.likelihood(&program).unwrap().evaluate(&[2.0]).unwrap().0, [2.0]);
    }
}
