//! Calls between buffers of the caller, on the caller's device: densities and draws against the f64 definition.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use crate::common::{Random, gpu, spec};
use lwflow_engine::{DeviceChoice, Engine, EngineError, EngineSettings, FlowExecutor, wgpu};
use lwflow_model::{
    Activation, BaseSpec, Bijection, Bound, Covariance, Edge, Flow, MixtureSpec, OuterTransform,
};

/// A device of the caller's with its engine.
struct Caller {
    device: wgpu::Device,
    queue: wgpu::Queue,
    engine: Engine,
}

fn caller(settings: &EngineSettings) -> Option<Caller> {
    gpu()?;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&Default::default())).unwrap();
    let (device, queue) = pollster::block_on(adapter.request_device(&Default::default())).unwrap();
    let engine = Engine::from_wgpu(&adapter.get_info(), device.clone(), queue.clone(), settings);
    Some(Caller { device, queue, engine })
}

impl Caller {
    fn buffer(&self, len: usize) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let size = 4 * len as u64;
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    fn filled(&self, values: &[f32]) -> wgpu::Buffer {
        let buffer = self.buffer(values.len());
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.queue.write_buffer(&buffer, 0, &bytes);
        buffer
    }

    fn read(&self, buffer: &wgpu::Buffer) -> Vec<f32> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let size = buffer.size();
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let staging = self.device.create_buffer(&descriptor);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, size);
        self.queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, .., |result| result.unwrap());
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let view = staging.get_mapped_range(..).unwrap();
        view.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }
}

const DIM: usize = 11;

/// Every combination of edges, two of them on a circle.
fn outer() -> OuterTransform {
    let bound = |value, edge| Some(Bound { value, edge });
    let mut bijections = vec![Bijection::UNBOUNDED];
    for lower in [None, bound(-1.5, Edge::Soft), bound(-1.5, Edge::Hard)] {
        for upper in [None, bound(2.5, Edge::Soft), bound(2.5, Edge::Hard)] {
            if lower.is_some() || upper.is_some() {
                bijections.push(Bijection { lower, upper, cut: None, sharpness: 3.0 });
            }
        }
    }
    for (edge, cut) in [(Edge::Soft, 0.3), (Edge::Hard, -1.5)] {
        bijections.push(Bijection {
            lower: bound(-1.5, edge),
            upper: bound(2.5, edge),
            cut: Some(cut),
            sharpness: 3.0,
        });
    }
    assert_eq!(bijections.len(), DIM);
    let mut outer = OuterTransform::new(bijections);
    for j in 0..DIM {
        outer.location[j] = 0.1 * j as f64 - 0.4;
        outer.scale[j] = 0.5 + 0.05 * j as f64;
    }
    outer
}

fn executor(engine: &Engine, base: BaseSpec) -> (FlowExecutor, Flow<f64>) {
    let spec = spec(DIM, 0, 4, &[8], Activation::Silu, base);
    let mut random = Random::new(3);
    let n = Flow::<f32>::init(spec.clone(), 1).unwrap().params().len();
    let params = random.values(n, 0.4);
    let mut executor = engine.flow(&spec).unwrap();
    executor.set_params(&params).unwrap();
    (executor, Flow::<f32>::from_params(spec, params).unwrap().cast())
}

fn bases() -> [BaseSpec; 3] {
    let mixture =
        |covariance| BaseSpec::Mixture(MixtureSpec { n_components: 3, covariance, ..MixtureSpec::default() });
    [BaseSpec::Gaussian, mixture(Covariance::Diagonal), mixture(Covariance::Full)]
}

/// log q by the definition in f64.
fn log_prob(flow: &Flow<f64>, outer: &OuterTransform, theta: &[f32]) -> f64 {
    let theta: Vec<f64> = theta.iter().map(|v| f64::from(*v)).collect();
    let mut x = vec![0.0; DIM];
    outer
        .to_flow(&theta, &mut x)
        .map_or(f64::NEG_INFINITY, |log_det| flow.log_prob(&x, &[]).unwrap()[0] - log_det)
}

