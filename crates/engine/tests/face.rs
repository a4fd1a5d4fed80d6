//! The public face: refused inputs, choice of a device, embedding, async twins.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::future::Future;

use common::{batch, engines, gpu, mixture, random_flow, spec};
use lwflow_engine::{DeviceChoice, Engine, EngineError, EngineSettings, FlowExecutor, list_devices};
use lwflow_model::{Activation, BaseSpec, Covariance, MixtureSpec};

fn executor(engine: &Engine) -> FlowExecutor {
    let spec = spec(3, 2, 2, &[7], Activation::Relu, mixture(2, Covariance::Full, true));
    let (_, params) = random_flow(spec.clone(), 5);
    let mut executor = engine.flow(&spec).unwrap();
    executor.set_params(&params).unwrap();
    executor
}

#[test]
fn devices_are_chosen_by_kind_name_and_index() {
    for (text, choice) in [
        ("auto", DeviceChoice::Auto),
        ("CPU", DeviceChoice::Cpu),
        ("gpu", DeviceChoice::Gpu),
        (" Software ", DeviceChoice::Software),
        ("2", DeviceChoice::Index(2)),
        ("GeForce 4", DeviceChoice::Name("GeForce 4".into())),
    ] {
        assert_eq!(text.parse::<DeviceChoice>().unwrap(), choice);
        assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), choice);
    }
    assert!("".parse::<DeviceChoice>().is_err());
    let settings =
        EngineSettings { device: DeviceChoice::Name("no such device".into()), ..Default::default() };
    let error = Engine::new(&settings).unwrap_err();
    assert!(matches!(&error, EngineError::NoDevice { asked, .. } if asked == "no such device"), "{error}");
    assert!(!error.is_recoverable());
    for info in list_devices() {
        assert!(error.to_string().contains(&info.name), "{error}");
        let settings =
            EngineSettings { device: DeviceChoice::Index(info.index.unwrap()), ..EngineSettings::default() };
        assert_eq!(Engine::new(&settings).unwrap().info(), &info);
    }
}

#[test]
fn refused_inputs_name_the_place_and_leave_the_engine_usable() {
    for engine in engines() {
        let mut executor = executor(&engine);
        let len = executor.layout().len;
        let (theta, context) = (vec![0.1; 6], vec![0.2; 4]);
        let before = executor.log_prob(&theta, &context).unwrap();

        let mut nan = theta.clone();
        nan[4] = f32::NAN;
        let mut params = vec![0.0; len];
        params[7] = f32::INFINITY;
        let log_inf = [f32::INFINITY, 0.0];
        for (error, text) in [
            (executor.log_prob(&nan, &context).unwrap_err(), "theta: value NaN at row 1, column 1"),
            (
                executor.log_prob(&theta[1..], &context).unwrap_err(),
                "theta: got 5 values, expected a multiple of 3",
            ),
            (executor.log_prob(&theta, &context[1..]).unwrap_err(), "context: got 3 values, expected 4"),
            (executor.set_params(&params).unwrap_err(), "params: value inf at row 0, column 7"),
            (executor.set_params(&params[1..]).unwrap_err(), "params: got"),
            (
                executor.gradient(&theta, &context, &[1.0], None).unwrap_err(),
                "weights: got 1 values, expected 2",
            ),
            (
                executor.gradient(&theta, &context, &[1.0; 2], Some(&log_inf)).unwrap_err(),
                "log_inv_proposal: value inf at row 0",
            ),
            (executor.forward(&nan, &context).unwrap_err(), "z: value NaN"),
        ] {
            assert!(error.to_string().starts_with(text), "{error} (expected {text})");
            assert!(error.is_recoverable(), "{error}");
        }
        assert_eq!(executor.log_prob(&theta, &context).unwrap(), before);

        let mut empty = engine.flow(executor.spec()).unwrap();
        let error = empty.log_prob(&theta, &context).unwrap_err();
        assert!(matches!(error, EngineError::NoParams { call: "log_prob" }));

        let mut invalid = executor.spec().clone();
        invalid.dim = 0;
        assert!(matches!(engine.flow(&invalid).unwrap_err(), EngineError::Model(_)));
    }
}

