//! The command `lwflow` run as its users run it: as a process, with files, statuses and what it prints.
//! Every test uses the software adapter where there is one, small fits and a folder of its own.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod calibrate;
mod context_network;
mod edges;
mod export;
mod first;
mod folders;
mod golden;
mod guide;
mod harness;
mod interrupt;
mod log;
mod model_format;
mod observations;
mod refusals;
mod report;
mod results;
mod rounds;
mod simulate;
mod terminal;
mod truncated;
