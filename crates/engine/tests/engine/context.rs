//! Context networks on every device against the f64 definition, and what does not depend on how they are run.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use crate::common::{batch, compare_flow, engines, mixture, random_flow, spec_of};
use lwflow_engine::{DeviceChoice, DeviceKind, Engine, EngineSettings, OptimiserPlace};
use lwflow_model::{
    Activation, BaseSpec, ContextNetworkSpec, Coupling, Covariance, FlowSettings, FlowSpec, MlpSpec, SetSpec,
};

fn mlp(hidden: &[usize], n_features: usize, activation: Activation) -> ContextNetworkSpec {
    ContextNetworkSpec::Mlp(MlpSpec { hidden: hidden.to_vec(), n_features, activation })
}

fn set(
    element: usize,
    counted: bool,
    phi: &[usize],
    hidden: &[usize],
    n_features: usize,
) -> ContextNetworkSpec {
    let (phi, hidden, activation) = (phi.to_vec(), hidden.to_vec(), Activation::Silu);
    ContextNetworkSpec::Set(SetSpec { element, counted, phi, hidden, n_features, activation })
}

fn spec(network: ContextNetworkSpec, (dim, context_dim): (usize, usize), base: BaseSpec) -> FlowSpec {
    let settings = FlowSettings {
        n_layers: 2,
        hidden: vec![16, 16],
        context_network: Some(network),
        ..FlowSettings::default()
    };
    spec_of(dim, context_dim, &settings, base)
}

fn rows() -> Vec<(&'static str, FlowSpec, usize)> {
    use Activation::{Relu, Silu, Tanh};
    let full = || mixture(3, Covariance::Full, true);
    let gaussian = || BaseSpec::Gaussian;
    vec![
        ("linear", spec(mlp(&[], 3, Silu), (3, 5), gaussian()), 33),
        ("silu", spec(mlp(&[9, 6], 2, Silu), (3, 4), full()), 131),
        ("tanh, one context value", spec(mlp(&[20], 7, Tanh), (1, 1), full()), 64),
        ("relu, wide", spec(mlp(&[48, 17], 20, Relu), (2, 70), gaussian()), 300),
        ("set of one element", spec(set(3, false, &[5], &[], 4), (3, 3), gaussian()), 17),
        ("set, all present", spec(set(2, false, &[18, 20], &[17], 5), (3, 10), full()), 100),
        ("counted set", spec(set(1, true, &[7, 5], &[6], 3), (3, 12), full()), 131),
        (
            "counted set, many elements",
            spec(set(2, true, &[16, 33], &[16, 20], 16), (2, 121), gaussian()),
            70,
        ),
        ("a single row", spec(set(2, true, &[8], &[8], 2), (2, 9), gaussian()), 1),
    ]
}

#[test]
fn every_network() {
    for engine in engines() {
        // Behind the network an adapter runs what it always does, and compiles it for seconds.
        let on_adapter = ["silu", "counted set"];
        let is_cores = engine.info().kind == DeviceKind::Cpu;
        let rows = rows().into_iter().enumerate().filter(|(_, row)| is_cores || on_adapter.contains(&row.0));
        for (i, (name, spec, n)) in rows {
            let errors = compare_flow(&engine, &spec, n, 11 * i as u64, i % 2 == 0);
            println!("{}, {name}: {errors:?}", engine.info().kind);
        }
    }
    // Behind splines.
    let cores = Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..Default::default() }).unwrap();
    let settings = FlowSettings {
        n_layers: 2,
        hidden: vec![16],
        coupling: Coupling::Spline { n_bins: 6, bound: 3.0 },
        context_network: Some(set(1, true, &[8, 8], &[8], 4)),
        ..FlowSettings::default()
    };
    compare_flow(&cores, &spec_of(2, 7, &settings, BaseSpec::Gaussian), 90, 5, false);
}

fn on_cores(n_threads: usize) -> Engine {
    let device = DeviceChoice::Cpu;
    Engine::new(&EngineSettings { device, n_threads: Some(n_threads), ..EngineSettings::default() }).unwrap()
}

