//! What the page says of rounds of simulations for one observation: a verdict in words, which there is none of, and the rounds.

use super::folder::ResultFolder;
use super::tables::{Cell, Table, cell, plain, power};
use super::words::{Verdict, count};
use serde_json::Value;

fn number(row: &Value, key: &str) -> Option<f64> {
    row.get(key).and_then(Value::as_f64)
}

fn rounds(folder: &ResultFolder) -> Option<&Vec<Value>> {
    folder.truncated()?.get("rounds")?.as_array()
}

/// The observation, shortened where it is long.
fn observation(folder: &ResultFolder) -> String {
    const SHOWN: usize = 6;
    let values = folder.truncated().and_then(|t| t.get("observation")).and_then(Value::as_array);
    let Some(values) = values else { return "unknown".to_owned() };
    let shown: Vec<String> = values.iter().take(SHOWN).map(Value::to_string).collect();
    let more = if values.len() > SHOWN { ", …" } else { "" };
    format!("({}{more})", shown.join(", "))
}

pub(super) fn verdict(folder: &ResultFolder) -> Verdict {
    let rows = rounds(folder).map_or(&[][..], Vec::as_slice);
    let stop = folder.text("/truncated/stop").unwrap_or_default();
    let stopped = folder.text("/fit/training/stop") == Some("interrupted");
    let headline = match (stopped, stop) {
        (true, _) => "Interrupted: this is the flow of the last round that ended",
        (_, "failed") => "A round failed: this is the flow of the round before it",
        _ => "The posterior of one observation, by simulations alone: there is no verdict",
    };
    let mut v = Verdict { kind: "none", headline: headline.into(), ..Verdict::default() };
    let last = |key| rows.last().and_then(|row| number(row, key)).map_or_else(|| "–".to_owned(), count);
    v.reached.push(format!(
        "{} simulations in {} rounds; {} of them lie in the last region and trained the flow.",
        folder.number("/truncated/n_simulations").map_or_else(|| "–".to_owned(), count),
        rows.len(),
        last("n_pairs")
    ));
    v.reached.push(format!("The draws are of the posterior of the observation {}.", observation(folder)));
    let tail = |row: &Value| row.pointer("/novelty/tail").and_then(Value::as_f64);
    if rows.first().and_then(tail).is_some_and(|tail| tail < lwflow_host::novelty::NOVEL_TAIL) {
        v.missed.push("The observation lies outside of what the prior's simulations look like.".into());
        v.next.push("Look for what prior or simulator leave out.".into());
    }
    if stop == "nothing_inside" {
        v.missed.push("Too few simulations succeed in the region of the posterior for another round.".into());
    }
    if stop == "failed" {
        v.missed.push(
            "Not all simulations were made: a later round ended with an error, which `lwflow fit` has said."
                .into(),
        );
        v.next.push("Mend what failed and run `lwflow fit` again (--force replaces the results).".into());
    }
    if stopped {
        v.missed.push("Not all simulations were made.".into());
        v.next.push("Run `lwflow fit` again without interrupting it (--force replaces the results).".into());
    }
    if v.next.is_empty() {
        v.next.push(
            "Predict data from the draws (`lwflow simulate --theta`) and hold them beside the observation."
                .into(),
        );
    }
    v.limits.push(
        "For other observations than this one the model is no posterior: it has seen no simulations where theirs may lie. \
         Without a likelihood the draws cannot be weighted, and a mode that the first round overlooks stays overlooked."
            .into(),
    );
    v
}

/// A row for every round; `None` for other fits.
pub(super) fn table(folder: &ResultFolder) -> Option<Table> {
    let head = [
        "round",
        "simulations",
        "failed",
        "prior mass of the region",
        "standard error",
        "trained on",
        "validation loss (nats)",
        "flow outside the region",
    ];
    let row = |(k, row): (usize, &Value)| -> Vec<Cell> {
        let whole = |key| cell(number(row, key), 0);
        let small = |key| plain(number(row, key).map_or_else(|| "–".to_owned(), power));
        vec![
            plain((k + 1).to_string()),
            whole("n_simulations"),
            whole("n_failed"),
            small("prior_mass"),
            small("prior_mass_sd"),
            whole("n_pairs"),
            cell(number(row, "validation_loss"), 4),
            small("leakage"),
        ]
    };
    let mut notes = vec![
        "A round draws its parameters from the prior inside the region, and trains on all simulations so far that lie in it; \
         each weighs one. Losses of different rounds are of different simulations and do not compare."
            .to_owned(),
    ];
    if folder.truncated()?.get("settled") == Some(&Value::Bool(true)) {
        notes.push("The region had settled: the last round took all simulations that were left.".to_owned());
    }
    Some(Table {
        head: head.map(plain).to_vec(),
        rows: rounds(folder)?.iter().enumerate().map(row).collect(),
        notes,
    })
}
