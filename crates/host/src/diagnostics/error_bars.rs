//! Error bars of a fit from its replicas ([`crate::fit::fit_with_replicas`]): the spread of what they answer.
//! Invariant: fit and replicas are asked with the same random numbers, so that the spread is theirs and not the draws'.

use super::calibration::quantile;
use crate::HostError;
use crate::posterior::Posterior;
use lwflow_engine::Engine;
use serde::Serialize;

/// A number of the fit with its error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WithError {
    /// The fit's own.
    pub value: f64,
    /// Standard deviation of the replicas'.
    pub error: f64,
}

/// What is told of the marginal of one parameter, in the user's units.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ParameterErrors {
    /// Its name.
    pub name: String,
    /// Mean.
    pub mean: WithError,
    /// Standard deviation.
    pub sd: WithError,
    /// 5 % quantile.
    pub q05: WithError,
    /// Median.
    pub median: WithError,
    /// 95 % quantile.
    pub q95: WithError,
}

/// Error bars of a fit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorBars {
    /// Replicas behind them.
    pub n_replicas: usize,
    /// Draws of each flow.
    pub n_draws: usize,
    /// One for each parameter.
    pub parameters: Vec<ParameterErrors>,
    /// Standard deviation over replicas of log q at a draw of the fit, in nats: the median over draws,
    pub log_prob_sd_median: f64,
    /// and what 95 % of the draws stay below.
    pub log_prob_sd_q95: f64,
}

fn sd(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
}

/// Mean, standard deviation and the three quantiles of each parameter.
fn summaries(theta: &[f64], d: usize) -> Vec<[f64; 5]> {
    let one = |j: usize| {
        let mut column: Vec<f64> = theta.iter().skip(j).step_by(d).copied().collect();
        column.sort_by(f64::total_cmp);
        let mean = column.iter().sum::<f64>() / column.len() as f64;
        [mean, sd(&column), quantile(&column, 0.05), quantile(&column, 0.5), quantile(&column, 0.95)]
    };
    (0..d).map(one).collect()
}

/// Error bars of `posterior`, which has no context, from its replicas, with `n_draws` draws of each.
///
/// # Errors
/// [`HostError::Invalid`] for fewer than two replicas or draws; errors of the engine.
pub fn error_bars(
    engine: &Engine,
    posterior: &Posterior,
    replicas: &[Posterior],
    n_draws: usize,
    seed: u64,
) -> Result<ErrorBars, HostError> {
    for (what, got) in [("replicas", replicas.len()), ("draws", n_draws)] {
        if got < 2 {
            return Err(HostError::invalid(what, got, "at least 2, for a spread"));
        }
    }
    let d = posterior.dim();
    let mut executor = engine.flow(posterior.spec())?;
    let own = posterior.sample(&mut executor, n_draws, &[], seed)?;
    let (mut others, mut log_prob) = (Vec::new(), Vec::new());
    for replica in replicas {
        others.push(summaries(&replica.sample(&mut executor, n_draws, &[], seed)?.theta, d));
        log_prob.push(replica.log_prob(&mut executor, &own.theta, &[])?);
    }
    let own = summaries(&own.theta, d);
    let parameter = |(j, name): (usize, &String)| {
        let [mean, sd, q05, median, q95] = std::array::from_fn(|k| {
            let theirs: Vec<f64> = others.iter().map(|other| other[j][k]).collect();
            WithError { value: own[j][k], error: sd(&theirs) }
        });
        ParameterErrors { name: name.clone(), mean, sd, q05, median, q95 }
    };
    let at = |i: usize| -> Vec<f64> { log_prob.iter().map(|of_replica| of_replica[i]).collect() };
    let mut spread: Vec<f64> = (0..n_draws).map(|i| sd(&at(i))).collect();
    // A draw outside of what a replica reaches has no finite spread; it counts as the largest.
    spread.iter_mut().filter(|s| s.is_nan()).for_each(|s| *s = f64::INFINITY);
    spread.sort_by(f64::total_cmp);
    Ok(ErrorBars {
        n_replicas: replicas.len(),
        n_draws,
        parameters: posterior.names.iter().enumerate().map(parameter).collect(),
        log_prob_sd_median: quantile(&spread, 0.5),
        log_prob_sd_q95: quantile(&spread, 0.95),
    })
}
