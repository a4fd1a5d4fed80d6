//! Pairs (theta, weight information) and the log weights that training needs.
//! Invariant: `log_weights` are finite or -inf, at least one is finite, and an evidence is offered only where the file
//! says how the draws came about; with bare weights log Z is `None`, never a number.

use serde::{Deserialize, Serialize};
use std::path::Path;

use super::error::FileError;
use super::fields::{ColumnChoice, Field, Fields, RESERVED_NAMES, missing};
use super::{Format, nearest};

/// The caller's log prior density: theta `[dim]` in the order of [`WeightedPairs::names`] to nats.
pub type LogPrior<'a> = dyn Fn(&[f64]) -> f64 + 'a;

/// Where the log weights come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightKind {
    /// `log_likelihood` of prior draws: lw = log L.
    PriorDraws,
    /// `log_likelihood` of draws from a known proposal: lw = log L + log prior - log proposal. With a context log L may be
    /// missing: it counts as 0, since a context that was simulated for its row is itself a draw of the likelihood.
    ProposalDraws,
    /// A context and nothing to weigh by: joint draws of the prior and a simulator, lw = 0.
    JointDraws,
    /// The array `log_weight` as it stands.
    LogWeight,
    /// The array `weight`: lw = log weight.
    Weight,
    /// Markov chains: multiplicities.
    Chain,
    /// Nested sampling: lw = log L + log of the prior volume of the shell.
    NestedSampling,
}

/// Whether the pairs give an evidence, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Evidence {
    /// None: the weights have an unknown common factor.
    Unavailable,
    /// log Z = logsumexp(lw) - log n.
    FromWeights,
    /// Given by the file's own method (nested sampling).
    Known(LogZ),
}

/// An evidence in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogZ {
    /// log Z.
    pub log_z: f64,
    /// Its standard error.
    #[serde(rename = "log_z_sd")]
    pub sd: f64,
}

/// Pairs ready for training. Flat arrays are row-major.
#[derive(Debug, Clone)]
pub struct WeightedPairs {
    /// Parameter names, `[dim]`.
    pub names: Vec<String>,
    /// Labels of the parameters in LaTeX without dollar signs, `[dim]`; the names where the source has none.
    pub labels: Vec<String>,
    /// Parameters, `[n, dim]`.
    pub theta: Vec<f64>,
    /// Number of rows.
    pub n: usize,
    /// Number of parameters.
    pub dim: usize,
    /// Context names, `[context_dim]`.
    pub context_names: Vec<String>,
    /// Context, `[n, context_dim]`; empty without context.
    pub context: Vec<f64>,
    /// Number of context values per row.
    pub context_dim: usize,
    /// Where the weights come from.
    pub kind: WeightKind,
    /// Unnormalised log weights, `[n]`, each finite or -inf.
    pub log_weights: Vec<f64>,
    /// Whether and how they give an evidence.
    pub evidence: Evidence,
    /// Log likelihood in nats, `[n]`, where known.
    pub log_likelihood: Option<Vec<f64>>,
    /// Log prior density in nats, `[n]`, where known.
    pub log_prior: Option<Vec<f64>>,
    /// Log density of what each row was drawn from, in nats, `[n]`, where known.
    pub log_proposal: Option<Vec<f64>>,
    /// Remarks for people, to print beside the result.
    pub notes: Vec<String>,
}

impl WeightedPairs {
    /// log of the sum of the weights.
    pub fn log_sum(&self) -> f64 {
        log_sum_exp(&self.log_weights)
    }

    /// Self-normalised weights, `[n]`, summing to one.
    pub fn weights(&self) -> Vec<f64> {
        let log_sum = self.log_sum();
        self.log_weights.iter().map(|lw| (lw - log_sum).exp()).collect()
    }

    /// Kish's effective sample size 1 / sum w^2. It knows nothing of the correlation between rows.
    pub fn ess(&self) -> f64 {
        1.0 / self.weights().iter().map(|w| w * w).sum::<f64>()
    }

