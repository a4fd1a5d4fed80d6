//! The engine: one open device and the flows made for it.
//! Invariant: an engine is cheap to clone and to share; all its flows use the same device and compiled kernels.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lwflow_model::FlowSpec;
use serde::{Deserialize, Serialize};

use crate::cpu::{Cpu, processor_name, simd_level};
use crate::device::{DeviceChoice, DeviceInfo, DeviceKind};
use crate::gpu::{Gpu, adapters};
use crate::self_test::{self, SelfTestNote, SelfTestReport};
use crate::{
    EngineError, FlowExecutor, FlowGroup, KernelChoice, KernelPath, LikelihoodExecutor, OptimiserPlace,
    SimulatorExecutor, SimulatorProgram, WgslProgram, autotune,
};

/// How to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// Which device to use.
    pub device: DeviceChoice,
    /// How long one call may wait for the device, in seconds. Drivers compile kernels at their first use.
    pub timeout_seconds: f64,
    /// Device memory for the per-sample arrays of one flow, in bytes. A batch that needs more is run in pieces.
    pub scratch_bytes: u64,
    /// Largest number of samples in a piece, if it should be smaller than memory allows.
    pub piece_samples: Option<usize>,
    /// Use the kernels that work everywhere, also where an adapter has faster ones of its own.
    pub portable_kernels: bool,
    /// Threads of the cores, if not one for each; the results do not depend on it.
    pub n_threads: Option<usize>,
    /// Where the optimiser of a training run is.
    pub optimiser: OptimiserPlace,
    /// Use these kernels, for instance those of a run that goes on.
    pub kernels: Option<KernelChoice>,
    /// Without [`EngineSettings::kernels`]: time the candidates on the flow at hand and take the fastest. Otherwise the
    /// table decides, and equal devices run equal kernels.
    pub autotune: bool,
    /// Folder of notes about self-tests and chosen kernels, if not that of `LWFLOW_CACHE` or the user's cache folder.
    pub cache_folder: Option<PathBuf>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            device: DeviceChoice::Auto,
            timeout_seconds: 300.0,
            scratch_bytes: 512 << 20,
            piece_samples: None,
            portable_kernels: false,
            n_threads: None,
            optimiser: OptimiserPlace::Auto,
            kernels: None,
            autotune: false,
            cache_folder: None,
        }
    }
}

impl EngineSettings {
    /// The environment variable that overrides [`DeviceChoice::Auto`].
    pub const DEVICE_VARIABLE: &str = "LWFLOW_DEVICE";

    pub(crate) fn timeout(&self) -> Duration {
        Duration::try_from_secs_f64(self.timeout_seconds).unwrap_or(Duration::from_secs(300))
    }
}

/// All devices that the engine can use, best kind first; the position is the index of [`DeviceChoice::Index`].
#[must_use]
pub fn list_devices() -> Vec<DeviceInfo> {
    pollster::block_on(list_devices_async())
}

/// [`list_devices`] without blocking.
pub async fn list_devices_async() -> Vec<DeviceInfo> {
    found(&EngineSettings::default()).await.0
}

/// Adapters that no kernel can run on: without compute, or of no kind that is known. [`list_devices`] leaves them out.
#[must_use]
pub fn list_unusable_adapters() -> Vec<DeviceInfo> {
    pollster::block_on(adapters()).1
}

/// Devices, best kind first and in the order of the drivers within a kind, and the adapters behind them.
async fn found(settings: &EngineSettings) -> (Vec<DeviceInfo>, Vec<Option<wgpu::Adapter>>) {
    let mut found: Vec<(DeviceInfo, Option<wgpu::Adapter>)> =
        adapters().await.0.into_iter().map(|(info, adapter)| (info, Some(adapter))).collect();
    found.push((cpu_info(settings.n_threads), None));
    found.sort_by_key(|(info, _)| info.kind);
    for (i, (info, _)) in found.iter_mut().enumerate() {
        info.index = Some(i);
    }
    found.into_iter().unzip()
}

/// The cores as a device.
fn cpu_info(n_threads: Option<usize>) -> DeviceInfo {
    let n_threads = n_threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let s = if n_threads == 1 { "" } else { "s" };
    DeviceInfo {
        index: None,
        name: processor_name(),
        kind: DeviceKind::Cpu,
        backend: "native".into(),
        driver: format!("{n_threads} thread{s}, {}", simd_level()),
        subgroup: None,
        timestamps: false,
        adapter: None,
    }
}

/// What runs the flows of an engine.
#[derive(Debug, Clone)]
pub(crate) enum Opened {
    /// An adapter through wgpu.
    Gpu(Arc<Gpu>),
    /// The cores, and what is said of them.
    Cpu(Arc<Cpu>, DeviceInfo),
}

/// An open device.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) opened: Opened,
    pub(crate) settings: EngineSettings,
}

impl Engine {
    /// Opens the device that the settings name.
    ///
    /// # Errors
    /// [`EngineError::NoDevice`] if none fits, [`EngineError::Open`] if the driver refuses.
    pub fn new(settings: &EngineSettings) -> Result<Self, EngineError> {
        pollster::block_on(Self::new_async(settings))
    }

