//! What can be seen of a machine that decides whether it has a usable GPU. Nothing here judges; a described machine is as good
//! as a real one, which is how the findings are tested.

use super::adapter::{Fault, Found, fault, is_software};
use lwflow_engine::DeviceInfo;
use std::fmt;
use std::path::{Path, PathBuf};

/// A machine.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `linux`, `macos`, `windows`.
    pub os: String,
    /// What the engine lists, the cores among it.
    pub devices: Vec<Device>,
    /// Adapters that the engine leaves out, without compute or of no known kind.
    pub unusable: Vec<DeviceInfo>,
    /// The Vulkan loader (Linux).
    pub loader: Option<PathBuf>,
    /// What VK_DRIVER_FILES or VK_ICD_FILENAMES allows in place of everything else.
    pub forced: Option<Vec<PathBuf>>,
    /// Driver manifests where the loader looks.
    pub manifests: Vec<Manifest>,
    /// Files through which drivers reach a GPU.
    pub nodes: Vec<Node>,
    /// PCI vendors of the display controllers.
    pub vendors: Vec<u32>,
    /// What kind of container this is.
    pub container: Option<String>,
    /// NVIDIA_DRIVER_CAPABILITIES: what NVIDIA's tools have put into the container.
    pub nvidia_capabilities: Option<String>,
}

/// A device and what became of its self-test.
#[derive(Debug, Clone)]
pub struct Device {
    /// The device.
    pub info: DeviceInfo,
    /// Its self-test.
    pub test: SelfTest,
}

/// The outcome of a self-test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelfTest {
    /// All figures are within their bounds.
    Passed,
    /// Some are not, or the device failed.
    Failed(String),
    /// A limit of the device is too small, which says what and how much.
    TooSmall(String),
    /// The driver refused to open the device.
    NotOpened(String),
}

impl fmt::Display for SelfTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::TooSmall(why) | Self::NotOpened(why) => write!(f, "not run: {why}"),
        }
    }
}

/// A driver manifest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The file.
    pub path: PathBuf,
    /// Whether its driver runs on the CPU.
    pub is_software: bool,
    /// Why it brings no driver.
    pub fault: Option<Fault>,
}

/// A device file.
#[derive(Debug, Clone)]
pub struct Node {
    /// The file.
    pub path: PathBuf,
    /// Whether this user may not open it.
    pub is_denied: bool,
}

impl Environment {
    /// Looks at this machine; `devices` are those of the engine, and `unusable` what it leaves out.
    pub fn of_this_machine(devices: Vec<Device>, unusable: Vec<DeviceInfo>) -> Self {
        let base = Self { os: std::env::consts::OS.into(), devices, unusable, ..Self::default() };
        if base.os != "linux" {
            return base;
        }
        let (paths, found) = Found::on_this_machine();
        let manifests = paths.files().into_iter().map(|path| Manifest {
            is_software: is_software(&path),
            fault: fault(&path),
            path,
        });
        Self {
            loader: found.loader,
            manifests: manifests.collect(),
            forced: paths.forced,
            nodes: nodes(),
            vendors: vendors(),
            container: container(),
            nvidia_capabilities: std::env::var("NVIDIA_DRIVER_CAPABILITIES").ok(),
            ..base
        }
    }
}

/// The entries of a folder, in order; none where there is no such folder.
fn entries(folder: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
}

/// Render nodes, NVIDIA's files, AMD's compute node and that of Windows under Linux.
fn nodes() -> Vec<Node> {
    let is_node = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix("nvidia").or(name.strip_prefix("renderD"));
        number.is_some_and(|n| n == "ctl" || n.parse::<u32>().is_ok()) || name == "kfd" || name == "dxg"
    };
    let denied = |path: &Path| {
        let opened = std::fs::OpenOptions::new().read(true).write(true).open(path);
        opened.is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
    };
    let paths = entries("/dev/dri").into_iter().chain(entries("/dev")).filter(is_node);
    paths.map(|path| Node { is_denied: denied(&path), path }).collect()
}

/// Vendors of PCI devices of class 3, display controllers.
fn vendors() -> Vec<u32> {
    let value = |path: &Path, name: &str| {
        let text = std::fs::read_to_string(path.join(name)).ok()?;
        u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
    };
    let is_display = |path: &PathBuf| value(path, "class").is_some_and(|class| class >> 16 == 3);
    entries("/sys/bus/pci/devices")
        .iter()
        .filter(|p| is_display(p))
        .filter_map(|p| value(p, "vendor"))
        .collect()
}

fn container() -> Option<String> {
    let marks =
        [("/.dockerenv", "docker"), ("/run/.containerenv", "podman"), ("/.singularity.d", "apptainer")];
    let mark = marks.into_iter().find(|(path, _)| Path::new(path).exists()).map(|(_, name)| name.to_owned());
    let kubernetes = || std::env::var_os("KUBERNETES_SERVICE_HOST").map(|_| "kubernetes".to_owned());
    mark.or_else(kubernetes).or_else(|| std::env::var("container").ok().filter(|name| !name.is_empty()))
}
