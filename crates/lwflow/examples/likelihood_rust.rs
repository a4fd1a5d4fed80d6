//! A likelihood in Rust: a straight line through noisy points. The answer is known in closed form, and checked.
#![allow(clippy::print_stdout, reason = "an example says what it finds")]

use lwflow::{DeviceChoice, Fit, FlowSettings, IndependentPrior, Marginal, RoundsEvent};
use std::error::Error;
use std::ops::ControlFlow;

const X: [f64; 6] = [-1.0, -0.6, -0.2, 0.2, 0.6, 1.0];
const Y: [f64; 6] = [-1.9, -0.7, 0.2, 0.9, 2.4, 2.8];
const NOISE: f64 = 0.3;

fn log_likelihood(theta: &[f64]) -> f64 {
    let residual = |(x, y): (&f64, &f64)| (y - theta[0] - theta[1] * x) / NOISE;
    X.iter().zip(&Y).map(residual).map(|r| -0.5 * r * r).sum()
}

fn main() -> Result<(), Box<dyn Error>> {
    let wide = Marginal::Normal { mean: 0.0, sd: 5.0 };
    let mut rounds = 0;
    let outcome = Fit::new(IndependentPrior::new(vec![wide; 2])?)
        .names(["intercept", "slope"])
        .log_likelihood(log_likelihood)
        .rounds(|rounds| (rounds.target_ess, rounds.max_evaluations) = (1000.0, 40_000))
        .fit(|fit| {
            fit.flow = FlowSettings { n_layers: 2, hidden: vec![16], ..FlowSettings::default() };
            fit.training.max_visits = 20_000;
        })
        .seed(1)
        .device(DeviceChoice::Cpu)
        .on_progress(|event| {
            if let RoundsEvent::Round(row) = event {
                rounds = row.round;
            }
            ControlFlow::Continue(())
        })
        .run()?;
    println!("{rounds} rounds, verdict {:?}", outcome.verdict());

    // The posterior precision of each parameter by itself: sum x is zero, so that the two do not mix.
    let precision = |sum: f64| sum / NOISE.powi(2) + 1.0 / 25.0;
    let (sum_y, sum_xy) = (Y.iter().sum::<f64>(), X.iter().zip(&Y).map(|(x, y)| x * y).sum::<f64>());
    let (p0, p1) = (precision(6.0), precision(X.iter().map(|x| x * x).sum()));
    let exact = [sum_y / NOISE.powi(2) / p0, sum_xy / NOISE.powi(2) / p1];
    let samples = outcome.posterior.sample(20_000, 3)?;
    for (j, (exact, sd)) in exact.into_iter().zip([p0.sqrt().recip(), p1.sqrt().recip()]).enumerate() {
        let mean = samples.theta.iter().skip(j).step_by(2).sum::<f64>() / 20_000.0;
        println!("{}: {mean:.3}, exactly {exact:.3} +- {sd:.3}", outcome.posterior.names()[j]);
        if (mean - exact).abs() > 0.1 * sd {
            return Err("the mean is off by more than a tenth of a standard deviation".into());
        }
    }
    if !outcome.verdict().met || outcome.interrupted() {
        return Err("the contract is not met".into());
    }
    Ok(())
}
