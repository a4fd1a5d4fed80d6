//! A run in a folder: `run.json` says what run it is, `evaluations.log` grows by a checked block several times a second,
//! `scan.deep` is replaced whole several times a second of a deep scan, `scan.block` grows with the block of it that is being
//! evaluated, `round_N.flow` appears whole after each training.
//! Invariant: a block or file with a wrong checksum is never used; the last block may be torn by a crash and is then dropped,
//! all else that does not check is refused.

use super::deep::DeepScan;
use super::journal::Journal;
use crate::HostError;
use crate::likelihood::{Evaluations, is_legal};
use crate::model_file::{ModelFileError, Precision, model_bytes, parse_model, write_atomically};
use crate::posterior::Posterior;
use crate::rng::SOBOL_BLOCK;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What makes a run the run it is: names of properties (task, seed, device, ...) and their values.
pub type Identity = BTreeMap<String, String>;

/// Version of the files.
const FORMAT_VERSION: u32 = 2;
/// First bytes of the log; then D and M as u64.
const LOG_MAGIC: &[u8; 8] = b"lwfloev1";
/// First bytes of the flow of a round; then a checksum, and a model file.
const FLOW_MAGIC: &[u8; 8] = b"lwflofl1";
/// Most rows of a block.
const MAX_BLOCK: usize = 65_536;
const MANIFEST: &str = "run.json";
const LOG: &str = "evaluations.log";
const DEEP_SCAN: &str = "scan.deep";
/// Parts of one block of a deep scan: its number, the first draw, a count and a checksum, all u32, then log L.
const DEEP_BLOCK: &str = "scan.block";

/// What can go wrong with the files of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// There is no run to go on with.
    #[error("{}: there is no run to resume", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// There is a run already.
    #[error("{}: there is an unfinished run; resume it, or replace it by force", path.display())]
    HasRun {
        /// The folder.
        path: PathBuf,
    },
    /// Another process writes there.
    #[error("{}: in use by another run", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Written by another version.
    #[error("{}: format version {got}, expected {FORMAT_VERSION}: finish the run with the lwflow that began it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        got: u32,
    },
    /// Not what was written.
    #[error("{}: damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The run was begun with something else.
    #[error("{}: the run was begun with {property} {was}, now it is {now}", path.display())]
    OtherRun {
        /// The file.
        path: PathBuf,
        /// What differs.
        property: String,
        /// Its value then.
        was: String,
        /// Its value now.
        now: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format_version: u32,
    identity: Identity,
}

/// A run in a folder.
#[derive(Debug)]
pub struct FolderJournal {
    folder: PathBuf,
    log: File,
    dim: usize,
    n_derived: usize,
    /// Rows of the log: theta, log L, derived quantities, `[n, D + 1 + M]`.
    rows: Vec<f64>,
}

