//! From a weighted chain to a density: points of another sampler, with weights of an unknown common factor, become a density
//! that is normalised, and zero outside the bounds. There is no evidence in such weights, and none is made up.
#![allow(clippy::print_stdout, reason = "an example says what it finds")]

use lwflow::{DeviceChoice, Error as FitError, Fit, FlowSettings, Posterior, Support};
use std::error::Error;

/// Points spread evenly over (0, 10) x (-4, 4) with the weights of two modes.
fn chain() -> (Vec<f64>, Vec<f64>) {
    let (mut theta, mut weights) = (Vec::new(), Vec::new());
    for i in 0..20_000 {
        // A Kronecker sequence stands for the sampler.
        let part = |step: f64| (0.5 + f64::from(i) * step).fract();
        let (a, b) = (10.0 * part(0.754_877_666_246_692_8), 8.0 * part(0.569_840_290_998_053_2) - 4.0);
        let mode = |x: f64, y: f64| (-0.5 * ((a - x).powi(2) + (b - y).powi(2)) / 0.25).exp();
        theta.extend([a, b]);
        weights.push(1e-30 * (0.25 * mode(3.0, -1.5) + 0.75 * mode(7.0, 1.5)));
    }
    (theta, weights)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (theta, weights) = chain();
    let bounded = |lower, upper| Support { lower: Some(lower), upper: Some(upper), ..Support::default() };
    let outcome = Fit::weighted(theta.clone(), &weights)
        .names(["a", "b"])
        .supports(vec![bounded(0.0, 10.0), bounded(-4.0, 4.0)])
        .fit(|fit| {
            fit.flow = FlowSettings { n_layers: 2, hidden: vec![16], ..FlowSettings::default() };
            fit.training.max_visits = 30_000;
        })
        .device(DeviceChoice::Cpu)
        .run()?;
    let posterior = &outcome.posterior;
    println!("K = {}, {} points", outcome.report.n_components, outcome.report.n);
    // ln of 0.75 of a normal density of standard deviation 1/2 in two dimensions, at its mode.
    let exact = 0.75f64.ln() - (std::f64::consts::TAU * 0.25).ln();
    let log_prob = posterior.log_prob(&[7.0, 1.5, 0.0, 0.0])?;
    println!("log q at a mode: {:.3}, exactly {exact:.3}; on a bound: {}", log_prob[0], log_prob[1]);
    if (log_prob[0] - exact).abs() > 0.1 || log_prob[1] != f64::NEG_INFINITY {
        return Err("the density is wrong".into());
    }
    if posterior.evidence().is_some() {
        return Err("bare weights have no evidence".into());
    }
    // A model file holds everything.
    let path = std::env::temp_dir().join(format!("lwflow-weighted-chain-{}.safetensors", std::process::id()));
    posterior.save(&path)?;
    let loaded = Posterior::load(&path, &DeviceChoice::Cpu)?;
    std::fs::remove_file(&path)?;
    if loaded.log_prob(&theta[..200])? != posterior.log_prob(&theta[..200])? {
        return Err("the file holds another density".into());
    }
    // A weight that means nothing is refused with its row.
    match Fit::weighted(vec![0.5, 1.0], &[1.0, -1.0]).device(DeviceChoice::Cpu).run() {
        Err(error @ FitError::Host(_)) => println!("refused: {error}"),
        other => return Err(format!("a negative weight was taken: {other:?}").into()),
    }
    Ok(())
}
