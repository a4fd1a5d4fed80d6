//! A log likelihood of theta and of an observation that is given with it, from a closure: what amortised training weights with.
//! Invariant: row i of a batch is the closure's value at theta i and the observation that i names, however the batch is cut.

use super::{Evaluations, Likelihood, append_legal};
use crate::HostError;
use rayon::prelude::*;
use std::fmt::Debug;

/// Rows that one task evaluates.
const ROWS_PER_TASK: usize = 256;

/// A log likelihood from a closure over one theta, `[D]`, and one observation, `[X]`, in f64; evaluated on all cores. It has no
/// observation of its own: only [`Likelihood::evaluate_observed`] has values.
pub struct ObservedClosure<F> {
    dim: usize,
    n_observed: usize,
    log_likelihood: F,
}

impl<F: Fn(&[f64], &[f64]) -> f64 + Send + Sync> ObservedClosure<F> {
    /// The log likelihood `log_likelihood` of `dim` parameters for `n_observed` observed values.
    ///
    /// ```
    /// use lwflow_host::likelihood::{Likelihood, ObservedClosure};
    /// let normal = |theta: &[f64], x: &[f64]| -0.5 * (x[0] - theta[0]).powi(2);
    /// let mut likelihood = ObservedClosure::new(1, 1, normal);
    /// let mut log_likelihood = Vec::new();
    /// likelihood.evaluate_observed(&[0.0, 1.0, 2.0], &[0.0, 4.0], &[0, 0, 1], &mut log_likelihood)?;
    /// assert_eq!(log_likelihood, [0.0, -0.5, -2.0]);
    /// # Ok::<(), lwflow_host::HostError>(())
    /// ```
    pub fn new(dim: usize, n_observed: usize, log_likelihood: F) -> Self {
        Self { dim, n_observed, log_likelihood }
    }
}

impl<F> Debug for ObservedClosure<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("ObservedClosure");
        shown.field("dim", &self.dim).field("n_observed", &self.n_observed).finish_non_exhaustive()
    }
}

/// Refuses arguments of [`Likelihood::evaluate_observed`] that do not fit each other.
pub(super) fn check_observed(
    theta: &[f64],
    dim: usize,
    observations: &[f64],
    n_observed: usize,
    observation: &[u32],
) -> Result<(), HostError> {
    let n = crate::error::n_rows("theta", theta.len(), dim)?;
    let got = observations.len();
    if n_observed == 0 || !got.is_multiple_of(n_observed) {
        let expected = format!("a multiple of {n_observed} (the values of one)");
        return Err(HostError::Length { what: "observations", got, expected });
    }
    let n_observations = got / n_observed;
    crate::error::check_length("observation", observation.len(), n, "one per theta")?;
    match observation.iter().position(|j| *j as usize >= n_observations) {
        None => Ok(()),
        Some(row) => {
            let (what, got) = (format!("observation of row {row}"), observation[row]);
            Err(HostError::invalid(what, got, format!("below {n_observations}")))
        }
    }
}

fn no_observation() -> HostError {
    let got = "a closure over theta and x, which has no observation of its own";
    HostError::invalid(
        "the likelihood",
        got,
        "one that knows its observation: evaluate_observed gives it one",
    )
}

impl<F: Fn(&[f64], &[f64]) -> f64 + Send + Sync> Likelihood for ObservedClosure<F> {
    fn dim(&self) -> usize {
        self.dim
    }

    fn n_observed(&self) -> Option<usize> {
        Some(self.n_observed)
    }

    fn evaluate(&mut self, _: &[f64], _: &mut Evaluations) -> Result<(), HostError> {
        Err(no_observation())
    }

    fn audit(&mut self, _: &[f64]) -> Result<Option<Vec<f64>>, HostError> {
        Err(no_observation())
    }