    /// [`Engine::new`] without blocking.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub async fn new_async(settings: &EngineSettings) -> Result<Self, EngineError> {
        let named = match (&settings.device, std::env::var(EngineSettings::DEVICE_VARIABLE)) {
            (DeviceChoice::Auto, Ok(name)) if !name.trim().is_empty() => name.parse()?,
            (device, _) => device.clone(),
        };
        let (devices, adapters) = match named {
            // Nothing of a driver is loaded that is not asked for.
            DeviceChoice::Cpu => (vec![cpu_info(settings.n_threads)], vec![None]),
            _ => found(settings).await,
        };
        let at = named.find(&devices)?;
        let info = devices[at].clone();
        tracing::debug!(device = %info, "opening");
        let opened = match &adapters[at] {
            Some(adapter) => Opened::Gpu(Arc::new(Gpu::open(info, adapter, settings.timeout()).await?)),
            None => Opened::Cpu(Cpu::new(settings.n_threads), info),
        };
        Ok(Self { opened, settings: settings.clone() })
    }

    /// An engine on a device that the caller opened, sharing its queue. `settings.device` is not looked at. The
    /// device's callbacks for lost devices and uncaptured errors stay the caller's; errors that the engine's own calls
    /// raise are captured in error scopes and returned.
    #[must_use]
    pub fn from_wgpu(
        info: &wgpu::AdapterInfo,
        device: wgpu::Device,
        queue: wgpu::Queue,
        settings: &EngineSettings,
    ) -> Self {
        let gpu = Gpu::adopt(info, device, queue, settings.timeout());
        Self { opened: Opened::Gpu(Arc::new(gpu)), settings: settings.clone() }
    }

    /// What is known about the device.
    #[must_use]
    pub fn info(&self) -> &DeviceInfo {
        match &self.opened {
            Opened::Gpu(gpu) => &gpu.info,
            Opened::Cpu(_, info) => info,
        }
    }

    /// How the engine runs.
    #[must_use]
    pub fn settings(&self) -> &EngineSettings {
        &self.settings
    }

    /// Prepares a flow: chooses the kernels of every layer and reserves its parameters on the device.
    ///
    /// # Errors
    /// [`EngineError::Model`] for an invalid specification, [`EngineError::Limit`] if it does not fit the device.
    pub fn flow(&self, spec: &FlowSpec) -> Result<FlowExecutor, EngineError> {
        FlowExecutor::new(self, spec)
    }

    /// Prepares flows that are trained together: `specs`, at least one, agree in all but the number of components of their
    /// bases.
    ///
    /// # Errors
    /// As [`Engine::flow`]; [`EngineError::Choice`] for specifications that differ in more.
    pub fn flow_group(&self, specs: &[FlowSpec]) -> Result<FlowGroup, EngineError> {
        FlowGroup::new(self, specs)
    }

    /// Prepares a log likelihood written in WGSL: compiles its kernel, or sets up the evaluator of the cores.
    ///
    /// # Errors
    /// Any error of the device.
    pub fn likelihood(&self, program: &WgslProgram) -> Result<LikelihoodExecutor, EngineError> {
        LikelihoodExecutor::new(self, program)
    }

    /// Prepares a simulator written in WGSL: compiles its kernel, or sets up the evaluator of the cores.
    ///
    /// # Errors
    /// Any error of the device.
    pub fn simulator(&self, program: &SimulatorProgram) -> Result<SimulatorExecutor, EngineError> {
        SimulatorExecutor::new(self, program)
    }

    /// What the table and the settings say for this adapter.
    pub(crate) fn table_choice(&self) -> KernelChoice {
        let mut choice = KernelChoice::table(self.info());
        if self.settings.portable_kernels {
            choice.path = KernelPath::Tiled;
        }
        if self.settings.optimiser != OptimiserPlace::Auto {
            choice.optimiser = self.settings.optimiser;
        }
        choice
    }

    /// The kernels for a flow on an adapter.
    pub(crate) fn choose(&self, gpu: &Arc<Gpu>, spec: &FlowSpec) -> Result<KernelChoice, EngineError> {
        match self.settings.kernels {
            Some(choice) => choice.check().map(|()| choice),
            None if self.settings.autotune => autotune::choose(self, gpu, spec),
            None => Ok(self.table_choice()),
        }
    }

    /// Compares every pass of a small flow on this device with the f64 definition. How it ends is noted in the folder of
    /// [`EngineSettings::cache_folder`].
    ///
    /// # Errors
    /// [`EngineError::SelfTest`] with the figures if one is out of bounds; any error of the device.
    pub fn self_test(&self) -> Result<SelfTestReport, EngineError> {
        self_test::run(self)
    }

    /// [`Engine::self_test`], unless it is noted that this version passed it on this device and driver. A device that
    /// failed is tested again.
    ///
    /// # Errors
    /// As [`Engine::self_test`].
    pub fn ensure_tested(&self) -> Result<SelfTestReport, EngineError> {
        self_test::run_cached(self)
    }

    /// How the last self-test of this version on this device and driver ended, if it is noted.
    #[must_use]
    pub fn self_test_note(&self) -> Option<SelfTestNote> {
        self_test::note::read(self)
    }
}
