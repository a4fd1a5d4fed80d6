//! Runs a flow on a Vulkan, Metal or DX12 device through wgpu, or on the cores of the machine.
//! Invariant: a call either returns what the f64 definition in `lwflow-model` says, up to f32 rounding, or an
//! [`EngineError`]; it never panics, never hangs and never returns numbers of a failed device.
//!
//! ```no_run
//! use lwflow_engine::{Engine, EngineSettings};
//! use lwflow_model::{BaseSpec, Flow, FlowSettings, FlowSpec};
//!
//! let engine = Engine::new(&EngineSettings::default())?;
//! let spec = FlowSpec::build(2, 0, &FlowSettings::default(), BaseSpec::Gaussian, 1)?;
//! let mut executor = engine.flow(&spec)?;
//! executor.set_params(Flow::<f32>::init(spec, 1)?.params())?;
//! let log_prob = executor.log_prob(&[0.0, 0.0, 1.0, 1.0], &[])?;
//! assert_eq!(log_prob.len(), 2);
//! # Ok::<(), lwflow_engine::EngineError>(())
//! ```

mod autotune;
mod choice;
mod context;
mod cpu;
mod device;
mod engine;
mod error;
mod flow;
mod gpu;
mod group;
mod likelihood;
mod rows;
mod scan;
mod self_test;
mod simulator;
mod training;
mod wgsl;

pub use choice::{KernelChoice, KernelPath};
pub use cpu::fma_peak;
pub use device::{AdapterLimits, DeviceChoice, DeviceInfo, DeviceKind, SubgroupSizes};
pub use engine::{Engine, EngineSettings, list_devices, list_devices_async, list_unusable_adapters};
pub use error::EngineError;
pub use flow::{FlowExecutor, Gradient, WeightedBatch};
pub use gpu::{KernelTime, ProfiledCall};
pub use group::FlowGroup;
pub use likelihood::{LikelihoodExecutor, ScanExecutor};
pub use scan::{BlockSums, QuantileTable, SOBOL_BLOCK, SOBOL_MAX_DIM, ScanDraw, Scanned, SobolBlock};
pub use self_test::{SelfTestCheck, SelfTestNote, SelfTestReport};
pub use simulator::SimulatorExecutor;
pub use training::{OptimiserPlace, OptimiserSettings, OptimiserState, StepsReport, TrainSteps};
/// The interface to devices that [`Engine::from_wgpu`] and the calls on buffers speak.
pub use wgpu;
pub use wgsl::{SimulatorProgram, WgslData, WgslError, WgslProgram, WgslSource};
