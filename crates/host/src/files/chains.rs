//! Weighted chains as other tools write them: GetDist text chains, dead and live points with birth contours (PolyChord,
//! MultiNest), and points that a nested sampler has weighted itself (UltraNest, MultiNest). Invariant: whatever the format, the result is [`WeightedPairs`] with checked rows and a report of what was read, left
//! out, and how many independent draws it is worth.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::autocorrelation::autocorrelation_ess;
use super::chain_files::{Located, locate};
use super::chain_parameters::{Parameters, check_theta, parameters};
use super::dead_birth::read_dead_birth;
use super::error::FileError;
use super::nested::NestedReport;
use super::pairs::{Evidence, WeightKind, WeightedPairs};
use super::text::TextTable;
use super::weighted_points::read_weighted_points;

/// How to read chains.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChainSettings {
    /// Parameters to keep, in this order; `None`: all that are not derived (marked `*` in the .paramnames file).
    pub parameters: Option<Vec<String>>,
    /// Share of the rows to drop at the start of each Markov chain, in `[0, 1)`.
    pub burn_in: f64,
}

/// The families of chain files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainFormat {
    /// `root_1.txt`, ... or `root.1.txt`, ... or `root.txt`: weight, -log L (or -log posterior), parameters.
    GetDist,
    /// `root_dead-birth.txt` and `root_phys_live-birth.txt`: parameters, log L, birth log L.
    DeadBirth,
    /// `rootdead-birth.txt` (parameters, log L, birth log L, log weight, cluster) and `rootphys_live-birth.txt` (without the
    /// log weight); of versions before 3.12 `root.txt` (weight, -2 log L, parameters) and `rootstats.dat`.
    MultiNest,
    /// A folder with `chains/weighted_post.txt` (weight, log L, parameters) and `info/results.json`.
    UltraNest,
}

/// What is told of one Markov chain.
#[derive(Debug, Clone, PartialEq)]
pub struct SingleChainReport {
    /// The file.
    pub path: PathBuf,
    /// Rows in the file.
    pub n_read: usize,
    /// Rows dropped as burn-in.
    pub n_burn_in: usize,
    /// Sum of the weights of the rows kept.
    pub weight_sum: f64,
    /// Kish's effective sample size, which knows nothing of autocorrelation.
    pub kish_ess: f64,
    /// Effective sample size with autocorrelation, of the slowest parameter; `None` where it cannot be estimated.
    pub autocorrelation_ess: Option<f64>,
    /// The parameter that gave it.
    pub slowest_parameter: Option<String>,
}

/// What is told of a set of chains.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainReport {
    /// The family of files.
    pub format: ChainFormat,
    /// What their names begin with, or UltraNest's folder; `root.paramnames` and `root.ranges` lie there.
    pub root: PathBuf,
    /// All files read.
    pub files: Vec<PathBuf>,
    /// Kish's effective sample size of all rows together.
    pub kish_ess: f64,
    /// Sum over chains of the effective sample size with autocorrelation, for the parameter with the least; `None` for
    /// nested sampling, whose points are independent given their contours, and where no chain gives one.
    pub autocorrelation_ess: Option<f64>,
    /// One entry per Markov chain; empty for nested sampling.
    pub chains: Vec<SingleChainReport>,
    /// Points with birth contours only.
    pub nested: Option<NestedReport>,
}

/// Chains as pairs, and what is told of them.
#[derive(Debug, Clone)]
pub struct ChainSamples {
    /// The rows with their log weights.
    pub pairs: WeightedPairs,
    /// What was read.
    pub report: ChainReport,
    /// Run of consecutive rows that each row belongs to, `[n]`: each run lasts two autocorrelation times of its chain, so
    /// that rows of different runs hardly depend on each other. `None` for nested sampling.
    pub blocks: Option<Vec<u32>>,
}

