//! The WGSL kernels of lwflow, without wgpu: templates, their rendering, validation and reflection.
//! Invariant: every kernel has a row in the variant table, and every row is validated by the tests, and whatever is
//! rendered is validated before it is handed out.
//!
//! ```
//! let constants = lwflow_shaders::Constants::new().with("workgroup", 64);
//! let kernel = lwflow_shaders::render("affine_coupling_inverse", &constants)?;
//! assert_eq!(kernel.workgroup_size, [64, 1, 1]);
//! assert!(kernel.bindings.iter().any(|b| b.name == "log_det"));
//! # Ok::<(), lwflow_shaders::ShaderError>(())
//! ```

mod reflect;
mod template;
mod variants;

pub use reflect::{Access, Binding, Field, Scalar, UniformLayout};
pub use template::{Constant, Constants};
pub use variants::{ACTIVATIONS, variants};

include!(concat!(env!("OUT_DIR"), "/sources.rs"));

/// What can go wrong with a kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShaderError {
    /// The template asks for a constant that was not given, or has a mistake.
    #[error("kernel {kernel} [{constants}]: template does not render: {message}")]
    Render {
        /// The kernel's name.
        kernel: String,
        /// Its constants, as `name=value` pairs.
        constants: String,
        /// The template engine's message with file and line.
        message: String,
    },
    /// The rendered WGSL is not valid.
    #[error("kernel {kernel} [{constants}]: WGSL is not valid: {message}")]
    Invalid {
        /// The kernel's name.
        kernel: String,
        /// Its constants, as `name=value` pairs.
        constants: String,
        /// The compiler's message with the template's file and line.
        message: String,
    },
}

/// One rendered kernel with what reflection says about it. The entry point is named like the kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The kernel's name: the file's stem and the entry point.
    pub name: String,
    /// The WGSL text.
    pub source: String,
    /// Every resource the kernel uses, by binding number; all in group 0.
    pub bindings: Vec<Binding>,
    /// Invocations per workgroup along x, y, z.
    pub workgroup_size: [u32; 3],
}

impl Kernel {
    /// The binding called `name`.
    #[must_use]
    pub fn binding(&self, name: &str) -> Option<&Binding> {
        self.bindings.iter().find(|b| b.name == name)
    }
}

/// Renders, validates and reflects the kernel `kernel` (a file stem in `wgsl/`) with its constants.
///
/// # Errors
/// [`ShaderError::Render`] for a missing constant or unknown kernel, [`ShaderError::Invalid`] for WGSL that naga
/// rejects; both name the template's file and line.
pub fn render(kernel: &str, constants: &Constants) -> Result<Kernel, ShaderError> {
    let failed = |message| ShaderError::Render {
        kernel: kernel.to_owned(),
        constants: constants.to_string(),
        message,
    };
    let invalid = |message| ShaderError::Invalid {
        kernel: kernel.to_owned(),
        constants: constants.to_string(),
        message,
    };
    let source = template::render_template(SOURCES, kernel, constants, false).map_err(failed)?;
    let (module, info) = match template::validate_wgsl(&source) {
        Ok(valid) => valid,
        Err(plain) => {
            // Only the traced text knows which file a line came from.
            let traced = template::render_template(SOURCES, kernel, constants, true).map_err(failed)?;
            return Err(invalid(template::validate_wgsl(&traced).err().unwrap_or(plain)));
        }
    };
    let (bindings, workgroup_size) = reflect::reflect(&module, &info, kernel).map_err(invalid)?;
    Ok(Kernel { name: kernel.to_owned(), source, bindings, workgroup_size })
}

/// The text of a template or include file (a path in `wgsl/` without its ending) with its constants, not validated: a part
/// of a program that is put together elsewhere.
///
/// # Errors
/// [`ShaderError::Render`] for a missing constant or unknown file.
pub fn render_text(file: &str, constants: &Constants) -> Result<String, ShaderError> {
    template::render_template(SOURCES, file, constants, false).map_err(|message| ShaderError::Render {
        kernel: file.to_owned(),
        constants: constants.to_string(),
        message,
    })
}

/// A hash of every template: changes whenever a kernel does.
#[must_use]
pub fn fingerprint() -> u64 {
    SOURCES.iter().fold(fnv1a(&[]), |hash, (name, text)| {
        hash.rotate_left(5) ^ fnv1a(name.as_bytes()) ^ fnv1a(text.as_bytes()).rotate_left(32)
    })
}

/// The FNV-1a hash of `bytes`, the same in every build and on every machine.
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
