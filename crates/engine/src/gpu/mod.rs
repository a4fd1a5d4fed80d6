//! The only place with wgpu: device, pipelines, buffers, recording and the passes of a flow.
//! Invariant: every wgpu error raised here becomes an `EngineError`.

mod buffers;
mod device;
mod faults;
mod passes;
mod pipeline;
mod readback;
mod recording;
mod uniform;

pub(crate) use buffers::{BatchBuffers, FlowBuffers, Need, Region, round_up};
pub use device::{DeviceChoice, DeviceInfo, DeviceKind, SubgroupSizes};
pub(crate) use device::{Gpu, enumerate};
pub(crate) use passes::{BasePass, BasePlan, LayerPass, LayerPlan, Place};
pub(crate) use readback::{Staging, Wait};
pub(crate) use recording::{BatchDims, SAMPLE_PAD, StepBuilder};
