//! The figures of a result, as PNG files, and in [`vector`] those of the report page. Every function takes plain slices in the
//! user's coordinates and draws something for every input that has the right shape: values that are not finite are left out and
//! counted in the figure.

mod axis;
mod calibration;
mod canvas;
mod colour;
mod contour;
mod corner;
mod density;
mod density_map;
mod geometry;
mod label;
mod loss;
mod panel;
#[cfg(test)]
mod tests;
pub mod vector;

pub use calibration::{CalibrationPanel, calibration_panels};
pub use corner::{CornerSeries, MAX_CORNER_PARAMETERS, SeriesRole, corner};
pub use density_map::{DensityMapSettings, GridCell, GridRow, LogDensityGrid, density_grid, density_map};
pub use label::Label;
pub use loss::{LossRow, loss_curves};

use std::path::PathBuf;

/// One axis of a figure: a parameter or a derived quantity.
#[derive(Debug, Clone, PartialEq)]
pub struct FigureAxis {
    /// Its label.
    pub label: Label,
    /// Lower bound of its support, where there is one.
    pub lower: Option<f64>,
    /// Upper bound of its support, where there is one.
    pub upper: Option<f64>,
}

impl FigureAxis {
    /// An axis without bounds.
    pub fn new(label: Label) -> Self {
        Self { label, lower: None, upper: None }
    }
}

/// Width and height of a figure in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FigureSize {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// A figure that cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FigureError {
    /// A slice of the wrong length.
    #[error("figure: {what} has length {got}, expected {expected}")]
    Shape {
        /// The slice.
        what: String,
        /// Its length.
        got: usize,
        /// The length it should have.
        expected: String,
    },
    /// A range without extent that numbers can resolve, or not finite.
    #[error(
        "figure: the range of {what} is {low} to {high}, expected two finite numbers, the second larger by 1e-12 of their size or more"
    )]
    Range {
        /// The axis.
        what: &'static str,
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// The drawing library failed.
    #[error("figure: cannot draw: {message}")]
    Draw {
        /// What it said.
        message: String,
    },
    /// The file cannot be written.
    #[error("{}: cannot write the figure: {message}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system said.
        message: String,
    },
}
