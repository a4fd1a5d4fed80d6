//! Every variant validates, translates to every backend's language and agrees with its reflection.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeSet;

use lwflow_shaders::{Access, Constants, Kernel, render, variants};
use naga::back::{glsl, hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, SubgroupOperationSet, ValidationFlags, Validator};

fn all() -> Vec<(Kernel, naga::Module, ModuleInfo)> {
    variants()
        .into_iter()
        .map(|(name, constants)| {
            let kernel = render(name, &constants).unwrap();
            let module = naga::front::wgsl::parse_str(&kernel.source).unwrap();
            let mut validator = Validator::new(
                ValidationFlags::all(),
                Capabilities::SUBGROUP | Capabilities::SUBGROUP_BARRIER | Capabilities::SHADER_FLOAT16,
            );
            validator
                .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
                .subgroup_operations(SubgroupOperationSet::all());
            let info = validator.validate(&module).unwrap();
            (kernel, module, info)
        })
        .collect()
}

#[test]
fn spir_v() {
    for (kernel, module, info) in all() {
        let options = spv::Options { lang_version: (1, 3), ..Default::default() };
        let words = spv::write_vec(&module, &info, &options, None).unwrap();
        assert_eq!(words[0], 0x0723_0203, "{}", kernel.name);
    }
}

#[test]
fn metal() {
    for (kernel, module, info) in all() {
        let options = msl::Options { lang_version: (2, 4), ..Default::default() };
        let (text, translated) =
            msl::write_string(&module, &info, &options, &msl::PipelineOptions::default()).unwrap();
        assert!(text.contains("kernel void"), "{}", kernel.name);
        assert!(translated.entry_point_names.iter().all(Result::is_ok), "{}", kernel.name);
    }
}

#[test]
fn hlsl() {
    for (kernel, module, info) in all() {
        let options = hlsl::Options { shader_model: hlsl::ShaderModel::V6_0, ..Default::default() };
        let pipeline_options = hlsl::PipelineOptions::default();
        let mut text = String::new();
        let translated =
            hlsl::Writer::new(&mut text, &options, &pipeline_options).write(&module, &info, None).unwrap();
        assert!(text.contains("numthreads"), "{}", kernel.name);
        assert!(translated.entry_point_names.iter().all(Result::is_ok), "{}", kernel.name);
    }
}

#[test]
fn glsl() {
    for (kernel, module, info) in all() {
        let options = glsl::Options { version: glsl::Version::Desktop(450), ..Default::default() };
        let pipeline_options = glsl::PipelineOptions {
            shader_stage: naga::ShaderStage::Compute,
            entry_point: kernel.name.clone(),
            multiview: None,
        };
        let mut text = String::new();
        let policies = Default::default();
        glsl::Writer::new(&mut text, &module, &info, &options, &pipeline_options, policies)
            .unwrap()
            .write()
            .unwrap();
        assert!(text.contains("void main()"), "{}", kernel.name);
    }
}

#[test]
fn bindings_are_dense_and_few() {
    for (kernel, _, _) in all() {
        let indices: Vec<u32> = kernel.bindings.iter().map(|b| b.index).collect();
        assert_eq!(indices, (0..indices.len() as u32).collect::<Vec<_>>(), "{}", kernel.name);
        let storage = kernel.bindings.iter().filter(|b| !matches!(b.access, Access::Uniform(_))).count();
        // The least that WebGPU promises; the fused path is for software adapters that have more.
        let limit = if kernel.name.starts_with("fused") { 10 } else { 8 };
        assert!(storage <= limit, "{} binds {storage} storage buffers", kernel.name);
    }
}

#[test]
fn kernels_are_listed_once_with_distinct_constants() {
    let rows: Vec<_> = variants();
    let distinct: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(rows.len(), distinct.len());
}

#[test]
fn every_kernel_has_a_row() {
    let rows: BTreeSet<&str> = variants().into_iter().map(|(name, _)| name).collect();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/wgsl")).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            path.is_dir() || rows.contains(stem),
            "{stem} has no row in src/variants.rs: nothing validates it"
        );
    }
}

#[test]
fn missing_constants_and_kernels_are_errors() {
    let error = render("reduce_partials", &Constants::new()).unwrap_err().to_string();
    assert!(error.contains("shaders/wgsl/reduce_partials.wgsl:"), "{error}");
    let error = render("no_such_kernel", &Constants::new()).unwrap_err().to_string();
    assert!(error.contains("no_such_kernel"), "{error}");
}

#[test]
fn invalid_wgsl_names_the_template_and_line() {
    let constants = Constants::new().with("workgroup", "nonsense");
    let error = render("reduce_partials", &constants).unwrap_err().to_string();
    let source = include_str!("../wgsl/reduce_partials.wgsl");
    let line = 1 + source.lines().position(|l| l.contains("@workgroup_size")).unwrap();
    assert!(error.contains(&format!("shaders/wgsl/reduce_partials.wgsl:{line}: ")), "{error}");
    // A mistake in an included file is that file's.
    let constants = Constants::new().with("workgroup", 8).with("tile", "nonsense").with("vectors", 1);
    let constants = constants.with("activation", "relu").with("keep", false);
    let error = render("linear_forward", &constants).unwrap_err().to_string();
    assert!(error.contains("shaders/wgsl/include/linear_tile.wgsl:"), "{error}");
}
