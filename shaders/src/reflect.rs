//! Reads a kernel's bindings, uniform fields and workgroup size out of its validated module.
//! The host fills uniforms and binds buffers by these names, so neither is kept in step by hand.

use naga::{AddressSpace, ScalarKind, StorageAccess, TypeInner};

/// How a kernel uses a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// A uniform block.
    Uniform(UniformLayout),
    /// A storage buffer that the kernel only reads.
    Read,
    /// A storage buffer that the kernel may write.
    ReadWrite,
}

/// One resource of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The variable's name in the WGSL text.
    pub name: String,
    /// The binding number in group 0.
    pub index: u32,
    /// How it is used.
    pub access: Access,
}

/// The scalar types of uniform fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// `u32`.
    U32,
    /// `f32`.
    F32,
}

/// One field of a uniform block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The field's name.
    pub name: String,
    /// Its offset in bytes.
    pub offset: u32,
    /// Its type.
    pub scalar: Scalar,
}

/// The layout of a uniform block: scalars by name. A block that is not a flat struct has no fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UniformLayout {
    /// The block's size in bytes.
    pub size: u32,
    /// The fields in the order of their offsets.
    pub fields: Vec<Field>,
}

/// The bindings (those the entry point uses) and the workgroup size of the entry point `entry`.
pub(crate) fn reflect(
    module: &naga::Module,
    info: &naga::valid::ModuleInfo,
    entry: &str,
) -> Result<(Vec<Binding>, [u32; 3]), String> {
    let (at, point) = module
        .entry_points
        .iter()
        .enumerate()
        .find(|(_, p)| p.name == entry)
        .ok_or_else(|| format!("entry point {entry} is missing (it must be named like the file)"))?;
    let used = info.get_entry_point(at);
    let mut bindings = Vec::new();
    for (handle, variable) in module.global_variables.iter() {
        let Some(resource) = &variable.binding else { continue };
        let name = variable.name.clone().unwrap_or_default();
        if resource.group != 0 {
            return Err(format!("binding {name} is in group {}, expected group 0", resource.group));
        }
        if used[handle].is_empty() {
            return Err(format!("binding {name} is declared but never used"));
        }
        let access = match variable.space {
            AddressSpace::Uniform => Access::Uniform(uniform_layout(module, variable.ty)),
            AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => Access::ReadWrite,
            AddressSpace::Storage { .. } => Access::Read,
            space => return Err(format!("binding {name} is in address space {space:?}, expected a buffer")),
        };
        bindings.push(Binding { name, index: resource.binding, access });
    }
    bindings.sort_by_key(|b| b.index);
    Ok((bindings, point.workgroup_size))
}

fn uniform_layout(module: &naga::Module, ty: naga::Handle<naga::Type>) -> UniformLayout {
    match &module.types[ty].inner {
        TypeInner::Struct { members, span } => {
            let fields = members
                .iter()
                .filter_map(|member| {
                    let scalar = match &module.types[member.ty].inner {
                        TypeInner::Scalar(s) if s.kind == ScalarKind::Uint && s.width == 4 => Scalar::U32,
                        TypeInner::Scalar(s) if s.kind == ScalarKind::Float && s.width == 4 => Scalar::F32,
                        _ => return None,
                    };
                    Some(Field { name: member.name.clone()?, offset: member.offset, scalar })
                })
                .collect();
            UniformLayout { size: *span, fields }
        }
        inner => UniformLayout { size: inner.size(module.to_ctx()), fields: Vec::new() },
    }
}
