//! Evaluates a likelihood at draws from the prior, as the first round of a fit does: whether it can be had at all, how much
//! of the prior is impossible, and how fast it is. Invariant: it ends soon, unless one point per worker takes long.

use super::pieces::try_pieces;
use lwflow_host::HostError;
use lwflow_host::likelihood::{Evaluations, Likelihood};
use lwflow_host::prior::{Prior, transform_rows};
use lwflow_host::rng::sobol_blocks;
use serde::Serialize;
use std::time::Duration;

/// Most draws.
const MAX_DRAWS: usize = 65_536;
/// After so long no further piece should be begun.
pub const MAX_TIME: Duration = Duration::from_secs(10);

/// What draws from the prior say about a likelihood.
#[derive(Debug, PartialEq, Serialize)]
pub struct PriorDraws {
    /// Draws evaluated.
    pub n: usize,
    /// Those whose log likelihood is -inf.
    pub n_impossible: usize,
    /// Least, median and largest of the finite log likelihoods; `None` if there is none.
    pub log_likelihood: Option<(f64, f64, f64)>,
    /// Names of the derived quantities.
    pub derived: Vec<String>,
    /// Evaluations per second of the last piece, which is the largest.
    pub evaluations_per_second: f64,
}

/// Evaluates ever larger pieces of draws, from one point per worker on; none is begun after `limit`.
///
/// # Errors
/// Those of the likelihood: NaN and +inf come with their theta.
pub fn try_prior_draws(
    prior: &dyn Prior,
    likelihood: &mut dyn Likelihood,
    seed: u64,
    limit: Duration,
) -> Result<PriorDraws, HostError> {
    let d = prior.dim();
    let theta = transform_rows(prior, &sobol_blocks(seed, MAX_DRAWS, d).points);
    let mut out = Evaluations::default();
    let (done, rate) = try_pieces(likelihood.n_parallel(), MAX_DRAWS, limit, |rows| {
        likelihood.evaluate(&theta[rows.start * d..rows.end * d], &mut out)
    })?;
    let mut finite: Vec<f64> = out.log_likelihood.iter().copied().filter(|v| v.is_finite()).collect();
    finite.sort_by(f64::total_cmp);
    let log_likelihood = match (finite.first(), finite.last()) {
        (Some(&least), Some(&largest)) => Some((least, finite[finite.len() / 2], largest)),
        _ => None,
    };
    Ok(PriorDraws {
        n: done,
        n_impossible: done - finite.len(),
        log_likelihood,
        derived: likelihood.derived_names().to_vec(),
        evaluations_per_second: rate,
    })
}

#[cfg(test)]
mod tests {
    use super::super::pieces::WANTED_DRAWS;
    use super::*;
    use lwflow_host::likelihood::ClosureLikelihood;
    use lwflow_host::prior::{IndependentPrior, Marginal};
    use std::time::Instant;

    fn unit() -> IndependentPrior {
        IndependentPrior::new(vec![Marginal::Uniform { lower: 0.0, upper: 1.0 }]).unwrap()
    }

    #[test]
    fn the_impossible_share_and_the_range_are_those_of_the_prior() {
        let mut half = ClosureLikelihood::new(
            1,
            |theta: &[f64]| if theta[0] < 0.25 { f64::NEG_INFINITY } else { theta[0] },
        );
        let draws = try_prior_draws(&unit(), &mut half, 1, MAX_TIME).unwrap();
        assert!(draws.n >= WANTED_DRAWS && draws.evaluations_per_second > 0.0);
        let share = draws.n_impossible as f64 / draws.n as f64;
        assert!((share - 0.25).abs() < 0.02, "{share}");
        let (least, median, largest) = draws.log_likelihood.unwrap();
        assert!((0.25..0.26).contains(&least) && (median - 0.625).abs() < 0.02 && largest > 0.99);
        let mut none = ClosureLikelihood::new(1, |_: &[f64]| f64::NEG_INFINITY);
        let draws = try_prior_draws(&unit(), &mut none, 1, MAX_TIME).unwrap();
        assert_eq!((draws.n_impossible, draws.log_likelihood), (draws.n, None));
    }

    #[test]
    fn a_slow_likelihood_ends_early_and_nan_is_refused() {
        let mut slow = ClosureLikelihood::new(1, |theta: &[f64]| {
            std::thread::sleep(Duration::from_millis(300));
            theta[0]
        });
        let start = Instant::now();
        let draws = try_prior_draws(&unit(), &mut slow, 1, Duration::from_secs(1)).unwrap();
        assert!(draws.n < 8 && start.elapsed() < Duration::from_secs(6), "{draws:?}");
        assert!((1.0..3.4).contains(&draws.evaluations_per_second), "{draws:?}");
        let mut nan = ClosureLikelihood::new(1, |theta: &[f64]| if theta[0] > 0.9 { f64::NAN } else { 0.0 });
        let error = try_prior_draws(&unit(), &mut nan, 1, MAX_TIME).unwrap_err().to_string();
        assert!(error.contains("NaN") && error.contains("theta = [0.9"), "{error}");
    }
}
