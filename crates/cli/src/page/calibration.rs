//! The page of a calibration: its verdict, every test, the predictions, and the figures.

use super::tables::{Table, plain};
use super::{Figure, environment, page_failed};
use crate::calibration::{Calibration, Prediction, p_text, quantity_name};
use crate::exit::CommandError;
use lwflow_figures::vector::calibration_panels;
use lwflow_figures::{CalibrationPanel, FigureError};
use minijinja::{Value, context};

/// Values of an observation that are listed at most, the least expected first.
const N_VALUES: usize = 40;

const LIMITS: [&str; 3] = [
    "The tests are averages over the pairs: posteriors that are too narrow for some data and too wide for others may pass.",
    "A posterior that ignores the data passes too: calibration does not say how much was learned. Compare losses for that.",
    "It holds for data like those of the pairs. Real data that no simulation resembles are another matter: the prediction of an \
     observation looks for that.",
];

/// The page.
///
/// # Errors
/// [`crate::exit::Status::Other`] if it cannot be made.
pub fn of_calibration(calibration: &Calibration) -> Result<String, CommandError> {
    render(calibration).map_err(page_failed)
}

fn render(calibration: &Calibration) -> Result<String, minijinja::Error> {
    let Calibration { passed, failures, .. } = calibration;
    let predictions: Value = calibration.predictions.iter().enumerate().map(prediction).collect();
    let shown = Figure::new(
        "ranks",
        "Ranks of the truth",
        drawn(
            &calibration.rank_panels(),
            "Left: histogram of the ranks, each bar relative to what is expected. Right: their distribution function less the uniform \
         one. Grey: where all bars, or the whole curve, stay in 95 of 100 calibrations of an exact posterior. A hollow histogram \
         means posteriors that are too narrow, a hill too wide ones, a slope a shift.",
        ),
    );
    let coverage = Figure::new(
        "coverage",
        "Expected coverage",
        drawn(
            calibration.coverage_panel().as_slice(),
            "How often a region of highest density of a level holds the truth. Below the dashed line posteriors are overconfident.",
        ),
    );
    let tarp = Figure::new(
        "tarp",
        "TARP",
        drawn(
            calibration.tarp_panel().as_slice(),
            "How often the truth is nearer to a random point than a share of the posterior.",
        ),
    );
    let figures: Value = [shown, coverage, tarp].iter().collect();
    let title = format!("Calibration of {}", calibration.model);
    environment()?.get_template("calibration.html")?.render(context! {
        title, passed, failures, predictions, figures,
        headline => calibration.headline(),
        limits => LIMITS,
        tests => Value::from(&tests(calibration)),
        manifest => Value::from(&manifest(calibration)),
        version => env!("CARGO_PKG_VERSION"),
    })
}

fn drawn(panels: &[CalibrationPanel], description: &str) -> super::panels::Drawn {
    let drawing =
        calibration_panels(panels, 2).map_err(|e: FigureError| format!("It cannot be drawn: {e}"))?;
    Ok((drawing, description.to_owned()))
}

fn tests(calibration: &Calibration) -> Table {
    let head = ["quantity", "p-value", "adjusted", "largest deviation", "its p-value", "mean rank / L"];
    let row = |r: &lwflow_host::diagnostics::calibration::QuantityReport| {
        vec![
            plain(quantity_name(&r.quantity)),
            plain(p_text(r.p_value)),
            plain(p_text(r.p_adjusted)),
            plain(format!("{:.3}", r.largest_deviation)),
            plain(p_text(r.p_value_ks)),
            plain(format!("{:.3}", r.mean_rank)),
        ]
    };
    Table {
        head: head.map(plain).to_vec(),
        rows: calibration.ranks.quantities.iter().map(row).collect(),
        notes: vec![
            "The p-value is that of the simultaneous band; that of the largest deviation (Kolmogorov and Smirnov) stands beside \
             it and decides nothing."
                .to_owned(),
        ],
    }
}

fn prediction((k, prediction): (usize, &Prediction)) -> Value {
    let check = &prediction.check;
    let mut order: Vec<usize> = (0..prediction.observed.len()).collect();
    order.sort_by(|a, b| check.p_values[*a].total_cmp(&check.p_values[*b]));
    order.truncate(N_VALUES);
    order.sort_unstable();
    let number = |v: f64| plain(format!("{v:.4}"));
    let row = |j: usize| {
        vec![
            plain(prediction.names[j].as_str()),
            number(prediction.observed[j]),
            number(check.mean[j]),
            number(check.sd[j]),
            plain(format!("{:.3}", check.below[j])),
            plain(p_text(check.p_values[j])),
            plain(p_text(check.p_adjusted[j])),
        ]
    };
    let head = ["value", "observed", "mean", "sd", "share below", "p-value", "adjusted"];
    let mut notes = vec![format!(
        "{} simulations, {} of them failed. Mahalanobis distance of all values together: p-value {}.",
        check.n + prediction.n_failed,
        prediction.n_failed,
        p_text(check.p_value_distance)
    )];
    if order.len() < prediction.observed.len() {
        notes.push(format!(
            "The {} of {} values that are least expected.",
            order.len(),
            prediction.observed.len()
        ));
    }
    let table = Table { head: head.map(plain).to_vec(), rows: order.into_iter().map(row).collect(), notes };
    context! { title => format!("Prediction of observation {}", k + 1), table => Value::from(&table) }
}

fn manifest(calibration: &Calibration) -> Table {
    let ranks = &calibration.ranks;
    let rows = [
        ("model", calibration.model.clone()),
        ("pairs", format!("{}: {}", calibration.pairs, ranks.n_pairs)),
        ("draws for each pair", ranks.n_draws.to_string()),
        ("seed", calibration.seed.to_string()),
        ("device", calibration.device.clone()),
    ];
    let rows = rows.map(|(name, value)| vec![plain(name), plain(value)]).to_vec();
    Table { rows, ..Table::default() }
}
