//! log Z by estimators that share no draws: the final flow's, those of earlier rounds, the scan of the prior.
//! Invariant: an estimate from an effective size below 100 is not given.

use crate::weights::{MIN_EVIDENCE_ESS, WeightReport};
use serde::Serialize;

/// log Z of one estimator.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evidence {
    /// log Z, in nats.
    pub log_z: f64,
    /// Its standard error.
    pub sd: f64,
    /// Draws behind it.
    pub n: usize,
    /// Their effective size.
    pub ess: f64,
}

/// All estimators.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EvidenceReport {
    /// Fresh draws of the final flow.
    pub flow: Option<Evidence>,
    /// Draws of the flows of earlier rounds, each weighted by the density that drew it; inverse variances join the rounds.
    pub earlier_rounds: Option<Evidence>,
    /// How many standard errors `earlier_rounds` lies above `flow`.
    pub earlier_rounds_z: Option<f64>,
    /// The scan of the prior.
    pub scan: Option<Evidence>,
    /// How many standard errors `scan` lies above `flow`.
    pub scan_z: Option<f64>,
}

impl Evidence {
    /// The estimate of independent weighted draws, if it is one.
    pub(super) fn of(weights: &WeightReport) -> Option<Self> {
        let usable = weights.ess >= MIN_EVIDENCE_ESS && weights.log_z_sd.is_finite();
        usable.then_some(Self { log_z: weights.log_z, sd: weights.log_z_sd, n: weights.n, ess: weights.ess })
    }

    /// Estimates of independent sets of draws as one: means of Z, with weights 1 / variance relative to the most certain.
    pub(super) fn joined(parts: &[Self]) -> Option<Self> {
        let at = parts.iter().map(|p| p.log_z).fold(f64::NEG_INFINITY, f64::max);
        // The size of a round stands for its certainty where the error is zero (constant weights).
        let weight = |p: &Self| 1.0 / (p.sd * p.sd).max(1e-12 / p.n as f64);
        let total: f64 = parts.iter().map(weight).sum();
        if parts.is_empty() {
            return None;
        }
        let z: f64 = parts.iter().map(|p| weight(p) / total * (p.log_z - at).exp()).sum();
        Some(Self {
            log_z: at + z.ln(),
            sd: total.recip().sqrt(),
            n: parts.iter().map(|p| p.n).sum(),
            ess: parts.iter().map(|p| p.ess).sum(),
        })
    }
}

impl EvidenceReport {
    pub(super) fn new(
        flow: Option<Evidence>,
        earlier_rounds: Option<Evidence>,
        scan: Option<Evidence>,
    ) -> Self {
        let z = |other: Option<Evidence>| {
            let (flow, other) = (flow?, other?);
            let sd = flow.sd.hypot(other.sd);
            Some(if sd > 0.0 { (other.log_z - flow.log_z) / sd } else { 0.0 })
        };
        Self { flow, earlier_rounds, earlier_rounds_z: z(earlier_rounds), scan, scan_z: z(scan) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_estimates_and_z_scores() {
        let part = |log_z, sd, n| Evidence { log_z, sd, n, ess: n as f64 };
        let joined = Evidence::joined(&[part(1.0, 0.1, 100), part(1.0, 0.1, 300)]).unwrap();
        assert!((joined.log_z - 1.0).abs() < 1e-12 && (joined.sd - 0.1 / 2f64.sqrt()).abs() < 1e-12);
        assert_eq!((joined.n, Evidence::joined(&[])), (400, None));
        let report = EvidenceReport::new(Some(part(1.0, 0.3, 9)), Some(part(2.0, 0.4, 9)), None);
        assert!((report.earlier_rounds_z.unwrap() - 2.0).abs() < 1e-12 && report.scan_z.is_none());
    }
}
