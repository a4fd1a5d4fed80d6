//! Finds, chooses and opens a device, and records the facts about it that the passes depend on.
//! Invariant: limits and features are read from the adapter, never assumed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::faults::FaultLog;
use super::pipeline::Pipelines;
use crate::EngineError;

/// Which device to use. Parsed from `auto`, `software`, an index of [`list_devices`](crate::list_devices) or a part of
/// the device's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The fastest kind there is: discrete, integrated, virtual, software. `LWFLOW_DEVICE` overrides it.
    #[default]
    Auto,
    /// A software adapter (lavapipe, WARP).
    Software,
    /// The first device whose name contains this text, in any case.
    Name(String),
    /// The device at this index of [`list_devices`](crate::list_devices).
    Index(usize),
}

impl FromStr for DeviceChoice {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        let text = text.trim();
        Ok(match text.to_ascii_lowercase().as_str() {
            "" => {
                return Err(EngineError::NoDevice {
                    asked: String::new(),
                    found: "expected `auto`, `software`, an index or a name".into(),
                });
            }
            "auto" => Self::Auto,
            "software" => Self::Software,
            _ => text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Index),
        })
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = EngineError;

    fn try_from(text: String) -> Result<Self, EngineError> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Software => f.write_str("software"),
            Self::Name(name) => f.write_str(name),
            Self::Index(index) => write!(f, "{index}"),
        }
    }
}

/// Kind of a device, in the order of preference of `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A graphics card with its own memory.
    Discrete,
    /// A GPU that shares the host's memory.
    Integrated,
    /// A GPU given to a virtual machine.
    Virtual,
    /// A driver that runs kernels on the CPU.
    Software,
    /// Unknown.
    Other,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete GPU",
            Self::Integrated => "integrated GPU",
            Self::Virtual => "virtual GPU",
            Self::Software => "software",
            Self::Other => "other",
        })
    }
}

/// Lanes of a subgroup, as the driver states them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubgroupSizes {
    /// Smallest size a kernel may run with.
    pub min: u32,
    /// Largest size a kernel may run with.
    pub max: u32,
}

/// What is known about a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Index in [`list_devices`](crate::list_devices); `None` for a device the caller opened.
    pub index: Option<usize>,
    /// The adapter's name.
    pub name: String,
    /// Its kind.
    pub kind: DeviceKind,
    /// The graphics interface: `vulkan`, `metal`, `dx12`.
    pub backend: String,
    /// Driver name and version.
    pub driver: String,
    /// PCI vendor number, or the interface's own.
    pub vendor: u32,
    /// Device number of the vendor.
    pub device: u32,
    /// Subgroup sizes, where subgroup operations are available.
    pub subgroup: Option<SubgroupSizes>,
    /// Whether kernels can be timed on the device.
    pub timestamps: bool,
    /// Largest storage buffer that one kernel can see, in bytes.
    pub max_storage_bytes: u64,
    /// Largest uniform buffer that one kernel can see, in bytes.
    pub max_uniform_bytes: u64,
    /// Memory shared by a workgroup, in bytes.
    pub max_workgroup_bytes: u32,
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {}, {})", self.name, self.kind, self.backend, self.driver)
    }
}

impl DeviceInfo {
    fn new(
        index: Option<usize>,
        info: &wgpu::AdapterInfo,
        features: wgpu::Features,
        limits: &wgpu::Limits,
    ) -> Self {
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => DeviceKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => DeviceKind::Integrated,
            wgpu::DeviceType::VirtualGpu => DeviceKind::Virtual,
            wgpu::DeviceType::Cpu => DeviceKind::Software,
            wgpu::DeviceType::Other => DeviceKind::Other,
        };
        Self {
            index,
            name: info.name.clone(),
            kind,
            backend: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            vendor: info.vendor,
            device: info.device,
            subgroup: features
                .contains(wgpu::Features::SUBGROUP)
                .then_some(SubgroupSizes { min: info.subgroup_min_size, max: info.subgroup_max_size }),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            max_storage_bytes: limits.max_storage_buffer_binding_size,
            max_uniform_bytes: limits.max_uniform_buffer_binding_size,
            max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        }
    }
}

/// Optional features that the passes can make use of.
const WANTED: wgpu::Features = wgpu::Features::SUBGROUP.union(wgpu::Features::TIMESTAMP_QUERY);

/// An open device with everything that belongs to it.
pub(crate) struct Gpu {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub info: DeviceInfo,
    pub limits: wgpu::Limits,
    pub timeout: Duration,
    pub faults: FaultLog,
    pub pipelines: Pipelines,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu").field("info", &self.info).finish_non_exhaustive()
    }
}

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    // GL compute lacks what the kernels need and its adapters duplicate the others.
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    wgpu::Instance::new(descriptor)
}

/// All adapters with compute, best kind first; the order is that of the driver within a kind.
pub(crate) async fn enumerate() -> Vec<(DeviceInfo, wgpu::Adapter)> {
    let mut found: Vec<_> = instance()
        .enumerate_adapters(wgpu::Backends::all())
        .await
        .into_iter()
        .filter(|a| {
            a.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
                && a.get_info().device_type != wgpu::DeviceType::Other
        })
        .map(|a| (DeviceInfo::new(None, &a.get_info(), a.features(), &a.limits()), a))
        .collect();
    found.sort_by_key(|(info, _)| info.kind);
    for (i, (info, _)) in found.iter_mut().enumerate() {
        info.index = Some(i);
    }
    found
}

impl Gpu {
    /// Opens the device that `choice` names.
    pub async fn open(choice: &DeviceChoice, timeout: Duration) -> Result<Self, EngineError> {
        let found = enumerate().await;
        let at = match choice {
            DeviceChoice::Auto => found.iter().position(|_| true),
            DeviceChoice::Software => found.iter().position(|(i, _)| i.kind == DeviceKind::Software),
            DeviceChoice::Index(index) => (*index < found.len()).then_some(*index),
            DeviceChoice::Name(name) => {
                let name = name.to_lowercase();
                found.iter().position(|(i, _)| i.name.to_lowercase().contains(&name))
            }
        };
        let Some((info, adapter)) = at.and_then(|i| found.get(i)) else {
            let mut list: Vec<String> =
                found.iter().enumerate().map(|(i, (info, _))| format!("{i}: {info}")).collect();
            if list.is_empty() {
                list.push("none (is a Vulkan, Metal or DX12 driver installed?)".into());
            }
            return Err(EngineError::NoDevice { asked: choice.to_string(), found: list.join("; ") });
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("lwflow"),
            required_features: adapter.features() & WANTED,
            required_limits: adapter.limits(),
            ..Default::default()
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|e| EngineError::Open { name: info.name.clone(), message: e.to_string() })?;
        let faults = FaultLog::watching(&device);
        Ok(Self::assemble(info.clone(), device, queue, timeout, faults))
    }

    /// Takes over a device the caller opened. Its error callbacks stay the caller's.
    pub fn adopt(
        info: &wgpu::AdapterInfo,
        device: wgpu::Device,
        queue: wgpu::Queue,
        timeout: Duration,
    ) -> Self {
        let info = DeviceInfo::new(None, info, device.features(), &device.limits());
        Self::assemble(info, device, queue, timeout, FaultLog::default())
    }

    fn assemble(
        info: DeviceInfo,
        device: wgpu::Device,
        queue: wgpu::Queue,
        timeout: Duration,
        faults: FaultLog,
    ) -> Self {
        let limits = device.limits();
        Self { device, queue, info, limits, timeout, faults, pipelines: Pipelines::default() }
    }
}
