//! One display of long work: its stage, rate and remaining time, and in a fit the round, evaluations, effective size, log Z
//! and the course of the loss. Three lines on a terminal however narrow it is; elsewhere a line every few seconds.

use super::{Console, Log, go_on};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use lwflow_host::fit::{FitProgress, Stage};
use lwflow_host::rounds::{RoundRow, RoundsEvent};
use lwflow_host::truncated::{TruncatedEvent, TruncatedRound};
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::fmt::Write;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Time between two lines about a stage that goes on, in text and in JSON.
const EVERY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(1));
/// Most losses that are drawn.
const SPARKS: usize = 16;

/// A display, or nothing.
#[derive(Debug)]
pub struct Bar {
    console: Console,
    bar: Option<ProgressBar>,
    what: String,
    state: RefCell<State>,
}

/// What there is to show.
#[derive(Debug)]
struct State {
    stage: String,
    unit: String,
    begun: Instant,
    told: Instant,
    /// Evaluations when the stage began.
    evaluations: usize,
    fit_stage: Option<Stage>,
    round_stage: Option<(usize, bool)>,
    /// The last round that ended.
    row: Option<RoundRow>,
    losses: Vec<f64>,
}

impl Console {
    /// A display for work on `what`, counted in `unit`.
    pub fn bar(&self, what: impl Into<String>, unit: &str) -> Bar {
        let what = what.into();
        let live = !self.quiet && self.log == Log::Text && std::io::stderr().is_terminal();
        let bar = live.then(|| ProgressBar::new(1));
        let now = Instant::now();
        let state = State {
            stage: what.clone(),
            unit: unit.to_owned(),
            begun: now,
            told: now,
            evaluations: 0,
            fit_stage: None,
            round_stage: None,
            row: None,
            losses: Vec::new(),
        };
        let made = Bar { console: *self, bar, what, state: RefCell::new(state) };
        made.show_stage();
        made
    }
}

