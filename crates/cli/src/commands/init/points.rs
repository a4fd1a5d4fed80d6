//! A task from a pairs file or a chain: what the files say, and what their points let one guess.

use super::guess::{self, Components, Marginal};
use super::text::line;
use crate::exit::CommandError;
use crate::source::format_of;
use lwflow_host::files::{
    ChainFormat, ChainSettings, ColumnChoice, Range, WeightKind, WeightedPairs, chain_format, ranges_file,
    read_chains, read_pairs, read_ranges,
};
use lwflow_host::fit::FitInput;
use lwflow_host::outer::Support;
use std::path::Path;

/// Fewest effective points whose number of Gaussians is guessed.
const LEAST_ESS: f64 = 50.0;

/// What is known of an end of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// A file gives it: the bound and the file's name.
    Given(f64, String),
    /// A file gives it, but points with weight lie on or outside the bounds.
    Refuted {
        /// The bound.
        bound: f64,
        /// The file's name.
        file: String,
        /// How many points.
        n: usize,
    },
    /// The draws from the prior end there.
    Draws(f64),
    /// Weighted mass piles up there.
    Mass(f64),
    /// Nothing ends there.
    Open,
    /// Too few effective points to see an end.
    Unclear,
}

impl End {
    fn bound(&self) -> Option<f64> {
        match self {
            Self::Given(bound, _) | Self::Draws(bound) | Self::Mass(bound) => Some(*bound),
            Self::Refuted { .. } | Self::Open | Self::Unclear => None,
        }
    }
}

/// One parameter.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Name.
    pub name: String,
    /// Label, where the file has one.
    pub label: Option<String>,
    /// Least and largest weighted value.
    pub ends: (f64, f64),
    /// Lower end of the support.
    pub lower: End,
    /// Upper end of the support.
    pub upper: End,
    /// Whether the bounds are the same point.
    pub is_periodic: bool,
    /// Whether it is left out because it has no spread.
    pub is_left_out: bool,
}

/// Everything that is known of points.
#[derive(Debug)]
pub struct PointsGuess {
    /// In the order of the file.
    pub parameters: Vec<Parameter>,
    /// The points as a mixture; `None` if there are too few.
    pub components: Option<Components>,
    /// What the points are, in words.
    pub words: String,
    /// Lines of the section [likelihood] besides the source.
    pub more: String,
}

/// What the points of a pairs file say.
///
/// # Errors
/// Those of reading, with file, row and field.
pub fn of_pairs(path: &Path, parameters: Option<Vec<String>>) -> Result<PointsGuess, CommandError> {
    let pairs = read_pairs(path, &ColumnChoice { parameters, context: None }, None)?;
    let columns_have_names = path.extension() != Some("npz".as_ref());
    guess(pairs, None, None, String::new(), columns_have_names)
}

/// What the points of a chain say, and the bounds in the file root.ranges if there is one.
///
/// # Errors
/// Those of reading, with file, row and field.
pub fn of_chain(root: &Path, parameters: Option<Vec<String>>) -> Result<PointsGuess, CommandError> {
    let format = chain_format(root)?;
    let burn_in = if format == ChainFormat::GetDist { 0.3 } else { 0.0 };
    let samples = read_chains(root, &ChainSettings { parameters, burn_in })?;
    let ranges = ranges_file(&samples.report.root);
    let ranges =
        ranges.is_file().then(|| Ok::<_, CommandError>((read_ranges(&ranges)?, ranges))).transpose()?;
    let named = ranges.as_ref().map(|(ranges, file)| {
        (ranges.as_slice(), file.file_name().unwrap_or_default().to_string_lossy().into_owned())
    });
    let mut more = format!("format = {:?}\n", format_of(format).word());
    if format == ChainFormat::GetDist {
        let burn_in = format!("burn_in = {burn_in:?}");
        more.push_str(&line(&burn_in, "share dropped at the start of each chain; 0.0 if that is done"));
    }
    guess(samples.pairs, samples.report.autocorrelation_ess, named, more, true)
}