    /// log Z and its standard error; `None` where the weights do not give one. From importance weights the error is
    /// sqrt((n/ESS - 1)/n), which holds for independent draws, and means little when [`Self::ess`] is small.
    pub fn log_z(&self) -> Option<LogZ> {
        match self.evidence {
            Evidence::Unavailable => None,
            Evidence::Known(log_z) => Some(log_z),
            Evidence::FromWeights => {
                let n = self.n as f64;
                let sd = ((n / self.ess() - 1.0).max(0.0) / n).sqrt();
                Some(LogZ { log_z: self.log_sum() - n.ln(), sd })
            }
        }
    }
}

/// Reads a pairs file: theta with exactly one of `log_likelihood`, `log_weight` and `weight`, and optionally
/// `log_prior`, `log_proposal` and context. `log_prior` of the file goes before the caller's. With a context nothing to weigh
/// by is needed: rows are then joint draws, of weight one or, with `log_proposal`, prior over proposal.
///
/// # Errors
/// Any [`FileError`] of reading; [`FileError::Missing`] if there is nothing to weigh by, or `log_proposal` without any
/// prior; [`FileError::Ambiguous`] for several weights; [`FileError::AllWeightsZero`].
///
/// ```
/// use lwflow_host::files::{ColumnChoice, WeightKind, read_pairs};
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("pairs.csv");
/// std::fs::write(&path, "a,b,log_likelihood\n0.5,1.0,-2.0\n0.1,2.0,-inf\n0.3,1.5,-2.0\n")?;
/// let pairs = read_pairs(&path, &ColumnChoice::default(), None)?;
/// assert_eq!((pairs.n, pairs.dim, pairs.kind), (3, 2, WeightKind::PriorDraws));
/// assert!((pairs.ess() - 2.0).abs() < 1e-12);
/// assert!(pairs.log_z().is_some()); // log(2 exp(-2) / 3)
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_pairs(
    path: &Path,
    choice: &ColumnChoice,
    log_prior: Option<&LogPrior<'_>>,
) -> Result<WeightedPairs, FileError> {
    let wanted = [Field::LogLikelihood, Field::LogWeight, Field::Weight, Field::LogPrior, Field::LogProposal];
    let mut fields = Fields::read(path, choice, &wanted)?;
    // A sampler's own weights go before its log L.
    let weights = if fields.sampler.is_some() { &wanted[1..2] } else { &wanted[..3] };
    let present: Vec<Field> = weights.iter().copied().filter(|f| fields.get(*f).is_some()).collect();
    let (kind, mut log_weights) = match present[..] {
        [Field::LogLikelihood] => from_likelihood(&mut fields, log_prior)?,
        [Field::LogWeight] => {
            (WeightKind::LogWeight, fields.get(Field::LogWeight).unwrap_or_default().to_vec())
        }
        [Field::Weight] => {
            let weights = fields.get(Field::Weight).unwrap_or_default();
            (WeightKind::Weight, weights.iter().map(|w| w.ln()).collect())
        }
        [] if fields.context_dim > 0 && misspelt_weight(&fields).is_none() => joint(&mut fields, log_prior)?,
        [] => {
            let wanted = "`log_likelihood`, `log_weight` or `weight` (pairs with a context need none: columns `context_...`, or \
                          an array `context` or `x`)";
            let mut error = missing(path, wanted, "log_likelihood", fields.found.clone());
            if let (FileError::Missing { nearest, .. }, Some(name)) = (&mut error, misspelt_weight(&fields)) {
                *nearest = Some(name);
            }
            return Err(error);
        }
        _ => {
            let found = present.iter().map(|f| f.name().to_owned()).collect();
            return Err(FileError::Ambiguous { path: path.into(), found });
        }
    };
    if log_weights.iter().all(|lw| *lw == f64::NEG_INFINITY) {
        let (field, value) = match kind {
            WeightKind::Weight => ("weight", "0"),
            WeightKind::LogWeight => (fields.array_name(Field::LogWeight), "-inf"),
            WeightKind::PriorDraws => ("log_likelihood", "-inf"),
            WeightKind::ProposalDraws if present.is_empty() => ("log_prior", "-inf"),
            _ => ("log_likelihood + log_prior", "-inf"),
        };
        return Err(FileError::AllWeightsZero { path: path.into(), n: fields.n, field, value });
    }
    let (kind, evidence) = match fields.sampler {
        Some(sampler) => {
            let evidence = sampler.scale_to_evidence(path, &mut log_weights, &mut fields.notes)?;
            (WeightKind::NestedSampling, evidence)
        }
        None => (kind, evidence_of(kind, &log_weights, fields.context_dim, &mut fields.notes)),
    };
    if matches!(kind, WeightKind::LogWeight | WeightKind::Weight) && fields.get(Field::LogProposal).is_some()
    {
        let weight = present[0].name();
        fields.notes.push(format!("log_proposal is kept, but the weights are those of `{weight}`"));
    }
    let unread = unread(&fields);
    if !unread.is_empty() {
        fields.notes.push(format!("not read: {}", unread.join(", ")));
    }
    let zero = log_weights.iter().filter(|lw| **lw == f64::NEG_INFINITY).count();
    if zero > 0 {
        fields.notes.push(format!("{zero} of {} rows have weight zero", fields.n));
    }
    Ok(WeightedPairs {
        log_likelihood: fields.take(Field::LogLikelihood),
        log_prior: fields.take(Field::LogPrior),
        log_proposal: fields.take(Field::LogProposal),
        labels: fields.names.clone(),
        names: fields.names,
        theta: fields.theta,
        n: fields.n,
        dim: fields.dim,
        context_names: fields.context_names,
        context: fields.context,
        context_dim: fields.context_dim,
        kind,
        log_weights,
        evidence,
        notes: fields.notes,
    })
}

