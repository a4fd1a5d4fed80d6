//! What a display shows of a fit, in words that fit a terminal and in fields for programs.

use super::rate::{Rate, number, time};
use lwflow_host::fit::Stage;
use serde_json::{Map, Value, json};
use std::time::Instant;

/// Most losses that are drawn.
const SPARKS: usize = 16;
/// Columns of a line that is short for a terminal.
const NARROW: usize = 60;

/// What there is to show.
#[derive(Debug)]
pub(super) struct State {
    pub(super) stage: String,
    pub(super) unit: String,
    pub(super) rate: Rate,
    /// When the last line about the stage was written, or it began.
    pub(super) told: Instant,
    pub(super) fit_stage: Option<Stage>,
    /// The round, and whether its flow is being trained; none but in rounds.
    pub(super) round_stage: Option<(usize, bool)>,
    /// Evaluations of the likelihood so far.
    pub(super) n_evaluations: usize,
    /// Effective size and log Z of all points, when they were last known.
    pub(super) found: Option<(f64, f64)>,
    /// Losses of the last training.
    pub(super) losses: Vec<f64>,
    /// The losses are those of an earlier stage.
    pub(super) losses_over: bool,
}

impl State {
    pub(super) fn new(stage: String, unit: &str) -> Self {
        Self {
            stage,
            unit: unit.to_owned(),
            rate: Rate::default(),
            told: Instant::now(),
            fit_stage: None,
            round_stage: None,
            n_evaluations: 0,
            found: None,
            losses: Vec::new(),
            losses_over: false,
        }
    }

    /// Begins a stage, with a clock of its own.
    pub(super) fn begin(&mut self, stage: String, unit: &str) {
        (self.stage, self.unit) = (stage, unit.to_owned());
        (self.rate, self.told) = (Rate::default(), Instant::now());
        self.losses_over = true;
    }

    /// Takes a loss and says whether it is news.
    pub(super) fn loss(&mut self, loss: f64) -> bool {
        if std::mem::take(&mut self.losses_over) {
            self.losses.clear();
        }
        let is_new = self.losses.last() != Some(&loss);
        if is_new {
            self.losses.push(loss);
        }
        is_new
    }

    /// The speed and the state of a fit, a dash for what is not known yet, in as many lines as so many columns need.
    pub(super) fn words(&self, columns: usize) -> String {
        let per_second = if columns < NARROW { "/s" } else { " per second" };
        let rate = format!("{} {}{per_second}", number(self.rate.per_second()), self.unit);
        let mut lines = vec![format!("{rate}, {} left", time(self.rate.seconds_left()))];
        let mut items = Vec::new();
        if self.round_stage.is_some() {
            let (ess, log_z) = match self.found {
                Some((ess, log_z)) => (format!("{ess:.0}"), format!("{log_z:.3}")),
                None => ("–".to_owned(), "–".to_owned()),
            };
            items.push(format!("{} evaluations", self.n_evaluations));
            items.extend([format!("ESS {ess}"), format!("log Z {log_z}")]);
        }
        match self.losses.last() {
            Some(loss) => items.push(format!("loss {loss:.3} {}", sparkline(&self.losses))),
            None if self.round_stage.is_some() => items.push("loss –".to_owned()),
            None => {}
        }
        let width = |text: &str| text.chars().count();
        for (k, item) in items.into_iter().enumerate() {
            match lines.last_mut() {
                Some(line) if k > 0 && width(line) + 2 + width(&item) <= columns => {
                    line.push_str("  ");
                    line.push_str(&item);
                }
                _ => lines.push(item),
            }
        }
        lines.join("\n")
    }

    /// A line about the stage for those without a display.
    pub(super) fn line(&self, done: usize, total: usize) -> String {
        let State { stage, unit, .. } = self;
        let percent = 100 * done / total.max(1);
        let mut line = format!("{stage}: {percent} % of {total} {unit}");
        if let (Some(rate), Some(left)) = (self.rate.per_second(), self.rate.seconds_left()) {
            line += &format!(", {} {unit} per second, {} left", number(Some(rate)), time(Some(left)));
        }
        if let Some(loss) = self.losses.last().filter(|_| !self.losses_over) {
            line += &format!(", loss {loss:.4}");
        }
        line
    }

    /// The same for programs.
    pub(super) fn fields(&self, done: usize, total: usize) -> Map<String, Value> {
        let fields = [
            ("stage", json!(self.stage)),
            ("unit", json!(self.unit)),
            ("done", json!(done)),
            ("total", json!(total)),
            ("per_second", json!(self.rate.per_second())),
            ("seconds_left", json!(self.rate.seconds_left())),
            ("round", json!(self.round_stage.map(|(round, _)| round))),
            ("n_evaluations", json!(self.round_stage.map(|_| self.n_evaluations))),
            ("posterior_ess", json!(self.found.map(|(ess, _)| ess))),
            ("log_z", json!(self.found.map(|(_, log_z)| log_z))),
            ("loss", json!(self.losses.last().filter(|_| !self.losses_over))),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
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
    use std::time::Duration;

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
    fn every_width_shows_everything() {
        let mut state = State::new("round 3: training (beta 0.500)".into(), "points");
        state.round_stage = Some((3, true));
        assert_eq!(state.words(80), "– points per second, – left\n0 evaluations  ESS –  log Z –  loss –");
        let begun = Instant::now();
        state.rate.record(begun, 100_000, 3_000_000);
        state.rate.record(begun + Duration::from_secs(4), 500_000, 3_000_000);
        (state.n_evaluations, state.found) = (1_139_636, Some((12_345.6, -123.4567)));
        (0..20).for_each(|k| assert!(state.loss(10.0 - f64::from(k))));
        assert!(!state.loss(-9.0));
        let parts = [
            "100000 points",
            "25 s left",
            "1139636 evaluations",
            "ESS 12346",
            "log Z -123.457",
            "loss -9.000",
        ];
        let lines = [(80, 2), (60, 3), (40, 4), (30, 4)];
        for (columns, n) in lines {
            let words = state.words(columns);
            assert!(parts.iter().all(|part| words.contains(part)), "{words}");
            assert!(words.contains(&sparkline(&state.losses)), "{words}");
            assert!(words.lines().all(|line| line.chars().count() <= columns), "{columns}: {words}");
            assert_eq!(words.lines().count(), n, "{columns}: {words}");
        }
    }
}
