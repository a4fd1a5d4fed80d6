//! The sections [parameters.NAME]: bounds, labels, and the prior with the keys of its kind.

use super::asked::{Asked, check_source};
use super::reader::{Document, FINITE, Section};
use super::{Choice, TaskError};
use lwflow_host::HostError;
use lwflow_host::prior::Marginal;
use serde::Serialize;

/// Every key that some parameter section may have.
pub(super) const KEYS: &[&str] = &[
    "lower",
    "upper",
    "label",
    "lower_edge",
    "upper_edge",
    "prior",
    "periodic",
    "offset",
    "truth",
    "mean",
    "sd",
    "mu",
    "sigma",
    "scale",
    "rate",
    "shape",
    "alpha",
    "beta",
    "df",
    "loc",
];
/// Without a prior.
const PLAIN: &[&str] =
    &["lower", "upper", "label", "lower_edge", "upper_edge", "prior", "periodic", "offset", "truth"];

/// A kind of prior: its word, its keys, and what of them it needs.
struct Kind {
    word: &'static str,
    keys: &'static [&'static str],
    needs: &'static str,
}

const KINDS: [Kind; 10] = [
    Kind { word: "uniform", keys: PLAIN, needs: "a uniform prior needs both `lower` and `upper`" },
    Kind {
        word: "log_uniform",
        keys: &["prior", "lower", "upper", "label", "lower_edge", "upper_edge", "offset", "truth"],
        needs: "a log_uniform prior needs `lower` and `upper`",
    },
    Kind {
        word: "normal",
        keys: &["prior", "mean", "sd", "label", "offset", "truth"],
        needs: "a normal prior needs `mean` and `sd`",
    },
    Kind {
        word: "truncated_normal",
        keys: &[
            "prior",
            "mean",
            "sd",
            "lower",
            "upper",
            "label",
            "lower_edge",
            "upper_edge",
            "offset",
            "truth",
        ],
        needs: "a truncated_normal prior needs `mean`, `sd` and `lower` or `upper` or both",
    },
    Kind {
        word: "lognormal",
        keys: &["prior", "mu", "sigma", "label", "lower_edge", "offset", "truth"],
        needs: "a lognormal prior needs `mu` and `sigma`, mean and sd of the logarithm",
    },
    Kind {
        word: "half_normal",
        keys: &["prior", "sd", "label", "lower_edge", "offset", "truth"],
        needs: "a half_normal prior needs `sd`, that of the whole normal",
    },
    Kind {
        word: "exponential",
        keys: &["prior", "scale", "rate", "label", "lower_edge", "offset", "truth"],
        needs: "an exponential prior needs `scale`, its mean, or `rate`",
    },
    Kind {
        word: "gamma",
        keys: &["prior", "shape", "scale", "rate", "label", "lower_edge", "offset", "truth"],
        needs: "a gamma prior needs `shape` and `scale` or `rate`",
    },
    Kind {
        word: "beta",
        keys: &["prior", "alpha", "beta", "label", "lower_edge", "upper_edge", "offset", "truth"],
        needs: "a beta prior needs `alpha` and `beta`",
    },
    Kind {
        word: "student_t",
        keys: &["prior", "df", "loc", "scale", "label", "offset", "truth"],
        needs: "a student_t prior needs `df`, `loc` and `scale`",
    },
];
const WORDS: &[&str] = &[
    "uniform",
    "log_uniform",
    "normal",
    "truncated_normal",
    "lognormal",
    "half_normal",
    "exponential",
    "gamma",
    "beta",
    "student_t",
];

/// Names that different priors give to the same thing; the one that the prior has is suggested.
const SYNONYMS: [&[&str]; 6] = [
    &["mean", "mu", "loc", "median"],
    &["sd", "sigma", "scale", "std", "stddev", "rate"],
    &["lower", "low", "min", "minimum"],
    &["upper", "high", "max", "maximum"],
    &["shape", "alpha", "k", "df"],
    &["df", "nu", "dof", "shape"],
];