#[test]
fn the_same_bits_with_any_number_of_threads_and_whatever_came_before() {
    for (_, spec, _) in rows() {
        let (_, params) = random_flow(spec.clone(), 3);
        let (many, few) = (batch(&spec, 300, 5), batch(&spec, 21, 6));
        let run = |n_threads: usize, before: bool| {
            let mut executor = on_cores(n_threads).flow(&spec).unwrap();
            executor.set_params(&params).unwrap();
            if before {
                executor.gradient(&few.theta, &few.context, &few.weights, None).unwrap();
            }
            let gradient = executor.gradient(&many.theta, &many.context, &many.weights, None).unwrap();
            (gradient, executor.log_prob(&many.theta, &many.context).unwrap())
        };
        let one = run(1, false);
        assert_eq!(one.0.log_prob, one.1);
        assert!(run(3, true) == one && run(2, false) == one);
    }
}

#[test]
fn equal_observations_in_a_row_are_one() {
    for (name, spec, _) in rows() {
        let (flow, params) = random_flow(spec.clone(), 3);
        let mut executor = on_cores(2).flow(&spec).unwrap();
        executor.set_params(&params).unwrap();
        let (d, c) = (spec.dim, spec.context_dim);
        let batch = batch(&spec, 60, 5);
        let repeated: Vec<f32> = (0..60).flat_map(|i| &batch.context[i / 25 * c..][..c]).copied().collect();
        let all = executor.log_prob(&batch.theta, &repeated).unwrap();
        for i in [0, 24, 25, 59] {
            let one = executor.log_prob(&batch.theta[i * d..][..d], &repeated[i * c..][..c]).unwrap();
            assert_eq!(one[0], all[i], "{name}: row {i}");
        }
        // The features themselves.
        let features = executor.features(&batch.context).unwrap();
        let wide: Vec<f64> = batch.context.iter().map(|&v| f64::from(v)).collect();
        for (got, expected) in features.iter().zip(flow.features(&wide).unwrap().iter()) {
            assert!((f64::from(*got) - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{name}");
        }
        assert_eq!(features.len(), 60 * spec.n_features());
    }
}

#[test]
fn what_a_network_cannot_do_is_refused() {
    for engine in engines() {
        let spec = spec(set(1, true, &[4], &[], 2), (2, 4), BaseSpec::Gaussian);
        let (flow, params) = random_flow(spec.clone(), 3);
        let mut executor = engine.flow(&spec).unwrap();
        assert_eq!((executor.spec(), executor.layout()), (&spec, flow.layout()));
        assert!(executor.set_params(&params[1..]).unwrap_err().to_string().starts_with("params: got"));
        executor.set_params(&params).unwrap();
        assert_eq!(executor.log_prob(&[], &[]).unwrap(), [0.0; 0]);
        assert_eq!(executor.gradient(&[], &[], &[], None).unwrap().grad, vec![0.0; params.len()]);
        let context = [2.0, 0.1, 0.2, 0.0, 4.0, 0.0, 0.0, 0.0];
        let error = executor.log_prob(&[0.0; 4], &context).unwrap_err();
        let words = "context, row 1: the number of elements is 4, expected a whole number from 0 to 3";
        assert_eq!(error.to_string(), words);
        assert!(executor.gradient(&[0.0; 4], &context, &[1.0; 2], None).is_err());
        assert!(executor.gradient(&[0.0; 2], &context[..4], &[1.0; 2], None).is_err(), "weights");
        assert!(executor.log_prob(&[0.0; 2], &context).is_err(), "two rows of context");
        assert!(executor.features(&context[1..]).is_err() && executor.features(&context).is_err());
        assert!(executor.kernel_choice().is_none_or(|choice| choice.optimiser == OptimiserPlace::Host));
        assert!(
            executor.set_data(&[0.0; 2], &context[..4]).unwrap_err().to_string().contains("host, because")
        );
    }
}
