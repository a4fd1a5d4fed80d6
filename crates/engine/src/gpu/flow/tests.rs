//! Tests that look inside an executor: stale memory, sentinels behind every array, lost devices.
#![allow(clippy::unwrap_used, clippy::panic)]

use lwflow_model::{
    Activation, BaseSpec, Coupling, Covariance, Flow, FlowSettings, FlowSpec, Mixing, MixtureSpec,
};

use super::super::Wait;
use super::*;
use crate::engine::Opened;
use crate::{DeviceChoice, Engine, Gradient, OptimiserSettings, OptimiserState, TrainSteps, WeightedBatch};

fn engine() -> Option<Engine> {
    let settings = EngineSettings { device: DeviceChoice::Gpu, ..EngineSettings::default() };
    lwflow_skip::adapter(Engine::new(&settings))
}

impl Engine {
    fn gpu(&self) -> &Arc<Gpu> {
        let Opened::Gpu(gpu) = &self.opened else { panic!("{self:?}") };
        gpu
    }
}

type Result<T> = std::result::Result<T, EngineError>;

impl GpuFlow {
    fn log_prob(&mut self, theta: &[f32], context: &[f32]) -> Result<Vec<f32>> {
        pollster::block_on(self.run_log_prob(0, theta, context, Wait::Block))
    }

    fn inverse(&mut self, theta: &[f32], context: &[f32]) -> Result<(Vec<f32>, Vec<f32>)> {
        pollster::block_on(self.run_map(0, "inverse", theta, context, Wait::Block))
    }

    fn forward(&mut self, z: &[f32], context: &[f32]) -> Result<(Vec<f32>, Vec<f32>)> {
        pollster::block_on(self.run_map(0, "forward", z, context, Wait::Block))
    }
}

/// A flow with odd sizes everywhere and parameters of order one.
fn executor(engine: &Engine, activation: Activation) -> GpuFlow {
    executor_of(engine, FlowSettings { hidden: vec![9, 3], activation, ..FlowSettings::default() })
}

/// The same for every set of kernels that layers have: fused, tiled, and those of splines.
fn executors(engine: &Engine) -> [(&'static str, GpuFlow); 3] {
    let of = |hidden: &[usize], coupling| {
        let hidden = hidden.to_vec();
        executor_of(engine, FlowSettings { hidden, coupling, ..FlowSettings::default() })
    };
    let spline = Coupling::Spline { n_bins: 3, bound: 2.0 };
    [
        ("two hidden layers", of(&[9, 3], Coupling::Affine)),
        ("one hidden layer", of(&[9], Coupling::Affine)),
        ("splines", of(&[9], spline)),
    ]
}

fn executor_of(engine: &Engine, settings: FlowSettings) -> GpuFlow {
    let settings = FlowSettings { n_layers: 2, mixing: Mixing::Alternate, ..settings };
    let mixture = MixtureSpec { n_components: 3, covariance: Covariance::Full, ..MixtureSpec::default() };
    let spec = FlowSpec::build(5, 2, &settings, BaseSpec::Mixture(mixture), 3).unwrap();
    let mut params = Flow::<f32>::init(spec.clone(), 3).unwrap().params().to_vec();
    params.iter_mut().enumerate().for_each(|(i, p)| *p += 0.2 * (i as f32).cos());
    let mut executor = GpuFlow::new(
        engine.gpu().clone(),
        &engine.settings,
        std::slice::from_ref(&spec),
        engine.choose(engine.gpu(), &spec).unwrap(),
    )
    .unwrap();
    executor.set_params(0, &params).unwrap();
    executor
}

fn wave(n: usize) -> Vec<f32> {
    (0..n).map(|i| (0.77 * i as f32).sin()).collect()
}

fn gradient(executor: &mut GpuFlow, n: usize) -> Gradient {
    let weights = vec![1.0 / n as f32; n];
    let control = wave(n);
    let (theta, context) = (wave(5 * n), wave(2 * n));
    let (theta, context) = (&theta[..], &context[..]);
    let batch = WeightedBatch { theta, context, weights: &weights, log_inv_proposal: Some(&control) };
    pollster::block_on(executor.run_gradient(0, &batch, Wait::Block)).unwrap()
}

fn fill(executor: &GpuFlow, value: f32) {
    let arrays = executor.bound.as_ref().unwrap().batch.arrays();
    for buffer in arrays.into_iter().map(|(_, buffer)| buffer).chain(executor.training.scratch()) {
        fill_buffer(executor, buffer, value);
    }
    executor.gpu.queue.submit([]);
}

fn fill_buffer(executor: &GpuFlow, buffer: &wgpu::Buffer, value: f32) {
    let values = vec![value; buffer.size() as usize / 4];
    executor.gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&values));
}

