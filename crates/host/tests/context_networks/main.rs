//! Fits with context networks against exact posteriors: sets of varying size, and a few informative values among many.
//! Seeds are fixed.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use lwflow_engine::{DeviceChoice, Engine, EngineSettings};
use lwflow_host::fit::{FitInput, FitSettings, fit};
use lwflow_host::novelty::NoveltyScore;
use lwflow_host::outer::Support;
use lwflow_host::posterior::Posterior;
use lwflow_host::rng::CounterField;
use lwflow_model::{Activation, ContextNetworkSpec, Coupling, FlowSettings, MlpSpec, SetSpec};
use std::ops::ControlFlow;

fn engine() -> Engine {
    Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..EngineSettings::default() }).unwrap()
}

fn normals(seed: u64, n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n];
    CounterField::new(seed, "context networks", 1).fill_standard_normal(0, &mut out);
    out
}

fn input(d: usize, theta: Vec<f64>, context: Vec<f64>) -> FitInput {
    let names: Vec<String> = (0..d).map(|j| format!("p{j}")).collect();
    let n = theta.len() / d;
    FitInput {
        labels: names.clone(),
        names,
        supports: vec![Support::default(); d],
        theta,
        context,
        log_weights: vec![0.0; n],
        ..FitInput::default()
    }
}

fn settings(network: ContextNetworkSpec, max_visits: usize) -> FitSettings {
    let mut settings = FitSettings::conditional();
    settings.flow = FlowSettings {
        n_layers: 2,
        hidden: vec![24],
        coupling: Coupling::Affine,
        context_network: Some(network),
        ..settings.flow
    };
    settings.training.max_visits = max_visits;
    settings
}

/// Most elements of a set.
const MOST: usize = 20;

/// theta standard normal, x_1 ... x_n normal(theta, 1) with the n of `count`; what is absent is filled with `padding`.
fn sets(seed: u64, rows: usize, padding: f64, count: impl Fn(usize) -> usize) -> (Vec<f64>, Vec<f64>) {
    let z = normals(seed, rows * (1 + MOST));
    let (mut theta, mut context) = (Vec::new(), Vec::new());
    for (i, z) in z.chunks_exact(1 + MOST).enumerate() {
        let n = count(i);
        theta.push(z[0]);
        context.push(n as f64);
        context.extend((1..=MOST).map(|k| if k <= n { z[0] + z[k] } else { padding }));
    }
    (theta, context)
}

/// Mean forward KL from the exact posteriors normal(n mean(x) / (n + 1), 1 / (n + 1)) of 1000 fresh sets of n.
fn distance(posterior: &Posterior, engine: &Engine, n: usize) -> f64 {
    let (theta, context) = sets(70 + n as u64, 1000, -1.0, |_| n);
    let truth = theta.iter().zip(context.chunks_exact(1 + MOST)).map(|(theta, row)| {
        let (mean, variance) = (row[1..=n].iter().sum::<f64>() / (n + 1) as f64, 1.0 / (n + 1) as f64);
        -0.5 * ((std::f64::consts::TAU * variance).ln() + (theta - mean).powi(2) / variance)
    });
    let truth: f64 = truth.sum();
    let mut executor = engine.flow(posterior.spec()).unwrap();
    let log_q = posterior.log_prob(&mut executor, &theta, &context).unwrap();
    (truth - log_q.iter().sum::<f64>()) / 1000.0
}

