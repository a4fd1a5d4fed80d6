//! Arrays of dynesty and nautilus in an .npz, as their users save them. Invariant: a file is taken for a sampler's only if it
//! has no `theta` and has that sampler's points and weights; errors name its arrays, not ours.

use std::path::Path;

use super::error::FileError;
use super::npz::NpzFile;
use super::pairs::{Evidence, LogZ, log_sum_exp};

/// What a sampler calls its arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SamplerArrays {
    pub(crate) name: &'static str,
    pub(crate) theta: &'static str,
    pub(crate) log_weight: &'static str,
    pub(crate) log_likelihood: &'static str,
    /// log Z and its error, `[n]`, of which the last is that of the whole run.
    log_z: Option<(&'static str, &'static str)>,
}

const SAMPLERS: [SamplerArrays; 2] = [
    SamplerArrays {
        name: "dynesty",
        theta: "samples",
        log_weight: "logwt",
        log_likelihood: "logl",
        log_z: Some(("logz", "logzerr")),
    },
    // nautilus normalises its weights: the evidence is not among its arrays.
    SamplerArrays {
        name: "nautilus",
        theta: "points",
        log_weight: "log_w",
        log_likelihood: "log_l",
        log_z: None,
    },
];

impl SamplerArrays {
    /// The sampler whose arrays these are.
    pub(crate) fn of(found: &[String]) -> Option<Self> {
        let has = |name: &str| found.iter().any(|f| f == name);
        SAMPLERS.into_iter().find(|s| !has("theta") && has(s.theta) && has(s.log_weight))
    }

    pub(crate) fn note(self) -> String {
        format!("arrays of {}: `{}` weighted by `{}`", self.name, self.theta, self.log_weight)
    }

    /// Whether an array holds its evidence, or the error of it.
    pub(crate) fn has_evidence_in(self, array: &str) -> bool {
        self.log_z.is_some_and(|(log_z, sd)| array == log_z || array == sd)
    }

    /// Scales log weights so that they sum to the evidence that the file states; says so where it states none.
    ///
    /// # Errors
    /// [`FileError::WrongShape`], [`FileError::Damaged`] for an evidence that is no number.
    pub(crate) fn scale_to_evidence(
        self,
        path: &Path,
        log_weights: &mut [f64],
        notes: &mut Vec<String>,
    ) -> Result<Evidence, FileError> {
        let mut file = NpzFile::open(path)?;
        let mut last = |name: &str| -> Result<Option<f64>, FileError> {
            let Some(array) = file.array(name)? else { return Ok(None) };
            match array.data.last() {
                Some(value) if value.is_finite() && array.shape.len() < 2 => Ok(Some(*value)),
                Some(value) if array.shape.len() < 2 => {
                    let reason = format!("array `{name}` ends with {value}, expected a finite number");
                    Err(FileError::Damaged { path: path.into(), format: self.name, reason })
                }
                _ => {
                    let expected = "[n] with n > 0, or one number".to_owned();
                    let (field, got) = (name.to_owned(), array.shape);
                    Err(FileError::WrongShape { path: path.into(), field, got, expected })
                }
            }
        };
        let missing = match self.log_z {
            None => format!("the weights of {} have no common factor", self.name),
            Some((log_z, sd)) => match (last(log_z)?, last(sd)?) {
                (Some(log_z), Some(sd)) => {
                    let shift = log_z - log_sum_exp(log_weights);
                    log_weights.iter_mut().for_each(|lw| *lw += shift);
                    return Ok(Evidence::Known(LogZ { log_z, sd }));
                }
                _ => format!("no arrays `{log_z}` and `{sd}`"),
            },
        };
        notes.push(format!("{missing}: log Z is null"));
        Ok(Evidence::Unavailable)
    }
}
