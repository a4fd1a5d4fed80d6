//! The corner plot of rounds: the parameters, then the derived quantities that are known.
//! Invariant: a panel shows every draw that carries weight, or it is not there.

use super::RoundsRun;
use crate::exit::CommandError;
use crate::progress::Console;
use lwflow_figures::{CornerSeries, FigureAxis, Label, SeriesRole, corner};
use lwflow_host::weights::normalised_weights;
use std::path::Path;

/// Draws corner.png, beside `n_truth` draws of the truth where it is known.
pub(super) fn write(
    out: &Path,
    run: &RoundsRun<'_>,
    n_truth: usize,
    console: Console,
) -> Result<(), CommandError> {
    let result = run.result;
    let supports = run.inference.prior.supports();
    let parameters = run.inference.labels.iter().zip(supports).map(|(label, support)| FigureAxis {
        lower: support.lower,
        upper: support.upper,
        ..FigureAxis::new(Label::latex(label))
    });
    let mut axes: Vec<FigureAxis> = parameters.collect();
    let weights = normalised_weights(&result.log_weights(), &[])?;
    let (shown, unknown) = known(&result.derived, &weights, run.derived_names.len());
    for k in unknown {
        let name = &run.derived_names[k];
        console.remark(format!("corner.png leaves out `{name}`: it is not finite at every weighted draw"));
    }
    let columns = beside(&result.theta, &result.derived, weights.len(), &shown);
    axes.extend(shown.iter().map(|&k| FigureAxis::new(Label::plain(&run.derived_names[k]))));
    let mut series = vec![
        CornerSeries { role: SeriesRole::Flow, name: "flow", theta: &columns, weights: None },
        CornerSeries {
            role: SeriesRole::Training,
            name: "weighted draws",
            theta: &columns,
            weights: Some(&weights),
        },
    ];
    // A target whose truth is known has no derived quantities.
    let truth = run.inference.target.and_then(|t| t.sample(n_truth, run.seed ^ 0x7275_7468));
    if let Some(truth) = &truth {
        series.push(CornerSeries { role: SeriesRole::Truth, name: "truth", theta: truth, weights: None });
    }
    corner(&out.join("corner.png"), &axes, &series, None)?;
    Ok(())
}

/// Which of the M quantities of `derived`, `[n, M]`, are finite wherever there is weight, and which are not: a weighted draw
/// without a value would take its row, and its weight, from all panels.
fn known(derived: &[f64], weights: &[f64], m: usize) -> (Vec<usize>, Vec<usize>) {
    let is_known = |k: &usize| {
        weights.iter().enumerate().all(|(i, weight)| *weight == 0.0 || derived[i * m + k].is_finite())
    };
    (0..m).partition(is_known)
}

/// The rows of `theta`, `[n, D]`, each followed by the `shown` of `derived`, `[n, M]`.
fn beside(theta: &[f64], derived: &[f64], n: usize, shown: &[usize]) -> Vec<f64> {
    let (d, m) = (theta.len() / n.max(1), derived.len() / n.max(1));
    let row = |i: usize| {
        let derived = shown.iter().map(move |&k| derived[i * m + k]);
        theta[i * d..][..d].iter().copied().chain(derived)
    };
    (0..n).flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_quantities_follow_the_parameters_where_they_are_known() {
        let theta = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let derived = [10.0, f64::NAN, 30.0, 40.0, 50.0, 60.0, f64::NAN, f64::INFINITY, 90.0];
        // Without weight a draw may lack a value.
        let (shown, unknown) = known(&derived, &[0.5, 0.5, 0.0], 3);
        assert_eq!((&shown[..], &unknown[..]), (&[0, 2][..], &[1][..]));
        let columns = beside(&theta, &derived, 3, &shown);
        assert_eq!(columns[..8], [1.0, 2.0, 10.0, 30.0, 3.0, 4.0, 40.0, 60.0]);
        assert!(columns[10].is_nan() && columns.len() == 12 && columns[11] == 90.0);
        assert_eq!(beside(&theta, &[], 3, &known(&[], &[0.5, 0.5, 0.0], 0).0), theta);
    }
}