/// The family of the files under a root, by their names alone.
///
/// # Errors
/// [`FileError::NoChain`], [`FileError::SeveralChains`], [`FileError::Io`].
pub fn chain_format(root: &Path) -> Result<ChainFormat, FileError> {
    Ok(locate(root)?.format)
}

/// Reads the chains under a root (`dir/run` for `dir/run_1.txt` ... or `dir/run_dead-birth.txt`), the one named file,
/// UltraNest's folder, or a folder with the chains of one root.
///
/// # Errors
/// [`FileError::NoChain`], [`FileError::SeveralChains`], [`FileError::BadSetting`], and any [`FileError`] of reading.
pub fn read_chains(root: &Path, settings: &ChainSettings) -> Result<ChainSamples, FileError> {
    if !(0.0..1.0).contains(&settings.burn_in) {
        let (got, expected) = (settings.burn_in.to_string(), "a share of at least 0 and below 1");
        return Err(FileError::BadSetting { name: "burn_in", got, expected });
    }
    let located = locate(root)?;
    if located.format != ChainFormat::GetDist && settings.burn_in != 0.0 {
        let (got, expected) = (settings.burn_in.to_string(), "0 for nested sampling, which has no burn-in");
        return Err(FileError::BadSetting { name: "burn_in", got, expected });
    }
    match (located.format, &located.summary) {
        (ChainFormat::GetDist, _) => read_getdist(&located, settings),
        (_, None) => read_dead_birth(&located, settings),
        (_, Some(summary)) => read_weighted_points(&located, summary, settings),
    }
}

pub(super) fn same_width(table: &TextTable, width: usize, first: &Path) -> Result<(), FileError> {
    if table.width == width {
        return Ok(());
    }
    let expected = format!("{width} as in {}", first.display());
    let (path, line) = (table.path.clone(), table.lines[0]);
    Err(FileError::WrongWidth { path, line, got: table.width, expected })
}

fn kish(weights: impl Iterator<Item = f64> + Clone) -> f64 {
    // In units of the largest, so that no square leaves the range of numbers.
    let max = weights.clone().fold(0.0, f64::max);
    let sum: f64 = weights.clone().map(|w| w / max).sum();
    sum * sum / weights.map(|w| (w / max).powi(2)).sum::<f64>()
}

