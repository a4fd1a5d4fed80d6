//! The multiply-adds a device makes when nothing else is in the way: the ceiling that shares are taken of.
//! Invariant: measured in this run on this device; a device that was not measured has no peak, never a guessed one.

use std::time::Instant;

use anyhow::{Context, Result};
use lwflow_engine::{DeviceInfo, DeviceKind, fma_peak};

/// Lanes of a workgroup and independent chains, of which the best counts. Twelve hide a multiply and an add of four cycles
/// each on two ports, and are still in the sixteen registers of AVX2 together with the two factors; AVX-512 has 32. On a
/// software adapter a workgroup of more lanes than a vector is a loop.
const SHAPES: [(u32, u32); 4] = [(64, 12), (64, 24), (16, 12), (16, 24)];
/// Rounds of the kernel's loop.
const ROUNDS: u32 = 2048;
/// Multiply-adds of each chain in a round.
const UNROLLED: u32 = 4;

/// GFLOP per second (two per multiply-add) of a kernel that only multiplies and adds, on an adapter: the best of several
/// runs. On the cores, of all threads together in vectors of the level in use.
///
/// # Errors
/// Any error of the device.
pub fn measured_gflops(info: &DeviceInfo) -> Result<Option<f64>> {
    if info.kind == DeviceKind::Cpu {
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
        return Ok(Some(fma_peak(n_threads)));
    }
    pollster::block_on(measure(info))
}

/// Runs of each shape of which the best counts.
const RUNS: usize = 15;

/// `chain = chain * factor + term`, in WGSL. Loops are written out so that their own cost stays small.
fn source(lanes: u32, chains: u32) -> String {
    let each = |line: &dyn Fn(u32) -> String| (0..chains).map(line).collect::<Vec<_>>();
    let start = each(&|c| format!("    var chain{c} = {c}.0 + term;\n")).concat();
    let step = each(&|c| format!("        chain{c} = fma(chain{c}, factor, term);\n")).concat();
    let sum = each(&|c| format!("chain{c}")).join(" + ");
    format!(
        "@group(0) @binding(0) var<storage, read_write> result: array<f32>;\n\
         @compute @workgroup_size({lanes})\n\
         fn fma_peak(@builtin(global_invocation_id) id: vec3<u32>) {{\n    \
             let factor = 0.999 + 1e-9 * f32(id.x);\n    \
             let term = 1e-3 * f32(id.y + 1u);\n{start}    \
             for (var round = 0u; round < {ROUNDS}u; round += 1u) {{\n{}    }}\n    \
             result[id.x] = {sum};\n\
         }}\n",
        step.repeat(UNROLLED as usize)
    )
}

async fn measure(info: &DeviceInfo) -> Result<Option<f64>> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = instance.enumerate_adapters(wgpu::Backends::all()).await;
    let same = |a: &&wgpu::Adapter| {
        let found = a.get_info();
        found.name == info.name && found.backend.to_string() == info.backend
    };
    let Some(adapter) = adapters.iter().find(same) else { return Ok(None) };
    let (device, queue) = adapter.request_device(&wgpu::DeviceDescriptor::default()).await?;
    let mut best = 0.0_f64;
    for (lanes, chains) in SHAPES {
        best = best.max(measure_shape(&device, &queue, lanes, chains)?);
    }
    Ok(Some(best))
}

/// GFLOP per second of one shape.
fn measure_shape(device: &wgpu::Device, queue: &wgpu::Queue, lanes: u32, chains: u32) -> Result<f64> {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("fma_peak"),
        source: wgpu::ShaderSource::Wgsl(source(lanes, chains).into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("fma_peak"),
        layout: None,
        module: &module,
        entry_point: Some("fma_peak"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let most = device.limits().max_compute_workgroups_per_dimension;
    let result = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("fma_peak/result"),
        size: 4 * u64::from(lanes) * u64::from(most),
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("fma_peak"),
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[wgpu::BindGroupEntry { binding: 0, resource: result.as_entire_binding() }],
    });
    let run = |groups: u32| -> Result<f64> {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bindings, &[]);
            pass.dispatch_workgroups(groups, 1, 1);
        }
        let begin = Instant::now();
        queue.submit([encoder.finish()]);
        device.poll(wgpu::PollType::wait_indefinitely()).context("waiting for the multiply-add kernel")?;
        Ok(begin.elapsed().as_secs_f64())
    };
    run(1)?;
    let mut groups = 1;
    while run(groups)? < 0.02 && groups < most {
        groups = (2 * groups).min(most);
    }
    let mut best = f64::INFINITY;
    // Many, since other programs may hold the cores for a while.
    for _ in 0..RUNS {
        best = best.min(run(groups)?);
    }
    let flop = 2.0 * f64::from(UNROLLED * chains) * f64::from(ROUNDS) * f64::from(lanes) * f64::from(groups);
    Ok(flop / best / 1e9)
}
