//! The verdict in plain words: what was reached, what was not and why, what to do next. Of a fit of points, which has no
//! verdict, what its figures show and what they cannot.

use super::folder::ResultFolder;
use super::truncated;
use crate::report::fixed;
use minijinja::context;
use serde_json::Value;

/// The top of the page.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    /// met, missed or none: decides the mark beside the headline.
    pub(super) kind: &'static str,
    pub(super) headline: String,
    /// What was reached.
    pub(super) reached: Vec<String>,
    /// What was not, and why.
    pub(super) missed: Vec<String>,
    /// What to do next.
    pub(super) next: Vec<String>,
    /// What no figure here can tell.
    pub(super) limits: Vec<String>,
}

impl From<&Verdict> for minijinja::Value {
    fn from(verdict: &Verdict) -> Self {
        let list = |sentences: &[String]| sentences.iter().collect::<Self>();
        context! {
            kind => verdict.kind,
            headline => verdict.headline.as_str(),
            reached => list(&verdict.reached),
            missed => list(&verdict.missed),
            next => list(&verdict.next),
            limits => list(&verdict.limits),
        }
    }
}

pub(super) fn verdict(folder: &ResultFolder) -> Verdict {
    if folder.is_rounds() {
        of_rounds(folder)
    } else if folder.truncated().is_some() {
        truncated::verdict(folder)
    } else {
        of_fit(folder)
    }
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    let list = value.get(key).and_then(Value::as_array);
    list.map_or_else(Vec::new, |l| l.iter().filter_map(Value::as_str).map(sentence).collect())
}

/// With a capital and a full stop; names of one letter and symbols keep their case.
fn sentence(text: &str) -> String {
    let stop = if text.ends_with('.') { "" } else { "." };
    let word = text.split(' ').next().unwrap_or_default();
    let mut characters = text.chars();
    match characters.next() {
        Some(first) if word != "log" && first.is_ascii_lowercase() => {
            format!("{}{}{stop}", first.to_ascii_uppercase(), characters.as_str())
        }
        _ => format!("{text}{stop}"),
    }
}

fn number(value: &Value, pointer: &str) -> Option<f64> {
    value.pointer(pointer).and_then(Value::as_f64)
}

/// A whole number with its thousands set apart.
pub(super) fn count(n: f64) -> String {
    let digits = format!("{:.0}", n.abs());
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if n < 0.0 { format!("−{text}") } else { text }
}

fn of_rounds(folder: &ResultFolder) -> Verdict {
    let v = &folder.verdict;
    let met = v.get("met").and_then(Value::as_bool);
    let stop = v.get("stop").and_then(Value::as_str).unwrap_or_default();
    let (kind, headline) = match (met, stop) {
        (Some(true), _) => ("met", "The contract is met"),
        (Some(false), "interrupted") => ("missed", "Interrupted: the contract is not met yet"),
        (Some(false), _) => ("missed", "The contract is not met"),
        (None, _) => ("none", "There is no verdict: verdict.json is not in the folder"),
    };
    let mut reached = Vec::new();
    let target = folder.number("/settings/target_ess");
    if let (Some(n), Some(ess)) = (number(v, "/fresh/weights/n"), number(v, "/fresh/ess/ess")) {
        let mut text = format!(
            "{} draws of the final flow, which trained nothing, are worth {} independent draws of the posterior",
            count(n),
            count(ess)
        );
        match number(v, "/fresh/ess/lower") {
            Some(lower) => text.push_str(&format!(", with 95 % confidence at least {}", count(lower))),
            None => text.push_str("; how many at least cannot be said"),
        }
        if let Some(target) = target {
            text.push_str(&format!(" (asked for: {})", count(target)));
        }
        reached.push(text + ".");
    }
    reached.extend(evidence(v));
    if let Some(n) = number(v, "/coverage/n_modes") {
        let modes =
            if n == 1.0 { "One mode was found".into() } else { format!("{} modes were found", count(n)) };
        reached.push(match number(v, "/coverage/lacking_mass") {
            Some(lacking) if lacking > 0.0 => format!(
                "{modes}; {lacking:.1e} of the mass lies where the flow has less than a tenth of the density."
            ),
            _ => format!("{modes}; nowhere that was evaluated does the flow lack mass."),
        });
    }
    if let Some(n) = number(v, "/n_evaluations") {
        let rounds = folder.metrics.pointer("/rounds/rounds").and_then(Value::as_array).map_or(0, Vec::len);
        let seconds = folder.number("/rounds/seconds");
        let time = seconds.map_or_else(String::new, |s| format!(" and {}", duration(s)));
        reached.push(format!("It took {} evaluations of the likelihood in {rounds} rounds{time}.", count(n)));
    }
    let missed = texts(v, "reasons");
    let next = match met {
        Some(true) => vec![
            "Use samples.npz with its weights, or equal_weight.npz without; model.safetensors draws more."
                .into(),
        ],
        Some(false) => advice(&missed, stop),
        None => vec!["Run `lwflow fit` again: it writes the verdict.".into()],
    };
    Verdict { kind, headline: headline.into(), reached, missed, next, limits: texts(v, "limits") }
}

