//! The random numbers of simulators against the exact distributions, on the cores and on the adapter: distance of Kolmogorov
//! and Smirnov, mean and variance, and no dependence between the numbers of a simulation or of neighbouring ones.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use crate::common::engines;
use lwflow_engine::{SimulatorProgram, WgslSource};
use statrs::function::beta::beta_reg;
use statrs::function::gamma::{gamma_lr, gamma_ur};

/// Simulations and numbers of each.
const N: usize = 32_768;
const X: usize = 4;
/// sqrt(n) times the distance is larger once in ten thousand tests.
const KOLMOGOROV: f64 = 2.23;

/// Simulated values `[N, X]` of `call`, on every device.
fn draws(call: &str, parameters: [f32; 2]) -> Vec<(String, Vec<f64>)> {
    let text = format!(
        "fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, X> {{
            var x: array<f32, X>;
            for (var i = 0u; i < X; i++) {{ x[i] = f32({call}); }}
            return x;
        }}"
    );
    let file = "user.wgsl".to_owned();
    let source = WgslSource { file, text, dim: 2, n_observed: X, ..Default::default() };
    let program = SimulatorProgram::new(&source).unwrap();
    let theta: Vec<f32> = (0..N).flat_map(|_| parameters).collect();
    let on = |engine: lwflow_engine::Engine| {
        let x = engine.simulator(&program).unwrap().simulate(20, 0, &theta).unwrap();
        (
            format!("{call} of {parameters:?} on {}", engine.info().kind),
            x.into_iter().map(f64::from).collect(),
        )
    };
    engines().into_iter().map(on).collect()
}

/// Compares with a distribution function, which counts the point itself, and with mean and variance where there are any.
fn judge(
    name: &str,
    x: &[f64],
    cdf: impl Fn(f64) -> f64,
    mean: f64,
    variance: Option<f64>,
    is_discrete: bool,
) {
    let n = x.len() as f64;
    let mut sorted = x.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut distance = 0.0f64;
    for (i, value) in sorted.iter().enumerate() {
        if sorted.get(i + 1) == Some(value) {
            continue;
        }
        let below = sorted.partition_point(|v| v < value) as f64 / n;
        let exact = cdf(*value);
        distance = distance.max((exact - (i + 1) as f64 / n).abs());
        if !is_discrete {
            distance = distance.max((exact - below).abs());
        }
    }
    let scaled = distance * n.sqrt();
    let m = x.iter().sum::<f64>() / n;
    let central = |k| x.iter().map(|v| (v - m).powi(k)).sum::<f64>() / n;
    let (v, v4) = (central(2), central(4));
    println!("{name}: distance {scaled:.2}, mean {m} ({mean}), variance {v} ({variance:?})");
    assert!(scaled < KOLMOGOROV, "{name}: sqrt(n) times the distance is {scaled}");
    let Some(variance) = variance else { return };
    assert!((m - mean).abs() <= 4.5 * (variance / n).sqrt(), "{name}: mean {m}, expected {mean}");
    let error = 4.5 * ((v4 - v * v) / n).sqrt();
    assert!((v - variance).abs() <= error, "{name}: variance {v}, expected {variance} +- {error}");
}

#[test]
fn numbers_without_parameters() {
    for (name, x) in draws("uniform01(stream)", [0.0; 2]) {
        assert!(x.iter().all(|v| 0.0 < *v && *v < 1.0));
        judge(&name, &x, |v| v, 0.5, Some(1.0 / 12.0), false);
    }
    for (name, x) in draws("normal(stream)", [0.0; 2]) {
        judge(&name, &x, |v| 0.5 * libm::erfc(-v / 2f64.sqrt()), 0.0, Some(1.0), false);
    }
    for (name, x) in draws("exponential(stream)", [0.0; 2]) {
        assert!(x.iter().all(|v| *v > 0.0));
        judge(&name, &x, |v| 1.0 - (-v).exp(), 1.0, Some(1.0), false);
    }
}

