//! Machines as they are met, and what is said of them.

use super::super::environment::{Device, Manifest, Node};
use super::*;
use lwflow_engine::DeviceInfo;
use std::path::PathBuf;

fn device(kind: DeviceKind, test: SelfTest) -> Device {
    let info = DeviceInfo {
        index: Some(0),
        name: format!("a {kind}"),
        kind,
        backend: "vulkan".into(),
        driver: "1.0".into(),
        subgroup: None,
        timestamps: false,
        adapter: None,
    };
    Device { info, test }
}

fn manifest(name: &str) -> Manifest {
    let path = PathBuf::from("/usr/share/vulkan/icd.d").join(name);
    Manifest { is_software: name.starts_with("lvp"), path, fault: None }
}

/// A Linux machine with the loader, lavapipe and the cores.
fn linux_machine() -> Environment {
    Environment {
        os: "linux".into(),
        devices: vec![
            device(DeviceKind::Cpu, SelfTest::Passed),
            device(DeviceKind::Software, SelfTest::Passed),
        ],
        loader: Some("/usr/lib/libvulkan.so.1".into()),
        manifests: vec![manifest("lvp_icd.json")],
        ..Environment::default()
    }
}

fn nodes(paths: &[&str]) -> Vec<Node> {
    paths.iter().map(|path| Node { path: path.into(), is_denied: false }).collect()
}

/// Fails unless the findings before the last, which is about the cores, are as many as `words`, each with its words.
#[track_caller]
fn expect(environment: &Environment, words: &[&[&str]]) {
    let found = findings(environment);
    let text = format!("{found:#?}");
    assert_eq!(found.len(), words.len() + 1, "{text}");
    assert!(found.last().unwrap().what.contains("--device cpu"), "{text}");
    for (finding, words) in found.iter().zip(words) {
        for word in *words {
            let remedy = finding.remedy.as_deref().unwrap_or_default();
            assert!(finding.what.contains(word) || remedy.contains(word), "no `{word}` in {finding:?}");
        }
    }
}

#[test]
fn a_gpu_that_passes_is_well_and_one_that_fails_is_named() {
    let mut e = linux_machine();
    e.devices.insert(0, device(DeviceKind::Discrete, SelfTest::Passed));
    assert_eq!(findings(&e), []);
    e.devices[0].test = SelfTest::Failed("inverse 300".into());
    let found = findings(&e);
    assert!(found.len() == 1 && found[0].what.contains("a discrete GPU computes wrong"), "{found:?}");
    let limit = "a kernel, by max_storage_buffers_per_shader_stage, needs 8, the device allows 4";
    e.devices[0].test = SelfTest::TooSmall(limit.into());
    let found = findings(&e);
    assert!(
        found.len() == 1 && found[0].what.contains("a limit of a discrete GPU is too small"),
        "{found:?}"
    );
    assert!(found[0].what.contains(limit) && !found[0].what.contains("wrong"), "{found:?}");
    e.devices[0].test = SelfTest::NotOpened("busy".into());
    let found = findings(&e);
    assert!(found.len() == 1 && found[0].what.contains("cannot be opened"), "{found:?}");
}

#[test]
fn an_adapter_without_compute_is_named() {
    let mut e = linux_machine();
    e.unusable = vec![device(DeviceKind::Integrated, SelfTest::Passed).info];
    expect(&e, &[&["a integrated GPU", "no compute", "update its driver"], &["no GPU is to be seen"]]);
    // Beside a GPU that is well it is worth knowing, and all there is to say.
    e.devices.insert(0, device(DeviceKind::Discrete, SelfTest::Passed));
    assert_eq!(findings(&e).len(), 1);
}

#[test]
fn a_manifest_that_cannot_be_read_is_named() {
    let mut e = linux_machine();
    e.manifests.push(Manifest { fault: Some(Fault::Unreadable), ..manifest("radeon_icd.json") });
    expect(&e, &[&["radeon_icd.json cannot be read", "library_path"], &["no GPU is to be seen"]]);
    // One for another architecture is no fault of the machine's.
    e.manifests[1].fault = Some(Fault::Architecture);
    expect(&e, &[&["no GPU is to be seen"]]);
}

