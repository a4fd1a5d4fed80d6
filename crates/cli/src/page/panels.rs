//! The figures of the page: what of a folder goes into each, and what the text below it says. A panel whose data are not
//! there says what is missing, and where it would come from.

use super::folder::ResultFolder;
use crate::report::fixed;
use lwflow_figures::vector::{
    CornerAxis, CornerLayer, DensityCloud, Drawing, EvidenceMark, Ink, LayerStyle, MODELS, RoundPoint,
    corner, density_against, evidence_and_rounds, n_too_light, training_curves, weight_histogram,
};
use lwflow_figures::{FigureAxis, Label};
use lwflow_host::files::SampleTable;
use lwflow_host::weights::{KHatStatus, WeightHistogram, normalised_weights, psis_k_hat};
use serde_json::Value;

/// A drawing with the text below it, or why there is none.
pub(super) type Drawn = Result<(Drawing, String), String>;

const OLDER: &str =
    "The folder does not hold this: an older lwflow wrote it, or the task says `output.figures = false`.";
/// Exact draws of a known target.
const N_TRUTH: usize = 20_000;
/// Most draws of a layer.
const N_LAYER: usize = 50_000;
/// k-hat above which no figure from the weights can be trusted.
const K_LIMIT: f64 = 0.7;

fn failed(error: impl std::fmt::Display) -> String {
    format!("It cannot be drawn: {error}")
}

/// Weights of a table, as they are for a corner plot: none if its rows count alike.
fn weights(table: &SampleTable) -> Option<Vec<f64>> {
    match (&table.weight, &table.log_weight) {
        (Some(weight), _) => Some(weight.clone()),
        (None, Some(log_weight)) => normalised_weights(log_weight, &[]).ok(),
        (None, None) => None,
    }
}

/// The corner plot of the first folder, with the posteriors of the others over it.
pub(super) fn corner_plot(folders: &[ResultFolder]) -> Drawn {
    let Some(first) = folders.first() else { return Err("There is no folder.".into()) };
    if first.posterior.spec().context_dim > 0 && first.samples.is_none() {
        return Err("The model takes a context: there is one posterior for each.".into());
    }
    let names = quantities(first);
    let axes: Vec<CornerAxis> = (0..names.len()).map(|j| axis(first, j, &names[j])).collect();
    let mut layers = Vec::new();
    let mut add = |table: Option<&SampleTable>, name: &str, ink, style, weights: Option<Vec<f64>>| {
        if let Some(table) = table.filter(|table| table.n > 0) {
            let layer = layer(table, &names, name, ink, style, weights);
            // Of another model that has none of the quantities there is nothing to draw; the text below says so.
            if layer.columns.iter().any(Option::is_some) {
                layers.push(layer);
            }
        }
    };
    let several = folders.len() > 1;
    let own = |name: &str| if several { format!("{}: {name}", first.name) } else { name.to_owned() };
    let samples = first.samples.as_ref();
    if first.is_rounds() {
        add(samples, &own("flow"), Ink::BLUE, LayerStyle::Area, None);
        if !several {
            let points = first.points.as_ref();
            add(points, "training points, weighted", Ink::GREEN, LayerStyle::Lines, points.and_then(weights));
        }
        add(samples, &own("weighted draws"), Ink::VERMILION, LayerStyle::Lines, samples.and_then(weights));
        if !several {
            add(first.equal.as_ref(), "equal-weight draws", Ink::TEXT, LayerStyle::Dots, None);
        }
    } else {
        add(samples, &own("flow, draws of equal weight"), Ink::BLUE, LayerStyle::Area, None);
        let points = first.points.as_ref();
        add(
            points,
            &own("training points, weighted"),
            Ink::VERMILION,
            LayerStyle::Lines,
            points.and_then(weights),
        );
        if !several {
            add(samples, "single draws", Ink::TEXT, LayerStyle::Dots, None);
        }
    }
    for (other, ink) in folders[1..].iter().zip(MODELS.iter().cycle()) {
        let table = other.samples.as_ref();
        add(table, &other.name, *ink, LayerStyle::Lines, table.and_then(weights));
    }
    let truth = first.target.and_then(|target| target.sample(N_TRUTH, 0x7275_7468));
    if let Some(theta) = truth
        && let Ok(table) = SampleTable::new(first.posterior.names.clone(), theta)
    {
        add(Some(&table), "truth", Ink::TRUTH, LayerStyle::Lines, None);
    }
    if layers.is_empty() {
        return Err(
            "There are no draws to show: samples.npz is not there. `output.n_samples` of the task may be 0."
                .into(),
        );
    }
    let drawing = corner(&axes, &layers).map_err(failed)?;
    Ok((drawing, corner_text(first, &names, &layers, folders)))
}