impl Bar {
    /// Shows `done` of `total` and says whether to go on.
    pub fn update(&self, done: usize, total: usize) -> ControlFlow<()> {
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        } else {
            self.tell(done, total);
        }
        go_on()
    }

    /// Begins a stage, from its own start.
    fn begin(&self, stage: String, unit: &str) {
        {
            let mut state = self.state.borrow_mut();
            let now = Instant::now();
            (state.stage, state.unit) = (stage, unit.to_owned());
            (state.begun, state.told) = (now, now);
            state.losses.clear();
            let stage = json!({ "stage": state.stage, "unit": state.unit });
            self.console.event("stage", stage);
        }
        if let Some(bar) = &self.bar {
            bar.reset();
        }
        self.show_stage();
    }

    fn show_stage(&self) {
        let Some(bar) = &self.bar else { return };
        let state = self.state.borrow();
        let template = "{prefix} {wide_bar} {percent:>3} %\n{rate} {unit} per second, {eta} left\n{wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            let rate = |state: &ProgressState, out: &mut dyn Write| {
                let _ = write!(out, "{:.0}", state.per_sec());
            };
            let unit = state.unit.clone();
            let unit = move |_: &ProgressState, out: &mut dyn Write| {
                let _ = out.write_str(&unit);
            };
            bar.set_style(style.with_key("rate", rate).with_key("unit", unit));
        }
        bar.set_prefix(state.stage.clone());
        bar.set_message(state.words());
    }

    /// A remark above the display.
    pub fn remark(&self, text: impl std::fmt::Display) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.console.remark(text)),
            None => self.console.remark(text),
        }
    }

    /// Shows how far a fit is, every stage from its own start, and says whether to go on.
    pub fn update_fit(&self, progress: FitProgress) -> ControlFlow<()> {
        let stage = Some(progress.stage);
        if self.state.borrow().fit_stage != stage {
            self.state.borrow_mut().fit_stage = stage;
            let (name, unit) = stage_words(progress.stage);
            let colon = if self.what.is_empty() { "" } else { ": " };
            self.begin(format!("{}{colon}{name}", self.what), unit);
        }
        self.loss(progress.validation_loss);
        self.update(progress.done, progress.total)
    }

    /// Shows how far rounds are and says whether to go on.
    pub fn update_rounds(&self, event: RoundsEvent<'_>) -> ControlFlow<()> {
        let begins = |now| {
            let mut state = self.state.borrow_mut();
            state.round_stage.replace(now) != Some(now)
        };
        match event {
            RoundsEvent::Evaluating { round, done, total } => {
                if begins((round, false)) {
                    let stage =
                        if round == 0 { "prior".into() } else { format!("round {round}: likelihood") };
                    self.begin(stage, "evaluations");
                }
                self.state.borrow_mut().evaluations = done;
                self.show_words();
                self.update(done, total)
            }
            RoundsEvent::Training { round, beta, visits, max_visits, validation_loss } => {
                if begins((round, true)) {
                    self.begin(format!("round {round}: training (beta {beta:.3})"), "points");
                }
                self.loss(validation_loss);
                self.update(visits, max_visits)
            }
            RoundsEvent::Round(row) => {
                let mut state = self.state.borrow_mut();
                (state.row, state.evaluations) = (Some(row.clone()), 0);
                drop(state);
                match self.console.log {
                    Log::Json => self.console.event("round", serde_json::to_value(row).unwrap_or_default()),
                    Log::Text => self.remark(row_line(row)),
                }
                self.show_words();
                go_on()
            }
            _ => go_on(),
        }
    }

    /// Shows how far rounds of simulations are and says whether to go on.
    pub fn update_truncated(&self, event: TruncatedEvent<'_>) -> ControlFlow<()> {
        let enter = |stage: String, unit| {
            if self.state.borrow().stage != stage {
                self.begin(stage, unit);
            }
        };
        match event {
            TruncatedEvent::Drawing { round, done, total } => {
                enter(format!("round {round}: drawing in the region"), "parameters");
                self.update(done, total)
            }
            TruncatedEvent::Simulating { round, done, total } => {
                enter(format!("round {round}: simulating"), "simulations");
                self.update(done, total)
            }
            TruncatedEvent::Fitting { round, progress } => {
                let (name, unit) = stage_words(progress.stage);
                enter(format!("round {round}: {name}"), unit);
                self.loss(progress.validation_loss);
                self.update(progress.done, progress.total)
            }
            TruncatedEvent::Round { round, row } => {
                match self.console.log {
                    Log::Json => {
                        let mut fields = serde_json::to_value(row).unwrap_or_default();
                        fields["round"] = round.into();
                        self.console.event("round", fields);
                    }
                    Log::Text => self.remark(truncated_line(round, row)),
                }
                go_on()
            }
        }
    }

    fn loss(&self, loss: Option<f64>) {
        let mut state = self.state.borrow_mut();
        if let Some(loss) = loss.filter(|loss| state.losses.last() != Some(loss)) {
            state.losses.push(loss);
            drop(state);
            self.show_words();
        }
    }

    fn show_words(&self) {
        if let Some(bar) = &self.bar {
            bar.set_message(self.state.borrow().words());
        }
    }

    /// A line about a stage that takes long.
    fn tell(&self, done: usize, total: usize) {
        let json = self.console.log == Log::Json;
        let mut state = self.state.borrow_mut();
        let every = if json { EVERY.1 } else { EVERY.0 };
        if self.console.quiet || done == 0 || state.told.elapsed() < every {
            return;
        }
        state.told = Instant::now();
        let per_second = done as f64 / state.begun.elapsed().as_secs_f64();
        let left = total.saturating_sub(done) as f64 / per_second;
        if json {
            let mut fields = state.fields();
            fields.extend(
                [("done", json!(done)), ("total", json!(total)), ("per_second", json!(per_second))]
                    .map(|(name, value)| (name.to_owned(), value)),
            );
            fields.insert("seconds_left".to_owned(), json!(left));
            self.console.event("progress", Value::Object(fields));
        } else {
            let State { stage, unit, .. } = &*state;
            let percent = 100 * done / total.max(1);
            let loss = state.losses.last().map_or_else(String::new, |loss| format!(", loss {loss:.4}"));
            let line = format!(
                "{stage}: {percent} % of {total} {unit}, {per_second:.0} {unit} per second, {left:.0} s left{loss}"
            );
            self.console.remark(line);
        }
    }
}

impl State {
    /// The state of a fit in a few words.
    fn words(&self) -> String {
        let mut words = Vec::new();
        if let Some(row) = &self.row {
            words.push(format!("{} evaluations", row.n_evaluations + self.evaluations));
            words.push(format!("ESS {:.0}", row.posterior_ess));
            words.push(format!("log Z {:.3}", row.log_z));
        }
        if let Some(loss) = self.losses.last() {
            words.push(format!("loss {loss:.3} {}", sparkline(&self.losses)));
        }
        words.join("  ")
    }

