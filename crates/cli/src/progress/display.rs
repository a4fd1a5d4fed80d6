//! One display of long work: its stage, rate and remaining time, and in a fit the round, evaluations, effective size, log Z
//! and the course of the loss. Lines on a terminal that are never longer than it; elsewhere a line every few seconds.

use super::state::State;
use super::{Console, Log, columns, go_on};
use console::Term;
use indicatif::{ProgressBar, ProgressStyle};
use lwflow_host::fit::{FitProgress, Stage};
use lwflow_host::rounds::{RoundRow, RoundsEvent};
use lwflow_host::truncated::{TruncatedEvent, TruncatedRound};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Time between two lines about a stage that goes on, in text and in JSON.
const EVERY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(1));
/// Time between two looks of the display.
const LOOK: Duration = Duration::from_millis(100);
/// Columns of a terminal that does not say how wide it is.
const COLUMNS: usize = 80;

/// A display, or nothing.
#[derive(Debug)]
pub struct Bar {
    console: Console,
    bar: Option<ProgressBar>,
    what: String,
    state: RefCell<State>,
    /// When its words were last made.
    shown: Cell<Option<Instant>>,
}

impl Console {
    /// A display for work on `what`, counted in `unit`.
    pub fn bar(&self, what: impl Into<String>, unit: &str) -> Bar {
        let what = what.into();
        let live = !self.quiet && self.log == Log::Text && std::io::stderr().is_terminal();
        let bar = live.then(|| ProgressBar::new(1));
        let state = RefCell::new(State::new(what.clone(), unit));
        let made = Bar { console: *self, bar, what, state, shown: Cell::new(None) };
        made.show_stage();
        made
    }
}

impl Bar {
    /// Shows `done` of `total` and says whether to go on.
    pub fn update(&self, done: usize, total: usize) -> ControlFlow<()> {
        self.state.borrow_mut().rate.record(Instant::now(), done, total);
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            if self.shown.get().is_none_or(|shown| shown.elapsed() >= LOOK) {
                self.show_words();
            }
        } else {
            self.tell(done, total);
        }
        go_on()
    }

    /// Begins a stage, from its own start.
    fn begin(&self, stage: String, unit: &str) {
        self.console.event("stage", json!({ "stage": stage, "unit": unit }));
        self.state.borrow_mut().begin(stage, unit);
        self.show_stage();
        if let Some(bar) = &self.bar {
            bar.reset();
        }
    }

    fn show_stage(&self) {
        let Some(bar) = &self.bar else { return };
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {percent:>3} %\n{msg}") {
            bar.set_style(style);
        }
        self.show_words();
        bar.set_prefix(self.state.borrow().stage.clone());
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
            RoundsEvent::Evaluating { round, done, total, n_evaluations } => {
                self.state.borrow_mut().n_evaluations = n_evaluations;
                if begins((round, false)) {
                    let stage =
                        if round == 0 { "prior".into() } else { format!("round {round}: likelihood") };
                    self.begin(stage, "evaluations");
                }
                self.update(done, total)
            }
            RoundsEvent::Scanned { posterior_ess, log_z } => {
                self.state.borrow_mut().found = Some((posterior_ess, log_z));
                self.show_words();
                go_on()
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
                state.n_evaluations = row.n_evaluations;
                state.found = Some((row.posterior_ess, row.log_z));
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
        if loss.is_some_and(|loss| self.state.borrow_mut().loss(loss)) {
            self.show_words();
        }
    }

    fn show_words(&self) {
        if let Some(bar) = &self.bar {
            let columns = columns(&Term::stderr()).unwrap_or(COLUMNS);
            bar.set_message(self.state.borrow().words(columns));
            self.shown.set(Some(Instant::now()));
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
        if json {
            self.console.event("progress", Value::Object(state.fields(done, total)));
        } else {
            self.console.remark(state.line(done, total));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_what_is_known() {
        let bar = Console::text(true).bar("", "points");
        let words = || bar.state.borrow().words(80).lines().skip(1).collect::<Vec<_>>().join("|");
        let evaluating =
            |round, done, n_evaluations| RoundsEvent::Evaluating { round, done, total: 100, n_evaluations };
        let training = |loss| RoundsEvent::Training {
            round: 1,
            beta: 0.5,
            visits: 10,
            max_visits: 20,
            validation_loss: loss,
        };
        assert!(bar.update_rounds(evaluating(0, 50, 50)).is_continue());
        assert_eq!(words(), "50 evaluations  ESS –  log Z –  loss –");
        let _ = bar.update_rounds(RoundsEvent::Scanned { posterior_ess: 4.4, log_z: -3.5 });
        let _ = bar.update_rounds(training(None));
        assert_eq!(words(), "50 evaluations  ESS 4  log Z -3.500  loss –");
        let _ = bar.update_rounds(training(Some(1.5)));
        let _ = bar.update_rounds(training(Some(1.25)));
        assert_eq!(words(), "50 evaluations  ESS 4  log Z -3.500  loss 1.250 \u{2588}\u{2581}");
        let _ = bar.update_rounds(evaluating(1, 10, 60));
        let fields = bar.state.borrow().fields(10, 100);
        assert_eq!((&fields["posterior_ess"], &fields["per_second"]), (&json!(4.4), &Value::Null));
        let row = RoundRow {
            round: 1,
            beta: 0.5,
            n_evaluations: 150,
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
        let _ = bar.update_rounds(evaluating(2, 50, 200));
        let fields = bar.state.borrow().fields(50, 100);
        // The loss of a training that is over is still shown, but no longer one for programs.
        assert_eq!(words(), "200 evaluations  ESS 321  log Z -3.250  loss 1.250 \u{2588}\u{2581}");
        assert_eq!((&fields["round"], &fields["n_evaluations"]), (&json!(2), &json!(200)));
        assert_eq!((&fields["stage"], &fields["loss"]), (&json!("round 2: likelihood"), &Value::Null));
        let _ = bar.update_rounds(training(Some(1.0)));
        assert!(words().ends_with("loss 1.000 \u{2581}"), "{}", words());
    }
}