fn corner_text(
    first: &ResultFolder,
    names: &[String],
    layers: &[CornerLayer],
    folders: &[ResultFolder],
) -> String {
    let shown = names.len().min(lwflow_figures::MAX_CORNER_PARAMETERS);
    let mut text = format!(
        "Each quantity alone on the diagonal, each pair below it. Contours hold 68 % and 95 % of the mass. \
         Shown: {}.",
        layers.iter().map(|l| l.name.as_str()).collect::<Vec<_>>().join("; ")
    );
    if shown < names.len() {
        text.push_str(&format!(" The first {shown} of {} quantities.", names.len()));
    }
    if first.is_rounds() && folders.len() == 1 {
        text.push_str(
            " The weighted draws are the result; where the flow's area departs from them, the flow is wrong and the \
             weights mend it.",
        );
    }
    if first.is_rounds() && first.points.is_none() {
        text.push_str(" The training points are missing: points.npz is not in the folder.");
    }
    for other in &folders[1..] {
        let lacks: Vec<&str> = names
            .iter()
            .filter(|n| column(other.samples.as_ref(), n).is_none())
            .map(String::as_str)
            .collect();
        if !lacks.is_empty() {
            text.push_str(&format!(" {} does not have {}.", other.name, lacks.join(", ")));
        }
    }
    text
}

/// Parameters, and those derived quantities that every draw with weight has.
fn quantities(folder: &ResultFolder) -> Vec<String> {
    let mut names = folder.posterior.names.clone();
    if let Some(table) = &folder.samples {
        let weights = weights(table);
        let m = table.derived_names.len();
        for (k, name) in table.derived_names.iter().enumerate() {
            let weighs = |i: usize| weights.as_ref().is_none_or(|w| w[i] > 0.0);
            if (0..table.n).all(|i| !weighs(i) || table.derived[i * m + k].is_finite()) {
                names.push(name.clone());
            }
        }
    }
    names
}

fn axis(folder: &ResultFolder, j: usize, name: &str) -> CornerAxis {
    let (posterior, note) = (&folder.posterior, folder.note(name));
    let truth = note.and_then(|note| note.truth);
    match posterior.outer.bijections.get(j) {
        Some(bijection) => {
            let label = posterior.labels.get(j).filter(|label| !label.is_empty());
            let axis = FigureAxis {
                lower: bijection.lower.map(|bound| bound.value),
                upper: bijection.upper.map(|bound| bound.value),
                ..FigureAxis::new(label.map_or_else(|| Label::plain(name), |label| Label::latex(label)))
            };
            CornerAxis { axis, prior: folder.prior(j), truth }
        }
        None => CornerAxis { axis: FigureAxis::new(Label::plain(name)), prior: None, truth },
    }
}

/// A quantity of a table by its name.
fn column(table: Option<&SampleTable>, name: &str) -> Option<Vec<f64>> {
    let table = table?;
    let pick =
        |values: &[f64], width: usize, j: usize| values.iter().skip(j).step_by(width).copied().collect();
    if let Some(j) = table.names.iter().position(|n| n == name) {
        return Some(pick(&table.theta, table.dim, j));
    }
    let k = table.derived_names.iter().position(|n| n == name)?;
    Some(pick(&table.derived, table.derived_names.len(), k))
}

fn layer(
    table: &SampleTable,
    names: &[String],
    name: &str,
    ink: Ink,
    style: LayerStyle,
    weights: Option<Vec<f64>>,
) -> CornerLayer {
    let thin = |values: Vec<f64>| values.into_iter().take(N_LAYER).collect::<Vec<_>>();
    CornerLayer {
        name: name.to_owned(),
        ink,
        style,
        columns: names.iter().map(|n| column(Some(table), n).map(thin)).collect(),
        weights: weights.map(thin),
    }
}

