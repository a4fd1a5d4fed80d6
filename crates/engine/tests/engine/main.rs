//! The engine's tests against the f64 definition and hand-written references: one program, which is linked once and keeps all
//! cores busy.

mod common;
mod context;
mod face;
mod flow;
mod group;
mod observed;
mod on_device;
mod random_numbers;
mod simulator;
mod wgsl;
mod wgsl_programs;
