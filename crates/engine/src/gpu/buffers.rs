//! The device buffers of a flow: parameters and gradients by region, and the per-sample arrays of one piece.
//! Invariant: per-sample arrays are feature-major, (rows, padded samples); passes share scratch by name and never
//! keep a value in it from one pass to the next.

use std::collections::BTreeMap;

use super::uniform::Value;
use super::{BatchDims, Gpu};
use crate::EngineError;

/// `n` rounded up to a multiple of `unit`.
pub(crate) fn round_up(n: usize, unit: usize) -> usize {
    n.next_multiple_of(unit)
}

/// A range of the parameter or gradient buffer, in floats. Offsets are multiples of [`Region::ALIGN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub offset: usize,
    pub len: usize,
}

impl Region {
    /// 256 bytes: the largest offset alignment that a device may ask for.
    pub const ALIGN: usize = 64;

    /// Offset and size in bytes.
    pub fn bytes(&self) -> (u64, u64) {
        (4 * self.offset as u64, 4 * self.len as u64)
    }

    /// As a range of floats.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len
    }

    /// Consecutive aligned regions of the given lengths, and the total length (at least one unit).
    pub fn sequence(lens: impl IntoIterator<Item = usize>) -> (Vec<Self>, usize) {
        let mut offset = 0;
        let regions = lens
            .into_iter()
            .map(|len| {
                let region = Self { offset, len };
                offset += round_up(len, Self::ALIGN);
                region
            })
            .collect();
        (regions, offset.max(Self::ALIGN))
    }
}

/// The scratch that passes ask for: rows of per-sample arrays by name, and floats of partial sums per chunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// Rows by name.
    pub rows: BTreeMap<String, usize>,
    /// Floats per chunk.
    pub partial: usize,
}

impl Need {
    /// Asks for at least `rows` rows called `name`.
    pub fn rows(&mut self, name: impl Into<String>, rows: usize) {
        let entry = self.rows.entry(name.into()).or_default();
        *entry = (*entry).max(rows);
    }

    /// Asks for at least `len` floats of partial sums per chunk.
    pub fn partial(&mut self, len: usize) {
        self.partial = self.partial.max(len);
    }

    /// What both ask for.
    pub fn merge(&mut self, other: &Self) {
        for (name, rows) in &other.rows {
            self.rows(name.clone(), *rows);
        }
        self.partial(other.partial);
    }
}

/// Parameters and gradients: one buffer each, flow after flow, each with a region per layer and one for the base.
#[derive(Debug)]
pub(crate) struct FlowBuffers {
    pub params: wgpu::Buffer,
    pub grads: wgpu::Buffer,
    /// Floats of a flow in each.
    pub n_params: usize,
    pub n_grads: usize,
    pub n_flows: usize,
}

/// A region of every flow in a buffer that holds them one after another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span<'a> {
    pub buffer: &'a wgpu::Buffer,
    pub region: Region,
    /// Floats from one flow to the next.
    pub stride: usize,
    pub n_flows: usize,
}

impl Span<'_> {
    /// Offset and size in bytes, from the first flow's region to the end of the last's.
    pub fn bytes(&self) -> (u64, u64) {
        let len = (self.n_flows - 1) * self.stride + self.region.len;
        Region { offset: self.region.offset, len }.bytes()
    }

    /// vec4s from one flow to the next, as a field of a kernel's shape.
    pub fn flow4(&self) -> (&'static str, Value) {
        ("flow4", (self.stride as u32 / 4).into())
    }
}

impl FlowBuffers {
    /// Buffers of so many floats for each flow.
    pub fn new(gpu: &Gpu, n_flows: usize, n_params: usize, n_grads: usize) -> Result<Self, EngineError> {
        use wgpu::BufferUsages as Usage;
        let usage = Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC;
        let params = gpu.buffer("flow/params", n_flows * n_params, usage)?;
        let grads = gpu.buffer("flow/grads", n_flows * n_grads, usage)?;
        Ok(Self { params, grads, n_params, n_grads, n_flows })
    }

    /// A region of every flow's parameters.
    pub fn params(&self, region: Region) -> Span<'_> {
        Span { buffer: &self.params, region, stride: self.n_params, n_flows: self.n_flows }
    }

    /// A region of every flow's gradients.
    pub fn grads(&self, region: Region) -> Span<'_> {
        Span { buffer: &self.grads, region, stride: self.n_grads, n_flows: self.n_flows }
    }
}

