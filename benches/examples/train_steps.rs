//! Training steps per second, the optimiser on the host against the optimiser on the device, alternating, by batch
//! size: the figures behind the choice between the two. `train_steps [steps] [D H]` on the device of `LWFLOW_DEVICE`.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use anyhow::Result;
use lwflow_engine::{Engine, EngineSettings, OptimiserSettings, OptimiserState, TrainSteps};
use lwflow_host::adam::{Adam, AdamSettings};
use lwflow_model::{BaseSpec, Flow, FlowSettings, FlowSpec, MixtureSpec};

fn main() -> Result<()> {
    let args: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let n_steps = args.first().copied().unwrap_or(100);
    let dim = args.get(1).copied().unwrap_or(2);
    let width = args.get(2).copied().unwrap_or(32);
    let engine = Engine::new(&EngineSettings::default())?;
    println!("{}", engine.info());
    let mixture = MixtureSpec { n_components: 3, ..MixtureSpec::default() };
    let settings = FlowSettings { hidden: vec![width; 2], ..FlowSettings::default() };
    let spec = FlowSpec::build(dim, 0, &settings, BaseSpec::Mixture(mixture), 1)?;
    let start = Flow::<f32>::init(spec.clone(), 1)?.params().to_vec();
    let n = 65_536;
    let theta: Vec<f32> = (0..n * dim).map(|i| (0.37 * i as f32).sin()).collect();
    for batch in [64, 128, 256, 512, 1024, 4096] {
        let weights = vec![1.0 / batch as f32; batch * n_steps];
        let index: Vec<u32> = (0..batch * n_steps).map(|i| (i * 7919 % n) as u32).collect();
        let (mut host_rates, mut device_rates) = (Vec::new(), Vec::new());
        let mut host = engine.flow(&spec)?;
        let mut device = engine.flow(&spec)?;
        device.set_data(&theta, &[])?;
        for round in 0..6 {
            let mut params = start.clone();
            let mut adam =
                Adam::new(params.len(), AdamSettings { clip_norm: Some(5.0), ..Default::default() })?;
            host.set_params(&params)?;
            let begin = Instant::now();
            for picked in index.chunks_exact(batch) {
                let mut x = Vec::with_capacity(batch * dim);
                for &p in picked {
                    x.extend_from_slice(&theta[p as usize * dim..][..dim]);
                }
                let gradient = host.gradient(&x, &[], &weights[..batch], None)?;
                adam.step(&mut params, &gradient.grad, 1e-3, None)?;
                host.set_params(&params)?;
            }
            let host_rate = n_steps as f64 / begin.elapsed().as_secs_f64();

            device.set_params(&start)?;
            let optimiser = OptimiserSettings {
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                clip_norm: Some(5.0),
                rate_scale: vec![1.0; start.len()],
            };
            device.set_optimiser(&optimiser, &OptimiserState::new(start.len()))?;
            let steps = TrainSteps {
                batch_size: batch,
                index: &index,
                weights: &weights,
                log_inv_proposal: None,
                learning_rate: &vec![1e-3; n_steps],
            };
            let begin = Instant::now();
            device.train_steps(&steps)?;
            let device_rate = n_steps as f64 / begin.elapsed().as_secs_f64();
            // The first round compiles.
            if round > 0 {
                host_rates.push(host_rate);
                device_rates.push(device_rate);
            }
        }
        let ratios: Vec<f64> = device_rates.iter().zip(&host_rates).map(|(d, h)| d / h).collect();
        println!(
            "B {batch:5}: host {:7.0} steps/s, device {:7.0} steps/s, ratio {:.2} (pairs {:.2} to {:.2})",
            median(host_rates),
            median(device_rates),
            median(ratios.clone()),
            ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratios.iter().copied().fold(0.0, f64::max),
        );
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