/// The histogram of log weights: of rounds those of the fresh draws, else those of the points.
pub(super) fn weights_histogram(folder: &ResultFolder) -> Result<WeightHistogram, String> {
    if folder.is_rounds() {
        let table = folder.samples.as_ref().ok_or("samples.npz is not in the folder.")?;
        let log_weights = table.log_weight.as_ref().ok_or("samples.npz holds no weights.")?;
        let histogram = WeightHistogram::new(log_weights).map_err(failed)?;
        return histogram.ok_or_else(|| "No draw carries weight.".into());
    }
    match folder.metrics.pointer("/pairs/histogram") {
        None | Some(Value::Null) => Err(OLDER.into()),
        Some(value) => serde::Deserialize::deserialize(value).map_err(failed),
    }
}

pub(super) fn weights_panel(folder: &ResultFolder) -> Drawn {
    let histogram = weights_histogram(folder)?;
    let drawing = weight_histogram(&histogram).map_err(failed)?;
    let of = if folder.is_rounds() {
        "fresh draws of the final flow"
    } else {
        "points that the flow was trained on"
    };
    let mut text = format!("Log weights of {} {of}.", histogram.n);
    let n_light = n_too_light(&histogram);
    if histogram.n_zero + n_light > 0 {
        text.push_str(&format!(
            " Not shown: {} of weight zero, {} lighter than the axis.",
            histogram.n_zero, n_light
        ));
    }
    text.push_str(&match histogram.tail {
        Some(tail) if tail.shape > K_LIMIT => format!(
            " The tail is too heavy: its shape {:.2} is above {K_LIMIT}, so that a few draws decide everything.",
            tail.shape
        ),
        Some(tail) => {
            format!(" The tail's shape {:.2} is at most {K_LIMIT}: the weights can be trusted.", tail.shape)
        }
        None => no_tail(folder),
    });
    text.push_str(&format!(" The heaviest draw holds {:.1e} of all weight.", histogram.largest_share));
    Ok((drawing, text))
}

/// Why no tail was fitted.
fn no_tail(folder: &ResultFolder) -> String {
    let log_weights = folder.samples.as_ref().and_then(|table| table.log_weight.as_ref());
    let why = match log_weights.and_then(|lw| psis_k_hat(lw).ok()).map(|k| k.status) {
        Some(KHatStatus::ConstantTail) => "the largest weights are equal",
        Some(KHatStatus::TooFewPositive) => "fewer than five draws carry all the weight",
        _ => "there are too few or too equal weights for one",
    };
    format!(" No tail could be fitted: {why}.")
}

/// Target against flow.
pub(super) fn densities(folder: &ResultFolder) -> Drawn {
    let (clouds, normalised) =
        if folder.is_rounds() { (fresh_cloud(folder)?, true) } else { points_clouds(folder)? };
    let drawing = density_against(&clouds, normalised).map_err(failed)?;
    let mut text = String::from(
        "Every point is a place in parameter space. On the dashed line target and flow agree; above it the flow is too thin.",
    );
    if !normalised {
        text.push_str(" The evidence is not known, so the target is shifted to agree in the median.");
    }
    Ok((drawing, text))
}

fn fresh_cloud(folder: &ResultFolder) -> Result<Vec<DensityCloud>, String> {
    let table = folder.samples.as_ref().ok_or("samples.npz is not in the folder.")?;
    let (Some(log_l), Some(log_prior), Some(log_q)) =
        (&table.log_likelihood, &table.log_prior, &table.log_prob)
    else {
        return Err("samples.npz lacks log_likelihood, log_prior or log_prob.".into());
    };
    let flow = folder.verdict.pointer("/evidence/flow/log_z").and_then(Value::as_f64);
    let log_z = match flow {
        Some(log_z) => log_z,
        // Too few effective draws for a figure to be quoted; to shift a picture they do.
        None => {
            let weights = table.log_weight.as_ref().ok_or("samples.npz holds no weights.")?;
            lwflow_host::weights::log_sum_exp(weights) - (table.n as f64).ln()
        }
    };
    let points = log_q.iter().zip(log_l).zip(log_prior).map(|((q, l), p)| (*q, l + p - log_z)).collect();
    Ok(vec![DensityCloud { name: "fresh draws of the flow".into(), points }])
}

