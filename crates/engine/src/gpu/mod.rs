//! The only place with wgpu: device, pipelines, buffers, recording and the passes of a flow.
//! Invariant: every wgpu error raised here becomes an `EngineError`.

mod buffers;
mod device;
mod faults;
mod flow;
mod likelihood;
mod limits;
mod on_device;
mod optimiser;
mod passes;
mod pipeline;
mod readback;
mod recording;
mod scan;
mod simulator;
mod timing;
mod uniform;

pub(crate) use buffers::{BatchBuffers, FlowBuffers, Need, Region, Span, round_up};
pub(crate) use device::{Gpu, adapters};
pub(crate) use flow::GpuFlow;
pub use flow::ProfiledCall;
pub(crate) use likelihood::GpuLikelihood;
pub(crate) use passes::{BasePass, BasePlan, LayerPass, LayerPlan, Place};
pub(crate) use readback::{Staging, Wait};
pub(crate) use recording::{BatchDims, Recorder, SAMPLE_PAD, StepBuilder};
pub(crate) use scan::GpuScan;
pub(crate) use simulator::GpuSimulator;
pub use timing::KernelTime;
pub(crate) use timing::KernelTimes;

#[cfg(test)]
pub(crate) mod tests {
    //! Wrong ways to bind a kernel.
    use super::pipeline::Bound;
    use super::*;
    use crate::EngineError;
    use lwflow_shaders::Constants;

    fn bind(gpu: &Gpu, names: &[&str], grad_is_read: bool) -> EngineError {
        let pipeline = gpu.pipeline("reduce_partials", &Constants::new().with("workgroup", 64)).unwrap();
        let buffer =
            gpu.buffer("test", 64, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM).unwrap();
        let bound = |name: &str| match name {
            "batch" | "shape" => Bound::Uniform(&buffer),
            "grad" if !grad_is_read => Bound::Write(&buffer),
            _ => Bound::Read(&buffer),
        };
        let buffers: Vec<_> = names.iter().map(|name| (*name, bound(name))).collect();
        gpu.bind(&pipeline, &buffers).unwrap_err()
    }

    pub fn bind_unknown(gpu: &Gpu) -> EngineError {
        bind(gpu, &["batch", "shape", "partial", "grad", "other"], false)
    }

    pub fn bind_twice(gpu: &Gpu) -> EngineError {
        bind(gpu, &["batch", "shape", "partial", "grad", "grad"], false)
    }

    pub fn bind_wrong_access(gpu: &Gpu) -> EngineError {
        bind(gpu, &["batch", "shape", "partial", "grad"], true)
    }
}
