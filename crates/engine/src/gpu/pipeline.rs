//! Compiles kernels once per device and binds their buffers by name.
//! Invariant: a bind group exists only if names, count and access agree with the kernel's reflection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use lwflow_shaders::{Access, Constants, Kernel};

use super::Gpu;
use super::uniform::UniformSlot;
use crate::EngineError;

/// A kernel compiled for one device.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub kernel: Kernel,
    pub pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// Every pipeline made so far.
#[derive(Debug, Default)]
pub(crate) struct Pipelines(Mutex<HashMap<(String, Constants), Arc<Pipeline>>>);

/// A buffer, or a range of one in bytes, with what the kernel may do to it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound<'a> {
    /// The block that describes the piece of the batch, or any whole uniform buffer.
    Uniform(&'a wgpu::Buffer),
    /// One slot of a uniform arena.
    Slot(&'a UniformSlot),
    /// Read.
    Read(&'a wgpu::Buffer),
    /// Read a part: offset and size in bytes.
    ReadRange(&'a wgpu::Buffer, u64, u64),
    /// Written.
    Write(&'a wgpu::Buffer),
    /// Written in part: offset and size in bytes.
    WriteRange(&'a wgpu::Buffer, u64, u64),
}

impl<'a> Bound<'a> {
    fn resource(self) -> Option<wgpu::BufferBinding<'a>> {
        let (buffer, offset, size) = match self {
            Self::Uniform(b) | Self::Read(b) | Self::Write(b) => (b, 0, None),
            Self::Slot(slot) => (&slot.buffer, slot.offset, Some(slot.size)),
            Self::ReadRange(b, offset, size) | Self::WriteRange(b, offset, size) => (b, offset, Some(size)),
        };
        let size = match size {
            Some(size) => Some(wgpu::BufferSize::new(size)?),
            None => None,
        };
        Some(wgpu::BufferBinding { buffer, offset, size })
    }

    fn fits(self, access: &Access) -> bool {
        match self {
            Self::Uniform(_) | Self::Slot(_) => matches!(access, Access::Uniform(_)),
            Self::Read(_) | Self::ReadRange(..) => *access == Access::Read,
            Self::Write(_) | Self::WriteRange(..) => *access == Access::ReadWrite,
        }
    }
}

impl Gpu {
    /// The kernel with these constants, compiled now or before.
    pub fn pipeline(&self, kernel: &str, constants: &Constants) -> Result<Arc<Pipeline>, EngineError> {
        let key = (kernel.to_owned(), constants.clone());
        let lock = || self.pipelines.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().get(&key) {
            return Ok(found.clone());
        }
        let kernel = lwflow_shaders::render(kernel, constants)?;
        let during = format!("compiling kernel {} [{constants}]", kernel.name);
        let pipeline = Arc::new(self.scoped(&during, || Ok(self.compile(kernel)))?);
        lock().insert(key, pipeline.clone());
        Ok(pipeline)
    }

    fn compile(&self, kernel: Kernel) -> Pipeline {
        let label = Some(kernel.name.as_str());
        let entries: Vec<_> = kernel
            .bindings
            .iter()
            .map(|b| wgpu::BindGroupLayoutEntry {
                binding: b.index,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match b.access {
                        Access::Uniform(_) => wgpu::BufferBindingType::Uniform,
                        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = self
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(kernel.source.as_str().into()),
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(&kernel.name),
            compilation_options: Default::default(),
            cache: None,
        });
        Pipeline { kernel, pipeline, layout }
    }

    /// A bind group of `pipeline` with buffers by name.
    pub fn bind(
        &self,
        pipeline: &Pipeline,
        buffers: &[(&str, Bound<'_>)],
    ) -> Result<wgpu::BindGroup, EngineError> {
        let kernel = &pipeline.kernel;
        let fail = |message: String| EngineError::Binding { kernel: kernel.name.clone(), message };
        if let Some((name, _)) = buffers.iter().find(|(name, _)| kernel.binding(name).is_none()) {
            return Err(fail(format!("has no binding `{name}`")));
        }
        let mut entries = Vec::with_capacity(kernel.bindings.len());
        for binding in &kernel.bindings {
            let mut given = buffers.iter().filter(|(name, _)| *name == binding.name);
            let (Some((_, bound)), None) = (given.next(), given.next()) else {
                return Err(fail(format!("binding `{}` was not given exactly once", binding.name)));
            };
            if !bound.fits(&binding.access) {
                let (name, access) = (&binding.name, &binding.access);
                return Err(fail(format!("binding `{name}` was given {bound:?}, expected {access:?}")));
            }
            let resource = bound
                .resource()
                .ok_or_else(|| fail(format!("binding `{}` was given an empty range", binding.name)))?;
            entries.push(wgpu::BindGroupEntry {
                binding: binding.index,
                resource: wgpu::BindingResource::Buffer(resource),
            });
        }
        let descriptor = wgpu::BindGroupDescriptor {
            label: Some(&kernel.name),
            layout: &pipeline.layout,
            entries: &entries,
        };
        self.scoped(&format!("binding kernel {}", kernel.name), || {
            Ok(self.device.create_bind_group(&descriptor))
        })
    }
}

#[cfg(test)]
impl Gpu {
    /// Makes this adapter run `other` where `kernel` was compiled: a driver that computes wrong numbers.
    pub fn confuse(&self, kernel: &str, other: &str) {
        let mut pipelines = self.pipelines.0.lock().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<_> = pipelines.keys().filter(|(name, _)| name == kernel).cloned().collect();
        for key in keys {
            let wrong = pipelines[&(other.to_owned(), key.1.clone())].clone();
            pipelines.insert(key, wrong);
        }
    }
}
