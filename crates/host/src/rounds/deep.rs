//! The deep part of the scan of the prior: draws by the million, of which only the sums of every block and the best by
//! log L are kept. Invariant: what is kept depends on the draws alone, not on how they were cut into pieces, where they were
//! evaluated or how often the scan was broken off.

use super::evaluator::{Evaluator, PIECE, Pieces};
use super::journal::Journal;
use crate::HostError;
use crate::likelihood::{Evaluations, Likelihood, PriorScan, is_legal};
use crate::prior::{Prior, transform_rows};
use crate::rng::{SOBOL_BLOCK, SOBOL_MAX_DIM, sobol_key, sobol_rows};
use crate::weights::log_sum_exp;
use lwflow_engine::{BlockSums, ScanDraw, Scanned};
use rayon::prelude::*;
use serde::Serialize;
use std::cell::RefCell;
use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

/// Draws of a scan that are kept one by one before it goes deep.
const WHOLE: usize = 12 * SOBOL_BLOCK;
/// Most draws that are kept of those that come after.
const KEPT: usize = 50_000;
/// Most blocks of one piece.
const MAX_PIECE: u32 = 1 << 14;
/// How often the journal hears of a scan that goes on: with a piece of it less than a second.
const SAVE: Duration = Duration::from_millis(400);
/// First bytes of a deep scan in a file.
const MAGIC: &[u8; 8] = b"lwflodp1";

/// A scan of `n_scan` draws in its two parts: draws that are kept one by one, and blocks of the deep part.
pub(super) fn parts(n_scan: usize) -> (usize, usize) {
    let n_blocks = n_scan.saturating_sub(WHOLE) / SOBOL_BLOCK;
    (n_scan - n_blocks * SOBOL_BLOCK, n_blocks)
}

/// What is left of the blocks of a deep scan that are done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeepScan {
    first: u32,
    blocks: Vec<BlockSums>,
    /// The best draws, one more than are kept, by falling log L, then by place.
    best: Vec<ScanDraw>,
}

/// A deep scan in figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DeepScanReport {
    /// Its draws.
    pub n: usize,
    /// Of these, the ones that were kept: all whose log L is above `threshold`.
    pub n_kept: usize,
    /// Largest log L that was not kept; null if every draw with any likelihood was.
    pub threshold: Option<f64>,
    /// Share of the evidence, by the whole scan, at or below the threshold and not in points that were kept.
    pub share_below: f64,
    /// Whether draws and log L stayed where the likelihood runs.
    pub on_device: bool,
    /// Draws per second of those made by this process.
    pub draws_per_second: Option<f64>,
}

impl DeepScan {
    /// One of no blocks that begins with block `first`.
    fn new(first: u32) -> Self {
        Self { first, ..Self::default() }
    }

    /// Draws.
    pub fn n(&self) -> usize {
        self.blocks.len() * SOBOL_BLOCK
    }

    /// Sums of its blocks.
    pub(super) fn blocks(&self) -> &[BlockSums] {
        &self.blocks
    }

    /// The largest log L that is not kept.
    pub(super) fn threshold(&self) -> f64 {
        self.best.get(KEPT).map_or(f64::NEG_INFINITY, |draw| draw.log_likelihood)
    }

    /// The draws with log L above the threshold, in order of their places.
    pub(super) fn kept(&self) -> Vec<ScanDraw> {
        let threshold = self.threshold();
        let mut kept: Vec<ScanDraw> =
            self.best.iter().copied().filter(|draw| draw.log_likelihood > threshold).collect();
        kept.sort_by_key(|draw| (draw.block, draw.row));
        kept
    }

    fn absorb(&mut self, scanned: Scanned) {
        self.blocks.extend(scanned.blocks);
        if !scanned.kept.is_empty() {
            self.best.extend(scanned.kept);
            self.best.sort_by(|a, b| {
                let by_value = b.log_likelihood.total_cmp(&a.log_likelihood);
                by_value.then_with(|| (a.block, a.row).cmp(&(b.block, b.row)))
            });
            self.best.truncate(KEPT + 1);
        }
    }

    /// Share of the scan's evidence that no point of the pool stands for; `whole` are the log L of its draws that are kept one
    /// by one.
    pub(super) fn share_below(&self, whole: &[f64]) -> f64 {
        let deep = self.blocks.iter().map(|block| block.log_sum);
        let kept = self.kept().into_iter().map(|draw| draw.log_likelihood);
        let all: Vec<f64> = whole.iter().copied().chain(deep).collect();
        let seen: Vec<f64> = whole.iter().copied().chain(kept).collect();
        (1.0 - (log_sum_exp(&seen) - log_sum_exp(&all)).exp()).max(0.0)
    }

