//! Uniform blocks, filled by field name from the kernel's reflection, in arenas that live as long as the bind groups.
//! Invariant: a block is written only when every field of the kernel's struct has been given a value of its type.

use lwflow_shaders::{Access, Kernel, Scalar, UniformLayout};

use super::Gpu;
use crate::EngineError;

/// A value of a uniform field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    U32(u32),
    F32(f32),
}

impl Value {
    /// Little-endian bytes.
    pub fn bytes(self) -> [u8; 4] {
        match self {
            Self::U32(v) => v.to_le_bytes(),
            Self::F32(v) => v.to_le_bytes(),
        }
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Self {
        Self::F32(value)
    }
}

/// The bytes of the uniform block `block` of `kernel` with all its fields given by name.
pub(crate) fn fill(kernel: &Kernel, block: &str, fields: &[(&str, Value)]) -> Result<Vec<u8>, EngineError> {
    let fail = |message: String| EngineError::Binding { kernel: kernel.name.clone(), message };
    let Some(Access::Uniform(UniformLayout { size, fields: expected })) =
        kernel.binding(block).map(|b| &b.access)
    else {
        return Err(fail(format!("has no uniform block `{block}`")));
    };
    if let Some((name, _)) = fields.iter().find(|(name, _)| !expected.iter().any(|f| f.name == *name)) {
        return Err(fail(format!("uniform `{block}` has no field `{name}`")));
    }
    let mut bytes = vec![0; *size as usize];
    for field in expected {
        let given = fields.iter().find(|(name, _)| *name == field.name).map(|(_, value)| *value);
        let value = match (given, field.scalar) {
            (Some(value @ Value::U32(_)), Scalar::U32) | (Some(value @ Value::F32(_)), Scalar::F32) => {
                value.bytes()
            }
            (given, scalar) => {
                return Err(fail(format!(
                    "uniform field `{block}.{}` was given {given:?}, expected {scalar:?}",
                    field.name
                )));
            }
        };
        let at = field.offset as usize;
        bytes[at..at + 4].copy_from_slice(&value);
    }
    Ok(bytes)
}

/// One block inside an arena.
#[derive(Debug, Clone)]
pub(crate) struct UniformSlot {
    pub buffer: wgpu::Buffer,
    pub offset: u64,
    pub size: u64,
}

/// Hands out aligned slots of a few shared buffers.
#[derive(Debug, Default)]
pub(crate) struct UniformArena {
    current: Option<(wgpu::Buffer, u64)>,
}

const ARENA_BYTES: u64 = 64 * 1024;

impl UniformArena {
    /// Writes `bytes` into a new slot.
    pub fn slot(&mut self, gpu: &Gpu, bytes: &[u8]) -> UniformSlot {
        let align = u64::from(gpu.limits.min_uniform_buffer_offset_alignment).max(16);
        let size = (bytes.len() as u64).next_multiple_of(16);
        let (buffer, offset) = match self.current.take() {
            Some((buffer, used)) if used + size <= ARENA_BYTES => (buffer, used),
            _ => {
                let descriptor = wgpu::BufferDescriptor {
                    label: Some("flow/shapes"),
                    size: ARENA_BYTES,
                    usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                };
                (gpu.device.create_buffer(&descriptor), 0)
            }
        };
        let mut padded = bytes.to_vec();
        padded.resize(size as usize, 0);
        gpu.queue.write_buffer(&buffer, offset, &padded);
        self.current = Some((buffer.clone(), (offset + size).next_multiple_of(align)));
        UniformSlot { buffer, offset, size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lwflow_shaders::{Constants, render};

    #[test]
    fn fields_are_checked_by_name_and_type() {
        let kernel = render("reduce_partials", &Constants::new().with("workgroup", 8)).unwrap();
        let bytes =
            fill(&kernel, "shape", &[("n4", 7.into()), ("flow4", 5.into()), ("stride4", 9.into())]).unwrap();
        assert_eq!(bytes, [9, 0, 0, 0, 7, 0, 0, 0, 5, 0, 0, 0]);
        for wrong in [
            vec![("n4", Value::U32(7)), ("flow4", 5.into())],
            vec![("n4", 7.into()), ("flow4", 5.into()), ("stride4", Value::F32(9.0))],
            vec![("n4", 7.into()), ("flow4", 5.into()), ("stride4", 9.into()), ("other", 1.into())],
        ] {
            let error = fill(&kernel, "shape", &wrong).unwrap_err();
            assert!(error.to_string().contains("reduce_partials"), "{error}");
        }
    }
}
