//! The tiny bench, in this process on the software adapter: every promised row is there with numbers that can be.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use lwflow_benches::{Options, Row, run};
use lwflow_engine::{DeviceChoice, Engine, EngineError, EngineSettings};
use lwflow_model::Coupling;

/// Whether there is a software adapter; without one the test counts as skipped.
fn adapter() -> bool {
    let settings = EngineSettings { device: DeviceChoice::Software, ..EngineSettings::default() };
    match Engine::new(&settings) {
        Err(error) if !matches!(error, EngineError::NoDevice { .. }) => panic!("{error}"),
        found => lwflow_skip::adapter(found).is_some(),
    }
}

#[test]
fn every_promised_row_is_there() {
    if !adapter() {
        return;
    }
    let options = Options::tiny(DeviceChoice::Software);
    let mut all: Vec<Row> = Vec::new();
    run(
        &options,
        |_| Ok(()),
        |_, rows| {
            all.extend_from_slice(rows);
            Ok(())
        },
    )
    .unwrap();
    for row in &all {
        let json = serde_json::to_value(row).unwrap();
        for field in ["seconds_min", "seconds_median", "samples_per_second"] {
            let value = json[field].as_f64().unwrap();
            assert!(value.is_finite() && value > 0.0, "{field} of {row:?}");
        }
        assert!(row.gflops.is_none_or(|g| g.is_finite() && g > 0.0), "{row:?}");
        assert!(row.seconds_min <= row.seconds_median && row.repeats == options.repeats, "{row:?}");
        assert_eq!(json["date"].as_str().unwrap().len(), 10);
        assert!(!row.stamp.device.is_empty());
        assert_eq!(row.peak_share.is_some(), row.gflops.is_some(), "an adapter has a peak: {row:?}");
        for word in row.name.split_whitespace() {
            assert!(row.line().contains(word), "{}", row.line());
        }
    }
    let has_fused = all.iter().any(|r| r.path == "fused");
    // Every kernel that there is, so that none is forgotten; those of an adapter's own only where it runs them.
    let kernels: BTreeSet<&str> = lwflow_shaders::variants().into_iter().map(|(kernel, _)| kernel).collect();
    for kernel in kernels.into_iter().filter(|kernel| has_fused || !kernel.starts_with("fused_")) {
        let found = all.iter().any(|row| row.name.split('/').nth(1) == Some(kernel));
        assert!(found, "no row of {kernel}");
    }
    for program in ["log_likelihood", "scan", "simulate"] {
        assert!(all.iter().any(|row| row.path == "wgsl" && row.name == program), "no row of {program}");
    }
    for shape in &options.shapes {
        let find = |path: &str, name: &str| {
            let label = shape.to_string();
            let n = all
                .iter()
                .filter(|r| r.shape == label && r.batch == shape.batch && r.path == path && r.name == name)
                .count();
            assert_eq!(n, 1, "rows of {path} {name} for {label}");
        };
        find("host", "adam");
        let mixture = shape.to_string().contains("mixture");
        let base = if mixture {
            &["mixture_whiten", "mixture_log_prob", "mixture_grad", "mixture_statistics"][..]
        } else {
            &["gaussian_base"]
        };
        // The tiled path is there on every device; a fused one is another set of the same rows.
        let tiled = [
            "conditioner_input",
            "linear_forward",
            "affine_coupling_inverse",
            "affine_coupling_backward",
            "linear_backward_data",
            "linear_weight_grad",
            "conditioner_input_grad",
        ];
        let fused = ["fused_inverse", "fused_backward_data", "fused_weight_grad"];
        let is_spline = shape.coupling == Coupling::SPLINE;
        let tiled =
            tiled.map(|kernel| if is_spline { kernel.replace("affine", "spline") } else { kernel.into() });
        let fused = fused.map(str::to_owned);
        let forward = if is_spline { "spline_coupling_forward" } else { "affine_coupling_forward" };
        let has_fused = has_fused && !is_spline;
        for (path, kernels, forward) in
            [("tiled", &tiled[..], forward), ("fused", &fused[..], "fused_forward")]
        {
            if path == "fused" && !has_fused {
                continue;
            }
            for pass in
                ["inverse", "forward", "log_prob", "gradient", "set_params", "train_step", "train_steps"]
            {
                find(path, pass);
            }
            find(path, &format!("forward/{forward}"));
            let base = base.iter().chain(&["reduce_partials"]).copied();
            for kernel in kernels.iter().map(String::as_str).chain(base) {
                find(path, &format!("gradient/{kernel}"));
            }
        }
    }
}