    /// As bytes, with a checksum.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut content = self.first.to_le_bytes().to_vec();
        content.extend((self.blocks.len() as u64).to_le_bytes());
        for block in &self.blocks {
            content.extend(block.log_sum.to_le_bytes());
            content.extend(block.log_sum_squares.to_le_bytes());
        }
        for draw in &self.best {
            content.extend(draw.block.to_le_bytes());
            content.extend(draw.row.to_le_bytes());
            content.extend(draw.log_likelihood.to_le_bytes());
        }
        [&MAGIC[..], &crc32fast::hash(&content).to_le_bytes(), &content].concat()
    }

    /// From [`DeepScan::to_bytes`]; `None` if these are not the bytes that were written, or say what no scan leaves.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (check, content) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*check) != crc32fast::hash(content) {
            return None;
        }
        let (first, content) = content.split_first_chunk::<4>()?;
        let (n_blocks, content) = content.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*n_blocks)).ok()?.checked_mul(16)?;
        let (blocks, best) = content.split_at_checked(length)?;
        let words = |row: &[u8; 16]| {
            let (a, b) = row.split_first_chunk::<8>()?;
            Some((*a, f64::from_le_bytes(*b.first_chunk::<8>()?)))
        };
        let blocks = blocks.as_chunks::<16>().0.iter().map(|row| {
            let (sum, log_sum_squares) = words(row)?;
            Some(BlockSums { log_sum: f64::from_le_bytes(sum), log_sum_squares })
        });
        let (best, []) = best.as_chunks::<16>() else { return None };
        let best = best.iter().map(|row| {
            let (place, log_likelihood) = words(row)?;
            let place = u64::from_le_bytes(place);
            Some(ScanDraw { block: place as u32, row: (place >> 32) as u32, log_likelihood })
        });
        let scan = Self {
            first: u32::from_le_bytes(*first),
            blocks: blocks.collect::<Option<_>>()?,
            best: best.collect::<Option<_>>()?,
        };
        scan.is_possible().then_some(scan)
    }

    /// Whether its numbers are those that a scan leaves: a checksum can be made to fit any.
    fn is_possible(&self) -> bool {
        let sums = self.blocks.iter().all(|b| is_legal(b.log_sum) && is_legal(b.log_sum_squares));
        let draws = self.best.iter().all(|draw| {
            let block = draw.block.checked_sub(self.first).map(|block| block as usize);
            let is_there = block.is_some_and(|block| block < self.blocks.len());
            is_there && (draw.row as usize) < SOBOL_BLOCK && draw.log_likelihood.is_finite()
        });
        let falling = self.best.is_sorted_by(|a, b| a.log_likelihood >= b.log_likelihood);
        sums && draws && falling && self.best.len() <= KEPT + 1
    }
}

/// Theta of `draws`, `[n, D]`.
pub(super) fn theta(prior: &dyn Prior, seed: u64, draws: &[ScanDraw]) -> Vec<f64> {
    let d = prior.dim();
    let mut theta = vec![0.0; draws.len() * d];
    theta.par_chunks_exact_mut(d).zip(draws).with_min_len(256).for_each_init(
        || vec![0.0; d],
        |u, (theta, draw)| {
            sobol_rows(seed, draw.block, draw.row, d, u);
            prior.prior_transform(u, theta);
        },
    );
    theta
}

/// The scan of a likelihood that has none of its own: block after block is drawn here. A block can take long, and is kept
/// piece by piece.
struct HostScan<'a, 'j> {
    prior: &'a dyn Prior,
    seed: u64,
    likelihood: &'a mut dyn Likelihood,
    journal: &'a RefCell<&'j mut dyn Journal>,
    pieces: Pieces,
}

