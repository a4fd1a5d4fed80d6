//! What the parameters of a task are for, and which keys of theirs go with it: a prior where theta are drawn, an offset where
//! something sees them in 32 bits. Invariant: no name is a parameter's and another's too.

use super::reader::Section;
use super::{Likelihood, SimulatorSection, SimulatorSource, TaskError};

/// What theta is for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'t> {
    pub(super) likelihood: Option<&'t Likelihood>,
    pub(super) simulator: Option<&'t SimulatorSection>,
}

impl Asked<'_> {
    /// Whether theta are drawn from the prior of the task.
    pub(super) fn needs_prior(self) -> bool {
        let is_evaluated =
            matches!(self.likelihood, Some(Likelihood::Wgsl { .. } | Likelihood::Command { .. }));
        is_evaluated || self.simulator.is_some()
    }

    fn is_target(self) -> bool {
        matches!(self.likelihood, Some(Likelihood::Target { .. }))
    }

    /// Whether something sees theta in 32 bits.
    fn is_narrow(self) -> bool {
        matches!(self.likelihood, Some(Likelihood::Wgsl { .. }))
            || matches!(self.simulator, Some(s) if matches!(s.source, SimulatorSource::Wgsl { .. }))
    }

    /// Its key in the task file.
    pub(super) fn key(self) -> String {
        match (self.likelihood, self.simulator) {
            (Some(likelihood), _) => format!("`likelihood.{}`", likelihood.key()),
            (None, Some(simulator)) => format!("`simulator.{}`", simulator.source.key()),
            (None, None) => "[likelihood]".to_owned(),
        }
    }
}

/// What only some sources can use, and what some need.
pub(super) fn check_source(section: &Section<'_>, name: &str, asked: Asked<'_>) -> Result<(), TaskError> {
    if asked.needs_prior() && section.get("prior").is_none() {
        return Err(section.missing(
            "prior",
            match asked.simulator {
                None => "a likelihood that is evaluated needs a prior for every parameter",
                Some(_) => "a simulator needs a prior for every parameter",
            },
        ));
    }
    let derived: &[String] = match asked.likelihood {
        Some(Likelihood::Wgsl { derived, .. }) => derived,
        Some(Likelihood::Command { settings, .. }) => &settings.derived,
        _ => &[],
    };
    let observed = asked.simulator.map_or(&[][..], |simulator| &simulator.observed);
    for (names, other, reason) in [
        (derived, "`likelihood.derived`", "a derived quantity has the same name"),
        (observed, "`simulator.observed`", "a simulated value has the same name"),
    ] {
        if names.iter().any(|n| n == name) {
            return Err(TaskError::Conflict {
                place: section.place(),
                key: section.full("").trim_end_matches('.').to_owned(),
                other: other.into(),
                reason,
            });
        }
    }
    if asked.is_target() && section.get("prior").is_some() {
        return Err(section.conflict("prior", asked.key(), "a built-in target brings its own prior"));
    }
    if asked.is_target() && section.get("periodic").is_some() {
        return Err(section.conflict("periodic", asked.key(), "no built-in target has a periodic parameter"));
    }
    if section.get("offset").is_some() && !asked.is_narrow() {
        let reason = "only a function in WGSL is evaluated in 32 bits, which an offset helps";
        return Err(section.conflict("offset", asked.key(), reason));
    }
    Ok(())
}