/// The arrays of one piece of the batch, for up to `capacity` padded samples of all flows together.
#[derive(Debug)]
pub(crate) struct BatchBuffers {
    /// Padded samples that fit.
    pub capacity: usize,
    /// Chunks whose partial sums fit.
    pub n_chunks: usize,
    /// The `batch` uniform.
    pub uniform: wgpu::Buffer,
    /// Coordinates (D): theta, u, v or z in turn.
    pub x: wgpu::Buffer,
    /// Context (C, at least one row).
    pub context: wgpu::Buffer,
    /// Log-determinant of forward (1).
    pub log_det: wgpu::Buffer,
    /// Sample weights (1).
    pub weight: wgpu::Buffer,
    /// Log inverse proposal density (1).
    pub log_inv_proposal: wgpu::Buffer,
    /// Log density (1).
    pub log_q: wgpu::Buffer,
    /// Effective weights, made by the base pass (1).
    pub w_eff: wgpu::Buffer,
    /// Gradient of the loss with respect to x as it stands (D).
    pub g: wgpu::Buffer,
    /// Gradient of the loss with respect to the context (C, at least one row).
    pub g_context: wgpu::Buffer,
    /// Partial sums (chunks, floats per chunk).
    pub partial: wgpu::Buffer,
    scratch: BTreeMap<String, wgpu::Buffer>,
}

impl BatchBuffers {
    /// Rows of all arrays together: a sample's share of device memory is four bytes per row.
    pub fn total_rows(dim: usize, context_dim: usize, need: &Need) -> usize {
        2 * dim + 2 * context_dim.max(1) + 5 + need.rows.values().sum::<usize>()
    }

    /// Rows of the largest array.
    pub fn largest_rows(dim: usize, context_dim: usize, need: &Need) -> usize {
        need.rows.values().copied().max().unwrap_or(1).max(dim).max(context_dim)
    }

    /// Arrays for `capacity` samples, a multiple of the sample padding.
    pub fn new(
        gpu: &Gpu,
        capacity: usize,
        n_chunks: usize,
        dim: usize,
        context_dim: usize,
        need: &Need,
    ) -> Result<Self, EngineError> {
        use wgpu::BufferUsages as Usage;
        let usage = Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC;
        let rows = |name: &str, rows: usize| gpu.buffer(&format!("batch/{name}"), rows * capacity, usage);
        let c = context_dim.max(1);
        let mut scratch = BTreeMap::new();
        for (name, n) in &need.rows {
            scratch.insert(name.clone(), rows(name, *n)?);
        }
        Ok(Self {
            capacity,
            n_chunks,
            uniform: gpu.buffer("batch/uniform", 64, Usage::UNIFORM | Usage::COPY_DST)?,
            x: rows("x", dim)?,
            context: rows("context", c)?,
            log_det: rows("log_det", 1)?,
            weight: rows("weight", 1)?,
            log_inv_proposal: rows("log_inv_proposal", 1)?,
            log_q: rows("log_q", 1)?,
            w_eff: rows("w_eff", 1)?,
            g: rows("g", dim)?,
            g_context: rows("g_context", c)?,
            partial: gpu.buffer("batch/partial", (n_chunks * need.partial).max(4), usage)?,
            scratch,
        })
    }

    /// Tells the kernels about the piece.
    pub fn write_dims(&self, gpu: &Gpu, dims: &BatchDims) {
        // The order of include/batch.wgsl; `uniform_matches_the_kernels` compares the two.
        gpu.queue.write_buffer(&self.uniform, 0, &dims.bytes());
    }

    /// Every per-sample array by label, for tests that look at all of them.
    #[cfg(test)]
    pub fn arrays(&self) -> Vec<(String, &wgpu::Buffer)> {
        let named = [
            ("x", &self.x),
            ("context", &self.context),
            ("log_det", &self.log_det),
            ("weight", &self.weight),
            ("log_inv_proposal", &self.log_inv_proposal),
            ("log_q", &self.log_q),
            ("w_eff", &self.w_eff),
            ("g", &self.g),
            ("g_context", &self.g_context),
            ("partial", &self.partial),
        ];
        let named = named.into_iter().map(|(name, buffer)| (name.to_owned(), buffer));
        named.chain(self.scratch.iter().map(|(name, buffer)| (name.clone(), buffer))).collect()
    }

    /// The scratch array called `name`.
    pub fn scratch(&self, name: &str) -> Result<&wgpu::Buffer, EngineError> {
        self.scratch.get(name).ok_or_else(|| EngineError::Binding {
            kernel: "scratch".into(),
            message: format!("no pass asked for the array `{name}`"),
        })
    }
}

impl Gpu {
    /// A buffer of `len` floats, zero at first.
    pub fn buffer(
        &self,
        label: &str,
        len: usize,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, EngineError> {
        let size = 4 * len as u64;
        let storage = usage.contains(wgpu::BufferUsages::STORAGE);
        let binding = self.limits.max_storage_buffer_binding_size;
        let limit =
            if storage { self.limits.max_buffer_size.min(binding) } else { self.limits.max_buffer_size };
        if size > limit {
            let what = format!("buffer {label}: number of bytes");
            return Err(EngineError::Limit { what, needed: size, limit });
        }
        self.scoped(&format!("allocating {size} bytes for {label}"), || {
            Ok(self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage,
                mapped_at_creation: false,
            }))
        })
    }
}
