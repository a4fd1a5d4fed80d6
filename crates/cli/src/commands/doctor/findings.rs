//! From a described machine to what is wrong with it and what helps: a function of its argument alone, so that every case is
//! a test. Invariant: a machine with a GPU that passes has no finding but those about that GPU's neighbours.

use super::adapter::Fault;
use super::environment::{Environment, SelfTest};
use lwflow_engine::DeviceKind;

/// Something that is wrong, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub what: String,
    /// What helps.
    pub remedy: Option<String>,
}

const NVIDIA: u32 = 0x10de;
const AMD: u32 = 0x1002;
const INTEL: u32 = 0x8086;

fn finding(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { what: what.into(), remedy: Some(remedy.into()) }
}

/// All findings, the nearest to the cause first.
pub fn findings(environment: &Environment) -> Vec<Finding> {
    let mut found = Vec::new();
    for device in &environment.devices {
        let name = &device.info.name;
        match &device.test {
            SelfTest::Passed => {}
            SelfTest::Failed(_) => found.push(finding(
                format!("{name} computes wrong numbers or fails, see its self-test above"),
                "update its driver; until then use another one, such as --device cpu",
            )),
            SelfTest::TooSmall(why) => found.push(finding(
                format!("a limit of {name} is too small: {why}"),
                "a newer driver may allow more; until then use another one, such as --device cpu",
            )),
            SelfTest::NotOpened(_) => found.push(finding(
                format!("{name} is there but cannot be opened, see above"),
                "another program may hold its memory or hold it alone; update its driver",
            )),
        }
    }
    for info in &environment.unusable {
        found.push(finding(
            format!("{info} is not used: it runs no compute shaders, or is of no known kind"),
            "update its driver; a translation layer, or a driver for display alone, cannot compute",
        ));
    }
    if environment.devices.iter().any(|device| is_gpu(device.info.kind)) {
        return found;
    }
    match environment.os.as_str() {
        "linux" => linux(environment, &mut found),
        "macos" => {
            found.push(finding("Metal offers no device", "a Mac without a display session may hide its GPU"))
        }
        _ => found.push(finding(
            "there is no GPU with a Vulkan or DX12 driver",
            "install the driver of the graphics card from its vendor, not the one that Windows brings",
        )),
    }
    let cores = "the cores do the work meanwhile (--device cpu, which auto takes without a GPU)";
    found.push(Finding { what: cores.into(), remedy: None });
    found
}

/// Whether a device is more than the cores or a driver that runs on them.
fn is_gpu(kind: DeviceKind) -> bool {
    matches!(kind, DeviceKind::Discrete | DeviceKind::Integrated | DeviceKind::Virtual)
}

fn linux(e: &Environment, found: &mut Vec<Finding>) {
    let before = found.len();
    if e.loader.is_none() {
        found.push(finding(
            "there is no Vulkan loader (libvulkan.so.1)",
            "install it: libvulkan1 on Debian and Ubuntu, vulkan-loader on Fedora, vulkan-icd-loader on Arch",
        ));
    }
    for manifest in &e.manifests {
        let path = manifest.path.display();
        match &manifest.fault {
            Some(Fault::LibraryMissing(library)) => found.push(finding(
                format!("the driver manifest {path} names {}, which is not there", library.display()),
                "install the package of that driver again",
            )),
            Some(Fault::Unreadable) => found.push(finding(
                format!("the driver manifest {path} cannot be read, or names no library"),
                "look at its rights and its text (JSON with \"library_path\"), or install the package of that driver again",
            )),
            Some(Fault::Architecture) | None => {}
        }
    }
    let has_driver = e.manifests.iter().any(|m| !m.is_software && m.fault.is_none());
    if let Some(forced) = e.forced.as_ref().filter(|_| !has_driver) {
        let list: Vec<String> = forced.iter().map(|path| path.display().to_string()).collect();
        found.push(finding(
            format!(
                "VK_DRIVER_FILES or VK_ICD_FILENAMES allows only {}, no driver of a GPU",
                list.join(", ")
            ),
            "unset it, or name the manifest of the GPU's driver in it",
        ));
    }
    for node in e.nodes.iter().filter(|node| node.is_denied) {
        let more = if e.container.is_some() {
            "; for a container, --group-add with the group that owns it"
        } else {
            ""
        };
        found.push(finding(
            format!("this user may not open {}", node.path.display()),
            format!("add the user to the groups render and video and log in again{more}"),
        ));
    }
    let has_node = |stem: &str| e.nodes.iter().any(|node| node.path.to_string_lossy().contains(stem));
    if has_node("dxg") {
        found.push(finding(
            "this is Linux under Windows (WSL), where vendors bring no Vulkan driver of their own",
            "run the Windows build of lwflow, or install a Mesa with the driver dzn",
        ));
        return;
    }
    let has_vendor = |vendor| e.vendors.contains(&vendor);
    if has_vendor(NVIDIA) || has_node("/dev/nvidia") {
        nvidia(e, has_node("/dev/nvidia"), found);
    }
    let is_other = has_node("renderD") && !has_node("/dev/nvidia") && !has_vendor(NVIDIA);
    if has_vendor(AMD) || has_vendor(INTEL) || is_other {
        mesa(e, has_node("renderD"), found);
    }
    let is_bare = e.nodes.is_empty() && ![NVIDIA, AMD, INTEL].into_iter().any(has_vendor);
    if is_bare && e.forced.is_none() {
        let remedy = match e.container {
            Some(_) => {
                "if the host has one, hand it over: --gpus all for NVIDIA, --device /dev/dri for others"
            }
            None => "a virtual machine needs one passed through; a new card may need a newer kernel",
        };
        found.push(finding(
            "no GPU is to be seen: no display controller of a known vendor, no device file",
            remedy,
        ));
    }
    if found.len() == before {
        found.push(finding(
            "a driver and device files are there, but the driver offers no device",
            "`VK_LOADER_DEBUG=error,driver lwflow devices` or `vulkaninfo --summary` says what the loader tried; kernel and \
             user parts of the driver may differ in version: start the machine again after an update",
        ));
    }
}