#[test]
fn empty_batches_are_legal() {
    for engine in engines() {
        let mut executor = executor(&engine);
        assert!(executor.log_prob(&[], &[]).unwrap().is_empty());
        assert_eq!(executor.inverse(&[], &[]).unwrap(), (vec![], vec![]));
        let gradient = executor.gradient(&[], &[], &[], None).unwrap();
        assert_eq!((gradient.loss, gradient.grad), (0.0, vec![0.0; executor.layout().len]));
    }
}

#[test]
fn a_flow_without_layers_is_its_base() {
    for engine in engines() {
        let spec = spec(2, 0, 0, &[], Activation::Relu, BaseSpec::Gaussian);
        let mut executor = engine.flow(&spec).unwrap();
        executor.set_params(&[]).unwrap();
        let log_prob = executor.log_prob(&[0.0, 0.0, 1.0, 2.0], &[]).unwrap();
        let norm = -(2.0 * std::f32::consts::PI).ln();
        assert!(
            (log_prob[0] - norm).abs() < 1e-6 && (log_prob[1] - (norm - 2.5)).abs() < 1e-6,
            "{log_prob:?}"
        );
    }
}

#[test]
fn samples_of_weight_zero_add_nothing() {
    for engine in engines() {
        let mut executor = executor(&engine);
        let (mut theta, context) = (vec![0.3; 9], vec![0.2; 6]);
        let weights = [0.5, 0.0, 0.5];
        let expected = executor.gradient(&theta, &context, &weights, None).unwrap();
        // So far out that squares overflow.
        theta[3..6].fill(1e30);
        let got = executor.gradient(&theta, &context, &weights, None).unwrap();
        assert_eq!((got.loss, &got.grad), (expected.loss, &expected.grad));
        // A proposal density of infinity (log inverse -inf) leaves the plain weights.
        let control = [f32::NEG_INFINITY; 3];
        let controlled = executor.gradient(&[0.3; 9], &context, &weights, Some(&control)).unwrap();
        assert_eq!(controlled.grad, expected.grad);
    }
}

#[test]
fn async_twins_give_the_same_bits_and_can_be_sent() {
    fn send<F: Future + Send>(future: F) -> F {
        future
    }
    for engine in engines() {
        let mut executor = executor(&engine);
        let b = batch(executor.spec(), 100, 3);
        let (theta, context, weights) = (&b.theta, &b.context, &b.weights);
        let lv = Some(b.control.as_slice());
        let gradient = executor.gradient(theta, context, weights, lv).unwrap();
        let twin = pollster::block_on(send(executor.gradient_async(theta, context, weights, lv))).unwrap();
        assert_eq!(gradient, twin);
        let log_prob = pollster::block_on(send(executor.log_prob_async(theta, context))).unwrap();
        assert_eq!(gradient.log_prob, log_prob);
        let (z, log_det) = executor.inverse(theta, context).unwrap();
        assert_eq!(
            pollster::block_on(send(executor.inverse_async(theta, context))).unwrap(),
            (z.clone(), log_det)
        );
        let forward = executor.forward(&z, context).unwrap();
        assert_eq!(pollster::block_on(send(executor.forward_async(&z, context))).unwrap(), forward);
    }
}

#[test]
fn an_embedder_shares_its_device() {
    if gpu().is_none() {
        return;
    }
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&Default::default())).unwrap();
    // The defaults of WebGPU: eight storage buffers per kernel, no subgroups.
    let (device, queue) = pollster::block_on(adapter.request_device(&Default::default())).unwrap();
    let engine = Engine::from_wgpu(&adapter.get_info(), device.clone(), queue, &EngineSettings::default());
    assert_eq!(engine.info().index, None);
    assert!(engine.self_test().unwrap().passed());
    let mut executor = executor(&engine);
    executor.log_prob(&[0.0; 3], &[0.0; 2]).unwrap();
    device.destroy();
    let error = executor.log_prob(&[0.0; 3], &[0.0; 2]).unwrap_err();
    assert!(!error.is_recoverable(), "{error}");
}

#[test]
fn a_flow_that_no_device_holds_is_refused() {
    let Some(engine) = gpu() else { return };
    // The inverse factors alone would take 130 GB.
    let mixture = MixtureSpec { n_components: 4096, weight_floor: 0.0, ..MixtureSpec::default() };
    let spec = spec(4096, 0, 0, &[], Activation::Relu, BaseSpec::Mixture(mixture));
    let error = engine.flow(&spec).unwrap_err();
    assert!(matches!(error, EngineError::Limit { needed, limit, .. } if needed > limit), "{error}");
    assert!(error.is_recoverable());
}
