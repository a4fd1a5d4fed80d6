//! Runs a flow on the processor's cores: f32 in vectors of the best level the processor has, blocks of samples carried
//! through all layers in cache. Invariant: same results as the definition up to f32 rounding, and the same bits
//! whatever the number of threads.

mod affine;
mod base;
mod coupling;
mod flow;
mod likelihood;
mod linear;
mod math;
mod mlp;
mod network;
mod outer;
mod panel;
mod peak;
mod pool;
mod simd;
mod spline;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use flow::CpuFlow;
pub(crate) use likelihood::{CpuLikelihood, CpuScan, CpuSimulator};
pub(crate) use network::CpuNetwork;
pub use peak::fma_peak;
pub(crate) use simd::Level;

use pool::Pool;

/// The cores of this machine as a device.
#[derive(Debug)]
pub(crate) struct Cpu {
    level: Level,
    pool: Pool,
}

impl Cpu {
    /// All cores, or `n_threads` of them, with the best instructions they have.
    pub fn new(n_threads: Option<usize>) -> Arc<Self> {
        Self::with_level(n_threads, Level::detect())
    }

    /// [`Cpu::new`] with the instructions of one level.
    pub fn with_level(n_threads: Option<usize>, level: Level) -> Arc<Self> {
        let n_threads =
            n_threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        Arc::new(Self { level, pool: Pool::new(n_threads.max(1)) })
    }

    /// Threads that a call uses.
    pub fn n_threads(&self) -> usize {
        self.pool.n_threads()
    }

    /// The instructions that it uses.
    pub fn level(&self) -> Level {
        self.level
    }
}

/// Name of the best instructions of this processor: "AVX-512", "AVX2", "NEON" or "plain".
#[must_use]
pub fn simd_level() -> String {
    Level::detect().to_string()
}

/// The processor's name, where the system tells it; else its architecture.
#[must_use]
pub fn processor_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}