#[test]
fn no_gpu_no_loader_no_driver() {
    expect(&linux_machine(), &[&["no GPU is to be seen", "virtual machine"]]);
    let mut e = linux_machine();
    e.container = Some("docker".into());
    expect(&e, &[&["no GPU is to be seen", "--gpus all", "--device /dev/dri"]]);
    // The graphics of a server's remote console.
    e.vendors = vec![0x1a03];
    e.container = None;
    expect(&e, &[&["no GPU is to be seen"]]);
    e.loader = None;
    e.manifests.clear();
    expect(&e, &[&["no Vulkan loader", "libvulkan1"], &["no GPU is to be seen"]]);
}

#[test]
fn nvidia_in_a_container() {
    let mut e = linux_machine();
    e.container = Some("docker".into());
    e.vendors = vec![NVIDIA];
    expect(&e, &[&["not handed to this container (docker)", "--gpus all"]]);
    e.nodes = nodes(&["/dev/nvidia0", "/dev/nvidiactl"]);
    expect(&e, &[&["CUDA but not Vulkan", "is not set", "NVIDIA_DRIVER_CAPABILITIES=all"]]);
    e.nvidia_capabilities = Some("compute,utility".into());
    expect(&e, &[&["is \"compute,utility\", without \"graphics\""]]);
    e.nvidia_capabilities = Some("compute, graphics".into());
    expect(&e, &[&["did not get it", "libnvidia-gl"]]);
    e.manifests.push(manifest("nvidia_icd.json"));
    expect(&e, &[&["offers no device", "VK_LOADER_DEBUG"]]);
}

#[test]
fn nvidia_without_a_container() {
    let mut e = linux_machine();
    e.vendors = vec![INTEL, NVIDIA];
    e.nodes = nodes(&["/dev/dri/renderD128"]);
    e.manifests.push(manifest("intel_icd.x86_64.json"));
    expect(&e, &[&["kernel driver is not loaded (no /dev/nvidia0)", "nvidia-smi"]]);
    e.nodes = nodes(&["/dev/dri/renderD128", "/dev/nvidia0"]);
    expect(&e, &[&["Vulkan part is not installed", "libnvidia-gl"]]);
    // The free kernel driver makes a render node.
    e.vendors = vec![NVIDIA];
    e.nodes = nodes(&["/dev/dri/renderD128"]);
    e.manifests.truncate(1);
    expect(&e, &[&["kernel driver is not loaded (no /dev/nvidia0)"]]);
    // A GPU on a board without PCI.
    e.vendors.clear();
    expect(&e, &[&["no Vulkan driver of Mesa's"]]);
}

#[test]
fn mesa_without_driver_node_or_permission() {
    let mut e = linux_machine();
    e.vendors = vec![AMD];
    expect(
        &e,
        &[&["kernel driver is not loaded", "dmesg"], &["no Vulkan driver of Mesa", "mesa-vulkan-drivers"]],
    );
    e.manifests.push(manifest("radeon_icd.json"));
    e.container = Some("podman".into());
    expect(&e, &[&["not handed to this container (podman)", "--device /dev/dri"]]);
    e.nodes = nodes(&["/dev/dri/renderD128"]);
    e.nodes[0].is_denied = true;
    expect(&e, &[&["may not open /dev/dri/renderD128", "render and video", "--group-add"]]);
    e.container = None;
    e.manifests[1].fault = Some(Fault::LibraryMissing("/usr/lib/libvulkan_radeon.so".into()));
    expect(
        &e,
        &[
            &["radeon_icd.json names /usr/lib/libvulkan_radeon.so", "again"],
            &["may not open"],
            &["no Vulkan driver of Mesa"],
        ],
    );
}

#[test]
fn manifests_that_are_forced_and_windows_under_linux() {
    let mut e = linux_machine();
    e.vendors = vec![AMD];
    e.nodes = nodes(&["/dev/dri/renderD128"]);
    e.forced = Some(vec!["/usr/share/vulkan/icd.d/lvp_icd.json".into()]);
    expect(&e, &[&["allows only /usr/share/vulkan/icd.d/lvp_icd.json", "unset it"]]);
    let mut e = linux_machine();
    e.nodes = nodes(&["/dev/dxg"]);
    expect(&e, &[&["WSL", "Windows build"]]);
    e.os = "windows".into();
    expect(&e, &[&["DX12", "vendor"]]);
    e.os = "macos".into();
    expect(&e, &[&["Metal"]]);
}
