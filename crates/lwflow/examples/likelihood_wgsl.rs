//! A likelihood in WGSL, with observed data and a derived quantity: the place of a source that was measured five times. It
//! runs on a GPU where there is one and on the cores otherwise, from the same text.
#![allow(clippy::print_stdout, reason = "an example says what it finds")]

use lwflow::{Fit, FlowSettings, IndependentPrior, Marginal, Wgsl};
use std::error::Error;

const TEXT: &str = "
fn log_likelihood(theta: array<f32, D>) -> f32 {
    var total = 0.0;
    for (var row = 0u; row < n_rows; row++) {
        total += normal_log_pdf(data(row, 0u), theta[0], 0.5);
    }
    return total;
}
fn derived(theta: array<f32, D>) -> array<f32, M> { return array<f32, M>(square(theta[0])); }";

fn main() -> Result<(), Box<dyn Error>> {
    let data = [1.3, 0.8, 1.1, 0.9, 1.4];
    let place = Marginal::Uniform { lower: -10.0, upper: 10.0 };
    let outcome = Fit::new(IndependentPrior::new(vec![place])?)
        .names(["place"])
        .wgsl(Wgsl::new(TEXT).data(data.to_vec(), 1).derived(["square"]))
        .rounds(|rounds| (rounds.target_ess, rounds.max_evaluations) = (1000.0, 40_000))
        .fit(|fit| {
            fit.flow = FlowSettings { n_layers: 0, ..FlowSettings::default() };
            fit.training.max_visits = 20_000;
        })
        .run()?;
    // The integral of the likelihood, whose mass lies far inside the prior.
    let (n, mean) = (5.0, data.iter().sum::<f64>() / 5.0);
    let spread: f64 = data.iter().map(|y| (y - mean).powi(2)).sum();
    let log_2_pi = std::f64::consts::TAU.ln();
    let exact =
        -0.5 * (n - 1.0) * (log_2_pi + 2.0 * 0.5f64.ln()) - 0.5 * f64::ln(n) - spread / 0.5 - 20f64.ln();
    let evidence = outcome.posterior.evidence().ok_or("no evidence")?;
    println!("log Z = {:.4} +- {:.4}, exactly {exact:.4}", evidence.log_z, evidence.sd);
    println!("{} draws with {:?}", outcome.result.theta.len(), outcome.derived_names);
    let squares = outcome.result.derived.iter().zip(&outcome.result.theta);
    if squares.clone().any(|(square, theta)| (square - theta * theta).abs() > 1e-5 * theta * theta + 1e-9) {
        return Err("a derived quantity is wrong".into());
    }
    if (evidence.log_z - exact).abs() > 6.0 * evidence.sd + 1e-3 {
        return Err("the evidence is wrong".into());
    }
    Ok(())
}
