//! From a prior and a likelihood to a posterior: annealed, adaptive rounds of drawing, weighting and training.
//! Every evaluation is counted, kept and reused; the figures that count come from fresh draws that trained nothing.

mod audit;
mod coverage;
mod deep;
mod draws;
mod evaluator;
mod evidence;
mod folder;
mod fresh;
mod journal;
mod modes;
mod outline;
mod points;
mod policy;
mod pool;
mod report;
mod run;
mod settings;
mod training;
pub(crate) mod twins;
mod verdict;

pub use audit::AuditReport;
pub use coverage::{CoverageReport, ModeRow, prior_mass_limit};
pub use deep::{DeepScan, DeepScanReport};
pub use evidence::{Evidence, EvidenceReport};
pub use folder::{FolderJournal, Identity, JournalError};
pub use fresh::{EssBound, FreshReport};
pub use journal::{Journal, NoJournal};
pub use modes::count_modes;
pub use outline::RoundsOutline;
pub use points::{PointMode, PointModes, modes_of_points};
pub use report::{
    EvaluatedPoints, RoundRow, RoundsEvent, RoundsReport, RoundsResult, StopCause, equal_weight,
};
pub use run::{Problem, run};
pub use settings::RoundsSettings;
pub use verdict::{NO_ESTIMATE, Verdict};