#[test]
fn densities_stay_on_the_device_and_are_those_of_the_definition() {
    // Pieces of 64, so that rows are cut.
    let settings = EngineSettings { piece_samples: Some(64), ..EngineSettings::default() };
    let Some(caller) = caller(&settings) else { return };
    let outer = outer();
    for base in bases() {
        let (mut executor, flow) = executor(&caller.engine, base);
        let n = 205;
        let mut random = Random::new(9);
        // Inside (-1.5, 2.5), up to 1e-3 from the bounds, where f32 rows still tell the distance to four digits.
        let mut theta: Vec<f32> = (0..n * DIM).map(|_| (0.5 + 1.999 * random.value()) as f32).collect();
        theta[7 * DIM + 4] = 2.5; // on a bound or, without one, not
        theta[9 * DIM + 5] = -1.5; // likewise
        theta[11 * DIM + 8] = 3.0; // outside
        theta[13 * DIM + 2] = f32::NAN;
        theta[15 * DIM] = f32::INFINITY;
        let (rows, out) = (caller.filled(&theta), caller.filled(&vec![f32::NAN; n + 1]));
        executor.log_prob_on_device(&outer, n, &rows, &out).unwrap();
        let got = caller.read(&out);
        assert!(got[n].is_nan(), "written beyond the rows");
        let mut worst = 0.0_f64;
        let mut n_outside = 0;
        for (i, row) in theta.chunks_exact(DIM).enumerate() {
            if row.iter().any(|v| !v.is_finite()) {
                assert!(got[i].is_nan(), "row {i}: {}", got[i]);
                continue;
            }
            let expected = log_prob(&flow, &outer, row);
            if expected == f64::NEG_INFINITY {
                n_outside += 1;
                assert_eq!(got[i], f32::NEG_INFINITY, "row {i}");
            } else {
                worst = worst.max((f64::from(got[i]) - expected).abs() / expected.abs().max(1.0));
            }
        }
        println!("largest relative error of log q: {worst:.1e}");
        assert!(n_outside == 3 && worst < 2e-4, "{worst}");
        // The same numbers as by way of the host.
        let before = executor.log_prob(&[0.1; DIM], &[]).unwrap();
        executor.log_prob_on_device(&outer, n, &rows, &out).unwrap();
        assert_eq!(caller.read(&out)[..7], got[..7]);
        assert_eq!(executor.log_prob(&[0.1; DIM], &[]).unwrap(), before);
    }
}

#[test]
fn draws_stay_on_the_device_and_have_the_flows_distribution() {
    let settings = EngineSettings { piece_samples: Some(1024), ..EngineSettings::default() };
    let Some(caller) = caller(&settings) else { return };
    let outer = outer();
    for base in bases() {
        let (mut executor, flow) = executor(&caller.engine, base);
        let n = 8000;
        let (theta, density) = (caller.buffer(n * DIM), caller.buffer(n));
        executor.sample_on_device(&outer, 1 << 40 | 5, n, &theta, &density).unwrap();
        let (drawn, log_q) = (caller.read(&theta), caller.read(&density));
        // Rows whose distances from bounds and cuts survive the rounding of theta to f32.
        let clear =
            |row: &&[f32]| row[1..].iter().all(|v| [-1.5, 2.5, 0.3].iter().all(|b| (v - b).abs() > 3e-3));
        let compared = drawn.chunks_exact(DIM).zip(&log_q).filter(|(row, _)| clear(row)).take(500);
        let mut n_compared = 0;
        for (row, log_q) in compared {
            let expected = log_prob(&flow, &outer, row);
            assert!((f64::from(*log_q) - expected).abs() < 2e-3, "{log_q} is {expected} at {row:?}");
            n_compared += 1;
        }
        assert!(n_compared > 100, "{n_compared}");
        for (b, j) in outer.bijections.iter().zip(0..) {
            let inside = |v: f32| b.contains(f64::from(v));
            assert!(drawn.iter().skip(j).step_by(DIM).all(|v| inside(*v)), "parameter {j}");
        }
        // Without bounds, near which f32 puts the outermost draws on its last number, base coordinates come back whole.
        let open = OuterTransform::new(vec![Bijection::UNBOUNDED; DIM]);
        let (free, density_of_free) = (caller.buffer(n * DIM), caller.buffer(n));
        executor.sample_on_device(&open, 1 << 40 | 5, n, &free, &density_of_free).unwrap();
        let rows: Vec<f64> = caller.read(&free).into_iter().map(f64::from).collect();
        moments(&flow, &flow.inverse_and_log_det(&rows, &[]).unwrap().0, n);
        // A draw is a function of seed and number alone.
        executor.sample_on_device(&outer, 1 << 40 | 5, 40, &theta, &density).unwrap();
        assert_eq!(caller.read(&density)[..n], log_q);
        executor.sample_on_device(&outer, 5, 40, &theta, &density).unwrap();
        assert_ne!(caller.read(&density)[..40], log_q[..40]);
    }
}

