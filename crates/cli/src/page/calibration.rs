//! A calibration: its verdict, every test, the predictions, and the figures; a page of its own, and a part of the page of the fit
//! that is in the same folder.

use super::folder::ResultFolder;
use super::tables::{Table, plain};
use super::{Figure, environment, page_failed};
use crate::calibration::{CALIBRATION_FILE, Calibration, MAX_DRAWN, Prediction, p_text, quantity_name};
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

const RANKS: &str = "Left: histogram of the ranks, each bar relative to what is expected. Right: their distribution function less the uniform \
     one. Grey: where all bars, or the whole curve, stay in 95 of 100 calibrations of an exact posterior. A hollow histogram means \
     posteriors that are too narrow, a hill too wide ones, a slope a shift.";
const COVERAGE: &str = "How often a region of highest density of a level holds the truth. Below the dashed line posteriors are overconfident.";
const TARP: &str = "How often the truth is nearer to a random point than a share of the posterior.";
const PREDICTED: &str = "Histograms of what is simulated from draws of the posterior, of the values that are least expected, and how far out the \
     whole of each simulation is. Grey: 95 of 100 simulations. The upright line: what was observed.";

/// The page.
///
/// # Errors
/// [`crate::exit::Status::Other`] if it cannot be made.
pub fn of_calibration(calibration: &Calibration) -> Result<String, CommandError> {
    render(calibration).map_err(page_failed)
}

fn render(calibration: &Calibration) -> Result<String, minijinja::Error> {
    let title = format!("Calibration of {}", calibration.model);
    environment()?.get_template("calibration.html")?.render(context! {
        title,
        calibration => part(calibration, ""),
        version => env!("CARGO_PKG_VERSION"),
    })
}

/// The calibration that is in the folder of run `number`, if there is one.
pub(super) fn of_run(folder: &ResultFolder, number: usize) -> Option<Value> {
    let calibration = folder.calibration.as_ref()?;
    if folder.model_checksum != calibration.model_checksum {
        let stale = format!(
            "{CALIBRATION_FILE} in the folder is of another model than the one beside it (it names {}). `lwflow calibrate` tests \
             this one.",
            calibration.model
        );
        return Some(context! { stale });
    }
    Some(part(calibration, &format!("-{number}")))
}

/// What both pages show; `suffix` makes the ids of its figures unique.
fn part(calibration: &Calibration, suffix: &str) -> Value {
    let Calibration { passed, failures, .. } = calibration;
    let figure = |id: &str, title: &str, panels: &[CalibrationPanel], description: &str| {
        Figure::new(&format!("{id}{suffix}"), title, drawn(panels, description))
    };
    let single = |panel: Option<CalibrationPanel>| panel.into_iter().collect::<Vec<_>>();
    let figures = [
        figure("ranks", "Ranks of the truth", &calibration.rank_panels(), RANKS),
        figure("coverage", "Expected coverage", &single(calibration.coverage_panel()), COVERAGE),
        figure("tarp", "TARP", &single(calibration.tarp_panel()), TARP),
    ];
    let with_figure = calibration.drawn_predictions();
    let predictions = calibration.predictions.iter().enumerate().map(|(k, prediction)| {
        let title = format!("Prediction of observation {}", k + 1);
        let id = format!("prediction-{}", k + 1);
        let panels = || calibration.prediction_panels(k);
        let drawn = with_figure.contains(&k).then(|| figure(&id, &title, &panels(), PREDICTED));
        let mut table = predicted(prediction);
        if drawn.is_none() {
            table.notes.push(format!("Drawn are the {MAX_DRAWN} observations that are least expected."));
        }
        context! { title, table => Value::from(&table), figure => drawn.as_ref().map(Value::from) }
    });
    context! {
        passed, failures,
        stale => "",
        headline => calibration.headline(),
        limits => LIMITS,
        tests => Value::from(&tests(calibration)),
        predictions => predictions.collect::<Value>(),
        figures => figures.iter().collect::<Value>(),
        manifest => Value::from(&manifest(calibration)),
    }
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

fn predicted(prediction: &Prediction) -> Table {
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
    Table { head: head.map(plain).to_vec(), rows: order.into_iter().map(row).collect(), notes }
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
