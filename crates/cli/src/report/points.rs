//! points.npz: some of the weighted points that the flow was trained on, for the report page. They are thinned by their
//! weights, and `weight` holds what is left of these.

use super::Run;
use crate::exit::CommandError;
use lwflow_engine::FlowExecutor;
use lwflow_host::files::{SampleTable, write_samples};
use lwflow_host::rng::CounterField;
use lwflow_host::rounds::{EvaluatedPoints, PointModes, modes_of_points};
use lwflow_host::weights::{normalised_weights, thinned};
use std::path::Path;

/// Name of the file in the folder of results.
pub const POINTS_FILE: &str = "points.npz";
/// Points that it holds at most.
const N_POINTS: usize = 10_000;

/// Of a fit of points: theta, weight, log_weight, log_prob of the flow, and log_proposal where it is known. Returns the modes
/// of the points with what the flow's `samples` make of them.
pub(super) fn write_of_fit(
    out: &Path,
    run: &Run<'_>,
    samples: &SampleTable,
    executor: &mut FlowExecutor,
) -> Result<Option<PointModes>, CommandError> {
    let input = &run.source.input;
    let weights = normalised_weights(&input.log_weights, &[])?;
    let offset = CounterField::new(run.seed, "thin points", 1).uniform(0, 0);
    let rows = thinned(&weights, N_POINTS, offset);
    let d = run.posterior.dim();
    let pick = |values: &[f64]| rows.iter().map(|(i, _)| values[*i]).collect::<Vec<_>>();
    let theta: Vec<f64> = rows.iter().flat_map(|(i, _)| &input.theta[i * d..][..d]).copied().collect();
    let mut table = SampleTable::new(run.posterior.names.clone(), theta)?;
    let log_q = run.posterior.log_prob(executor, &table.theta, &[])?;
    let weight: Vec<f64> = rows.iter().map(|(_, w)| *w).collect();
    table.log_weight = Some(pick(&input.log_weights));
    table.log_proposal = input.log_proposal.as_deref().map(pick);
    // Without the density of the draws, that of the flow is the best guess at the target's.
    let log_density = match (&table.log_weight, &table.log_proposal) {
        (Some(lw), Some(lr)) => lw.iter().zip(lr).map(|(a, b)| a + b).collect(),
        _ => log_q.clone(),
    };
    let modes = match &samples.log_prob {
        Some(log_prob) => modes_of_points(
            run.posterior,
            (&table.theta, &weight, &log_density),
            &samples.theta,
            (&log_q, log_prob),
            run.seed,
        )?,
        None => None,
    };
    table.weight = Some(weight);
    table.log_prob = Some(log_q);
    write_samples(&out.join(POINTS_FILE), &table, &mut std::io::sink())?;
    Ok(modes)
}

/// Of rounds: theta, weight, log_likelihood and log_prior; nothing is written if no point carries weight.
pub(super) fn write_of_rounds(
    out: &Path,
    names: &[String],
    points: &EvaluatedPoints,
) -> Result<(), CommandError> {
    if points.weights.is_empty() {
        return Ok(());
    }
    let mut table = SampleTable::new(names.to_vec(), points.theta.clone())?;
    table.weight = Some(points.weights.clone());
    table.log_likelihood = Some(points.log_likelihood.clone());
    table.log_prior = Some(points.log_prior.clone());
    write_samples(&out.join(POINTS_FILE), &table, &mut std::io::sink())?;
    Ok(())
}