fn read_buffer(executor: &GpuFlow, buffer: &wgpu::Buffer) -> Vec<f32> {
    let len = buffer.size() as usize / 4;
    let mut staging = Staging::new(&executor.gpu, len).unwrap();
    let mut encoder = executor.gpu.device.create_command_encoder(&Default::default());
    staging.copy(&mut encoder, buffer, 0..len);
    let mut values = Vec::new();
    pollster::block_on(staging.read(&executor.gpu, encoder, "test", Wait::Block, &mut values)).unwrap();
    values
}

#[test]
fn stale_memory_is_never_read() {
    let Some(engine) = engine() else { return };
    let activations = [Activation::Relu, Activation::Tanh].map(|activation| executor(&engine, activation));
    for mut executor in executors(&engine).map(|(_, executor)| executor).into_iter().chain(activations) {
        for n in [1, 70, 200] {
            let clean = gradient(&mut executor, n);
            let (z, log_det) = executor.inverse(&wave(5 * n), &wave(2 * n)).unwrap();
            let (theta, _) = executor.forward(&z, &wave(2 * n)).unwrap();
            fill(&executor, f32::NAN);
            assert_eq!(gradient(&mut executor, n), clean);
            fill(&executor, f32::NAN);
            assert_eq!(executor.inverse(&wave(5 * n), &wave(2 * n)).unwrap(), (z.clone(), log_det));
            fill(&executor, f32::NAN);
            assert_eq!(executor.forward(&z, &wave(2 * n)).unwrap().0, theta);
        }
    }
}

#[test]
fn training_steps_never_read_stale_memory() {
    let Some(engine) = engine() else { return };
    for n in [1, 33, 64] {
        let mut executor = executor(&engine, Activation::Silu);
        let start = executor.host_params(0, "test").unwrap().to_vec();
        let settings = OptimiserSettings {
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            clip_norm: Some(1.0),
            rate_scale: vec![1.0; start.len()],
        };
        executor.set_data(&wave(5 * 70), &wave(2 * 70)).unwrap();
        let index: Vec<u32> = (0..3 * n as u32).map(|i| 7 * i % 70).collect();
        let mut run = |stale| {
            executor.set_params(0, &start).unwrap();
            let state = OptimiserState::new(start.len());
            pollster::block_on(executor.run_set_optimiser(
                std::slice::from_ref(&settings),
                std::slice::from_ref(&state),
                Wait::Block,
            ))
            .unwrap();
            if stale {
                fill(&executor, f32::NAN);
            }
            let steps = TrainSteps {
                batch_size: n,
                index: &index,
                weights: &vec![1.0 / n as f32; 3 * n],
                log_inv_proposal: Some(&wave(3 * n)),
                learning_rate: &[1e-3, 2e-3, 1e-3],
            };
            let report = pollster::block_on(executor.run_train_steps(&steps, Wait::Block)).unwrap();
            assert_eq!(report.taken, [true; 3]);
            (report, pollster::block_on(executor.run_params(0, Wait::Block)).unwrap().to_vec())
        };
        let clean = run(false);
        assert_eq!(run(true), clean);
        assert_ne!(clean.1, start);
    }
}

/// Per-sample arrays are bound whole, and have nothing before them but what robust access makes of an index below zero:
/// their end. Parameters and gradients of the layers and the base are ranges of one buffer, with room between them.
#[test]
fn nothing_is_written_before_or_behind_an_array() {
    let Some(engine) = engine() else { return };
    let sentinel = 12345.0;
    for (name, mut executor) in executors(&engine) {
        // Room for 256 samples, used by 65: everything behind the 128 padded ones must stay as it was.
        gradient(&mut executor, 256);
        let (theta, context) = (wave(5 * 65), wave(2 * 65));
        let packed = read_buffer(&executor, &executor.buffers.params);
        for call in
            [ProfiledCall::Inverse, ProfiledCall::Forward, ProfiledCall::LogProb, ProfiledCall::Gradient]
        {
            fill(&executor, sentinel);
            fill_buffer(&executor, &executor.buffers.grads, sentinel);
            match call {
                ProfiledCall::Inverse => drop(executor.inverse(&theta, &context).unwrap()),
                ProfiledCall::Forward => drop(executor.forward(&theta, &context).unwrap()),
                ProfiledCall::LogProb => drop(executor.log_prob(&theta, &context).unwrap()),
                _ => drop(gradient(&mut executor, 65)),
            }
            unwritten_around(&format!("{name}, {}", call.name()), &executor, call, sentinel);
            assert_eq!(read_buffer(&executor, &executor.buffers.params), packed, "{name}: the parameters");
        }
    }
}

