//! Progress and the wish to stop. Invariant: the interpreter is asked a few times a second at most, so that telling how far a fit
//! is costs nothing; an exception of the callback ends the fit and is raised again.

use lwflow::{FitProgress, RoundsEvent, Stage};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the interpreter hears of a fit.
const INTERVAL: Duration = Duration::from_millis(100);

/// What the likelihood, the progress and the end of a fit have in common.
#[derive(Debug, Default)]
pub struct Shared {
    stop: AtomicBool,
    error: Mutex<Option<PyErr>>,
}

impl Shared {
    /// Ends the fit with what there is.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the fit was asked to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Keeps an exception, the first of them, to be raised when the fit has ended. A `KeyboardInterrupt` only ends it.
    pub fn fail(&self, py: Python<'_>, error: PyErr) {
        self.stop();
        if !error.is_instance_of::<PyKeyboardInterrupt>(py) {
            self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    /// The exception that was kept.
    pub fn take(&self) -> Option<PyErr> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Tells Python how far a fit is.
pub struct Watch {
    shared: Arc<Shared>,
    progress: Option<Py<PyAny>>,
    last: Instant,
    stage: (&'static str, usize),
}

/// How far it is.
struct Event {
    stage: &'static str,
    round: usize,
    done: usize,
    total: usize,
    more: Vec<(&'static str, f64)>,
}

impl Watch {
    pub fn new(shared: Arc<Shared>, progress: Option<Py<PyAny>>) -> Self {
        Self { shared, progress, last: Instant::now(), stage: ("", 0) }
    }

    /// An event of rounds.
    pub fn rounds(&mut self, event: RoundsEvent<'_>) -> ControlFlow<()> {
        match event {
            RoundsEvent::Evaluating { round, done, total, .. } => {
                let stage = if round == 0 { "prior" } else { "likelihood" };
                self.tell(Event { stage, round, done, total, more: Vec::new() })
            }
            RoundsEvent::Training { round, beta, visits, max_visits, .. } => {
                let more = vec![("beta", beta)];
                self.tell(Event { stage: "training", round, done: visits, total: max_visits, more })
            }
            RoundsEvent::Round(row) => {
                let more = vec![
                    ("beta", row.beta),
                    ("n_evaluations", row.n_evaluations as f64),
                    ("fresh_ess", row.fresh_ess),
                    ("log_z", row.log_z),
                ];
                self.tell(Event { stage: "round", round: row.round, done: 1, total: 1, more })
            }
            _ => self.go_on(),
        }
    }

    /// Progress of a fit of points.
    pub fn points(&mut self, progress: FitProgress) -> ControlFlow<()> {
        let stage = match progress.stage {
            Stage::Mixture => "mixture",
            Stage::Starts => "starts",
            Stage::Weighting => "weighting",
            Stage::Training => "training",
        };
        let FitProgress { done, total, .. } = progress;
        self.tell(Event { stage, round: 0, done, total, more: Vec::new() })
    }

    fn go_on(&self) -> ControlFlow<()> {
        if self.shared.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn tell(&mut self, event: Event) -> ControlFlow<()> {
        let stage = (event.stage, event.round);
        // A stage's begin and end are always told, so that no bar is left at 97 %.
        let is_edge = stage != self.stage || event.done >= event.total;
        if !is_edge && self.last.elapsed() < INTERVAL {
            return self.go_on();
        }
        (self.stage, self.last) = (stage, Instant::now());
        Python::attach(|py| {
            if let Err(error) = py.check_signals().and_then(|()| self.call(py, &event)) {
                self.shared.fail(py, error);
            }
        });
        self.go_on()
    }

    fn call(&self, py: Python<'_>, event: &Event) -> PyResult<()> {
        let Some(progress) = &self.progress else { return Ok(()) };
        let dict = PyDict::new(py);
        dict.set_item("stage", event.stage)?;
        dict.set_item("round", event.round)?;
        dict.set_item("done", event.done)?;
        dict.set_item("total", event.total)?;
        for (name, value) in &event.more {
            dict.set_item(*name, value)?;
        }
        let answer = progress.call1(py, (dict,))?;
        if answer.extract::<bool>(py).is_ok_and(|go_on| !go_on) {
            self.shared.stop();
        }
        Ok(())
    }
}