/// log Z with what the other estimates say of it.
fn evidence(v: &Value) -> Vec<String> {
    let Some(log_z) = number(v, "/evidence/flow/log_z") else {
        return vec!["log Z is not given: it would rest on fewer than 100 effective draws.".into()];
    };
    let sd = number(v, "/evidence/flow/sd").unwrap_or(f64::NAN);
    let mut text = format!("log Z = {} ± {sd:.4}", fixed(log_z, 4));
    let others =
        [("earlier_rounds", "draws of earlier rounds differ"), ("scan", "the scan of the prior differs")];
    let found: Vec<String> = others
        .iter()
        .filter_map(|(key, differs)| {
            let z = number(v, &format!("/evidence/{key}_z"))?;
            Some(format!("{differs} by {} standard errors", fixed(z.abs(), 1)))
        })
        .collect();
    if !found.is_empty() {
        text.push_str(&format!("; {}", found.join(", ")));
    }
    vec![text + "."]
}

/// What helps, by what the verdict names.
fn advice(reasons: &[String], stop: &str) -> Vec<String> {
    let mut next: Vec<String> = Vec::new();
    match stop {
        "interrupted" => {
            next.push("Go on where it stopped: `lwflow fit` with the same arguments and --resume.".into())
        }
        "max_evaluations" => next.push(
            "The evaluations were spent: allow more with --max-evaluations, in a new folder or with --force."
                .into(),
        ),
        "max_time" => {
            next.push(
                "The time was over: allow more with --max-time, in a new folder or with --force.".into(),
            );
        }
        "heavy_tail" => {
            next.push("The rounds ended early: more evaluations of flows like these would not help.".into());
        }
        _ => {}
    }
    let has = |word: &str| reasons.iter().any(|reason| reason.contains(word));
    if has("k-hat") || has("not bounded") {
        next.push(
            "The flow is too light somewhere in its tails: a larger one ([flow] n_layers, hidden) or longer training \
             ([training] max_visits) may follow them."
                .into(),
        );
    }
    if has("standard errors from that") {
        next.push(
            "The estimates of log Z contradict each other, so mass may be missing: scan more of the prior ([rounds] n_scan)."
                .into(),
        );
    }
    if has("Mode ") || has("of the mass") {
        next.push(
            "The flow lacks a region: give its base more components ([base] n_components) or train longer ([training] \
             max_visits)."
                .into(),
        );
    }
    if has("32-bit") {
        next.push("Rounding matters: give parameters with large values an `offset`.".into());
    }
    next.push(
        "Until then, do not quote log Z or tails; the weighted draws in samples.npz show what was found so far.".into(),
    );
    next
}