/// Mean and variance of the base, exact against drawn, in every coordinate.
fn moments(flow: &Flow<f64>, z: &[f64], n: usize) {
    let (weights, means, factors) = match flow.mixture() {
        Some(m) => (m.weights, m.means, m.cholesky),
        None => {
            let eye = (0..DIM * DIM).map(|i| if i % (DIM + 1) == 0 { 1.0 } else { 0.0 }).collect();
            (vec![1.0], vec![0.0; DIM], eye)
        }
    };
    for j in 0..DIM {
        let square = |k: usize| factors[(k * DIM + j) * DIM..][..=j].iter().map(|l| l * l).sum::<f64>();
        let mean: f64 = weights.iter().enumerate().map(|(k, w)| w * means[k * DIM + j]).sum();
        let second: f64 = weights
            .iter()
            .enumerate()
            .map(|(k, w)| w * (square(k) + (means[k * DIM + j] - mean).powi(2)))
            .sum();
        let column = || z.iter().skip(j).step_by(DIM);
        let drawn = column().sum::<f64>() / n as f64;
        let spread = column().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
        let se = (second / n as f64).sqrt();
        assert!((drawn - mean).abs() < 5.0 * se, "mean of {j}: {drawn}, expected {mean} +- {se}");
        assert!((spread / second - 1.0).abs() < 0.1, "variance of {j}: {spread}, expected {second}");
    }
}

#[test]
fn buffers_that_do_not_fit_are_refused() {
    let cores = EngineSettings { device: DeviceChoice::Cpu, ..EngineSettings::default() };
    let Some(caller) = caller(&EngineSettings::default()) else { return };
    let outer = outer();
    let (theta, out) = (caller.buffer(10 * DIM), caller.buffer(10));
    let (mut on_cores, _) = executor(&Engine::new(&cores).unwrap(), BaseSpec::Gaussian);
    let error = on_cores.log_prob_on_device(&outer, 1, &theta, &out).unwrap_err().to_string();
    assert!(error.contains("device is the cores"), "{error}");
    let (mut executor, _) = executor(&caller.engine, BaseSpec::Gaussian);
    let error = executor.log_prob_on_device(&outer, 11, &theta, &out).unwrap_err().to_string();
    assert_eq!(error, "theta: got 110 values, expected at least 11 rows of 11 in the buffer");
    let usage = wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size: 40, usage, mapped_at_creation: false };
    let plain = caller.device.create_buffer(&descriptor);
    let error = executor.sample_on_device(&outer, 1, 10, &theta, &plain).unwrap_err();
    assert!(matches!(error, EngineError::Binding { .. }), "{error}");
    executor.sample_on_device(&outer, 1, 0, &theta, &out).unwrap();
    // The engine is as good as before.
    executor.sample_on_device(&outer, 1, 10, &theta, &out).unwrap();
    assert!(caller.read(&out)[..10].iter().all(|v| v.is_finite()));
}