fn from_likelihood(
    fields: &mut Fields,
    log_prior: Option<&LogPrior<'_>>,
) -> Result<(WeightKind, Vec<f64>), FileError> {
    if fields.get(Field::LogProposal).is_some() {
        return from_proposal(fields, log_prior);
    }
    fields.notes.push("no log_proposal: draws are taken to come from the prior".to_owned());
    Ok((WeightKind::PriorDraws, fields.get(Field::LogLikelihood).unwrap_or_default().to_vec()))
}

/// Weights of joint draws of theta and a context simulated for it.
fn joint(fields: &mut Fields, log_prior: Option<&LogPrior<'_>>) -> Result<(WeightKind, Vec<f64>), FileError> {
    let (note, found) = if fields.get(Field::LogProposal).is_some() {
        let note = "a context and no likelihoods: joint draws, with theta from the proposal; weighted by prior over proposal";
        (note, from_proposal(fields, log_prior)?)
    } else {
        let note = "a context and nothing to weigh by: joint draws, with theta from the prior; every pair has weight one";
        (note, (WeightKind::JointDraws, vec![0.0; fields.n]))
    };
    fields.notes.push(note.to_owned());
    Ok(found)
}

/// log L + log prior - log proposal; without log L, prior over proposal.
fn from_proposal(
    fields: &mut Fields,
    log_prior: Option<&LogPrior<'_>>,
) -> Result<(WeightKind, Vec<f64>), FileError> {
    let log_likelihood = fields.get(Field::LogLikelihood);
    let log_proposal = fields.get(Field::LogProposal).unwrap_or_default();
    let (prior, from_caller) = match (fields.get(Field::LogPrior), log_prior) {
        (Some(values), _) => (values.to_vec(), false),
        (None, Some(log_prior)) => ((0..fields.n).map(|row| log_prior(fields.row(row))).collect(), true),
        (None, None) => {
            let wanted = "`log_prior`, which log_proposal needs (or give the prior)";
            // The fields that are there are not misspelt.
            let mut error = missing(&fields.path, wanted, "log_prior", fields.found.clone());
            if let FileError::Missing { nearest, .. } = &mut error {
                nearest.take_if(|name| RESERVED_NAMES.contains(&name.as_str()));
            }
            return Err(error);
        }
    };
    let mut log_weights = Vec::with_capacity(fields.n);
    for row in 0..fields.n {
        if prior[row].is_nan() || prior[row] == f64::INFINITY {
            let field = if from_caller { "log_prior (computed from the given prior)" } else { "log_prior" };
            return Err(fields.bad_value(row, field, prior[row], "a finite number or -inf"));
        }
        let lw = log_likelihood.map_or(0.0, |l| l[row]) + prior[row] - log_proposal[row];
        if lw.is_nan() || lw == f64::INFINITY {
            let field = "log_likelihood + log_prior - log_proposal";
            let field = if log_likelihood.is_some() { field } else { "log_prior - log_proposal" };
            return Err(fields.bad_value(row, field, lw, "a finite number or -inf"));
        }
        log_weights.push(lw);
    }
    if from_caller {
        fields.notes.push("log_prior is computed from the given prior".to_owned());
    }
    Ok((WeightKind::ProposalDraws, log_weights))
}

