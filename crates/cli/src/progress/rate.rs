//! How fast a stage goes, and how long it will take. Invariant: measured over the last seconds, from the first progress of the
//! stage, so that what comes before it (compiling, EM, a flow's start) counts for nothing; nothing is said before there is
//! enough to say.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What is measured over; of slow work, as long as two steps take.
const WINDOW: Duration = Duration::from_secs(10);
/// Least time that says something.
const ENOUGH: Duration = Duration::from_secs(1);
/// Least time between two marks.
const APART: Duration = Duration::from_millis(100);

/// The last seconds of a stage.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// When so much was done, ascending; the last is the latest.
    marks: VecDeque<(Instant, usize)>,
    total: usize,
}

impl Rate {
    /// Hears at `now` that `done` of `total` is. Less than before, or another total, begins anew.
    pub(super) fn record(&mut self, now: Instant, done: usize, total: usize) {
        let latest = self.marks.back().map_or(0, |mark| mark.1);
        if done < latest || total != self.total {
            (self.marks, self.total) = (VecDeque::new(), total);
        }
        if done == 0 || self.marks.back().is_some_and(|mark| mark.1 == done) {
            return;
        }
        let n = self.marks.len();
        if n > 1 && self.marks[n - 1].0 < self.marks[n - 2].0 + APART {
            self.marks.pop_back();
        }
        self.marks.push_back((now, done));
        while self.marks.len() > 2 && self.marks[1].0 + WINDOW < now {
            self.marks.pop_front();
        }
    }

    /// How much is done in a second; `None` as long as that is not known.
    pub(super) fn per_second(&self) -> Option<f64> {
        let (first, last) = (self.marks.front()?, self.marks.back()?);
        let took = last.0 - first.0;
        (took >= ENOUGH).then(|| (last.1 - first.1) as f64 / took.as_secs_f64())
    }

    /// Seconds that the rest will take.
    pub(super) fn seconds_left(&self) -> Option<f64> {
        let done = self.marks.back()?.1;
        self.per_second().map(|rate| self.total.saturating_sub(done) as f64 / rate)
    }
}

/// A number to two digits at least, without digits after a point where it is large; a dash where there is none.
pub(super) fn number(x: Option<f64>) -> String {
    match x {
        None => "–".to_owned(),
        Some(x) => {
            let decimals = (1.0 - x.abs().max(1e-6).log10().floor()).max(0.0) as usize;
            format!("{x:.decimals$}")
        }
    }
}

/// A time in the unit that suits it.
pub(super) fn time(seconds: Option<f64>) -> String {
    match seconds {
        Some(s) if s < 119.5 => format!("{s:.0} s"),
        Some(s) if s < 7170.0 => format!("{:.0} min", s / 60.0),
        Some(s) => format!("{:.0} h", s / 3600.0),
        None => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rate and the seconds left after steps at so many seconds with so much done, of 1000.
    fn after(steps: &[(f64, usize)]) -> (Option<f64>, Option<f64>) {
        let (begun, mut rate) = (Instant::now(), Rate::default());
        for &(seconds, done) in steps {
            rate.record(begun + Duration::from_secs_f64(seconds), done, 1000);
        }
        (rate.per_second(), rate.seconds_left())
    }

    fn about(got: Option<f64>, expected: f64) -> bool {
        got.is_some_and(|got| (got / expected - 1.0).abs() < 1e-6)
    }

    #[test]
    fn the_time_before_the_first_progress_does_not_count() {
        let (rate, left) = after(&[(0.0, 0), (60.0, 0), (60.0, 100), (61.0, 200), (62.0, 300)]);
        assert!(about(rate, 100.0) && about(left, 7.0), "{rate:?} {left:?}");
    }

    #[test]
    fn nothing_is_said_before_there_is_enough_to_say() {
        assert_eq!(after(&[]), (None, None));
        assert_eq!(after(&[(0.0, 0), (5.0, 500)]), (None, None));
        assert_eq!(after(&[(0.0, 1), (0.5, 500), (0.9, 999)]), (None, None));
    }

    #[test]
    fn the_last_seconds_decide() {
        let slow = (1..=100).map(|k| (0.2 * f64::from(k), k as usize));
        let fast = (1..=100).map(|k| (20.0 + 0.2 * f64::from(k), 100 + 8 * k as usize));
        let steps: Vec<(f64, usize)> = slow.chain(fast).collect();
        let (rate, left) = after(&steps);
        assert!(about(rate, 40.0) && about(left, 2.5), "{rate:?} {left:?}");
    }

    #[test]
    fn slow_steps_are_a_rate_too() {
        let (rate, left) = after(&[(30.0, 1), (60.0, 2), (90.0, 3)]);
        assert!(about(rate, 1.0 / 30.0) && about(left, 29_910.0), "{rate:?} {left:?}");
        assert_eq!(number(rate), "0.033");
    }

    #[test]
    fn another_total_or_less_done_begins_anew() {
        assert_eq!(after(&[(0.0, 100), (2.0, 300), (3.0, 10)]), (None, None));
        let (begun, mut rate) = (Instant::now(), Rate::default());
        rate.record(begun, 10, 100);
        rate.record(begun + 2 * ENOUGH, 30, 100);
        assert_eq!(rate.per_second(), Some(10.0));
        rate.record(begun + 3 * ENOUGH, 30, 200);
        assert_eq!(rate.per_second(), None);
    }

    #[test]
    fn a_fast_stage_keeps_few_marks() {
        let (begun, mut rate) = (Instant::now(), Rate::default());
        for k in 1..=200_000_u32 {
            rate.record(begun + k * Duration::from_micros(100), k as usize, 1_000_000);
        }
        assert!(rate.marks.len() <= 110, "{}", rate.marks.len());
        assert!(rate.per_second().is_some_and(|rate| (rate / 1e4 - 1.0).abs() < 1e-3));
    }

    #[test]
    fn numbers_and_times_read_well() {
        let numbers = [12_345.6, 248.0, 24.81, 2.48, 0.0248].map(|x| number(Some(x)));
        assert_eq!(numbers, ["12346", "248", "25", "2.5", "0.025"]);
        let times = [0.4, 83.4, 130.0, 7200.0].map(|s| time(Some(s)));
        assert_eq!(times, ["0 s", "83 s", "2 min", "2 h"]);
        assert_eq!((number(None), time(None)), ("–".to_owned(), "–".to_owned()));
    }
}
