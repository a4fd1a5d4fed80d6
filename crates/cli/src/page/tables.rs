//! The tables of the page: modes and bridges, the comparison with a known target, and what made the result.

use super::folder::ResultFolder;
use super::words::{count, duration};
use crate::report::{fixed, plus_minus};
use lwflow_figures::Label;
use lwflow_host::diagnostics::WithError;
use minijinja::context;
use serde_json::Value;

/// Modes that are listed at most.
const N_MODES: usize = 24;

/// A part of a cell at one height: 0 on the line, 1 a superscript, -1 a subscript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    text: String,
    script: i8,
}

/// Text with sub- and superscripts.
pub(super) type Cell = Vec<Part>;

pub(super) fn plain(text: impl Into<String>) -> Cell {
    vec![Part { text: text.into(), script: 0 }]
}

fn latex(label: &Label) -> Cell {
    label.parts().map(|(text, script)| Part { text: text.to_owned(), script }).collect()
}

/// A table; the first cell of each row names it.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) head: Vec<Cell>,
    pub(super) rows: Vec<Vec<Cell>>,
    /// Sentences below it, or in its place if it has no rows.
    pub(super) notes: Vec<String>,
}

impl From<&Part> for minijinja::Value {
    fn from(part: &Part) -> Self {
        context! { text => part.text.as_str(), script => part.script }
    }
}

impl From<&Table> for minijinja::Value {
    fn from(table: &Table) -> Self {
        let cells = |row: &Vec<Cell>| row.iter().map(|cell| cell.iter().collect::<Self>()).collect::<Self>();
        let rows: Self = table.rows.iter().map(cells).collect();
        context! { head => cells(&table.head), rows, notes => table.notes.iter().collect::<Self>() }
    }
}

fn number(value: &Value, pointer: &str) -> Option<f64> {
    value.pointer(pointer).and_then(Value::as_f64)
}

/// A figure to so many decimals, or a dash.
pub(super) fn cell(value: Option<f64>, decimals: usize) -> Cell {
    plain(value.map_or_else(|| "–".to_owned(), |v| fixed(v, decimals)))
}

pub(super) fn power(value: f64) -> String {
    if value == 0.0 { "0".into() } else { format!("{value:.1e}") }
}

/// Masses of the modes, by all who count them, and what lies between.
pub(super) fn modes(folder: &ResultFolder) -> Table {
    if folder.is_rounds() {
        let columns = [
            ("mass, weighted draws", "mass_weighted"),
            ("flow alone", "mass_flow"),
            ("all points", "mass_all"),
            ("scan of the prior", "mass_scan"),
            ("hits of the scan", "n_scan"),
        ];
        let mut table = mode_table(folder, folder.verdict.get("coverage"), &columns);
        if let Some(coverage) = folder.verdict.get("coverage").filter(|c| c.is_object()) {
            let of = |key| number(coverage, key).unwrap_or(f64::NAN);
            table.notes.push(format!(
                "Bridges: {} of the flow's draws lie below the density that holds all but 1e-4 of the mass.",
                power(of("/bridge_mass"))
            ));
            table.notes.push(format!(
                "{} of the mass, by {} points, lies where the flow has less than a tenth of the density.",
                power(of("/lacking_mass")),
                count(of("/n_lacking"))
            ));
            table.notes.push(format!(
                "A mode that fills less than {} of the prior's mass could have been missed by all {} draws from it (95 %).",
                power(of("/prior_mass_limit")),
                count(of("/n_prior"))
            ));
        }
        return table;
    }
    let columns = [("mass, weighted points", "mass_points"), ("mass, flow", "mass_flow")];
    let found = folder.metrics.get("modes").filter(|modes| modes.is_object());
    let mut table = mode_table(folder, found, &columns);
    if let Some(modes) = found {
        let of = |key| number(modes, key).unwrap_or(f64::NAN);
        table.notes.push(format!(
            "Bridges: at {} of {} draws the flow's density is below that of all but {} of the points' weight; {} if both agree.",
            power(of("/bridge_mass")),
            count(of("/n_draws")),
            power(of("/bridge_share")),
            power(of("/bridge_share")),
        ));
        table.notes.push(format!("The modes are those of {} points.", count(of("/n_points"))));
    }
    table
}

