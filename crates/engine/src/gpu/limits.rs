//! The limits below which no flow runs on an adapter. Sizes that depend on the flow are looked at when it is opened.

use crate::EngineError;

/// A limit by its name in WebGPU: the least value that the kernels need, and that of an adapter.
type Need = (&'static str, u64, fn(&wgpu::Limits) -> u64);

/// What every kernel but the fused ones fits into, which run only where there is more.
const NEEDS: [Need; 4] = [
    ("max_storage_buffers_per_shader_stage", 8, |l| l.max_storage_buffers_per_shader_stage.into()),
    ("max_uniform_buffers_per_shader_stage", 2, |l| l.max_uniform_buffers_per_shader_stage.into()),
    ("max_compute_invocations_per_workgroup", 64, |l| l.max_compute_invocations_per_workgroup.into()),
    ("max_compute_workgroup_size_x", 64, |l| l.max_compute_workgroup_size_x.into()),
];

/// Whether kernels fit an adapter of these limits.
///
/// # Errors
/// [`EngineError::Limit`] for the first that is too small.
pub(super) fn check(limits: &wgpu::Limits) -> Result<(), EngineError> {
    match NEEDS.iter().find(|(_, needed, of)| of(limits) < *needed) {
        Some((name, needed, of)) => {
            let what = format!("a kernel, by {name},");
            Err(EngineError::Limit { what, needed: *needed, limit: of(limits) })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lwflow_shaders::{Access, render, variants};

    #[test]
    fn the_needs_are_those_of_the_kernels() {
        let mut most = [0; 4];
        for (name, constants) in variants().into_iter().filter(|(name, _)| !name.contains("fused")) {
            let kernel = render(name, &constants).unwrap();
            let n_uniform = kernel.bindings.iter().filter(|b| matches!(b.access, Access::Uniform(_))).count();
            let [x, y, z] = kernel.workgroup_size.map(u64::from);
            let needs = [(kernel.bindings.len() - n_uniform) as u64, n_uniform as u64, x * y * z, x];
            for (most, need) in most.iter_mut().zip(needs) {
                *most = need.max(*most);
            }
        }
        assert_eq!(most, NEEDS.map(|(_, needed, _)| needed));
    }

    #[test]
    fn a_limit_that_is_too_small_is_named() {
        assert!(check(&wgpu::Limits::default()).is_ok());
        let small = wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..wgpu::Limits::default() };
        let text = check(&small).unwrap_err().to_string();
        assert!(
            text.contains("max_storage_buffers_per_shader_stage") && text.contains("the device allows 4"),
            "{text}"
        );
    }
}