    fn evaluate_observed(
        &mut self,
        theta: &[f64],
        observations: &[f64],
        observation: &[u32],
        out: &mut Vec<f64>,
    ) -> Result<(), HostError> {
        check_observed(theta, self.dim, observations, self.n_observed, observation)?;
        let rows = theta.par_chunks_exact(self.dim).zip(observation).with_min_len(ROWS_PER_TASK);
        let value = |(theta, j): (&[f64], &u32)| {
            let from = *j as usize * self.n_observed;
            (self.log_likelihood)(theta, &observations[from..from + self.n_observed])
        };
        let values: Vec<f64> = rows.map(value).collect();
        append_legal(&values, theta, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::likelihood::{ClosureLikelihood, WgslLikelihood, WgslParameter};
    use lwflow_engine::{DeviceChoice, Engine, EngineSettings, WgslData, WgslProgram, WgslSource};

    /// NaN where x[0] is above 8, -inf where it is above 5.
    fn exact(theta: &[f64], x: &[f64]) -> f64 {
        match x[0] {
            high if high > 8.0 => f64::NAN,
            high if high > 5.0 => f64::NEG_INFINITY,
            _ => -0.5 * (x[0] - theta[0]).powi(2) - 0.25 * (x[1] - theta[1]).abs(),
        }
    }

    const TEXT: &str = "fn log_likelihood(theta: array<f32, D>) -> f32 {
        if data(0u, 0u) > 8.0 { return sqrt(-data(0u, 0u)); }
        if data(0u, 0u) > 5.0 { return minus_infinity(); }
        return -0.5 * square(data(0u, 0u) - theta[0]) - 0.25 * abs(data(0u, 1u) - theta[1] - 1e6);
    }";

    fn in_wgsl(text: &str) -> WgslLikelihood {
        let data = Some(WgslData { values: vec![0.0, 0.0], n_columns: 2 });
        let (file, text) = ("user.wgsl".into(), text.into());
        let program =
            WgslProgram::new(&WgslSource { file, text, dim: 2, data, ..Default::default() }).unwrap();
        let settings = EngineSettings { device: DeviceChoice::Cpu, ..Default::default() };
        let parameter = |name: &str, offset| WgslParameter {
            name: name.into(),
            offset,
            range: (offset - 4.0, offset + 4.0),
        };
        let parameters = [parameter("a", 0.0), parameter("b", 1e6)];
        WgslLikelihood::new(&Engine::new(&settings).unwrap(), &program, &parameters, Vec::new()).unwrap()
    }

    fn both() -> [Box<dyn Likelihood>; 2] {
        [Box::new(ObservedClosure::new(2, 2, exact)), Box::new(in_wgsl(TEXT))]
    }

    #[test]
    fn every_row_has_the_value_of_its_observation() {
        for mut likelihood in both() {
            assert_eq!(likelihood.n_observed(), Some(2));
            let mut out = vec![7.0];
            // The second batch has other observations, the third those of the second.
            for (n, n_observations) in [(700_u32, 3_u32), (1000, 1000), (10, 1000)] {
                let x = |j: u32| [f64::from(j % 64) / 16.0, 1e6 + f64::from(j % 7)];
                let observations: Vec<f64> =
                    (0..n_observations).flat_map(|j| x(j + n_observations)).collect();
                let theta: Vec<f64> =
                    (0..n).flat_map(|i| [f64::from(i % 32) / 8.0, 1e6 + f64::from(i % 5)]).collect();
                let observation: Vec<u32> = (0..n).map(|i| (i * 7 + 1) % n_observations).collect();
                out.truncate(1);
                likelihood.evaluate_observed(&theta, &observations, &observation, &mut out).unwrap();
                let rows = theta.chunks_exact(2).zip(&observation);
                let expected = rows.map(|(theta, j)| exact(theta, &x(j + n_observations)));
                let expected: Vec<f64> = [7.0].into_iter().chain(expected).collect();
                // Multiples of small powers of two: f32 is exact too, but for 1e6 in the text.
                assert_eq!(out.len(), expected.len());
                assert!(out.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{likelihood:?}");
            }
        }
    }

    #[test]
    fn illegal_values_and_indices_are_told() {
        for mut likelihood in both() {
            let observations = [0.0, 1e6, 6.0, 1e6, 9.0, 1e6];
            let theta = [0.0, 1e6, 0.0, 1e6, 1.0, 1e6, 0.0, 1e6];
            let mut out = Vec::new();
            let error =
                likelihood.evaluate_observed(&theta, &observations, &[0, 1, 2, 0], &mut out).unwrap_err();
            assert_eq!(out, [0.0, f64::NEG_INFINITY]);
            match error {
                HostError::BadLogValue { row: 2, theta, value, .. } => {
                    assert!(theta == [1.0, 1e6] && value.is_nan());
                }
                other => panic!("{other}"),
            }
            let mut tell = |theta: &[f64], observations: &[f64], observation: &[u32]| {
                let mut out = Vec::new();
                let told =
                    likelihood.evaluate_observed(theta, observations, observation, &mut out).unwrap_err();
                assert!(out.is_empty());
                told.to_string()
            };
            let text = tell(&theta, &observations, &[0, 1, 3, 0]);
            assert!(text.contains("row 2") && text.contains("below 3"), "{text}");
            let text = tell(&theta, &observations, &[0, 1]);
            assert!(text.contains("observation") && text.contains("4 (one per theta)"), "{text}");
            assert!(tell(&theta[..3], &observations, &[0]).contains("theta"));
            let text = tell(&theta, &observations[..3], &[0; 4]);
            assert!(text.contains("observations") && text.contains("multiple of"), "{text}");
            // After a refusal the earlier observations are read anew.
            likelihood.evaluate_observed(&theta[..2], &observations, &[0], &mut out).unwrap();
            assert_eq!(out.last(), Some(&0.0));
        }
    }

    #[test]
    fn a_likelihood_with_its_own_observation_takes_no_other() {
        let blind = "fn log_likelihood(theta: array<f32, D>) -> f32 { return theta[0]; }";
        let own: [Box<dyn Likelihood>; 2] =
            [Box::new(ClosureLikelihood::new(2, |theta: &[f64]| theta[0])), Box::new(in_wgsl(blind))];
        for mut likelihood in own {
            assert_eq!(likelihood.n_observed(), None);
            let mut out = Vec::new();
            let error = likelihood.evaluate_observed(&[0.0, 1e6], &[0.0, 0.0], &[0], &mut out).unwrap_err();
            assert!(error.to_string().contains("has its own observation"), "{error}");
        }
        let mut none = ObservedClosure::new(2, 2, exact);
        let error = none.evaluate(&[0.0, 0.0], &mut Evaluations::default()).unwrap_err();
        assert!(error.to_string().contains("no observation of its own"), "{error}");
        assert!(none.audit(&[0.0, 0.0]).is_err());
    }
}