fn of_fit(folder: &ResultFolder) -> Verdict {
    let stopped = folder.text("/fit/training/stop") == Some("interrupted");
    let headline = match (stopped, folder.metrics.is_null()) {
        (_, true) => "A model without its figures: metrics.json is not in the folder",
        (true, _) => "The training was interrupted; this is the best flow until then",
        (false, _) => "A flow was fitted to given points: there is no verdict",
    };
    let mut v = Verdict { kind: "none", headline: headline.into(), ..Verdict::default() };
    if let (Some(n), Some(ess)) = (folder.number("/fit/n"), folder.number("/fit/ess")) {
        let chain = folder.number("/pairs/weights/autocorrelation_ess");
        let worth = chain.map_or_else(String::new, |ess| {
            format!(", with the autocorrelation of the chain {}", count(ess))
        });
        v.reached.push(format!(
            "{} weighted points are worth {} independent ones{worth}.",
            count(n),
            count(ess)
        ));
        let ess = chain.unwrap_or(ess);
        let n_params = folder.number("/fit/n_params").unwrap_or(0.0);
        // With a known target the comparison says how good the flow is, and this would only be a guess.
        if n_params > 0.2 * ess && folder.number("/target/importance/ess_fraction").is_none() {
            v.missed.push(format!(
                "The flow has {} parameters, many for {} effective points.",
                count(n_params),
                count(ess)
            ));
            v.next.push("More points, or a smaller flow ([flow] n_layers, hidden), may do better.".into());
        }
    }
    let how = folder.text("/pairs/evidence/how").unwrap_or("metrics.json is not there");
    v.reached.push(
        match (folder.number("/pairs/evidence/log_z"), folder.number("/pairs/evidence/log_z_sd")) {
            (Some(z), Some(sd)) => format!("log Z = {} ± {sd:.4} ({how}).", fixed(z, 4)),
            (Some(z), None) => format!("log Z = {} ({how}).", fixed(z, 4)),
            _ => format!("There is no log Z ({how})."),
        },
    );
    mass(folder, &mut v);
    if let Some(ess) = folder.number("/target/importance/ess_fraction") {
        v.reached.push(format!(
            "Held against the known target, {} % of the flow's draws are effective ones (table below).",
            fixed(100.0 * ess, 1)
        ));
    }
    if stopped {
        v.missed.push("The training did not come to its end.".into());
        v.next.push("Run `lwflow fit` again without interrupting it (--force replaces the results).".into());
    }
    if v.next.is_empty() {
        v.next.push(
            "Compare the contours of flow and points below. Where they agree, samples.npz and model.safetensors stand \
             for the points."
                .into(),
        );
    }
    v.limits.push(
        "The figures show whether the flow agrees with the points. They cannot show mass that no point hits: for that, \
         give a likelihood and let lwflow draw its own points in rounds."
            .into(),
    );
    v
}

/// The mass of the flow as its points see it.
fn mass(folder: &ResultFolder, v: &mut Verdict) {
    let Some(mass) = folder.number("/fit/training/flow_mass") else { return };
    let n = folder.number("/fit/training/n_flow_mass").unwrap_or(1.0);
    let fraction = folder.number("/pairs/weights/ess_fraction").unwrap_or(1.0);
    let noise = ((1.0 / fraction - 1.0).max(0.0) / n).sqrt();
    let text = format!("The draws see {} of the flow's mass (noise {noise:.3})", fixed(mass, 4));
    if (mass - 1.0).abs() <= 0.05_f64.max(3.0 * noise) {
        v.reached.push(text + ": it hides none between the points.");
    } else if mass < 1.0 {
        v.missed.push(text + ": it may hide mass between the points.");
        v.next.push("Give the base more components ([base] n_components), or more points.".into());
    } else {
        v.missed.push(text + ": it is too dense where the draws are.");
        v.next.push("Train longer ([training] max_visits), or give more points.".into());
    }
}

/// Seconds in the unit that suits them.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sentences_read_well() {
        assert_eq!(
            [count(0.4), count(999.0), count(1234567.0), count(-1000.0)],
            ["0", "999", "1,234,567", "−1,000"]
        );
        assert_eq!(sentence("mode 2 holds 3.0 % of the mass"), "Mode 2 holds 3.0 % of the mass.");
        assert_eq!(sentence("log Z by the scan is off"), "log Z by the scan is off.");
        assert_eq!([duration(3.21), duration(600.0), duration(9000.0)], ["3.2 s", "10.0 min", "2.5 h"]);
    }

    #[test]
    fn advice_follows_the_reasons() {
        let said = |reasons: &[&str], stop| {
            advice(&reasons.iter().map(|r| sentence(r)).collect::<Vec<_>>(), stop).join(" ")
        };
        assert!(said(&[], "interrupted").contains("--resume"));
        assert!(said(&[], "max_evaluations").contains("--max-evaluations"));
        assert!(said(&["the effective size is not bounded: ... Pareto k-hat 0.9"], "").contains("n_layers"));
        assert!(said(&[], "heavy_tail").contains("ended early"));
        assert!(
            said(&["mode 1 holds 9.0 % of the mass, but 0.00 % of the flow's"], "").contains("n_components")
        );
        let text = "log Z by the scan differs by +9.0 standard errors from that of the final flow";
        assert!(said(&[text], "").contains("n_scan"));
        assert!(!said(&[], "target_ess").contains("n_scan"));
    }
}
