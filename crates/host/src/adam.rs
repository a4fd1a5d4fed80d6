//! Adam (Kingma and Ba 2015) on f32 parameters with a serialisable state, a global gradient-norm clip and an optional
//! learning-rate scale per parameter. A step that meets a non-finite number is refused whole: neither parameters nor
//! moments change, so parameters never become NaN.

use crate::error::{HostError, check_length};
use serde::{Deserialize, Serialize};

/// How Adam steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamSettings {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Largest global gradient norm; a longer gradient is scaled down to it. None clips nothing.
    pub clip_norm: Option<f64>,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, clip_norm: None }
    }
}

/// Moments and step count: all that a resumed run needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamState {
    /// First moment, `[n_params]`.
    pub m: Vec<f32>,
    /// Second moment, `[n_params]`.
    pub v: Vec<f32>,
    /// Steps taken; refused steps do not count.
    pub step: u64,
}

impl AdamState {
    /// The state before the first step.
    pub fn new(n_params: usize) -> Self {
        Self { m: vec![0.0; n_params], v: vec![0.0; n_params], step: 0 }
    }
}

/// Why a step was refused.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum SkipReason {
    /// The gradient holds NaN or an infinity.
    Gradient {
        /// First bad entry.
        index: usize,
        /// Its value.
        value: f32,
        /// Number of bad entries.
        n_bad: usize,
    },
    /// The step would leave a parameter or moment non-finite.
    Overflow {
        /// First such entry.
        index: usize,
    },
}

/// What a call of [`Adam::step`] did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StepOutcome {
    /// Parameters moved.
    Taken {
        /// Norm of the gradient before clipping.
        grad_norm: f64,
        /// Whether the clip acted.
        clipped: bool,
    },
    /// Nothing changed.
    Skipped(SkipReason),
}

/// The optimiser.
#[derive(Clone, Debug)]
pub struct Adam {
    settings: AdamSettings,
    state: AdamState,
    /// Proposed parameters and moments, kept to avoid an allocation per step.
    proposed: Proposed,
}

/// What a step would lead to, `[n_params]` each.
#[derive(Clone, Debug)]
struct Proposed {
    params: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
}

impl Adam {
    /// A fresh optimiser for `n_params` parameters.
    ///
    /// # Errors
    /// [`HostError::BadSetting`] for a setting out of range.
    pub fn new(n_params: usize, settings: AdamSettings) -> Result<Self, HostError> {
        Self::resume(AdamState::new(n_params), settings)
    }

    /// An optimiser that continues from `state`.
    ///
    /// # Errors
    /// [`HostError::BadSetting`] for a setting out of range, [`HostError::Length`] if m and v differ in length,
    /// [`HostError::BadValue`] for a moment that is not finite or a negative second moment.
    pub fn resume(state: AdamState, settings: AdamSettings) -> Result<Self, HostError> {
        let bad = |setting, got: f64, expected| {
            Err(HostError::BadSetting { setting, got: got.to_string(), expected })
        };
        for (name, beta) in [("beta1", settings.beta1), ("beta2", settings.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return bad(name, beta, "at least 0 and below 1");
            }
        }
        // In f32, as it is used.
        if !(settings.eps as f32 > 0.0 && (settings.eps as f32).is_finite()) {
            return bad("eps", settings.eps, "a positive finite number in 32 bits");
        }
        if let Some(clip) = settings.clip_norm.filter(|c| c.is_nan() || *c <= 0.0) {
            return bad("clip_norm", clip, "a positive number");
        }
        check_length("adam v", state.v.len(), state.m.len(), "as many as m")?;
        let bad_moment =
            state.m.iter().zip(&state.v).position(|(m, v)| !(m.is_finite() && v.is_finite() && *v >= 0.0));
        if let Some(row) = bad_moment {
            let value = f64::from(if state.m[row].is_finite() { state.v[row] } else { state.m[row] });
            let expected = "finite moments, the second at least 0";
            return Err(HostError::BadValue { what: "adam state", row, column: 0, value, expected });
        }
        let zeros = || vec![0.0; state.m.len()];
        let proposed = Proposed { params: zeros(), m: zeros(), v: zeros() };
        Ok(Self { settings, state, proposed })
    }

    /// The state, to be stored.
    pub fn state(&self) -> &AdamState {
        &self.state
    }