impl FolderJournal {
    /// Begins a run of `dim` parameters and `n_derived` derived quantities in `folder`, which is made if it is not there.
    /// With `replace`, an unfinished run there is removed.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn begin(
        folder: &Path,
        identity: &Identity,
        dim: usize,
        n_derived: usize,
        replace: bool,
    ) -> Result<Self, JournalError> {
        std::fs::create_dir_all(folder).map_err(io(folder, "create"))?;
        let path = folder.join(LOG);
        if path.exists() && !replace {
            return Err(JournalError::HasRun { path: folder.into() });
        }
        let mut log = open(&path, true)?;
        let flows = (1..).map(|round| flow_path(folder, round)).take_while(|path| path.exists());
        let scan =
            [DEEP_SCAN, DEEP_BLOCK].map(|name| folder.join(name)).into_iter().filter(|path| path.exists());
        for path in flows.chain(scan) {
            std::fs::remove_file(&path).map_err(io(&path, "remove"))?;
        }
        let manifest = Manifest { format_version: FORMAT_VERSION, identity: identity.clone() };
        let path_of_manifest = folder.join(MANIFEST);
        let json = serde_json::to_vec_pretty(&manifest).map_err(|e| damaged(&path_of_manifest, e))?;
        write_atomically(&path_of_manifest, &json).map_err(io(&path_of_manifest, "write"))?;
        let mut head = LOG_MAGIC.to_vec();
        head.extend((dim as u64).to_le_bytes());
        head.extend((n_derived as u64).to_le_bytes());
        log.set_len(0)
            .and_then(|()| log.seek(SeekFrom::Start(0)))
            .and_then(|_| log.write_all(&head))
            .and_then(|()| log.sync_all())
            .map_err(io(&path, "write"))?;
        Ok(Self { folder: folder.into(), log, dim, n_derived, rows: Vec::new() })
    }

    /// Goes on with the run in `folder`.
    ///
    /// # Errors
    /// [`JournalError`]; [`JournalError::OtherRun`] names the first property that differs.
    pub fn resume(
        folder: &Path,
        identity: &Identity,
        dim: usize,
        n_derived: usize,
    ) -> Result<Self, JournalError> {
        let path = folder.join(MANIFEST);
        let bytes = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(JournalError::NoRun { path: folder.into() });
            }
            other => other.map_err(io(&path, "read"))?,
        };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| damaged(&path, e))?;
        if manifest.format_version != FORMAT_VERSION {
            return Err(JournalError::Version { path, got: manifest.format_version });
        }
        let none = "not given".to_owned();
        for property in manifest.identity.keys().chain(identity.keys()) {
            let was = manifest.identity.get(property).unwrap_or(&none);
            let now = identity.get(property).unwrap_or(&none);
            if was != now {
                let (property, was, now) = (property.clone(), was.clone(), now.clone());
                return Err(JournalError::OtherRun { path, property, was, now });
            }
        }
        let path = folder.join(LOG);
        let mut log = open(&path, false)?;
        let rows = read_log(&path, &mut log, dim, n_derived)?;
        Ok(Self { folder: folder.into(), log, dim, n_derived, rows })
    }

    /// Evaluations that the log holds.
    pub fn n_evaluations(&self) -> usize {
        self.rows.len() / self.width()
    }

    fn width(&self) -> usize {
        self.dim + 1 + self.n_derived
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join(LOG)
    }
}

impl Journal for FolderJournal {
    fn recall(&mut self, first: usize, theta: &[f64], out: &mut Evaluations) -> Result<(), HostError> {
        let (d, width) = (self.dim, self.width());
        let rows = self.rows.chunks_exact(width).skip(first);
        for (i, (row, theta)) in rows.zip(theta.chunks_exact(d)).enumerate() {
            if row[..d].iter().zip(theta).any(|(a, b)| a.to_bits() != b.to_bits()) {
                return Err(JournalError::OtherRun {
                    path: self.log_path(),
                    property: format!("evaluation {}", first + i),
                    was: format!("at theta {:?}", &row[..d]),
                    now: format!("at theta {theta:?}"),
                }
                .into());
            }
            out.log_likelihood.push(row[d]);
            out.derived.extend_from_slice(&row[d + 1..]);
        }
        Ok(())
    }

    fn record(
        &mut self,
        first: usize,
        theta: &[f64],
        log_likelihood: &[f64],
        derived: &[f64],
    ) -> Result<(), HostError> {
        let (d, m, path) = (self.dim, self.n_derived, self.log_path());
        if first != self.n_evaluations() {
            let reason = format!("evaluation {first} would follow {} evaluations", self.n_evaluations());
            return Err(damaged(&path, reason).into());
        }
        let start = self.rows.len();
        for (i, log_l) in log_likelihood.iter().enumerate() {
            self.rows.extend_from_slice(&theta[i * d..][..d]);
            self.rows.push(*log_l);
            self.rows.extend_from_slice(&derived[i * m..][..m]);
        }
        let width = self.width();
        for block in self.rows[start..].chunks(MAX_BLOCK * width) {
            let count = (block.len() / width) as u32;
            let mut bytes = [count.to_le_bytes(), (!count).to_le_bytes()].concat();
            bytes.extend(block.iter().flat_map(|v| v.to_le_bytes()));
            let check = crc32fast::hash(&bytes);
            bytes.extend(check.to_le_bytes());
            self.log.write_all(&bytes).map_err(io(&path, "write"))?;
        }
        // A piece takes a good part of a second, or else there are few of them.
        self.log.sync_data().map_err(io(&path, "write"))?;
        Ok(())
    }