#[test]
fn gamma_of_small_and_large_shapes() {
    for shape in [0.1f32, 0.6, 1.0, 3.7, 40.0, 1e5] {
        let a = f64::from(shape);
        for (name, x) in draws("gamma(theta[0], stream)", [shape, 0.0]) {
            judge(&name, &x, |v| if v > 0.0 { gamma_lr(a, v) } else { 0.0 }, a, Some(a), false);
        }
    }
}

#[test]
fn student_t_of_few_and_many_degrees() {
    for degrees in [1.0f32, 4.5, 100.0] {
        let d = f64::from(degrees);
        let cdf = |t: f64| {
            let tail = 0.5 * beta_reg(0.5 * d, 0.5, d / (d + t * t));
            if t > 0.0 { 1.0 - tail } else { tail }
        };
        for (name, x) in draws("student_t(theta[0], stream)", [degrees, 0.0]) {
            judge(&name, &x, cdf, 0.0, (d > 8.0).then(|| d / (d - 2.0)), false);
        }
    }
}

#[test]
fn poisson_of_small_and_large_rates() {
    for rate in [0.3f32, 7.0, 15.99, 16.0, 75.0, 1e5] {
        let r = f64::from(rate);
        for (name, x) in draws("poisson(theta[0], stream)", [rate, 0.0]) {
            judge(&name, &x, |k| gamma_ur(k + 1.0, r), r, Some(r), true);
        }
    }
    for (name, x) in draws("poisson(theta[0], stream)", [0.0, 0.0]) {
        assert!(x.iter().all(|k| *k == 0.0), "{name}");
    }
}

#[test]
fn binomial_of_few_and_many_trials() {
    let cases = [
        (1.0f32, 0.3f32),
        (20.0, 0.5),
        (40.0, 0.9),
        (33.0, 0.5),
        (100.0, 0.3),
        (1000.0, 0.98),
        (1e6, 1e-5),
        (1e6, 0.4),
    ];
    for (n, p) in cases {
        let (m, q) = (f64::from(n), f64::from(p));
        let cdf = |k: f64| if k >= m { 1.0 } else { beta_reg(m - k, k + 1.0, 1.0 - q) };
        for (name, x) in draws("binomial(u32(theta[0]), theta[1], stream)", [n, p]) {
            assert!(x.iter().all(|k| *k <= m));
            judge(&name, &x, cdf, m * q, Some(m * q * (1.0 - q)), true);
        }
    }
    for (parameters, only) in
        [([0.0f32, 0.5f32], 0.0), ([7.0, 0.0], 0.0), ([7.0, 1.0], 7.0), ([500.0, 1.0], 500.0)]
    {
        for (name, x) in draws("binomial(u32(theta[0]), theta[1], stream)", parameters) {
            assert!(x.iter().all(|k| *k == only), "{name}");
        }
    }
}

/// Pairs in a grid of 16 x 16 against even numbers of each, and their correlation.
fn are_independent(name: &str, pairs: impl Iterator<Item = (f64, f64)>) {
    let mut counts = [0.0; 256];
    let (mut n, mut product) = (0.0, 0.0);
    for (a, b) in pairs {
        counts[16 * (16.0 * a) as usize + (16.0 * b) as usize] += 1.0;
        product += 12.0 * (a - 0.5) * (b - 0.5);
        n += 1.0;
    }
    let chi: f64 = counts.iter().map(|c| (c - n / 256.0f64).powi(2) / (n / 256.0)).sum();
    let correlation = product / n * n.sqrt();
    println!("{name}: chi squared {chi:.0} of 255, correlation {correlation:.2} standard errors");
    assert!((150.0..370.0).contains(&chi) && correlation.abs() < 4.0, "{name}: {chi}, {correlation}");
}

#[test]
fn numbers_do_not_know_of_each_other() {
    for (name, x) in draws("uniform01(stream)", [0.0; 2]) {
        let row = |i: usize| &x[X * i..X * (i + 1)];
        are_independent(&name, (0..N).flat_map(|i| [(row(i)[0], row(i)[1]), (row(i)[2], row(i)[3])]));
        are_independent(&name, (0..N).map(|i| (row(i)[1], row(i)[2])));
        are_independent(&name, (1..N).map(|i| (row(i - 1)[0], row(i)[0])));
        are_independent(&name, (64..N).map(|i| (row(i - 64)[3], row(i)[3])));
    }
}