fn mode_table(folder: &ResultFolder, found: Option<&Value>, columns: &[(&str, &str)]) -> Table {
    let rows = found.and_then(|f| f.get("modes")).and_then(Value::as_array);
    let Some(rows) = rows else {
        let note = "No modes are known: the folder does not hold them, or no point carries weight.";
        return Table { notes: vec![note.into()], ..Table::default() };
    };
    let mut head = vec![plain("mode")];
    head.extend(columns.iter().map(|(name, _)| plain(*name)));
    head.extend(labels(folder).into_iter().map(|label| [plain("mean of "), label].concat()));
    let cells = |(k, row): (usize, &Value)| {
        let mut cells = vec![plain((k + 1).to_string())];
        cells.extend(columns.iter().map(|(_, key)| {
            let value = row.get(key).and_then(Value::as_f64);
            cell(value, if *key == "n_scan" { 0 } else { 4 })
        }));
        let mean = row.get("mean").and_then(Value::as_array);
        let mean = mean.into_iter().flatten().map(Value::as_f64);
        cells.extend(mean.map(|x| plain(x.map_or_else(|| "–".to_owned(), |x| format!("{x:.4}")))));
        cells
    };
    let mut table =
        Table { head, rows: rows.iter().take(N_MODES).enumerate().map(cells).collect(), notes: Vec::new() };
    let n = found.and_then(|f| number(f, "/n_modes")).unwrap_or(rows.len() as f64);
    if n > table.rows.len() as f64 {
        table.notes.push(format!("The {} heaviest of {} modes.", table.rows.len(), count(n)));
    }
    table
}

/// The figures against a known target.
pub(super) fn comparison(folder: &ResultFolder) -> Option<Table> {
    let target = folder.metrics.get("target").filter(|target| target.is_object())?;
    let of = |pointer: &str| number(target, pointer);
    let with_error = |name: &str, pointer: &str, decimals: usize| {
        let value = of(&format!("{pointer}/value"))?;
        let n = of(&format!("{pointer}/n"))?;
        let se = of(&format!("{pointer}/se"));
        Some(vec![plain(name), cell(Some(value), decimals), cell(se, decimals), plain(count(n))])
    };
    let n = || plain(of("/importance/n").map_or_else(String::new, count));
    let rows = [
        with_error("forward KL (nats)", "/forward_kl", 5),
        with_error("reverse KL (nats)", "/reverse_kl", 5),
        Some(vec![plain("ESS fraction"), cell(of("/importance/ess_fraction"), 4), plain("–"), n()]),
        Some(vec![
            plain(format!(
                "log Z, truth {}",
                of("/log_z/truth").map_or_else(|| "unknown".into(), |z| fixed(z, 4))
            )),
            cell(of("/importance/log_z"), 4),
            cell(of("/importance/log_z_sd"), 4),
            n(),
        ]),
        with_error("mass of bridges, exact 0.0001", "/bridge", 6),
        of("/modes/error").map(|error| {
            let n = plain(of("/modes/n").map_or_else(String::new, count));
            vec![plain("largest error of a mode's mass"), cell(Some(error), 5), plain("–"), n]
        }),
    ];
    let head = ["", "value", "standard error", "draws"].map(plain).to_vec();
    let name = target.get("target").and_then(Value::as_str).unwrap_or_default();
    let notes = vec![format!("The target {name} is known exactly.")];
    Some(Table { head, rows: rows.into_iter().flatten().collect(), notes })
}

/// Labels of the parameters, or their names.
fn labels(folder: &ResultFolder) -> Vec<Cell> {
    let posterior = &folder.posterior;
    let each = posterior.names.iter().zip(&posterior.labels);
    each.map(|(name, label)| match label.is_empty() {
        true => latex(&Label::plain(name)),
        false => latex(&Label::latex(label)),
    })
    .collect()
}

