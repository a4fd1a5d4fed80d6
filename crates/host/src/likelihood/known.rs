//! The likelihoods of the built-in targets, in f64 on all cores. Invariant: row i of a batch is the target's own
//! [`Target::log_likelihood`] of theta i, however the batch is cut.

use super::{Evaluations, Likelihood, append_legal};
use crate::HostError;
use crate::targets::Target;
use rayon::prelude::*;

/// Rows that one task evaluates.
const ROWS_PER_TASK: usize = 1024;

fn values(target: &Target, theta: &[f64]) -> Result<Vec<f64>, HostError> {
    let d = Target::dim(target);
    crate::error::n_rows("theta", theta.len(), d)?;
    let rows = theta.par_chunks_exact(d).with_min_len(ROWS_PER_TASK);
    Ok(rows.map(|row| target.log_likelihood(row)).collect())
}

impl Likelihood for Target {
    fn dim(&self) -> usize {
        Target::dim(self)
    }

    fn evaluate(&mut self, theta: &[f64], out: &mut Evaluations) -> Result<(), HostError> {
        append_legal(&values(self, theta)?, theta, &mut out.log_likelihood)
    }

    fn audit(&mut self, theta: &[f64]) -> Result<Option<Vec<f64>>, HostError> {
        values(self, theta).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_the_targets_own_values_in_order() {
        for mut target in Target::ALL {
            let d = Target::dim(&target);
            let theta = target.sample(3000, 4).unwrap();
            let mut out = Evaluations::default();
            target.evaluate(&theta[..1234 * d], &mut out).unwrap();
            target.evaluate(&theta[1234 * d..], &mut out).unwrap();
            let expected: Vec<f64> = theta.chunks_exact(d).map(|row| target.log_likelihood(row)).collect();
            assert_eq!(out.log_likelihood, expected, "{target}");
            assert!(out.derived.is_empty());
            assert_eq!(target.audit(&theta).unwrap(), Some(expected));
        }
    }

    #[test]
    fn what_came_before_an_illegal_value_is_kept() {
        let mut out = Evaluations::default();
        let theta = [0.0, 0.0, f64::NAN, 0.0, 1.0, 1.0];
        let error = Likelihood::evaluate(&mut Target::Gauss1, &theta, &mut out).unwrap_err().to_string();
        assert!(error.contains("row 1") && error.contains("NaN"), "{error}");
        assert_eq!(out.log_likelihood.len(), 1);
        let error = Target::Gauss1.evaluate(&theta[..3], &mut out).unwrap_err().to_string();
        assert_eq!(error, "theta: length 3, expected a multiple of dim = 2");
    }
}
