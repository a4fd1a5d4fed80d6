//! Finds and opens adapters, and records the facts about them that the passes depend on.
//! Invariant: limits and features are read from the adapter, never assumed.

use std::fmt;
use std::time::Duration;

use super::faults::FaultLog;
use super::pipeline::Pipelines;
use crate::EngineError;
use crate::device::{AdapterLimits, DeviceInfo, DeviceKind, SubgroupSizes};

impl DeviceInfo {
    fn of_adapter(info: &wgpu::AdapterInfo, features: wgpu::Features, limits: &wgpu::Limits) -> Self {
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => DeviceKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => DeviceKind::Integrated,
            wgpu::DeviceType::VirtualGpu => DeviceKind::Virtual,
            wgpu::DeviceType::Cpu => DeviceKind::Software,
            wgpu::DeviceType::Other => DeviceKind::Other,
        };
        Self {
            index: None,
            name: info.name.clone(),
            kind,
            backend: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            subgroup: features
                .contains(wgpu::Features::SUBGROUP)
                .then_some(SubgroupSizes { min: info.subgroup_min_size, max: info.subgroup_max_size }),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            adapter: Some(AdapterLimits {
                vendor: info.vendor,
                device: info.device,
                max_storage_bytes: limits.max_storage_buffer_binding_size,
                max_uniform_bytes: limits.max_uniform_buffer_binding_size,
                max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
            }),
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

/// Adapters in the order of the drivers: those that kernels may run on, and those that have no compute or are of no kind
/// that is known.
pub(crate) async fn adapters() -> (Vec<(DeviceInfo, wgpu::Adapter)>, Vec<DeviceInfo>) {
    let (mut usable, mut others) = (Vec::new(), Vec::new());
    for adapter in instance().enumerate_adapters(wgpu::Backends::all()).await {
        let info = DeviceInfo::of_adapter(&adapter.get_info(), adapter.features(), &adapter.limits());
        let flags = adapter.get_downlevel_capabilities().flags;
        if flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS) && info.kind != DeviceKind::Other {
            usable.push((info, adapter));
        } else {
            others.push(info);
        }
    }
    (usable, others)
}

impl Gpu {
    /// Opens an adapter.
    pub async fn open(
        info: DeviceInfo,
        adapter: &wgpu::Adapter,
        timeout: Duration,
    ) -> Result<Self, EngineError> {
        super::limits::check(&adapter.limits())?;
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
        Ok(Self::assemble(info, device, queue, timeout, faults))
    }

    /// Takes over a device the caller opened. Its error callbacks stay the caller's.
    pub fn adopt(
        info: &wgpu::AdapterInfo,
        device: wgpu::Device,
        queue: wgpu::Queue,
        timeout: Duration,
    ) -> Self {
        let info = DeviceInfo::of_adapter(info, device.features(), &device.limits());
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
