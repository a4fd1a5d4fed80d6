//! log Z by estimators that share no draws: the final flow's, those of earlier rounds, the scan of the prior.
//! Invariant: an estimate from an effective size below 100 is not given.

use crate::rng::SOBOL_BLOCK;
use crate::weights::{MIN_EVIDENCE_ESS, WeightReport, log_sum_exp};
use lwflow_engine::BlockSums;
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

    /// The estimate of draws from the prior, in independent blocks: log L of `whole` one by one, `[n]`, and sums of full blocks.
    /// The standard error is that of block means: var Z = B / (B - 1) sum_b (n_b / N)^2 (m_b - Z)^2.
    pub(super) fn of_scan(whole: &[f64], deep: &[BlockSums]) -> Option<Self> {
        let blocks: Vec<(f64, BlockSums)> = whole
            .chunks(SOBOL_BLOCK)
            .map(|block| {
                let squares: Vec<f64> = block.iter().map(|l| 2.0 * l).collect();
                let sums = BlockSums { log_sum: log_sum_exp(block), log_sum_squares: log_sum_exp(&squares) };
                (block.len() as f64, sums)
            })
            .chain(deep.iter().map(|sums| (SOBOL_BLOCK as f64, *sums)))
            .collect();
        let of = |part: fn(&BlockSums) -> f64| blocks.iter().map(|(_, sums)| part(sums)).collect::<Vec<_>>();
        let (sum, squares) = (log_sum_exp(&of(|b| b.log_sum)), log_sum_exp(&of(|b| b.log_sum_squares)));
        let n: f64 = blocks.iter().map(|(n, _)| n).sum();
        let n_blocks = blocks.len() as f64;
        // In units of the sum: block b has a share s_b of it, where n_b / N is expected.
        let spread: f64 = blocks.iter().map(|(n_b, b)| ((b.log_sum - sum).exp() - n_b / n).powi(2)).sum();
        let sd = (n_blocks / (n_blocks - 1.0) * spread).sqrt();
        let ess = (2.0 * sum - squares).exp();
        let estimate = Self { log_z: sum - n.ln(), sd, n: n as usize, ess };
        (ess >= MIN_EVIDENCE_ESS && sd.is_finite()).then_some(estimate)
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
    fn a_scan_in_sums_is_worth_what_its_weights_are() {
        let mut log_l = vec![0.0; 5 * SOBOL_BLOCK + 100];
        crate::rng::CounterField::new(5, "test", 1).fill_standard_normal(0, &mut log_l);
        log_l[7] = f64::NEG_INFINITY;
        let blocks: Vec<u32> = (0..log_l.len()).map(|i| (i / SOBOL_BLOCK) as u32).collect();
        let report = crate::weights::weight_report(&log_l, Some(&blocks), &[]).unwrap();
        let by_weights = Evidence::of(&report).unwrap();
        // The partial block goes first: in a run it is always one of those that are kept one by one.
        let (full, partial) = log_l.split_at(5 * SOBOL_BLOCK);
        let mut deep = lwflow_engine::Scanned::default();
        full.chunks(SOBOL_BLOCK).for_each(|block| deep.push(0, block.iter().copied(), f64::INFINITY));
        for scan in [Evidence::of_scan(&log_l, &[]), Evidence::of_scan(partial, &deep.blocks)] {
            let scan = scan.unwrap();
            assert!(
                (scan.log_z - by_weights.log_z).abs() < 1e-12 && (scan.sd / by_weights.sd - 1.0).abs() < 1e-9
            );
            assert!((scan.ess / by_weights.ess - 1.0).abs() < 1e-9 && scan.n == by_weights.n);
        }
        assert_eq!(Evidence::of_scan(&log_l[..99], &[]), None);
        assert_eq!(Evidence::of_scan(&[f64::NEG_INFINITY; 20_000], &[]), None);
    }

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