/// Of a fit of points: the points, and draws of the flow if the target is known.
fn points_clouds(folder: &ResultFolder) -> Result<(Vec<DensityCloud>, bool), String> {
    if folder.truncated().is_some() {
        return Err("Without a likelihood the density of the posterior is not known.".into());
    }
    let table = folder.points.as_ref().ok_or(OLDER)?;
    let (Some(log_weight), Some(log_q)) = (&table.log_weight, &table.log_prob) else {
        return Err(OLDER.into());
    };
    let Some(log_proposal) = &table.log_proposal else {
        return Err(
            "The density that the points were drawn from is not known, and so the target's is not: their \
                    weights say only how the two compare."
                .into(),
        );
    };
    let log_z = folder.number("/pairs/evidence/log_z");
    let pairs = || log_weight.iter().zip(log_proposal).zip(log_q).map(|((w, r), q)| (*q, w + r));
    let shift = log_z.unwrap_or_else(|| {
        let mut gaps: Vec<f64> = pairs().map(|(q, p)| p - q).filter(|gap| gap.is_finite()).collect();
        gaps.sort_by(f64::total_cmp);
        gaps.get(gaps.len() / 2).copied().unwrap_or(0.0)
    });
    let points = pairs().map(|(q, p)| (q, p - shift)).collect();
    let mut clouds = vec![DensityCloud { name: "training points, by weight".into(), points }];
    if let (Some(target), Some(samples)) = (folder.target, &folder.samples)
        && let Some(log_q) = &samples.log_prob
        && let Ok(log_p) = target.log_prob_rows(&samples.theta)
    {
        let points = log_q.iter().copied().zip(log_p).collect();
        clouds.push(DensityCloud { name: "draws of the flow".into(), points });
    }
    Ok((clouds, log_z.is_some()))
}

/// Losses and learning rates.
pub(super) fn training(folder: &ResultFolder) -> Drawn {
    if folder.history.is_empty() {
        return Err(match folder.is_rounds() {
            true => "history.csv is not in the folder: an older lwflow did not write it for rounds.".into(),
            false => "history.csv is not in the folder.".into(),
        });
    }
    let drawing = training_curves(&folder.history).map_err(failed)?;
    let mut text =
        String::from("Training and validation loss, and the learning rate on an axis of powers of ten.");
    if folder.is_rounds() {
        text.push_str(
            " Each round trains its flow on for another power of the likelihood, so losses of different rounds do not compare.",
        );
        let n = folder.metrics.pointer("/rounds/rounds").and_then(Value::as_array).map_or(0, Vec::len);
        if folder.history.len() < n {
            text.push_str(&format!(" Known of {} of {n} rounds.", folder.history.len()));
        }
    } else if let Some(loss) = folder.number("/fit/training/best_validation_loss") {
        text.push_str(&format!(
            " The parameters that were kept have the validation loss {}.",
            fixed(loss, 4)
        ));
    }
    Ok((drawing, text))
}

/// The path of the rounds.
pub(super) fn rounds(folder: &ResultFolder) -> Drawn {
    let rows = folder.metrics.pointer("/rounds/rounds").and_then(Value::as_array);
    let rows = rows.filter(|rows| !rows.is_empty()).ok_or("metrics.json holds no rounds.")?;
    let number = |row: &Value, key: &str| row.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let path: Vec<RoundPoint> = rows
        .iter()
        .map(|row| RoundPoint {
            round: number(row, "round"),
            beta: number(row, "beta"),
            fresh_ess: number(row, "fresh_ess"),
            posterior_ess: number(row, "posterior_ess"),
            n_evaluations: number(row, "n_evaluations"),
            log_z: number(row, "log_z"),
            log_z_sd: number(row, "log_z_sd"),
        })
        .collect();
    let mark = |key: &str, name: &str| {
        let estimate = folder.verdict.pointer(&format!("/evidence/{key}"))?;
        Some(EvidenceMark { name: name.into(), log_z: (number(estimate, "log_z"), number(estimate, "sd")) })
    };
    let marks: Vec<EvidenceMark> = [
        mark("flow", "final flow"),
        mark("earlier_rounds", "earlier rounds"),
        mark("scan", "scan of the prior"),
    ]
    .into_iter()
    .flatten()
    .filter(|mark| mark.log_z.0.is_finite())
    .collect();
    let target = folder.number("/settings/target_ess");
    let drawing = evidence_and_rounds(&path, target, &marks).map_err(failed)?;
    let mut text = String::from(
        "β rises from nearly 0, the prior, to 1, the posterior. Blue points of log Z are of all points so far, with one \
         standard error; at the right the estimates that share no draws, on which the verdict rests.",
    );
    if path.iter().all(|r| r.log_z_sd.is_nan()) {
        text.push_str(" The errors of the blue points are not known: an older lwflow wrote the folder.");
    }
    Ok((drawing, text))
}