/// Fails unless everything but what 65 samples fill of each array is still `sentinel`.
fn unwritten_around(name: &str, executor: &GpuFlow, call: ProfiledCall, sentinel: f32) {
    let Bound { batch, dims, .. } = executor.bound.as_ref().unwrap();
    let dims = dims.unwrap();
    assert_eq!((batch.capacity, dims.n_padded()), (256, 128));
    for (array, buffer) in batch.arrays() {
        let values = read_buffer(executor, buffer);
        let used = if array == "partial" {
            dims.n_chunks() * executor.need.partial
        } else {
            values.len() / batch.capacity * dims.n_padded()
        };
        assert!(used < values.len(), "{name}: {array}: the test needs room behind the array");
        // These are cleared as a whole.
        let cleared = array == "log_det" || (array == "g_context" && call == ProfiledCall::Gradient);
        let expected = if cleared { 0.0 } else { sentinel };
        assert!(values[used..].iter().all(|v| *v == expected), "{name}: behind the {used} values of {array}");
    }
    let mut values = read_buffer(executor, &executor.buffers.grads);
    for (l, region) in executor.grad_regions.iter().enumerate() {
        // Kernels pad the parts of a layer, so that not all of a region need be written.
        let written = values[region.range()].iter().any(|v| *v != sentinel);
        assert_eq!(written, call == ProfiledCall::Gradient, "{name}: gradients of layer {l}");
        values[region.range()].fill(sentinel);
    }
    assert!(values.iter().all(|v| *v == sentinel), "{name}: before or behind the gradients of a layer");
    assert!(
        executor.grad_regions.windows(2).all(|pair| pair[0].range().end < pair[1].offset),
        "room between"
    );
}

#[test]
fn results_do_not_depend_on_earlier_calls() {
    let Some(engine) = engine() else { return };
    let mut executor = executor(&engine, Activation::Tanh);
    let first = gradient(&mut executor, 33);
    gradient(&mut executor, 500);
    executor.log_prob(&wave(5 * 70), &wave(2 * 70)).unwrap();
    assert_eq!(gradient(&mut executor, 33), first);
}

#[test]
fn lost_device_is_an_error_and_stays_one() {
    let Some(engine) = engine() else { return };
    let mut executor = executor(&engine, Activation::Relu);
    gradient(&mut executor, 8);
    engine.gpu().device.destroy();
    for _ in 0..2 {
        let error = executor.log_prob(&wave(5 * 8), &wave(2 * 8)).unwrap_err();
        assert!(!error.is_recoverable(), "{error}");
        assert!(matches!(error, EngineError::DeviceLost { .. }), "{error:?}");
    }
    assert!(engine.flow(executor.spec(0)).is_err());
}

#[test]
fn uncaptured_error_fails_the_next_call() {
    let Some(engine) = engine() else { return };
    let mut executor = executor(&engine, Activation::Relu);
    let wrong = wgpu::BufferDescriptor {
        label: Some("wrong"),
        size: 16,
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    };
    drop(engine.gpu().device.create_buffer(&wrong));
    let error = executor.log_prob(&wave(5), &wave(2)).unwrap_err();
    assert!(matches!(error, EngineError::Validation { .. }), "{error:?}");
    executor.log_prob(&wave(5), &wave(2)).unwrap();
}

#[test]
fn hanging_device_times_out() {
    let Some(engine) = engine() else { return };
    let mut gpu = Gpu::adopt(
        &engine.gpu().device.adapter_info(),
        engine.gpu().device.clone(),
        engine.gpu().queue.clone(),
        std::time::Duration::from_nanos(1),
    );
    gpu.faults = engine.gpu().faults.clone();
    let spec = executor(&engine, Activation::Relu).spec(0).clone();
    let mut executor = GpuFlow::new(
        Arc::new(gpu),
        &EngineSettings::default(),
        std::slice::from_ref(&spec),
        engine.choose(engine.gpu(), &spec).unwrap(),
    )
    .unwrap();
    executor.set_params(0, &vec![0.1; executor.layout(0).len]).unwrap();
    let n = 20_000;
    let error = executor.log_prob(&wave(5 * n), &wave(2 * n)).unwrap_err();
    assert!(matches!(error, EngineError::Timeout { .. }), "{error:?}");
}