/// What is left to say of a file: its arrays that were not read, and columns with a meaning that pairs have no use for.
/// Columns that could be parameters have been told by then.
fn unread(fields: &Fields) -> Vec<String> {
    let told = |name: &&String| !RESERVED_NAMES.contains(&name.as_str()) && !is_npz(fields);
    // The evidence of a sampler is read with its weights.
    let of_sampler = |name: &&String| fields.sampler.is_some_and(|s| s.has_evidence_in(name));
    fields.unread().filter(|name| !told(name) && !of_sampler(name)).cloned().collect()
}

fn is_npz(fields: &Fields) -> bool {
    Format::of(&fields.path).is_ok_and(|format| format == Format::Npz)
}

/// An array of an .npz that was not read and is called nearly as weights are. (A misspelt column is a parameter.)
fn misspelt_weight(fields: &Fields) -> Option<String> {
    if !is_npz(fields) {
        return None;
    }
    let names: Vec<String> =
        fields.unread().filter(|name| !RESERVED_NAMES.contains(&name.as_str())).cloned().collect();
    RESERVED_NAMES[..3].iter().find_map(|weight| nearest(weight, &names))
}

fn evidence_of(kind: WeightKind, lw: &[f64], context_dim: usize, notes: &mut Vec<String>) -> Evidence {
    if context_dim > 0 {
        notes.push("with context there is no single evidence: log Z is null".to_owned());
        return Evidence::Unavailable;
    }
    match kind {
        WeightKind::PriorDraws | WeightKind::ProposalDraws => Evidence::FromWeights,
        WeightKind::LogWeight if is_normalised(lw) => {
            notes.push("log_weight is normalised, its common factor is lost: log Z is null".to_owned());
            Evidence::Unavailable
        }
        WeightKind::LogWeight => {
            let text = "log Z takes log_weight to be log L + log prior - log proposal, not rescaled";
            notes.push(text.to_owned());
            Evidence::FromWeights
        }
        _ => {
            notes.push("weights without likelihoods give no evidence: log Z is null".to_owned());
            Evidence::Unavailable
        }
    }
}

/// True if the weights were scaled to sum to one, to mean one, or to a largest value of one: an unscaled set does that
/// only by chance, at the level of the tolerance (which covers float32 files).
fn is_normalised(lw: &[f64]) -> bool {
    let log_sum = log_sum_exp(lw);
    let largest = lw.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    [log_sum, log_sum - (lw.len() as f64).ln(), largest].iter().any(|v| v.abs() < 1e-5)
}

/// log(sum(exp(values))), -inf for none.
pub(crate) fn log_sum_exp(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return largest;
    }
    largest + values.iter().map(|v| (v - largest).exp()).sum::<f64>().ln()
}