fn read_getdist(located: &Located, settings: &ChainSettings) -> Result<ChainSamples, FileError> {
    const FIRST: usize = 2; // columns before the parameters
    let mut p: Option<(Parameters, usize)> = None;
    let (mut theta, mut weights, mut chains) = (Vec::new(), Vec::new(), Vec::new());
    let mut ess_sums: Vec<Option<f64>> = Vec::new(); // [dim], over chains
    let mut blocks: Vec<u32> = Vec::new();
    for path in &located.files {
        let table = TextTable::read(path)?;
        table.check_width(FIRST + 1, "at least 3: weight, -log L (or -log posterior), parameters")?;
        let (p, width) = match &mut p {
            Some(known) => known,
            None => {
                let header = table.header.get(FIRST..).unwrap_or_default();
                let found = parameters(located, header, table.width - FIRST, settings)?;
                ess_sums = vec![None; found.names.len()];
                p.insert((found, table.width))
            }
        };
        same_width(&table, *width, &located.files[0])?;
        let n_burn_in = (settings.burn_in * table.n as f64).floor() as usize;
        let (theta_start, start) = (theta.len(), weights.len());
        for row in 0..table.n {
            let values = table.row(row);
            if !(values[0].is_finite() && values[0] >= 0.0) {
                let expected = "a finite number >= 0";
                return Err(table.bad_value(row, "weight".to_owned(), values[0], expected, FIRST..*width));
            }
            if values[1].is_nan() || values[1] == f64::NEG_INFINITY {
                let field = "-log L (second column)".to_owned();
                return Err(table.bad_value(row, field, values[1], "a finite number or +inf", FIRST..*width));
            }
            check_theta(&table, row, FIRST..*width, p)?;
            if row >= n_burn_in {
                weights.push(values[0]);
                theta.extend(p.columns.iter().map(|column| values[FIRST + column]));
            }
        }
        let kept = &weights[start..];
        let ess = autocorrelation_ess(&theta[theta_start..], p.names.len(), kept);
        let slowest =
            (0..ess.len()).filter_map(|j| ess[j].map(|e| (e, j))).min_by(|a, b| a.0.total_cmp(&b.0));
        push_blocks(&mut blocks, kept.len(), slowest.map(|(e, _)| e), located.files.len());
        for (sum, ess) in ess_sums.iter_mut().zip(&ess) {
            *sum = ess.map(|e| sum.unwrap_or(0.0) + e).or(*sum);
        }
        let weight_sum: f64 = kept.iter().sum();
        chains.push(SingleChainReport {
            path: path.clone(),
            n_read: table.n,
            n_burn_in,
            weight_sum,
            kish_ess: if weight_sum > 0.0 { kish(kept.iter().copied()) } else { 0.0 },
            autocorrelation_ess: slowest.map(|(e, _)| e),
            slowest_parameter: slowest.map(|(_, j)| p.names[j].clone()),
        });
    }
    let Some((mut p, _)) = p else {
        return Err(FileError::NoChain { root: located.root.clone(), looked_for: Vec::new() });
    };
    if weights.iter().all(|w| *w == 0.0) {
        let (path, n) = (located.files[0].clone(), weights.len());
        return Err(FileError::AllWeightsZero { path, n, field: "weight", value: "0" });
    }
    let autocorrelation = ess_sums.iter().flatten().copied().min_by(f64::total_cmp);
    let mut notes = std::mem::take(&mut p.notes);
    if settings.burn_in == 0.0 {
        notes.push("no burn-in was dropped".to_owned());
    } else {
        let dropped: usize = chains.iter().map(|c| c.n_burn_in).sum();
        notes.push(format!("{dropped} rows of {} chains were dropped as burn-in", chains.len()));
    }
    notes.push("weights of a Markov chain give no evidence: log Z is null".to_owned());
    let pairs = pairs(p, theta, weights.iter().map(|w| w.ln()).collect(), WeightKind::Chain, notes);
    let report = ChainReport {
        format: ChainFormat::GetDist,
        root: located.root.clone(),
        files: located.files.clone(),
        kish_ess: kish(weights.iter().copied()),
        autocorrelation_ess: autocorrelation,
        chains,
        nested: None,
    };
    Ok(ChainSamples { pairs, report, blocks: Some(blocks) })
}

/// Fewer blocks cannot be split into training and validation.
const MIN_BLOCKS: usize = 8;

/// Appends the blocks of `n` rows of one of `n_chains` chains: two autocorrelation times each, though at least
/// [`MIN_BLOCKS`] over all chains together.
fn push_blocks(blocks: &mut Vec<u32>, n: usize, ess: Option<f64>, n_chains: usize) {
    let first = blocks.last().map_or(0, |b| b + 1);
    let wanted = (ess.unwrap_or(0.0) / 2.0) as usize;
    let n_blocks = wanted.max(MIN_BLOCKS.div_ceil(n_chains)).clamp(1, n.max(1));
    blocks.extend((0..n).map(|i| first + (i as u128 * n_blocks as u128 / n as u128) as u32));
}

pub(super) fn pairs(
    parameters: Parameters,
    theta: Vec<f64>,
    log_weights: Vec<f64>,
    kind: WeightKind,
    notes: Vec<String>,
) -> WeightedPairs {
    WeightedPairs {
        n: log_weights.len(),
        dim: parameters.names.len(),
        names: parameters.names,
        labels: parameters.labels,
        theta,
        context_names: Vec::new(),
        context: Vec::new(),
        context_dim: 0,
        kind,
        log_weights,
        evidence: Evidence::Unavailable,
        log_likelihood: None,
        log_prior: None,
        log_proposal: None,
        notes,
    }
}
