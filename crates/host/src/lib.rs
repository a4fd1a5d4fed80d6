//! The CPU side of lwflow: everything around a flow that needs no device.

pub mod files;
