//! The public face: refused inputs, choice of a device, embedding, async twins.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::future::Future;

use crate::common::{batch, engines, gpu, mixture, random_flow, spec};
use lwflow_engine::{
    DeviceChoice, Engine, EngineError, EngineSettings, FlowExecutor, KernelChoice, KernelPath,
    OptimiserPlace, OptimiserSettings, OptimiserState, TrainSteps, list_devices, list_devices_async,
};
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
        if executor.kernel_choice().is_none() {
            continue;
        }
        let (params, n) = (executor.params().unwrap(), executor.layout().len);
        assert_eq!(pollster::block_on(send(executor.params_async())).unwrap(), params);
        let settings = OptimiserSettings {
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            clip_norm: None,
            rate_scale: vec![1.0; n],
        };
        let state = OptimiserState { m: params, v: vec![0.25; n], step: 7 };
        pollster::block_on(send(executor.set_optimiser_async(&settings, &state))).unwrap();
        assert_eq!(executor.optimiser_state().unwrap(), state);
        assert_eq!(pollster::block_on(send(executor.optimiser_state_async())).unwrap(), state);
    }
    assert_eq!(pollster::block_on(send(list_devices_async())).len(), list_devices().len());
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

#[test]
fn kernels_are_tuned_once_noted_and_given_back() {
    let folder = std::env::temp_dir().join(format!("lwflow-autotune-{}", std::process::id()));
    let settings =
        EngineSettings { cache_folder: Some(folder.clone()), autotune: true, ..EngineSettings::default() };
    let settings = EngineSettings { device: DeviceChoice::Gpu, ..settings };
    let Some(engine) = crate::common::gpu_with(&settings) else { return };
    let spec = spec(2, 0, 1, &[8, 8], Activation::Relu, BaseSpec::Gaussian);
    let tuned = engine.flow(&spec).unwrap().kernel_choice().unwrap();
    println!("{tuned}");
    let note = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&note).unwrap();
    // What is noted is what runs: another choice in its place is taken at its word, a damaged one is not.
    let table = KernelChoice::table(engine.info());
    let other = KernelChoice { path: KernelPath::Tiled, tile: 8, chunks: 7, ..table };
    let json = |choice: &KernelChoice| serde_json::to_string(choice).unwrap();
    std::fs::write(&note, text.replace(&json(&tuned), &json(&other))).unwrap();
    assert_eq!(engine.flow(&spec).unwrap().kernel_choice(), Some(other));
    std::fs::write(&note, text.replace(&json(&tuned), "{}")).unwrap();
    assert_ne!(engine.flow(&spec).unwrap().kernel_choice(), Some(other));
    std::fs::remove_dir_all(&folder).unwrap();

    // Without the tuner the table decides; a choice that is given is used, and one that there is not is refused.
    let plain = |kernels| EngineSettings { autotune: false, kernels, ..settings.clone() };
    let chosen =
        |kernels| Engine::new(&plain(kernels)).unwrap().flow(&spec).map(|f| f.kernel_choice().unwrap());
    assert_eq!(chosen(None).unwrap().optimiser, table.optimiser);
    assert_eq!(chosen(Some(other)).unwrap(), other);
    let error = chosen(Some(KernelChoice { tile: 5, ..other })).unwrap_err();
    assert_eq!(error.to_string(), "kernel choice: tile is 5, expected one of [8, 16]");
    assert!(chosen(Some(KernelChoice { optimiser: OptimiserPlace::Auto, ..other })).is_err());
}

#[test]
fn the_cores_keep_no_optimiser() {
    let cores = EngineSettings { device: DeviceChoice::Cpu, ..EngineSettings::default() };
    let mut executor = executor(&Engine::new(&cores).unwrap());
    assert_eq!(executor.kernel_choice(), None);
    let error = executor.set_data(&[0.1; 9], &[0.2; 6]).unwrap_err();
    assert!(error.to_string().contains("the cores are the host"), "{error}");
}

#[test]
fn training_steps_are_refused_before_their_time() {
    let Some(engine) = gpu() else { return };
    let mut executor = executor(&engine);
    let n = executor.layout().len;
    let steps = TrainSteps {
        batch_size: 2,
        index: &[0, 3],
        weights: &[0.5; 2],
        log_inv_proposal: None,
        learning_rate: &[1e-3],
    };
    let text = |error: EngineError| error.to_string();
    assert_eq!(text(executor.train_steps(&steps).unwrap_err()), "train_steps: the data must be set first");
    executor.set_data(&[0.1; 9], &[0.2; 6]).unwrap();
    let error = executor.train_steps(&TrainSteps { index: &[0, 1], ..steps }).unwrap_err();
    assert_eq!(text(error), "train_steps: the optimiser must be set first");
    let settings =
        OptimiserSettings { beta1: 0.9, beta2: 0.99, eps: 1e-8, clip_norm: None, rate_scale: vec![1.0; n] };
    let state = OptimiserState::new(n);
    let short = OptimiserState { m: vec![0.0; 3], ..state.clone() };
    assert!(
        executor.set_optimiser(&settings, &short).unwrap_err().to_string().starts_with("first moment: got 3")
    );
    executor.set_optimiser(&settings, &state).unwrap();
    assert_eq!(text(executor.train_steps(&steps).unwrap_err()), "index: 3 at row 1, expected below 3");
    let error = executor.train_steps(&TrainSteps { learning_rate: &[f64::NAN], ..steps }).unwrap_err();
    assert!(error.is_recoverable(), "{error}");
    let report = executor.train_steps(&TrainSteps { index: &[0, 2], ..steps }).unwrap();
    assert_eq!(report.taken, [true]);
}

#[test]
fn preparing_names_every_kernel_once_and_changes_nothing() {
    let Some(engine) = gpu() else { return };
    let mut executor = executor(&engine);
    let (theta, context) = (vec![0.1; 6], vec![0.2; 4]);
    let before = executor.log_prob(&theta, &context).unwrap();
    let mut seen = Vec::new();
    executor.prepare(|k, n, name| seen.push((k, n, name.to_owned()))).unwrap();
    let numbers: Vec<usize> = seen.iter().map(|s| s.0).collect();
    assert_eq!(numbers, (1..=seen.len()).collect::<Vec<_>>());
    assert!(seen.iter().all(|s| s.1 == seen.len()));
    for kernel in ["mixture_log_prob", "reduce_partials"] {
        assert!(seen.iter().any(|s| s.2 == kernel), "{seen:?}");
    }
    assert_eq!(executor.log_prob(&theta, &context).unwrap(), before);
}