#[test]
fn buffers_are_bound_by_name_and_access() {
    use crate::gpu::tests::{bind_twice, bind_unknown, bind_wrong_access};
    let Some(engine) = engine() else { return };
    for (error, text) in [
        (bind_unknown(engine.gpu()), "has no binding `other`"),
        (bind_twice(engine.gpu()), "binding `grad` was not given exactly once"),
        (bind_wrong_access(engine.gpu()), "binding `grad` was given Read"),
    ] {
        assert!(error.to_string().starts_with(&format!("kernel reduce_partials: {text}")), "{error}");
    }
}

#[test]
fn tiling_for_gpus_computes_the_same() {
    let Some(engine) = engine() else { return };
    for kind in [crate::DeviceKind::Discrete, crate::DeviceKind::Software] {
        let adapter = engine.gpu().device.adapter_info();
        let (device, queue) = (engine.gpu().device.clone(), engine.gpu().queue.clone());
        let mut gpu = Gpu::adopt(&adapter, device, queue, engine.gpu().timeout);
        gpu.info.kind = kind;
        // Notes about an adapter that there is not.
        let folder = std::env::temp_dir().join(format!("lwflow-tiling-{}", std::process::id()));
        let settings = EngineSettings { cache_folder: Some(folder.clone()), ..EngineSettings::default() };
        let tiled = Engine { opened: Opened::Gpu(Arc::new(gpu)), settings };
        let report = tiled.self_test().unwrap();
        assert!(report.passed(), "{report}");
        std::fs::remove_dir_all(folder).unwrap();
        // More chunks than one, and more than one workgroup of samples.
        let n = 5000;
        let (mut one, mut other) = (executor(&engine, Activation::Silu), executor(&tiled, Activation::Silu));
        let (one, other) = (gradient(&mut one, n), gradient(&mut other, n));
        for (a, b) in one.grad.iter().zip(&other.grad) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }
}

#[test]
fn profiling_counts_every_dispatch_and_changes_nothing() {
    let Some(mut engine) = engine() else { return };
    // With the device's timestamps where it has them, and as on a device without.
    for timestamps in [engine.gpu().info.timestamps, false] {
        let Opened::Gpu(gpu) = &mut engine.opened else { panic!("{engine:?}") };
        Arc::get_mut(gpu).unwrap().info.timestamps = timestamps;
        let mut executor = executor(&engine, Activation::Silu);
        let before = gradient(&mut executor, 70);
        for call in
            [ProfiledCall::Inverse, ProfiledCall::Forward, ProfiledCall::LogProb, ProfiledCall::Gradient]
        {
            let times = executor.profile(call, &wave(5 * 70), &wave(2 * 70)).unwrap();
            assert!(times.iter().all(|t| t.seconds.is_finite() && t.seconds >= 0.0), "{times:?}");
            assert!(times.iter().map(|t| t.seconds).sum::<f64>() > 0.0, "{times:?}");
            let dispatches = |name: &str| times.iter().find(|t| t.kernel == name).map(|t| t.dispatches);
            let with_base = matches!(call, ProfiledCall::LogProb | ProfiledCall::Gradient);
            assert_eq!(dispatches("mixture_log_prob"), with_base.then_some(1), "{times:?}");
            // Two layers and the base sum over chunks.
            if call == ProfiledCall::Gradient {
                assert!(dispatches("reduce_partials") >= Some(3), "{times:?}");
            }
        }
        let (x, context) = (wave(5 * 70), wave(2 * 70));
        assert!(executor.profile(ProfiledCall::LogProbOnDevice, &x, &context).is_err(), "with context");
        assert!(executor.profile(ProfiledCall::TrainSteps, &x, &context).is_err(), "no points");
        executor.set_data(&x, &context).unwrap();
        let n = executor.layout(0).len;
        let settings = OptimiserSettings {
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            clip_norm: None,
            rate_scale: vec![1.0; n],
        };
        let state = OptimiserState { m: wave(n), v: vec![0.5; n], step: 3 };
        pollster::block_on(executor.run_set_optimiser(
            std::slice::from_ref(&settings),
            std::slice::from_ref(&state),
            Wait::Block,
        ))
        .unwrap();
        let times = executor.profile(ProfiledCall::TrainSteps, &x, &context).unwrap();
        for kernel in ["gather_batch", "weighted_loss", "adam_commit", "mixture_parameter_grad"] {
            assert!(times.iter().any(|t| t.kernel == kernel && t.dispatches == 1), "{kernel}: {times:?}");
        }
        assert_eq!(pollster::block_on(executor.run_optimiser_state(0, Wait::Block)).unwrap(), state);
        assert_eq!(before, gradient(&mut executor, 70));
    }
}