fn nvidia(e: &Environment, has_node: bool, found: &mut Vec<Finding>) {
    const RUN: &str =
        "start it with `docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=all` (apptainer: --nv)";
    let has_manifest =
        e.manifests.iter().any(|m| m.fault.is_none() && m.path.to_string_lossy().contains("nvidia"));
    match (&e.container, has_node) {
        (Some(container), false) => {
            found.push(finding(format!("the NVIDIA GPU is not handed to this container ({container})"), RUN));
        }
        (None, false) => found.push(finding(
            "there is an NVIDIA GPU, but its kernel driver is not loaded (no /dev/nvidia0)",
            "install NVIDIA's driver; `nvidia-smi` must list the GPU. With Secure Boot the module must be signed",
        )),
        (_, true) if has_manifest || e.forced.is_some() => {}
        (Some(container), true) => {
            let given = e.nvidia_capabilities.as_deref().unwrap_or_default();
            let has_graphics = given.split(',').any(|word| matches!(word.trim(), "all" | "graphics"));
            if has_graphics {
                found.push(finding(
                    format!("this container ({container}) asked for NVIDIA's Vulkan driver and did not get it (no nvidia_icd.json)"),
                    "the host's driver lacks it, as headless and server packages do: install libnvidia-gl of the driver's \
                     version on the host",
                ));
            } else {
                let given = if given.is_empty() { "not set".to_owned() } else { format!("\"{given}\"") };
                found.push(finding(
                    format!(
                        "this container ({container}) has CUDA but not Vulkan: NVIDIA_DRIVER_CAPABILITIES is {given}, \
                         without \"graphics\""
                    ),
                    RUN,
                ));
            }
        }
        (None, true) => found.push(finding(
            "NVIDIA's driver is loaded, but its Vulkan part is not installed (no nvidia_icd.json)",
            "install libnvidia-gl of the driver's version (Ubuntu), nvidia-vulkan-icd (Debian), or the driver itself \
             instead of its headless variant",
        )),
    }
}

/// AMD's, Intel's and lesser known GPUs, whose drivers are Mesa's.
fn mesa(e: &Environment, has_node: bool, found: &mut Vec<Finding>) {
    if !has_node {
        found.push(match &e.container {
            Some(container) => finding(
                format!("there is an AMD or Intel GPU, but it is not handed to this container ({container})"),
                "start it with `--device /dev/dri` and the group that owns /dev/dri/renderD128 (--group-add)",
            ),
            None => finding(
                "there is an AMD or Intel GPU, but its kernel driver is not loaded (no /dev/dri/renderD128)",
                "`dmesg | grep -e amdgpu -e i915 -e xe` says why; a new card needs a newer kernel and firmware",
            ),
        });
    }
    let has_manifest = e
        .manifests
        .iter()
        .any(|m| m.fault.is_none() && !m.is_software && !m.path.to_string_lossy().contains("nvidia"));
    if !has_manifest && e.forced.is_none() {
        found.push(finding(
            "there is no Vulkan driver of Mesa's for a GPU",
            "install Mesa's: mesa-vulkan-drivers on Debian, Ubuntu and Fedora, vulkan-radeon or vulkan-intel on Arch",
        ));
    }
}

#[cfg(test)]
mod tests;