choice!(
    /// How a bound of a parameter is mapped to infinity.
    Edge {
        /// Decided from the weighted mass near the bound.
        Auto = "auto",
        /// Linear inside, bends only near the bound.
        Soft = "soft",
        /// Logit (log for a single bound): for mass that piles up at the bound.
        Hard = "hard",
    }
);

/// One parameter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ParameterSection {
    /// Name in the source.
    pub name: String,
    /// Lower bound of its support; that of its prior if it has one.
    pub lower: Option<f64>,
    /// Upper bound of its support; above `lower`.
    pub upper: Option<f64>,
    /// Label in figures, simple LaTeX without dollar signs (default: the name).
    pub label: Option<String>,
    /// Treatment of the lower bound.
    pub lower_edge: Edge,
    /// Treatment of the upper bound.
    pub upper_edge: Edge,
    /// Prior density.
    pub prior: Option<Marginal>,
    /// Whether its bounds are the same point.
    pub periodic: bool,
    /// The reference it is handed to a WGSL likelihood as a difference from.
    pub offset: Option<f64>,
    /// Its true value, where data were made with one: figures mark it, the fit does not know it.
    pub truth: Option<f64>,
}

/// Reads all sections and checks them against what theta is for.
pub(super) fn parameters<'a>(
    document: &'a Document<'a>,
    root: &Section<'a>,
    asked: Asked<'_>,
) -> Result<Vec<ParameterSection>, TaskError> {
    let all = Section::open_free(document, "parameters", root.get("parameters"))?;
    let mut parameters = Vec::new();
    for (span, name, value) in all.entries() {
        if name.trim().is_empty() {
            return Err(TaskError::OutOfRange {
                place: document.place(&span),
                key: "parameters".into(),
                got: "given a name that is empty".into(),
                expected: "sections [parameters.NAME]".into(),
            });
        }
        let section = Section::open_free(document, &all.full(name), Some(value))?;
        parameters.push(parameter(name, &section)?);
        check_source(&section, name, asked)?;
    }
    if asked.needs_prior() && parameters.is_empty() {
        return Err(
            root.missing("parameters", "a section [parameters.NAME] with a prior for every parameter")
        );
    }
    Ok(parameters)
}

fn parameter(name: &str, section: &Section<'_>) -> Result<ParameterSection, TaskError> {
    let kind = section.word("prior", WORDS)?.and_then(|word| KINDS.iter().find(|kind| kind.word == word));
    refuse_unknown(section, kind)?;
    let lower = section.number("lower", FINITE)?;
    let upper = section.number("upper", FINITE)?;
    if let (Some(lower), Some(upper)) = (lower, upper)
        && lower >= upper
    {
        return Err(section.refuse("upper", format!("a number above `lower`, which is {lower}")));
    }
    let prior = kind.map(|kind| prior(section, kind, lower, upper)).transpose()?;
    let support = prior.map(|prior| prior.support());
    let lower = support.map_or(lower, |support| support.lower);
    let upper = support.map_or(upper, |support| support.upper);
    let periodic = section.flag("periodic")?.unwrap_or(false);
    if periodic && (lower.is_none() || upper.is_none()) {
        return Err(section.conflict("periodic", "an open side", "`lower` and `upper` are one period apart"));
    }
    let edge = |key, bound: Option<f64>| {
        if section.get(key).is_some() && bound.is_none() {
            return Err(section.conflict(key, "a side without bound", "there is no edge to treat"));
        }
        if section.get(key).is_some() && periodic {
            return Err(section.conflict(key, "periodic = true", "a period has no edge"));
        }
        Ok(section.choice(key)?.unwrap_or(Edge::Auto))
    };
    let truth = section.number("truth", FINITE)?;
    if truth.is_some_and(|x| lower.is_some_and(|l| x <= l) || upper.is_some_and(|u| x >= u)) {
        return Err(section.refuse("truth", "a number between the bounds, on neither"));
    }
    Ok(ParameterSection {
        name: name.to_owned(),
        lower,
        upper,
        label: section.text("label")?,
        lower_edge: edge("lower_edge", lower)?,
        upper_edge: edge("upper_edge", upper)?,
        prior,
        periodic,
        offset: section.number("offset", FINITE)?,
        truth,
    })
}

