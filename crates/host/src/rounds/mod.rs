//! From a prior and a likelihood to a posterior: annealed, adaptive rounds of drawing, weighting and training.
//! Every evaluation is counted, kept and reused; the figures that count come from fresh draws that trained nothing.

mod settings;

pub use settings::RoundsSettings;
