//! Tests of the whole: the engine's passes against the f64 definition, training against the same steps in f64, and fits
//! end to end on small problems. All on the software adapter, in one binary, with shapes that share their kernels.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod bad_input;
mod deep_scan;
mod examples;
mod fits;
mod optimiser;
mod passes;
mod periodic;
mod rounds;
mod splines;
mod together;
mod training;
