//! The priors of the built-in targets. Invariant: the same densities as [`Target::log_prior`], and draws strictly inside
//! the box for every point of the open cube, its last representable ones included.

use super::{Marginal, Prior};
use crate::outer::Support;
use crate::targets::{ROSENBROCK_PRIOR_SD, Target};

impl Prior for Target {
    fn dim(&self) -> usize {
        Target::dim(self)
    }

    fn supports(&self) -> Vec<Support> {
        let sides = Target::supports(self).into_iter();
        sides.map(|(lower, upper)| Support { lower, upper, ..Support::default() }).collect()
    }

    fn prior_transform(&self, u: &[f64], theta: &mut [f64]) {
        let draw = self.prior_sample(u);
        for ((value, x), (lower, upper)) in theta.iter_mut().zip(draw).zip(Target::supports(self)) {
            // Rounding may reach a bound; the next number inside stands for it.
            let x = lower.map_or(x, |bound| x.max(bound.next_up()));
            *value = upper.map_or(x, |bound| x.min(bound.next_down())).clamp(f64::MIN, f64::MAX);
        }
    }

    fn log_prior(&self, theta: &[f64]) -> f64 {
        Target::log_prior(self, theta)
    }
}

impl Target {
    /// The priors of its parameters, `[D]`, which are independent.
    pub fn prior_marginals(&self) -> Vec<Marginal> {
        let marginal = |side: (Option<f64>, Option<f64>)| match side {
            (Some(lower), Some(upper)) => Marginal::Uniform { lower, upper },
            _ => Marginal::Normal { mean: 0.0, sd: ROSENBROCK_PRIOR_SD },
        };
        Target::supports(self).into_iter().map(marginal).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marginals_are_the_prior() {
        for target in Target::ALL {
            let theta: Vec<f64> = (0..Target::dim(&target)).map(|j| 0.3 * j as f64 - 0.7).collect();
            let sum: f64 = target.prior_marginals().iter().zip(&theta).map(|(m, x)| m.log_density(*x)).sum();
            assert!((sum - Target::log_prior(&target, &theta)).abs() < 1e-12, "{target}");
        }
    }

    #[test]
    fn draws_lie_inside_and_have_a_density_up_to_the_corners_of_the_cube() {
        for target in Target::ALL {
            let prior: &dyn Prior = &target;
            let d = prior.dim();
            assert_eq!(prior.supports().len(), d);
            let mut theta = vec![0.0; d];
            for u in [f64::from_bits(1), f64::MIN_POSITIVE, 1e-12, 0.5, 1.0 - 1e-12, 1f64.next_down()] {
                prior.prior_transform(&vec![u; d], &mut theta);
                let log_prior = prior.log_prior(&theta);
                assert!(log_prior.is_finite(), "{target}: u {u:e}, theta {theta:?}, log prior {log_prior}");
            }
            let middle = vec![0.5; d];
            prior.prior_transform(&middle, &mut theta);
            assert_eq!(theta, target.prior_sample(&middle));
        }
        let prior: &dyn Prior = &Target::Gauss1;
        assert_eq!(prior.log_prior(&[8.0, 0.0]), f64::NEG_INFINITY);
        assert!(prior.log_prior(&[f64::NAN, 0.0]).is_nan());
    }
}
