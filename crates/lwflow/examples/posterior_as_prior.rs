//! The posterior of one experiment as the prior of the next: log Z of both together is the sum of the two.
#![allow(clippy::print_stdout, reason = "an example says what it finds")]

use lwflow::{DeviceChoice, Fit, FlowSettings, IndependentPrior, LogZ, Marginal, Posterior, Prior};
use std::error::Error;

/// A fit small enough for an example.
fn fit(
    prior: impl Prior,
    log_likelihood: impl Fn(&[f64]) -> f64 + Send + Sync,
) -> Result<Posterior, lwflow::Error> {
    let outcome = Fit::new(prior)
        .names(["mass", "rate"])
        .log_likelihood(log_likelihood)
        .rounds(|rounds| (rounds.target_ess, rounds.max_evaluations) = (2000.0, 40_000))
        .fit(|fit| {
            fit.flow = FlowSettings { n_layers: 2, hidden: vec![16], ..FlowSettings::default() };
            fit.training.max_visits = 30_000;
        })
        .device(DeviceChoice::Cpu)
        .run()?;
    Ok(outcome.posterior)
}

fn normal(x: f64, mean: f64, sd: f64) -> f64 {
    -0.5 * ((x - mean) / sd).powi(2) - sd.ln() - 0.5 * std::f64::consts::TAU.ln()
}

fn main() -> Result<(), Box<dyn Error>> {
    // The first experiment measures the mass up to its sign, the second one both parameters.
    let first = |theta: &[f64]| {
        let of = |sign: f64| normal(sign * theta[0], 1.5, 0.4);
        let (a, b) = (of(1.0), of(-1.0));
        a.max(b) + (-(a - b).abs()).exp().ln_1p() + normal(theta[1], 0.5, 1.0)
    };
    let second = |theta: &[f64]| normal(theta[0], 1.2, 0.5) + normal(theta[1], 0.2, 0.5);
    let prior = IndependentPrior::new(vec![Marginal::Normal { mean: 0.0, sd: 2.0 }; 2])?;
    let after_one = fit(prior.clone(), first)?;
    let after_two = fit(after_one.prior()?, second)?;
    let at_once = fit(prior, |theta| first(theta) + second(theta))?;

    let evidence = |posterior: &Posterior| posterior.evidence().ok_or("no evidence");
    let (one, two, both) = (evidence(&after_one)?, evidence(&after_two)?, evidence(&at_once)?);
    let sum = LogZ { log_z: one.log_z + two.log_z, sd: one.sd.hypot(two.sd) };
    println!(
        "one after the other: {:.4} +- {:.4}; at once: {:.4} +- {:.4}",
        sum.log_z, sum.sd, both.log_z, both.sd
    );
    // The flow of the first experiment is close to its posterior, not equal to it.
    if (sum.log_z - both.log_z).abs() > 5.0 * sum.sd.hypot(both.sd) + 0.03 {
        return Err("the two ways differ".into());
    }
    // Half of the mass was at negative masses after the first experiment, hardly any after the second.
    let negative = |posterior: &Posterior| -> Result<f64, lwflow::Error> {
        let theta = posterior.sample(10_000, 2)?.theta;
        Ok(theta.iter().step_by(2).filter(|mass| **mass < 0.0).count() as f64 / 1e4)
    };
    let (before, after) = (negative(&after_one)?, negative(&after_two)?);
    println!("probability of a negative mass: {before:.3}, then {after:.1e}");
    if (before - 0.5).abs() > 0.03 || after > 0.01 {
        return Err("the modes are wrong".into());
    }
    Ok(())
}
