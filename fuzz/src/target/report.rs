//! The page of a folder of results, from its JSON and CSV: an input is several files, each after a line that names it. The first
//! byte says whether draws lie beside them.

use std::fs;

use lwflow_cli::page::of_folders;

use super::{scratch, several};

/// What a fit has left, beside which the files lie.
const MODEL: &[u8] = include_bytes!("../../../tests/data/golden/v1/model.safetensors");
const SAMPLES: &[u8] = include_bytes!("../../../tests/data/golden/v1/samples.npz");
const NAMES: [&str; 3] = ["metrics.json", "verdict.json", "history.csv"];

pub fn run(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let folder = scratch::folder().join("results");
    scratch::remove(&folder);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("model.safetensors"), MODEL).unwrap();
    if choice & 1 == 1 {
        fs::write(folder.join("samples.npz"), SAMPLES).unwrap();
    }
    several::write(&folder, &NAMES, bytes);
    if let Ok(page) = of_folders(&[&folder]) {
        assert!(!page.contains("<script"), "text of a file is markup of the page");
    }
}
