//! The fit of a later round: the flow of the one before learns on, in coordinates made anew for the smaller region.
//! Invariant: simulations that are held out in one round are held out in all.

use crate::HostError;
use crate::fit::{FitInput, FitProgress, FitReport, FitSettings, prepare};
use crate::posterior::Posterior;
use crate::train::train;
use lwflow_engine::Engine;
use lwflow_model::Flow;
use std::ops::ControlFlow;

/// Fits a flow to `input` that begins with the parameters of `before`; bijections and standardisations are those of `input`.
///
/// # Errors
/// As [`crate::fit::fit`].
pub(super) fn fit_on(
    engine: &Engine,
    input: &FitInput,
    settings: &FitSettings,
    before: (&Posterior, &FitReport),
    seed: u64,
    mut progress: impl FnMut(FitProgress) -> ControlFlow<()>,
) -> Result<(Posterior, FitReport), HostError> {
    let (before, report) = before;
    let prepared = prepare(input, Some(&before.outer), before.spec().context_network.as_ref())?;
    prepared.check_effective(input)?;
    let spec = before.spec().clone();
    let mut executor = engine.flow(&spec)?;
    let start = before.flow.params().to_vec();
    let (params, training) =
        train(&mut executor, &spec, start, &prepared.data, &settings.training, seed, |p| progress(p.into()))?;
    let mut posterior = Posterior {
        outer: prepared.outer,
        flow: Flow::from_params(spec, params)?,
        context_location: prepared.context.0,
        context_scale: prepared.context.1,
        novelty: prepared.novelty,
        ..before.clone()
    };
    posterior.learn_novelty(&mut executor, &prepared.data.context)?;
    let n = input.log_weights.len();
    let report =
        FitReport { n, n_weighted: n, ess: n as f64, training, notes: prepared.notes, ..report.clone() };
    Ok((posterior, report))
}
