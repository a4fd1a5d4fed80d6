//! Learning-rate schedules: constant, cosine with warm-up, and reduction on a plateau.
//! The rate is a function of the settings, the step and a small serialisable state, so a resumed run repeats it.

use crate::error::HostError;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Which schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleSettings {
    /// The same rate at every step.
    Constant {
        /// The rate.
        lr: f64,
    },
    /// A linear rise over the warm-up, then half a cosine from `lr` down to `final_fraction * lr` at `n_steps`, and
    /// constant from there (Loshchilov and Hutter 2017, without restarts).
    Cosine {
        /// The highest rate.
        lr: f64,
        /// Steps of the rise; 0 starts at `lr`.
        #[serde(default)]
        n_warmup: u64,
        /// Steps in all, warm-up included.
        n_steps: u64,
        /// Last rate over highest rate.
        #[serde(default)]
        final_fraction: f64,
    },
    /// `lr` until the observed loss has not improved for `patience` observations, then times `factor`, and so on.
    Plateau {
        /// The first rate.
        lr: f64,
        /// What a reduction multiplies the rate by, inside (0, 1).
        factor: f64,
        /// Observations without improvement that are borne.
        patience: u32,
        /// A loss must fall by more than this to count as better (same units as the loss).
        #[serde(default)]
        threshold: f64,
        /// The rate never falls below this.
        #[serde(default)]
        min_lr: f64,
    },
}

/// A schedule in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    settings: ScheduleSettings,
    /// Lowest loss observed; none before the first.
    best: Option<f64>,
    n_bad: u32,
    n_reductions: u32,
}

impl Schedule {
    /// A schedule at its start.
    ///
    /// # Errors
    /// [`HostError::BadSetting`] for a setting out of range.
    pub fn new(settings: ScheduleSettings) -> Result<Self, HostError> {
        let bad = |setting, got: f64, expected| {
            Err(HostError::BadSetting { setting, got: got.to_string(), expected })
        };
        let rate = match settings {
            ScheduleSettings::Constant { lr }
            | ScheduleSettings::Cosine { lr, .. }
            | ScheduleSettings::Plateau { lr, .. } => lr,
        };
        if !(rate > 0.0 && rate.is_finite()) {
            return bad("lr", rate, "a positive finite number");
        }
        match settings {
            ScheduleSettings::Constant { .. } => {}
            ScheduleSettings::Cosine { n_warmup, n_steps, final_fraction, .. } => {
                if n_steps == 0 || n_warmup > n_steps {
                    return bad("n_warmup", n_warmup as f64, "at most n_steps, which is at least 1");
                }
                if !(0.0..=1.0).contains(&final_fraction) {
                    return bad("final_fraction", final_fraction, "between 0 and 1");
                }
            }
            ScheduleSettings::Plateau { factor, threshold, min_lr, .. } => {
                if !(factor > 0.0 && factor < 1.0) {
                    return bad("factor", factor, "inside (0, 1)");
                }
                if !(threshold >= 0.0 && threshold.is_finite()) {
                    return bad("threshold", threshold, "a finite number of at least 0");
                }
                if !(min_lr >= 0.0 && min_lr <= rate) {
                    return bad("min_lr", min_lr, "between 0 and lr");
                }
            }
        }
        Ok(Self { settings, best: None, n_bad: 0, n_reductions: 0 })
    }

    /// Learning rate of step `step`, counted from 0.
    pub fn lr(&self, step: u64) -> f64 {
        match self.settings {
            ScheduleSettings::Constant { lr } => lr,
            ScheduleSettings::Cosine { lr, n_warmup, n_steps, final_fraction } => {
                if step < n_warmup {
                    return lr * (step + 1) as f64 / n_warmup as f64;
                }
                let span = (n_steps - n_warmup).max(1) as f64;
                let progress = ((step - n_warmup) as f64 / span).min(1.0);
                lr * (final_fraction + (1.0 - final_fraction) * 0.5 * (1.0 + (PI * progress).cos()))
            }
            ScheduleSettings::Plateau { lr, factor, min_lr, .. } => {
                (lr * factor.powf(f64::from(self.n_reductions))).max(min_lr)
            }
        }
    }

