//! The figures of the report page, as SVG drawn by plotters. They are drawn ten times larger than shown, because plotters
//! places things on whole units; colours are turned into CSS variables, so that a page gives them a light and a dark set,
//! and labels into real text with sub- and superscripts.
//! Invariant: a line is told from the others by its dashes or its markers too, never by its colour alone.

mod calibration;
mod chart;
mod corner;
mod curves;
mod ink;
mod weights;

pub use calibration::calibration_panels;
pub use chart::Drawing;
pub use corner::{CornerAxis, CornerLayer, LayerStyle, corner};
pub use curves::{EvidenceMark, RoundPoint, TrainingCurve, evidence_and_rounds, training_curves};
pub use ink::{Ink, MODELS};
pub use weights::{DensityCloud, density_against, n_too_light, weight_histogram};