    fn deep_scan(&mut self) -> Result<Option<DeepScan>, HostError> {
        let path = self.folder.join(DEEP_SCAN);
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        let scan = DeepScan::from_bytes(&bytes);
        Ok(Some(scan.ok_or_else(|| damaged(&path, "it is not what a scan leaves"))?))
    }

    fn keep_deep_scan(&mut self, scan: &DeepScan) -> Result<(), HostError> {
        let path = self.folder.join(DEEP_SCAN);
        write_atomically(&path, &scan.to_bytes()).map_err(io(&path, "write"))?;
        Ok(())
    }

    fn deep_block(&mut self, block: u32) -> Result<Vec<f64>, HostError> {
        let path = self.folder.join(DEEP_BLOCK);
        let bytes = read_if_there(&path)?.unwrap_or_default();
        let mut rest = bytes.as_slice();
        let mut log_likelihood = Vec::new();
        // What does not fit is a torn end, or of a block that is done.
        while let Some((head, body)) = rest.split_first_chunk::<16>() {
            let [of, first, n, check] =
                [0, 4, 8, 12].map(|i| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]));
            let Some((values, next)) = body.split_at_checked(n as usize * 8) else { break };
            let known = of == block && first as usize == log_likelihood.len();
            if !known || check != deep_block_check(&head[..12], values) {
                break;
            }
            let end = log_likelihood.len() + n as usize;
            log_likelihood.extend(values.as_chunks::<8>().0.iter().map(|v| f64::from_le_bytes(*v)));
            if end > SOBOL_BLOCK || !log_likelihood.iter().all(|l| is_legal(*l)) {
                return Err(damaged(&path, "it holds what is no part of a block").into());
            }
            rest = next;
        }
        if !rest.is_empty() {
            // What follows is to follow a whole part.
            let whole = (bytes.len() - rest.len()) as u64;
            let cut = OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(whole));
            cut.map_err(io(&path, "write"))?;
        }
        Ok(log_likelihood)
    }

    fn keep_deep_block(&mut self, block: u32, first: usize, log_likelihood: &[f64]) -> Result<(), HostError> {
        let path = self.folder.join(DEEP_BLOCK);
        let values: Vec<u8> = log_likelihood.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut bytes = [block, first as u32, log_likelihood.len() as u32].map(u32::to_le_bytes).concat();
        bytes.extend(deep_block_check(&bytes, &values).to_le_bytes());
        bytes.extend(values);
        let mut options = OpenOptions::new();
        options.create(true).write(true);
        if first == 0 {
            options.truncate(true)
        } else {
            options.append(true)
        };
        let write = |mut file: File| file.write_all(&bytes).and_then(|()| file.sync_data());
        options.open(&path).and_then(write).map_err(io(&path, "write"))?;
        Ok(())
    }

    fn flow(&mut self, round: usize) -> Result<Option<Posterior>, HostError> {
        let path = flow_path(&self.folder, round);
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        let model = bytes
            .strip_prefix(FLOW_MAGIC)
            .and_then(|rest| rest.split_first_chunk::<4>())
            .filter(|(check, model)| u32::from_le_bytes(**check) == crc32fast::hash(model))
            .map(|(_, model)| model)
            .ok_or_else(|| damaged(&path, "its checksum does not fit its content"))?;
        Ok(Some(parse_model(&path, model).map_err(|e| damaged(&path, e))?))
    }

    fn keep_flow(&mut self, round: usize, flow: &Posterior) -> Result<(), HostError> {
        let path = flow_path(&self.folder, round);
        let model =
            model_bytes(&path, flow, Precision::F32).map_err(|e: ModelFileError| damaged(&path, e))?;
        let mut bytes = FLOW_MAGIC.to_vec();
        bytes.extend(crc32fast::hash(&model).to_le_bytes());
        bytes.extend(model);
        write_atomically(&path, &bytes).map_err(io(&path, "write"))?;
        Ok(())
    }
}

