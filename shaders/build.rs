//! Collects every template under wgsl/ into one table and validates every row of the variant table with naga,
//! so that a kernel that does not compile never reaches a device; the error names the template's file and line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

#[path = "src/template.rs"]
#[allow(dead_code)]
mod template;
#[path = "src/variants.rs"]
mod variants;

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").map_err(|e| e.to_string())?).join("wgsl");
    println!("cargo::rerun-if-changed=wgsl");
    println!("cargo::rerun-if-changed=src/template.rs");
    println!("cargo::rerun-if-changed=src/variants.rs");

    let mut files = Vec::new();
    collect(&root, "", &mut files)?;
    files.sort();
    let mut sources = Vec::new();
    let mut table = String::from("pub(crate) const SOURCES: &[(&str, &str)] = &[\n");
    for (name, path) in &files {
        let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        table.push_str(&format!("    ({name:?}, include_str!({:?})),\n", path.display().to_string()));
        sources.push((name.as_str(), text));
    }
    table.push_str("];\n");
    let sources: Vec<(&str, &str)> = sources.iter().map(|(name, text)| (*name, text.as_str())).collect();

    let mut kernels = Vec::new();
    for (kernel, constants) in variants::variants() {
        let rendered = template::render_template(&sources, kernel, &constants, true)?;
        template::validate_wgsl(&rendered).map_err(|e| format!("{kernel} [{constants}]: {e}"))?;
        kernels.push(kernel);
    }
    for (name, _) in &sources {
        let stem = name.trim_end_matches(".wgsl");
        if !stem.contains('/') && !kernels.contains(&stem) {
            return Err(format!(
                "shaders/wgsl/{name}: kernel has no row in src/variants.rs, so nothing validates it"
            ));
        }
    }
    let out = PathBuf::from(env::var("OUT_DIR").map_err(|e| e.to_string())?).join("sources.rs");
    fs::write(&out, table).map_err(|e| format!("{}: {e}", out.display()))
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> Result<(), String> {
    for entry in fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let path = entry.map_err(|e| e.to_string())?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()).map(str::to_owned) else { continue };
        if path.is_dir() {
            collect(&path, &format!("{prefix}{name}/"), files)?;
        } else if name.ends_with(".wgsl") {
            files.push((format!("{prefix}{name}"), path));
        }
    }
    Ok(())
}
