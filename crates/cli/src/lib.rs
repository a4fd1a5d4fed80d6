//! The command `lwflow`: reads tasks and files, calls the host crate, writes results and figures.
//! Results go to stdout, progress and remarks to stderr; every failure has its own exit status ([`exit::Status`]).

pub mod calibration;
pub mod commands;
pub mod demo;
pub mod draws;
pub mod exit;
pub mod inference;
pub mod out_folder;
pub mod page;
pub mod progress;
pub mod report;
pub mod simulation;
pub mod source;
pub mod task;
mod wgsl_file;

pub use commands::run;