fn deep_block_check(head: &[u8], values: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(values);
    hasher.finalize()
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, JournalError> {
    match std::fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(io(path, "read")),
    }
}

fn flow_path(folder: &Path, round: usize) -> PathBuf {
    folder.join(format!("round_{round}.flow"))
}

fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { path, action, source }
}

fn damaged(path: &Path, reason: impl ToString) -> JournalError {
    JournalError::Damaged { path: path.into(), reason: reason.to_string() }
}

/// Opens the log for this process alone.
fn open(path: &Path, create: bool) -> Result<File, JournalError> {
    let log = OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .open(path)
        .map_err(io(path, "open"))?;
    match log.try_lock() {
        Ok(()) => Ok(log),
        Err(std::fs::TryLockError::WouldBlock) => Err(JournalError::InUse { path: path.into() }),
        // A file system without locks: two runs at once are then the user's to avoid.
        Err(std::fs::TryLockError::Error(_)) => Ok(log),
    }
}

/// Reads all blocks, drops a torn one at the end, and leaves the file ready to be appended to.
fn read_log(path: &Path, log: &mut File, dim: usize, n_derived: usize) -> Result<Vec<f64>, JournalError> {
    let length = log.metadata().map_err(io(path, "read"))?.len();
    let mut reader = BufReader::new(&mut *log);
    let mut head = [0; 24];
    reader.read_exact(&mut head).map_err(|_| damaged(path, "it has no head"))?;
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&head[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    if &head[..8] != LOG_MAGIC || number(8) != dim as u64 || number(16) != n_derived as u64 {
        return Err(damaged(path, "its head is not that of a log of this run"));
    }
    let width = dim + 1 + n_derived;
    let mut rows = Vec::new();
    let mut at = head.len() as u64;
    // A block: count and its complement, both u32; the rows; a checksum of all that.
    while length - at >= 8 {
        let mut counts = [0; 8];
        reader.read_exact(&mut counts).map_err(io(path, "read"))?;
        let [count, complement] =
            [0, 4].map(|i| u32::from_le_bytes([counts[i], counts[i + 1], counts[i + 2], counts[i + 3]]));
        let n = count as usize;
        if count != !complement || n == 0 || n > MAX_BLOCK {
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).map_err(io(path, "read"))?;
            // What a crash of the machine leaves of a file that had just grown.
            if counts.iter().chain(&rest).all(|b| *b == 0) {
                break;
            }
            return Err(damaged(path, format!("no block begins at byte {at}")));
        }
        let end = at + 8 + (n * width * 8) as u64 + 4;
        if end > length {
            break;
        }
        let mut bytes = vec![0; n * width * 8 + 4];
        reader.read_exact(&mut bytes).map_err(io(path, "read"))?;
        let (values, check) = bytes.split_at(n * width * 8);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&counts);
        hasher.update(values);
        if hasher.finalize().to_le_bytes() != *check {
            if end == length {
                break;
            }
            return Err(damaged(path, format!("the checksum of the block at byte {at} does not fit")));
        }
        let before = rows.len();
        rows.extend(values.chunks_exact(8).map(|b| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(b);
            f64::from_le_bytes(bytes)
        }));
        let is_evaluation = |row: &[f64]| row[..dim].iter().all(|x| x.is_finite()) && is_legal(row[dim]);
        if !rows[before..].chunks_exact(width).all(is_evaluation) {
            return Err(damaged(path, format!("the block at byte {at} holds what is no evaluation")));
        }
        at = end;
    }
    log.set_len(at).and_then(|()| log.seek(SeekFrom::Start(at))).map_err(io(path, "write"))?;
    Ok(rows)
}

#[cfg(test)]
mod tests;
