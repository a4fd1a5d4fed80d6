//! Which devices there are and which one is meant.
//! Invariant: a choice means the same device as long as the same devices are there; nothing here opens one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::EngineError;

/// Which device to use. Parsed from `auto`, `cpu`, `gpu`, `software`, an index of
/// [`list_devices`](crate::list_devices) or a part of the device's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// A real GPU (discrete, then integrated, then virtual), else the cores. `LWFLOW_DEVICE` overrides it.
    #[default]
    Auto,
    /// The cores of this machine, without any driver.
    Cpu,
    /// The best adapter that runs kernels: a real GPU, else a software adapter.
    Gpu,
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
                    found: "expected `auto`, `cpu`, `gpu`, `software`, an index or a name".into(),
                });
            }
            "auto" => Self::Auto,
            "cpu" => Self::Cpu,
            "gpu" => Self::Gpu,
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
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu => f.write_str("gpu"),
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
    /// The cores of this machine, through the native executor.
    Cpu,
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
            Self::Cpu => "cores",
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
    /// The graphics interface (`vulkan`, `metal`, `dx12`), or `native`.
    pub backend: String,
    /// Driver name and version; for the cores, their number and the instruction set in use.
    pub driver: String,
    /// Subgroup sizes, where subgroup operations are available.
    pub subgroup: Option<SubgroupSizes>,
    /// Whether kernels can be timed on the device.
    pub timestamps: bool,
    /// Numbers and limits of an adapter; `None` for the cores, which have none.
    pub adapter: Option<AdapterLimits>,
}

/// What an adapter says of itself in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterLimits {
    /// PCI vendor number, or the interface's own.
    pub vendor: u32,
    /// Device number of the vendor.
    pub device: u32,
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

impl DeviceChoice {
    /// Position in `found` (in the order of [`list_devices`](crate::list_devices)) of the device that is meant.
    ///
    /// # Errors
    /// [`EngineError::NoDevice`] with the devices that are there.
    pub(crate) fn find(&self, found: &[DeviceInfo]) -> Result<usize, EngineError> {
        let first = |fits: &dyn Fn(&DeviceInfo) -> bool| found.iter().position(fits);
        let at = match self {
            // The software adapter comes after the cores, which are always there.
            Self::Auto => first(&|_| true),
            Self::Cpu => first(&|i| i.kind == DeviceKind::Cpu),
            Self::Gpu => first(&|i| i.kind != DeviceKind::Cpu),
            Self::Software => first(&|i| i.kind == DeviceKind::Software),
            Self::Index(index) => (*index < found.len()).then_some(*index),
            Self::Name(name) => {
                let name = name.to_lowercase();
                first(&|i| i.name.to_lowercase().contains(&name))
            }
        };
        at.ok_or_else(|| {
            let list: Vec<String> =
                found.iter().enumerate().map(|(i, info)| format!("{i}: {info}")).collect();
            let mut list = list.join("; ");
            if found.iter().all(|i| i.kind == DeviceKind::Cpu) {
                list.push_str(" (is a Vulkan, Metal or DX12 driver installed?)");
            }
            EngineError::NoDevice { asked: self.to_string(), found: list }
        })
    }
}