fn guess(
    pairs: WeightedPairs,
    effective: Option<f64>,
    ranges: Option<(&[Range], String)>,
    more: String,
    may_leave_out: bool,
) -> Result<PointsGuess, CommandError> {
    let (n, kish, kind) = (pairs.n, pairs.ess(), pairs.kind);
    let ess = effective.map_or(kish, |known| known.min(kish));
    let weights = pairs.weights();
    let mut input = FitInput {
        names: pairs.names,
        labels: pairs.labels,
        theta: pairs.theta,
        log_weights: pairs.log_weights,
        effective,
        ..FitInput::default()
    };
    let (d, equal) = (input.names.len(), vec![1.0; n]);
    let mut parameters = Vec::with_capacity(d);
    for j in 0..d {
        let values = || input.theta.iter().skip(j).step_by(d).copied();
        let weighted = Marginal::new(values(), &weights, ess);
        let from_prior = matches!(kind, WeightKind::PriorDraws | WeightKind::JointDraws);
        let drawn = from_prior.then(|| Marginal::new(values(), &equal, n as f64));
        let given = ranges.as_ref().and_then(|(ranges, file)| {
            Some((ranges.iter().find(|r| r.name == input.names[j])?, file.as_str()))
        });
        let (name, label) = (input.names[j].clone(), input.labels[j].clone());
        parameters.push(parameter(name, label, &weighted, drawn.as_ref(), given, may_leave_out));
    }
    // The mixture is that of the parameters and bounds which the task will have.
    let kept: Vec<usize> = (0..d).filter(|j| !parameters[*j].is_left_out).collect();
    let rows = input.theta.chunks_exact(d);
    input.theta = rows.flat_map(|row| kept.iter().map(|j| row[*j])).collect();
    input.names = kept.iter().map(|j| input.names[*j].clone()).collect();
    input.labels = kept.iter().map(|j| input.labels[*j].clone()).collect();
    input.supports = kept.iter().map(|j| support(&parameters[*j])).collect();
    let are_enough = ess >= LEAST_ESS && !kept.is_empty();
    let components = are_enough.then(|| guess::components(&input, 0)).transpose()?;
    let words = format!("{n} rows, effective sample size {ess:.0}");
    Ok(PointsGuess { parameters, components, words, more })
}

fn support(parameter: &Parameter) -> Support {
    Support {
        lower: parameter.lower.bound(),
        upper: parameter.upper.bound(),
        periodic: parameter.is_periodic,
        ..Support::default()
    }
}

fn parameter(
    name: String,
    label: String,
    weighted: &Marginal,
    drawn: Option<&Marginal>,
    given: Option<(&Range, &str)>,
    may_leave_out: bool,
) -> Parameter {
    let ends = weighted.ends();
    let label = Some(label).filter(|label| *label != name);
    let is_left_out = may_leave_out && ends.0 == ends.1;
    let (lower, upper, is_periodic) = match given {
        Some((range, file)) => {
            let n = weighted.n_outside(range.lower, range.upper);
            let end = |bound: Option<f64>| match bound {
                None => End::Open,
                Some(bound) if n > 0 => End::Refuted { bound, file: file.to_owned(), n },
                Some(bound) => End::Given(bound, file.to_owned()),
            };
            let closed = range.lower.is_some() && range.upper.is_some();
            (end(range.lower), end(range.upper), range.periodic && closed && n == 0)
        }
        None => {
            let (least, largest) = drawn.map_or((f64::NAN, f64::NAN), Marginal::ends);
            let none = if weighted.shows_ends() { End::Open } else { End::Unclear };
            let lower = observed(weighted.lower(), drawn.and_then(Marginal::lower), |mass| mass > least)
                .unwrap_or(none.clone());
            let upper = observed(weighted.upper(), drawn.and_then(Marginal::upper), |mass| mass < largest)
                .unwrap_or(none);
            (lower, upper, false)
        }
    };
    Parameter { name, label, ends, lower, upper, is_periodic, is_left_out }
}

/// An end from where mass piles up and where the draws from the prior end; the former counts if it lies inside of the latter,
/// because then it is an edge of the likelihood.
fn observed(mass: Option<f64>, draws: Option<f64>, is_inside: impl Fn(f64) -> bool) -> Option<End> {
    match (mass, draws) {
        (Some(mass), Some(_)) if is_inside(mass) => Some(End::Mass(mass)),
        (_, Some(draws)) => Some(End::Draws(draws)),
        (mass, None) => mass.map(End::Mass),
    }
}