    /// One step of learning rate `lr` on `params`, `[n_params]`, against `grad`, `[n_params]`; `lr_scale`,
    /// `[n_params]`, multiplies the rate of each parameter (0 freezes it).
    ///
    /// # Errors
    /// [`HostError::Length`] for a slice of the wrong length, [`HostError::BadSetting`] for a rate that is negative or
    /// not finite. A non-finite gradient is no error but [`StepOutcome::Skipped`].
    pub fn step(
        &mut self,
        params: &mut [f32],
        grad: &[f32],
        lr: f64,
        lr_scale: Option<&[f32]>,
    ) -> Result<StepOutcome, HostError> {
        let n = self.state.m.len();
        check_length("params", params.len(), n, "as many as the optimiser holds")?;
        check_length("grad", grad.len(), n, "as many as the optimiser holds")?;
        if let Some(scale) = lr_scale {
            check_length("lr_scale", scale.len(), n, "as many as the optimiser holds")?;
        }
        if !(lr >= 0.0 && lr.is_finite()) {
            let expected = "a finite number of at least 0";
            return Err(HostError::BadSetting { setting: "lr", got: lr.to_string(), expected });
        }
        // In f64 the squares of f32 do not overflow.
        let grad_norm = sum_of_squares(grad).sqrt();
        if !grad_norm.is_finite() {
            let index = grad.iter().position(|g| !g.is_finite()).unwrap_or_default();
            let n_bad = grad.iter().filter(|g| !g.is_finite()).count();
            return Ok(StepOutcome::Skipped(SkipReason::Gradient { index, value: grad[index], n_bad }));
        }
        let clip = self.settings.clip_norm.map_or(1.0, |c| if grad_norm > c { c / grad_norm } else { 1.0 });
        match lr_scale {
            Some(scale) => {
                let scale = &scale[..n];
                self.propose(params, grad, (lr, clip), |i| scale[i]);
            }
            None => self.propose(params, grad, (lr, clip), |_| 1.0),
        }
        let Proposed { params: new, m, v } = &mut self.proposed;
        if ![&*new, &*m, &*v].into_iter().all(|values| all_finite(values)) {
            let finite = |i: &usize| new[*i].is_finite() && m[*i].is_finite() && v[*i].is_finite();
            let index = (0..n).find(|i| !finite(i)).unwrap_or_default();
            return Ok(StepOutcome::Skipped(SkipReason::Overflow { index }));
        }
        params.copy_from_slice(new);
        std::mem::swap(&mut self.state.m, m);
        std::mem::swap(&mut self.state.v, v);
        self.state.step += 1;
        Ok(StepOutcome::Taken { grad_norm, clipped: clip < 1.0 })
    }

    /// Computes the step of rate `lr * scale(i)` along `clip` times the gradient, in f32 as on a device.
    #[inline(always)]
    fn propose(
        &mut self,
        params: &[f32],
        grad: &[f32],
        (lr, clip): (f64, f64),
        scale: impl Fn(usize) -> f32,
    ) {
        let AdamSettings { beta1, beta2, eps, .. } = self.settings;
        let step = (self.state.step + 1) as f64;
        let rate = (lr / (1.0 - beta1.powf(step))) as f32;
        let unbias = (1.0 / (1.0 - beta2.powf(step))) as f32;
        let (new1, new2, clip, eps) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32, clip as f32, eps as f32);
        let (beta1, beta2) = (beta1 as f32, beta2 as f32);
        // Of one length, so that the loop checks no bounds and runs in vectors.
        let n = params.len();
        let (grad, m, v) = (&grad[..n], &self.state.m[..n], &self.state.v[..n]);
        let Proposed { params: new_params, m: new_m, v: new_v } = &mut self.proposed;
        let (new_params, new_m, new_v) = (&mut new_params[..n], &mut new_m[..n], &mut new_v[..n]);
        for i in 0..n {
            let g = grad[i] * clip;
            let m = beta1 * m[i] + new1 * g;
            let v = beta2 * v[i] + new2 * g * g;
            new_params[i] = params[i] - rate * scale(i) * m / ((v * unbias).sqrt() + eps);
            (new_m[i], new_v[i]) = (m, v);
        }
    }
}