#[test]
fn sets_of_every_size_have_their_posteriors() {
    let engine = engine();
    // More small sets than large ones, which say more each.
    let share = |i: usize| (0.618_033_988_75 * i as f64).fract().powi(2);
    let (theta, context) = sets(1, 6000, 0.0, |i| 1 + (MOST as f64 * share(i)) as usize);
    let (phi, hidden, activation) = (vec![24, 16], vec![24], Activation::Silu);
    let set = SetSpec { element: 1, counted: true, phi, hidden, n_features: 6, activation };
    let settings = settings(ContextNetworkSpec::Set(set), 250_000);
    let input = input(1, theta, context);
    let (posterior, _) = fit(&engine, &input, &settings, 3, |_| ControlFlow::Continue(())).unwrap();
    assert!(posterior.context_location[1..].iter().all(|v| *v == posterior.context_location[1]));
    assert_eq!((posterior.context_location[0], posterior.context_scale[0]), (0.0, 1.0));
    for n in [1, 2, 5, 12, 20] {
        let kl = distance(&posterior, &engine, n);
        println!("n {n}: KL {kl:.4}");
        assert!(kl < 0.04, "n {n}: KL {kl}");
    }
    // Sets of any size are ordinary, values that no training has seen are not.
    for n in [1, 20] {
        let (_, fresh) = sets(5, 200, 3.0, |_| n);
        let scores = posterior.novelty_scores(&fresh).unwrap().unwrap();
        let novel = scores.iter().filter(|s| s.is_novel()).count();
        assert!(novel <= 4, "{novel} of 200 sets of {n} are called new");
        let far: Vec<f64> =
            fresh.chunks_exact(1 + MOST).flat_map(|r| [&r[..1], &[30.0; MOST]].concat()).collect();
        let scores = posterior.novelty_scores(&far).unwrap().unwrap();
        assert!(scores.iter().all(NoveltyScore::is_novel), "sets of {n} at 30");
    }
    // One observation alone, and in another order with other padding.
    let (_, row) = sets(9, 1, 0.0, |_| 4);
    let mut other = [4.0; 1 + MOST];
    (1..5).for_each(|k| other[k] = row[5 - k]);
    let alone = posterior.given(&row).unwrap();
    let theta: Vec<f64> = (0..20).map(|i| 0.1 * f64::from(i) - 1.0).collect();
    let log_prob = |posterior: &Posterior, context: &[f64]| {
        let mut executor = engine.flow(posterior.spec()).unwrap();
        posterior.log_prob(&mut executor, &theta, &context.repeat(20)).unwrap()
    };
    let (with, without) = (log_prob(&posterior, &row), log_prob(&alone, &[]));
    let largest = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(largest(&with, &without) < 1e-3 && largest(&with, &log_prob(&posterior, &other)) < 1e-3);
    assert!(alone.spec().context_network.is_none() && alone.spec().context_dim == 0);
    // Counts that are none, in training and in use.
    let mut bad = input;
    bad.context[2 * (1 + MOST)] = 20.5;
    let words = "context, row 2: the number of elements is 20.5, expected a whole number from 0 to 20";
    let go_on = |_| ControlFlow::Continue(());
    assert_eq!(fit(&engine, &bad, &settings, 3, go_on).unwrap_err().to_string(), words);
    other[0] = -1.0;
    assert!(posterior.given(&other).is_err() && posterior.novelty_scores(&other).is_err());
    let mut executor = engine.flow(posterior.spec()).unwrap();
    assert!(posterior.sample(&mut executor, 3, &other, 1).is_err());
    let bare = FitInput { context: Vec::new(), ..bad };
    let error = fit(&engine, &bare, &settings, 3, go_on).unwrap_err().to_string();
    assert!(error.contains("context_network is there, expected none"), "{error}");
}

/// Two of sixty values tell something of two parameters; the posteriors are normal(0.8 x, 0.2).
#[test]
fn an_mlp_finds_the_values_that_tell_something() {
    const WIDTH: usize = 60;
    let engine = engine();
    let pairs = |seed: u64, n: usize| {
        let z = normals(seed, n * (2 + WIDTH));
        let (mut theta, mut context) = (Vec::new(), Vec::new());
        for z in z.chunks_exact(2 + WIDTH) {
            theta.extend(&z[..2]);
            let mut x = z[2..].to_vec();
            (x[11], x[47]) = (z[0] + 0.5 * x[11], z[1] + 0.5 * x[47]);
            context.extend(x);
        }
        (theta, context)
    };
    let (theta, context) = pairs(2, 8000);
    let network = MlpSpec { hidden: vec![32], n_features: 4, activation: Activation::Silu };
    let settings = settings(ContextNetworkSpec::Mlp(network), 200_000);
    let input = input(2, theta, context);
    let (posterior, _) = fit(&engine, &input, &settings, 1, |_| ControlFlow::Continue(())).unwrap();
    let (theta, context) = pairs(3, 2000);
    let truth = theta.chunks_exact(2).zip(context.chunks_exact(WIDTH)).map(|(theta, x)| {
        let square = (theta[0] - 0.8 * x[11]).powi(2) + (theta[1] - 0.8 * x[47]).powi(2);
        -(std::f64::consts::TAU * 0.2).ln() - 0.5 * square / 0.2
    });
    let truth: f64 = truth.sum();
    let mut executor = engine.flow(posterior.spec()).unwrap();
    let log_q: f64 = posterior.log_prob(&mut executor, &theta, &context).unwrap().iter().sum();
    let kl = (truth - log_q) / 2000.0;
    println!("KL {kl:.4}");
    assert!(kl < 0.06, "KL {kl}");
    // Novelty is that of the values, also of those that tell nothing.
    let mut far = context[..WIDTH].to_vec();
    assert!(!posterior.novelty_scores(&far).unwrap().unwrap()[0].is_novel());
    far[5] = 40.0;
    assert!(posterior.novelty_scores(&far).unwrap().unwrap()[0].is_novel());
}
