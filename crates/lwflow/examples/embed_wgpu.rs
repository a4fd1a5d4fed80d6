//! lwflow inside a wgpu pipeline: the caller opens the device, lwflow draws into the caller's buffer, a kernel of the caller
//! changes the draws, lwflow evaluates their density into another buffer. The host sees nothing but the final numbers.
#![allow(clippy::print_stdout, reason = "an example says what it finds")]

use lwflow::{Engine, EngineSettings, Fit, FlowSettings, wgpu};
use std::error::Error;
use std::future::IntoFuture;

const N: usize = 4096;
/// Turns every draw by 180 degrees about the middle of the two modes, which swaps them.
const KERNEL: &str = "
@group(0) @binding(0) var<storage, read_write> theta: array<vec2<f32>>;
@compute @workgroup_size(64)
fn turn(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&theta) { theta[id.x] = vec2<f32>(10.0, 0.0) - theta[id.x]; }
}";

/// A weighted chain of two modes of equal mass, at (3, -1.5) and (7, 1.5).
fn chain() -> (Vec<f64>, Vec<f64>) {
    let point = |i: u32| {
        let part = |step: f64| (0.5 + f64::from(i) * step).fract();
        [10.0 * part(0.754_877_666_246_692_8), 8.0 * part(0.569_840_290_998_053_2) - 4.0]
    };
    let theta: Vec<f64> = (0..20_000).flat_map(point).collect();
    let mode = |t: &[f64], x: f64, y: f64| (-2.0 * ((t[0] - x).powi(2) + (t[1] - y).powi(2))).exp();
    let weights = theta.chunks_exact(2).map(|t| mode(t, 3.0, -1.5) + mode(t, 7.0, 1.5)).collect();
    (theta, weights)
}

fn wait<F: IntoFuture>(future: F) -> F::Output {
    pollster::block_on(future.into_future())
}

fn main() -> Result<(), Box<dyn Error>> {
    // The caller's own device.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = match wait(instance.request_adapter(&wgpu::RequestAdapterOptions::default())) {
        Ok(adapter) => adapter,
        Err(error) if std::env::var("LWFLOW_REQUIRE_ADAPTER").is_ok_and(|v| v == "1") => {
            return Err(error.into());
        }
        Err(error) => {
            println!("SKIP embed_wgpu: {error}");
            return Ok(());
        }
    };
    let (device, queue) = wait(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;
    let settings = EngineSettings::default();
    let engine = Engine::from_wgpu(&adapter.get_info(), device.clone(), queue.clone(), &settings);

    let (theta, weights) = chain();
    let outcome = Fit::weighted(theta, &weights)
        .fit(|fit| {
            fit.flow = FlowSettings { n_layers: 2, hidden: vec![8, 8], ..FlowSettings::default() };
            fit.training.max_visits = 20_000;
        })
        .engine(&engine)
        .run()?;
    let posterior = &outcome.posterior;

    let buffer = |label, len: usize| {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let (label, size) = (Some(label), 4 * len as u64);
        device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
    };
    let (theta, drawn, turned) =
        (buffer("theta", 2 * N), buffer("log q as drawn", N), buffer("log q turned", N));

    // Three steps in the order of the queue; nothing waits in between.
    posterior.sample_on_device(7, N, &theta, &drawn)?;
    turn(&device, &queue, &theta);
    posterior.log_prob_on_device(N, &theta, &turned)?;

    let (theta, drawn, turned) =
        (read(&device, &queue, &theta)?, read(&device, &queue, &drawn)?, read(&device, &queue, &turned)?);
    // Both modes have the same mass and shape, so the density of a turned draw is nearly its own.
    let mean = drawn.iter().zip(&turned).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / N as f64;
    let share = theta.chunks_exact(2).filter(|t| t[0] < 5.0).count() as f64 / N as f64;
    println!("{}: log q of draws and turned draws differ by {mean:.3} on average", engine.info());
    println!("share of the draws in the first mode: {share:.3}");
    if mean > 0.2 || (share - 0.5).abs() > 0.05 {
        return Err("the draws are wrong".into());
    }
    // The host's own answer for the same points.
    let rows: Vec<f64> = theta.iter().map(|v| f64::from(*v)).collect();
    let host = posterior.log_prob(&rows)?;
    let worst = host.iter().zip(&turned).map(|(a, b)| (a - f64::from(*b)).abs()).fold(0.0, f64::max);
    println!("largest difference from the host's log q: {worst:.1e}");
    if worst > 1e-2 {
        return Err("the device and the host disagree".into());
    }
    Ok(())
}

/// The caller's kernel on the caller's buffer.
fn turn(device: &wgpu::Device, queue: &wgpu::Queue, theta: &wgpu::Buffer) {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("turn"),
        source: wgpu::ShaderSource::Wgsl(KERNEL.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("turn"),
        layout: None,
        module: &module,
        entry_point: Some("turn"),
        compilation_options: Default::default(),
        cache: None,
    });
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[wgpu::BindGroupEntry { binding: 0, resource: theta.as_entire_binding() }],
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    pass.set_pipeline(&pipeline);
    pass.set_bind_group(0, &group, &[]);
    pass.dispatch_workgroups((N as u32).div_ceil(64), 1, 1);
    drop(pass);
    queue.submit([encoder.finish()]);
}

/// Reads a buffer back, at the very end.
fn read(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    buffer: &wgpu::Buffer,
) -> Result<Vec<f32>, Box<dyn Error>> {
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let size = buffer.size();
    let staging =
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
    let mut encoder = device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, size);
    queue.submit([encoder.finish()]);
    staging.map_async(wgpu::MapMode::Read, .., |_| {});
    device.poll(wgpu::PollType::wait_indefinitely())?;
    let view = staging.get_mapped_range(..)?;
    Ok(view.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}
