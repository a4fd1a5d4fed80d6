//! The definition checked by itself: round trips, log-determinants, gradients, integrals.

mod context;
mod passes;
mod splines;