impl PriorScan for HostScan<'_, '_> {
    fn blocks(
        &mut self,
        first: u32,
        n: u32,
        threshold: f64,
        go_on: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<Scanned>, HostError> {
        let (d, m) = (self.prior.dim(), self.likelihood.derived_names().len());
        let mut scanned = Scanned::default();
        let mut u = vec![0.0; SOBOL_BLOCK * d];
        for block in first..first + n {
            sobol_rows(self.seed, block, 0, d, &mut u);
            let theta = transform_rows(self.prior, &u);
            let before = scanned.blocks.len() * SOBOL_BLOCK;
            let log_likelihood = self.journal.borrow_mut().deep_block(block)?;
            // A scan has no use for derived quantities.
            let derived = vec![f64::NAN; log_likelihood.len() * m];
            let mut out = Evaluations { log_likelihood, derived };
            let mut keep = |kept: Range<usize>, out: &Evaluations| {
                // A block that is done at once is soon in the scan's own file.
                if kept.len() == SOBOL_BLOCK {
                    return Ok(());
                }
                self.journal.borrow_mut().keep_deep_block(block, kept.start, &out.log_likelihood[kept])
            };
            self.pieces.evaluate(&mut *self.likelihood, &theta, &mut out, &mut keep, &mut |done| {
                go_on(before + done)
            })?;
            if out.log_likelihood.len() < SOBOL_BLOCK {
                return Ok(None);
            }
            scanned.push(block, out.log_likelihood.into_iter(), threshold);
        }
        Ok(Some(scanned))
    }
}

/// A deep scan and how it was made.
pub(super) struct DeepScanned {
    pub(super) scan: DeepScan,
    pub(super) on_device: bool,
    /// Draws made by this process, and the seconds they took.
    pub(super) made: (usize, f64),
}

impl DeepScanned {
    /// In figures; `whole` are the log L of the draws of the scan that are kept one by one.
    pub(super) fn report(&self, whole: &[f64]) -> DeepScanReport {
        let Self { scan, on_device, made } = self;
        DeepScanReport {
            n: scan.n(),
            n_kept: scan.kept().len(),
            threshold: Some(scan.threshold()).filter(|t| t.is_finite()),
            share_below: scan.share_below(whole),
            on_device: *on_device,
            draws_per_second: (made.1 > 0.0).then(|| made.0 as f64 / made.1),
        }
    }
}

impl Evaluator<'_> {
    /// Scans blocks `first..first + n_blocks`, or goes on where the journal broke off; `go_on` hears how many draws are done,
    /// and may stop.
    ///
    /// # Errors
    /// Those of the likelihood and of the journal.
    pub(super) fn deep_scan(
        &mut self,
        prior: &dyn Prior,
        seed: u64,
        (first, n_blocks): (u32, usize),
        go_on: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<DeepScanned, HostError> {
        let mut scan = self.journal.deep_scan()?.unwrap_or_else(|| DeepScan::new(first));
        if scan.first != first || scan.blocks.len() > n_blocks {
            return Err(HostError::invalid(
                "the deep scan that the journal holds",
                format!("of {} blocks from block {} on", scan.blocks.len(), scan.first),
                format!("one of at most {n_blocks} from block {first} on"),
            ));
        }
        let shorter: &mut dyn Journal = &mut *self.journal;
        let journal = RefCell::new(shorter);
        let (mut run, on_device) = scan_of(&mut *self.likelihood, &journal, prior, seed)?;
        let (mut saved, mut made) = (Instant::now(), (0, 0.0));
        let mut size = 1;
        while scan.blocks.len() < n_blocks {
            let done = scan.n();
            let next = first + scan.blocks.len() as u32;
            let n = size.min((n_blocks - scan.blocks.len()) as u32);
            let start = Instant::now();
            let mut broke = false;
            let scanned = run.blocks(next, n, scan.threshold(), &mut |n| {
                let answer = go_on(done + n);
                broke |= answer.is_break();
                answer
            })?;
            let took = start.elapsed();
            let Some(scanned) = scanned else { break };
            if let Some(draw) = scanned.illegal {
                return Err(HostError::BadLogValue {
                    what: "log_likelihood",
                    row: draw.block as usize * SOBOL_BLOCK + draw.row as usize,
                    value: draw.log_likelihood,
                    theta: theta(prior, seed, &[draw]),
                    expected: "a finite number or -inf",
                });
            }
            scan.absorb(scanned);
            made = (made.0 + n as usize * SOBOL_BLOCK, made.1 + took.as_secs_f64());
            if took < PIECE / 2 {
                size = (size * 2).min(MAX_PIECE);
            } else if took > PIECE * 2 {
                size = (size / 2).max(1);
            }
            if saved.elapsed() > SAVE {
                journal.borrow_mut().keep_deep_scan(&scan)?;
                saved = Instant::now();
            }
            if broke || go_on(scan.n()).is_break() {
                break;
            }
        }
        drop(run);
        if made.0 > 0 {
            self.journal.keep_deep_scan(&scan)?;
        }
        self.n += scan.n();
        self.made = (self.made.0 + made.0, self.made.1 + made.1);
        Ok(DeepScanned { scan, on_device, made })
    }
}

/// The likelihood's own scan, if it has one for this prior, or that of the host.
fn scan_of<'a, 'j>(
    likelihood: &'a mut dyn Likelihood,
    journal: &'a RefCell<&'j mut dyn Journal>,
    prior: &'a dyn Prior,
    seed: u64,
) -> Result<(Box<dyn PriorScan + 'a>, bool), HostError>
where
    'j: 'a,
{
    if let Some(marginals) = prior.marginals().filter(|marginals| marginals.len() <= SOBOL_MAX_DIM)
        && let Some(scan) = likelihood.prior_scan(marginals, sobol_key(seed))?
    {
        return Ok((scan, true));
    }
    let pieces = Pieces::new(likelihood);
    Ok((Box::new(HostScan { prior, seed, likelihood, journal, pieces }), false))
}

#[cfg(test)]
mod tests;