/// What the replicas of a fit say of its errors.
pub(super) fn error_bars(folder: &ResultFolder) -> Option<Table> {
    let bars = folder.metrics.get("error_bars").filter(|bars| bars.is_object())?;
    let one = |parameter: &Value, key: &str| {
        let of = |what: &str| number(parameter, &format!("/{key}/{what}"));
        match of("value").zip(of("error")) {
            Some((value, error)) => plain(plus_minus(WithError { value, error }).replace("+-", "±")),
            None => plain("–"),
        }
    };
    let columns = ["mean", "sd", "q05", "median", "q95"];
    let row = |(label, parameter): (Cell, &Value)| {
        std::iter::once(label).chain(columns.iter().map(|key| one(parameter, key))).collect()
    };
    let parameters = bars.get("parameters").and_then(Value::as_array)?;
    let rows = labels(folder).into_iter().zip(parameters).map(row).collect();
    let of = |key: &str| number(bars, &format!("/{key}"));
    let notes = vec![format!(
        "Standard deviations over {} replicas: the same training on bootstrap weights of the points, with layers and batches of \
         other seeds. log q differs by {} nats at the median draw, by less than {} at 95 % of them.",
        of("n_replicas").map_or_else(String::new, count),
        of("log_prob_sd_median").map_or_else(|| "–".into(), |v| fixed(v, 3)),
        of("log_prob_sd_q95").map_or_else(|| "–".into(), |v| fixed(v, 3)),
    )];
    let head = ["", "mean", "sd", "5 % quantile", "median", "95 % quantile"].map(plain).to_vec();
    Some(Table { head, rows, notes })
}

/// What made the result.
pub(super) fn manifest(folder: &ResultFolder) -> Table {
    let m = &folder.metrics;
    let text = |key: &str| m.get(key).and_then(Value::as_str).map(str::to_owned);
    let command = m
        .get("command")
        .and_then(Value::as_array)
        .map(|words| words.iter().filter_map(Value::as_str).map(shell_word).collect::<Vec<_>>().join(" "));
    let rounds = m.pointer("/rounds/rounds").and_then(Value::as_array);
    let sum = |k: usize| -> Option<f64> {
        rounds.map(|rows| rows.iter().filter_map(|row| number(row, &format!("/seconds/{k}"))).sum())
    };
    // A stage that was not needed is not told.
    let stage = |key: &str| number(m, &format!("/timings/{key}")).filter(|s| *s > 0.0).map(duration);
    let entries = [
        ("lwflow", text("lwflow")),
        ("format of the model", number(m, "/model_format").map(count)),
        ("written", text("written")),
        ("command", command),
        ("task file", m.pointer("/task/file").and_then(Value::as_str).map(str::to_owned)),
        ("seed", m.get("seed").and_then(Value::as_u64).map(|seed| seed.to_string())),
        ("device", text("device")),
        ("system", text("system")),
        ("cores", number(m, "/cores").map(count)),
        ("time, all", number(m, "/seconds").or(number(m, "/rounds/seconds")).map(duration)),
        ("time, reading", stage("reading")),
        ("time, mixture", stage("mixture")),
        ("time, starts", stage("starts")),
        ("time, weighting", stage("weighting")),
        ("time, training", sum(0).map(duration).or_else(|| stage("training"))),
        ("time, drawing and evaluating", sum(1).map(duration)),
        ("evaluations", number(m, "/rounds/n_evaluations").map(count)),
        ("evaluations per second", number(m, "/rounds/evaluations_per_second").map(count)),
        ("parameters of the flow", number(m, "/fit/n_params").map(count)),
        ("components of the base", number(m, "/fit/n_components").map(count)),
    ];
    let rows = entries.into_iter().filter_map(|(name, value)| Some(vec![plain(name), plain(value?)]));
    let rows: Vec<Vec<Cell>> = rows.collect();
    let notes = match rows.is_empty() {
        true => vec!["metrics.json, which holds this, is not in the folder.".into()],
        false => Vec::new(),
    };
    Table { head: Vec::new(), rows, notes }
}

/// A word of a command line, in quotes where a shell needs them.
fn shell_word(word: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(bare) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Task and settings as they were used, defaults included.
pub(super) fn settings(folder: &ResultFolder) -> String {
    let used =
        serde_json::json!({ "task": folder.metrics.get("task"), "rounds": folder.metrics.get("settings") });
    if used["task"].is_null() {
        return String::new();
    }
    serde_json::to_string_pretty(&used).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_command_can_be_typed_again() {
        let words = ["lwflow", "fit", "my task.toml", "it's", ""].map(shell_word);
        assert_eq!(words.join(" "), r"lwflow fit 'my task.toml' 'it'\''s' ''");
    }

    #[test]
    fn labels_keep_their_scripts() {
        let cell = latex(&Label::latex(r"x_1^2"));
        assert_eq!(cell.iter().map(|p| p.script).collect::<Vec<_>>(), [0, -1, 1]);
        assert_eq!([power(0.0), power(0.0123)], ["0", "1.2e-2"]);
    }
}