/// Refuses keys that the section cannot have with this prior, the first in the file first.
fn refuse_unknown(section: &Section<'_>, kind: Option<&Kind>) -> Result<(), TaskError> {
    let valid = kind.map_or(PLAIN, |kind| kind.keys);
    for (_, key, _) in section.entries() {
        if valid.contains(&key) {
            continue;
        }
        let known = KEYS.contains(&key);
        if known && kind.is_none() {
            return Err(TaskError::Missing {
                place: section.place_of(key),
                key: section.full("prior"),
                expected: "the kind of prior to which the other keys belong",
            });
        }
        let synonym = SYNONYMS
            .iter()
            .filter(|group| group.contains(&key))
            .find_map(|group| group.iter().find(|word| valid.contains(word)));
        return Err(section.unknown(key, synonym.copied(), valid));
    }
    Ok(())
}

/// The prior of a section, checked.
fn prior(
    section: &Section<'_>,
    kind: &Kind,
    lower: Option<f64>,
    upper: Option<f64>,
) -> Result<Marginal, TaskError> {
    let need = |key: &str| section.number(key, FINITE)?.ok_or_else(|| section.missing(key, kind.needs));
    let bounds = || match (lower, upper) {
        (Some(lower), Some(upper)) => Ok((lower, upper)),
        _ => Err(section.conflict("prior", "an open side", kind.needs)),
    };
    let scale = || match (section.number("scale", FINITE)?, section.number("rate", FINITE)?) {
        (Some(_), Some(_)) => Err(section.conflict("rate", "`scale`", "one is the inverse of the other")),
        (None, Some(rate)) => Ok(1.0 / rate),
        (None, None) => Err(section.missing("scale", kind.needs)),
        (Some(scale), None) => Ok(scale),
    };
    let marginal = match kind.word {
        "uniform" => {
            let (lower, upper) = bounds()?;
            Marginal::Uniform { lower, upper }
        }
        "log_uniform" => {
            let (lower, upper) = bounds()?;
            Marginal::LogUniform { lower, upper }
        }
        "normal" => Marginal::Normal { mean: need("mean")?, sd: need("sd")? },
        "truncated_normal" => {
            let (mean, sd) = (need("mean")?, need("sd")?);
            if lower.is_none() && upper.is_none() {
                return Err(section.missing("lower", kind.needs));
            }
            Marginal::TruncatedNormal { mean, sd, lower, upper }
        }
        "lognormal" => Marginal::Lognormal { mu: need("mu")?, sigma: need("sigma")? },
        "half_normal" => Marginal::HalfNormal { sd: need("sd")? },
        "exponential" => Marginal::Exponential { scale: scale()? },
        "gamma" => Marginal::Gamma { shape: need("shape")?, scale: scale()? },
        "beta" => Marginal::Beta { alpha: need("alpha")?, beta: need("beta")? },
        _ => Marginal::StudentT { df: need("df")?, loc: need("loc")?, scale: need("scale")? },
    };
    marginal.check().map_err(|error| match error {
        HostError::Invalid { what, expected, .. } if section.get(&what).is_some() => {
            section.refuse(&what, expected)
        }
        HostError::Invalid { what, expected, .. } if what == "scale" => section.refuse("rate", expected),
        HostError::Invalid { got, expected, .. } => TaskError::OutOfRange {
            place: section.place_of("prior"),
            key: section.full("prior"),
            got,
            expected,
        },
        other => TaskError::OutOfRange {
            place: section.place_of("prior"),
            key: section.full("prior"),
            got: other.to_string(),
            expected: kind.needs.into(),
        },
    })?;
    Ok(marginal)
}
