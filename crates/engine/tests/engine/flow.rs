//! Every pass of the engine against the f64 definition, over awkward sizes, shapes, activations and bases.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use crate::common::{compare_flow, engines, engines_with, gpu_with, mixture, spec, spec_of};
use lwflow_engine::{Engine, EngineSettings};
use lwflow_model::{Activation, BaseSpec, Coupling, Covariance, FlowSettings};

const SIZES: [usize; 12] = [1, 2, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1000];
const ACTIVATIONS: [Activation; 3] = [Activation::Relu, Activation::Silu, Activation::Tanh];

fn bases() -> [BaseSpec; 5] {
    [
        BaseSpec::Gaussian,
        mixture(1, Covariance::Full, true),
        mixture(3, Covariance::Diagonal, true),
        mixture(4, Covariance::Full, true),
        mixture(2, Covariance::Full, false),
    ]
}

fn report(engine: &Engine, name: &str, errors: Vec<(&'static str, f64)>) {
    let text: Vec<String> = errors.iter().map(|(what, e)| format!("{what} {e:.1}")).collect();
    println!("{}, {name}: {}", engine.info().kind, text.join(", "));
}

#[test]
fn every_batch_size() {
    for engine in engines() {
        let spec = spec(3, 2, 3, &[16, 16], Activation::Silu, mixture(3, Covariance::Full, true));
        for (i, n) in SIZES.into_iter().enumerate() {
            report(&engine, &format!("n {n}"), compare_flow(&engine, &spec, n, 100 + i as u64, i % 2 == 0));
        }
    }
}

/// The same on the kernels that run everywhere, with the bases that have kernels of their own.
#[test]
fn every_batch_size_on_portable_kernels() {
    let settings = EngineSettings { portable_kernels: true, ..EngineSettings::default() };
    for engine in engines_with(&settings) {
        for (b, base) in [BaseSpec::Gaussian, mixture(3, Covariance::Diagonal, true)].into_iter().enumerate()
        {
            let spec = spec(5, 3 * b, 2, &[16, 12], ACTIVATIONS[2 * b], base);
            for (i, n) in SIZES.into_iter().enumerate() {
                let errors = compare_flow(&engine, &spec, n, 300 + i as u64, i % 2 == b);
                report(&engine, &format!("portable, base {b}, n {n}"), errors);
            }
        }
    }
}

#[test]
fn every_dimension_base_and_context() {
    for engine in engines() {
        for (i, dim) in [1, 2, 3, 5, 64].into_iter().enumerate() {
            for (b, base) in bases().into_iter().enumerate() {
                for context in [0, 3] {
                    let activation = ACTIVATIONS[(i + b) % 3];
                    let spec = spec(dim, context, 3, &[16, 16], activation, base.clone());
                    let errors = compare_flow(&engine, &spec, 67, 7 * i as u64 + b as u64, b % 2 == 0);
                    report(&engine, &format!("D {dim}, base {b}, C {context}"), errors);
                }
            }
        }
    }
}

#[test]
fn every_conditioner() {
    for engine in engines() {
        for hidden in [&[][..], &[7], &[16, 16], &[33, 20, 8]] {
            for activation in ACTIVATIONS {
                for context in [0, 3] {
                    let spec = spec(5, context, 4, hidden, activation, BaseSpec::Gaussian);
                    let errors = compare_flow(&engine, &spec, 130, 31, context == 0);
                    report(&engine, &format!("hidden {hidden:?} {activation:?} C {context}"), errors);
                }
            }
        }
    }
}

/// Splines: bins from one to thirty, one dimension, points outside the interval, awkward batches.
#[test]
fn splines() {
    for engine in engines() {
        let run = |name: &str, (n_bins, bound), (dim, context), hidden: &[usize], base, n, seed| {
            let coupling = Coupling::Spline { n_bins, bound };
            let settings =
                FlowSettings { n_layers: 3, hidden: hidden.to_vec(), coupling, ..FlowSettings::default() };
            let spec = spec_of(dim, context, &settings, base);
            report(&engine, name, compare_flow(&engine, &spec, n, seed, seed % 2 == 0));
        };
        for (i, n) in SIZES.into_iter().enumerate() {
            let base = mixture(3, Covariance::Full, true);
            run(&format!("splines, n {n}"), (8, 3.0), (3, 3 * (i % 2)), &[16, 16], base, n, 200 + i as u64);
        }
        for (i, n_bins) in [1, 2, 3, 30].into_iter().enumerate() {
            for (d, (dim, bound)) in [(1, 3.0), (2, 1.5), (5, 2.5), (64, 4.0)].into_iter().enumerate() {
                let base = bases()[(i + d) % 5].clone();
                let name = format!("{n_bins} bins, D {dim}");
                run(&name, (n_bins, bound), (dim, 3 * (d % 2)), &[7], base, 67, (10 * i + d) as u64);
            }
        }
    }
}

#[test]
fn pieces_add_up() {
    let settings = EngineSettings { piece_samples: Some(64), ..EngineSettings::default() };
    let Some(engine) = gpu_with(&settings) else { return };
    let spec = spec(3, 2, 3, &[7], Activation::Tanh, mixture(3, Covariance::Full, true));
    assert_eq!(engine.flow(&spec).unwrap().piece_samples(), 64);
    for n in [63, 64, 65, 300] {
        report(&engine, &format!("pieces of 64, n {n}"), compare_flow(&engine, &spec, n, 9, true));
    }
}

#[test]
fn self_test_passes_and_is_remembered() {
    let folder = std::env::temp_dir().join(format!("lwflow-self-test-{}", std::process::id()));
    let settings = EngineSettings { cache_folder: Some(folder.clone()), ..EngineSettings::default() };
    for engine in engines_with(&settings) {
        let first = engine.ensure_tested().unwrap();
        println!("{first}");
        assert!(first.passed() && !first.cached && first.checks.len() == 36);
        assert!(engine.ensure_tested().unwrap().cached);
        // A note of another version counts for nothing.
        for file in std::fs::read_dir(&folder).unwrap() {
            std::fs::write(file.unwrap().path(), "another version").unwrap();
        }
        assert!(!engine.ensure_tested().unwrap().cached);
    }
    std::fs::remove_dir_all(folder).unwrap();
}