/// In sixteen sums, so that none waits for the one before.
fn sum_of_squares(values: &[f32]) -> f64 {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut sums = [0.0; 16];
    for chunk in chunks {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>()
}

/// Whether all are finite, found without a branch per value.
fn all_finite(values: &[f32]) -> bool {
    let exponent = f32::INFINITY.to_bits();
    values.iter().fold(0, |bad, value| bad | u32::from(value.to_bits() & exponent == exponent)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gradient of an ill-conditioned quadratic with a ripple, in f64.
    fn gradient(p: &[f64]) -> Vec<f64> {
        p.iter()
            .enumerate()
            .map(|(i, p)| 10f64.powi(i as i32 - 1) * (p - 1.0) + 0.1 * (5.0 * p).sin())
            .collect()
    }

    #[test]
    fn follows_the_textbook_recursion_in_f64() {
        let (lr, b1, b2, eps) = (0.01, 0.9f64, 0.999f64, 1e-8);
        let mut adam = Adam::new(4, AdamSettings::default()).unwrap();
        let mut params = [0.0f32, 2.0, -1.0, 0.5];
        let mut reference: Vec<f64> = params.iter().map(|p| f64::from(*p)).collect();
        let (mut m, mut v) = ([0.0; 4], [0.0; 4]);
        for t in 1..=500 {
            // Both see the gradient at the reference, so that rounding is not amplified by the loss.
            let grad = gradient(&reference);
            let grad32: Vec<f32> = grad.iter().map(|g| *g as f32).collect();
            adam.step(&mut params, &grad32, lr, None).unwrap();
            for i in 0..4 {
                m[i] = b1 * m[i] + (1.0 - b1) * grad[i];
                v[i] = b2 * v[i] + (1.0 - b2) * grad[i] * grad[i];
                let (mh, vh) = (m[i] / (1.0 - b1.powi(t)), v[i] / (1.0 - b2.powi(t)));
                reference[i] -= lr * mh / (vh.sqrt() + eps);
                assert!((f64::from(params[i]) - reference[i]).abs() < 1e-4, "step {t}, parameter {i}");
            }
        }
        assert!((reference[3] - 1.0).abs() < 0.05, "the reference itself does not converge: {reference:?}");
    }

    #[test]
    fn the_first_step_is_lr_times_sign_scaled_and_frozen_by_the_scale() {
        let mut adam = Adam::new(3, AdamSettings::default()).unwrap();
        let mut params = [1.0f32; 3];
        let outcome = adam.step(&mut params, &[3.0, -4e-3, 7.0], 0.1, Some(&[1.0, 0.5, 0.0])).unwrap();
        assert!(matches!(outcome, StepOutcome::Taken { clipped: false, .. }));
        assert!((params[0] - 0.9).abs() < 1e-6 && (params[1] - 1.05).abs() < 1e-6 && params[2] == 1.0);
    }

    #[test]
    fn the_clip_bounds_the_global_norm() {
        let settings = AdamSettings { clip_norm: Some(1.0), ..Default::default() };
        let mut adam = Adam::new(2, settings).unwrap();
        let mut params = [0.0f32; 2];
        let outcome = adam.step(&mut params, &[30.0, 40.0], 0.1, None).unwrap();
        assert_eq!(outcome, StepOutcome::Taken { grad_norm: 50.0, clipped: true });
        assert!((adam.state().m[0] - 0.06).abs() < 1e-7 && (adam.state().m[1] - 0.08).abs() < 1e-7);
    }

    #[test]
    fn a_resumed_run_is_bit_equal() {
        let run = |adam: &mut Adam, params: &mut [f32], steps: std::ops::Range<u32>| {
            for t in steps {
                let grad: Vec<f32> = params.iter().map(|p| p - (t as f32).sin()).collect();
                adam.step(params, &grad, 0.01, None).unwrap();
            }
        };
        let (mut whole, mut parts) = ([0.3f32, -0.7, 2.0], [0.3f32, -0.7, 2.0]);
        let mut adam = Adam::new(3, AdamSettings::default()).unwrap();
        run(&mut adam, &mut whole, 0..50);
        let mut first = Adam::new(3, AdamSettings::default()).unwrap();
        run(&mut first, &mut parts, 0..20);
        let stored = serde_json::to_string(first.state()).unwrap();
        let mut second =
            Adam::resume(serde_json::from_str(&stored).unwrap(), AdamSettings::default()).unwrap();
        run(&mut second, &mut parts, 20..50);
        assert_eq!((whole, adam.state()), (parts, second.state()));
    }

    #[test]
    fn wrong_lengths_settings_and_states_are_errors() {
        let mut adam = Adam::new(2, AdamSettings::default()).unwrap();
        assert!(matches!(
            adam.step(&mut [0.0; 2], &[0.0; 3], 0.1, None),
            Err(HostError::Length { what: "grad", .. })
        ));
        assert!(adam.step(&mut [0.0; 2], &[0.0; 2], f64::NAN, None).is_err());
        assert!(Adam::new(1, AdamSettings { eps: 1e-50, ..Default::default() }).is_err());
        assert!(Adam::new(1, AdamSettings { beta2: 1.0, ..Default::default() }).is_err());
        assert!(Adam::new(1, AdamSettings { clip_norm: Some(-1.0), ..Default::default() }).is_err());
        let state = AdamState { m: vec![0.0], v: vec![f32::NAN], step: 3 };
        assert!(matches!(
            Adam::resume(state, AdamSettings::default()),
            Err(HostError::BadValue { row: 0, .. })
        ));
    }

    proptest! {
        #[test]
        fn parameters_stay_finite_and_refused_steps_change_nothing(
            grads in prop::collection::vec(prop::array::uniform2(prop::num::f32::ANY), 1..40),
            lr in 0.0..1e30f64,
        ) {
            let mut adam = Adam::new(2, AdamSettings::default()).unwrap();
            let mut params = [1.0f32, -1e38];
            for grad in grads {
                let before = (params, adam.state().clone());
                let outcome = adam.step(&mut params, &grad, lr, None).unwrap();
                if let StepOutcome::Skipped(_) = outcome {
                    prop_assert_eq!(&before, &(params, adam.state().clone()));
                } else {
                    prop_assert!(grad.iter().all(|g| g.is_finite()));
                }
                prop_assert!(params.iter().chain(&adam.state().m).chain(&adam.state().v).all(|v| v.is_finite()));
            }
        }
    }
}