    /// Tells the schedule a loss (validation, or an average of training steps); true if the rate was reduced.
    /// A loss that is not finite counts as no improvement. Only the plateau schedule takes notice.
    pub fn observe(&mut self, loss: f64) -> bool {
        let ScheduleSettings::Plateau { patience, threshold, .. } = self.settings else { return false };
        if loss.is_finite() && self.best.is_none_or(|best| loss < best - threshold) {
            self.best = Some(loss);
            self.n_bad = 0;
            return false;
        }
        self.n_bad += 1;
        if self.n_bad <= patience {
            return false;
        }
        self.n_bad = 0;
        self.n_reductions += 1;
        true
    }

    /// Reductions so far.
    pub fn n_reductions(&self) -> u32 {
        self.n_reductions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_is_constant() {
        let schedule = Schedule::new(ScheduleSettings::Constant { lr: 0.3 }).unwrap();
        assert_eq!((schedule.lr(0), schedule.lr(1_000_000)), (0.3, 0.3));
    }

    #[test]
    fn cosine_rises_peaks_halves_and_ends_where_it_says() {
        let settings = ScheduleSettings::Cosine { lr: 2.0, n_warmup: 10, n_steps: 110, final_fraction: 0.1 };
        let schedule = Schedule::new(settings).unwrap();
        assert!((schedule.lr(0) - 0.2).abs() < 1e-12 && (schedule.lr(9) - 2.0).abs() < 1e-12);
        assert!((schedule.lr(10) - 2.0).abs() < 1e-12 && (schedule.lr(60) - 1.1).abs() < 1e-12);
        assert!((schedule.lr(110) - 0.2).abs() < 1e-12 && (schedule.lr(10_000) - 0.2).abs() < 1e-12);
        assert!((10..110).all(|t| schedule.lr(t + 1) < schedule.lr(t)));
    }

    #[test]
    fn plateau_reduces_after_patience_and_not_below_the_floor() {
        let settings =
            ScheduleSettings::Plateau { lr: 1.0, factor: 0.1, patience: 2, threshold: 0.01, min_lr: 0.05 };
        let mut schedule = Schedule::new(settings).unwrap();
        assert!(!schedule.observe(5.0) && !schedule.observe(4.0));
        assert!(!schedule.observe(3.995) && !schedule.observe(f64::NAN));
        assert!(schedule.observe(4.2));
        assert!((schedule.lr(0) - 0.1).abs() < 1e-15);
        assert!(!schedule.observe(3.0));
        let reduced: Vec<bool> = (0..6).map(|_| schedule.observe(3.0)).collect();
        assert_eq!(reduced, [false, false, true, false, false, true]);
        assert_eq!((schedule.lr(7), schedule.n_reductions()), (0.05, 3));
    }

    #[test]
    fn settings_read_from_text_and_bad_ones_are_named() {
        let text = r#"{"kind":"cosine","lr":0.01,"n_steps":100}"#;
        let settings: ScheduleSettings = serde_json::from_str(text).unwrap();
        assert!(Schedule::new(settings).is_ok());
        let bad =
            ScheduleSettings::Plateau { lr: 1.0, factor: 1.5, patience: 1, threshold: 0.0, min_lr: 0.0 };
        assert!(matches!(Schedule::new(bad), Err(HostError::BadSetting { setting: "factor", .. })));
        assert!(Schedule::new(ScheduleSettings::Constant { lr: 0.0 }).is_err());
        let bad = ScheduleSettings::Cosine { lr: 1.0, n_warmup: 5, n_steps: 2, final_fraction: 0.0 };
        assert!(Schedule::new(bad).is_err());
    }
}