    /// The same for programs.
    fn fields(&self) -> Map<String, Value> {
        let row = self.row.as_ref();
        let evaluations = row.map_or(0, |row| row.n_evaluations) + self.evaluations;
        let fields = [
            ("stage", json!(self.stage)),
            ("unit", json!(self.unit)),
            ("round", json!(self.round_stage.map(|(round, _)| round))),
            ("n_evaluations", json!(self.round_stage.map(|_| evaluations))),
            ("posterior_ess", json!(row.map(|row| row.posterior_ess))),
            ("log_z", json!(row.map(|row| row.log_z))),
            ("loss", json!(self.losses.last())),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// A stage of a fit, and what it is counted in.
fn stage_words(stage: Stage) -> (&'static str, &'static str) {
    match stage {
        Stage::Mixture => ("mixture by EM", "steps"),
        Stage::Starts => ("trying starts", "points"),
        Stage::Weighting => ("weighting", "observations"),
        Stage::Training => ("training", "points"),
    }
}

fn truncated_line(round: usize, row: &TruncatedRound) -> String {
    format!(
        "round {round:2}  simulations {:7}  prior mass {:.2e}  trained on {:7}  outside {:.1e}",
        row.n_simulations, row.prior_mass, row.n_pairs, row.leakage
    )
}

fn row_line(row: &RoundRow) -> String {
    let mut line =
        format!("round {:2}  beta {:<8.3e}  evaluations {:7}", row.round, row.beta, row.n_evaluations);
    let _ = write!(
        line,
        "  K {:2}  fresh ESS {:6.0} of {:6}  log Z (adaptive) {:.3}",
        row.n_components, row.fresh_ess, row.n_fresh, row.log_z
    );
    line
}

/// The last losses as bars of eight heights, the least loss as the lowest.
fn sparkline(losses: &[f64]) -> String {
    const HEIGHTS: [char; 8] =
        ['\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}', '\u{2588}'];
    let last = &losses[losses.len().saturating_sub(SPARKS)..];
    let least = last.iter().copied().fold(f64::INFINITY, f64::min);
    let most = last.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let height = |loss: &f64| {
        let share = if most > least { (loss - least) / (most - least) } else { 0.0 };
        HEIGHTS[((share * 8.0) as usize).min(7)]
    };
    last.iter().map(height).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_shows_the_last_losses_between_their_extremes() {
        assert_eq!(sparkline(&[]), "");
        assert_eq!(sparkline(&[2.0, 2.0]), "\u{2581}\u{2581}");
        assert_eq!(sparkline(&[3.0, 2.0, 1.0]), "\u{2588}\u{2585}\u{2581}");
        let many: Vec<f64> = (0..40).map(|i| -f64::from(i)).collect();
        let drawn = sparkline(&many);
        assert_eq!(drawn.chars().count(), SPARKS);
        assert!(drawn.starts_with('\u{2588}') && drawn.ends_with('\u{2581}'));
    }

    #[test]
    fn the_words_are_those_of_the_last_round() {
        let bar = Console::text(true).bar("", "points");
        let training = |loss| RoundsEvent::Training {
            round: 1,
            beta: 0.5,
            visits: 10,
            max_visits: 20,
            validation_loss: loss,
        };
        assert!(bar.update_rounds(training(None)).is_continue());
        assert_eq!(bar.state.borrow().words(), "");
        let _ = bar.update_rounds(training(Some(1.5)));
        let _ = bar.update_rounds(training(Some(1.25)));
        assert_eq!(bar.state.borrow().words(), "loss 1.250 \u{2588}\u{2581}");
        let row = RoundRow {
            round: 1,
            beta: 0.5,
            n_evaluations: 5000,
            pooled_ess: 100.0,
            n_components: 2,
            visits: 20,
            n_fresh: 500,
            fresh_ess: 400.0,
            log_z: -3.25,
            log_z_sd: 0.5,
            posterior_ess: 321.0,
            seconds: (1.0, 2.0),
        };
        let _ = bar.update_rounds(RoundsEvent::Round(&row));
        let _ = bar.update_rounds(RoundsEvent::Evaluating { round: 2, done: 50, total: 100 });
        let fields = bar.state.borrow().fields();
        assert_eq!(bar.state.borrow().words(), "5050 evaluations  ESS 321  log Z -3.250");
        assert_eq!((&fields["round"], &fields["n_evaluations"]), (&json!(2), &json!(5050)));
        assert_eq!((&fields["stage"], &fields["loss"]), (&json!("round 2: likelihood"), &Value::Null));
    }
}
