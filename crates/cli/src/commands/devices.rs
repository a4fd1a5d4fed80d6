//! `lwflow devices`: what there is, with limits and the state of the self-test. It judges nothing; `lwflow doctor` does.

use crate::exit::{CommandError, Status};
use crate::progress::{Console, print, print_raw};
use clap::Args;
use lwflow_engine::{
    DeviceChoice, DeviceInfo, DeviceKind, Engine, EngineError, EngineSettings, SelfTestNote, list_devices,
};

/// Arguments of `lwflow devices`.
#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
    /// Run every self-test now.
    #[arg(long)]
    test: bool,
}

pub(super) fn run_devices(args: &DevicesArgs) -> Result<Status, CommandError> {
    let devices = list_devices();
    let mut rows = Vec::new();
    let mut failed = false;
    for info in &devices {
        let settings = EngineSettings {
            device: info.index.map_or(DeviceChoice::Auto, DeviceChoice::Index),
            ..EngineSettings::default()
        };
        let state = match Engine::new(&settings) {
            Err(error) => {
                failed = true;
                format!("cannot be opened: {error}")
            }
            Ok(engine) if args.test => match engine.self_test() {
                Ok(_) => "passed".to_owned(),
                Err(error) => {
                    failed = true;
                    match error {
                        EngineError::SelfTest { report } => format!("failed: {report}"),
                        error => format!("failed: {error}"),
                    }
                }
            },
            Ok(engine) => match engine.self_test_note() {
                Some(SelfTestNote::Passed) => "passed".to_owned(),
                Some(SelfTestNote::Failed(figures)) => {
                    failed = true;
                    format!("failed: {figures} (--test runs it again; so does the next fit)")
                }
                None => "not run yet (--test runs it; so does the first fit)".to_owned(),
            },
        };
        rows.push((info, state));
    }
    if args.json {
        let list: Vec<_> = rows
            .iter()
            .map(|(info, state)| {
                serde_json::json!({
                    "index": info.index,
                    "name": info.name,
                    "kind": info.kind,
                    "backend": info.backend,
                    "driver": info.driver,
                    "subgroup": info.subgroup,
                    "limits": info.adapter,
                    "self_test": state,
                })
            })
            .collect();
        print_raw(&(serde_json::to_string_pretty(&list)? + "\n"))?;
    } else {
        for (info, state) in &rows {
            let index = info.index.map(|i| format!("{i}: ")).unwrap_or_default();
            print(&format!("{index}{info}\n    {}self-test: {state}\n", limits(info)))?;
        }
    }
    if devices.iter().all(|d| d.kind == DeviceKind::Cpu) {
        Console::text(args.json).remark("no Vulkan, Metal or DX12 device; `lwflow doctor` finds out why");
    }
    Ok(if failed { Status::Device } else { Status::Success })
}

/// The limits of an adapter in words, to be followed by more; empty for the cores.
pub(super) fn limits(info: &DeviceInfo) -> String {
    info.adapter.as_ref().map_or_else(String::new, |a| {
        format!(
            "buffers up to {} MiB, uniforms {} KiB, workgroup memory {} KiB; ",
            a.max_storage_bytes >> 20,
            a.max_uniform_bytes >> 10,
            a.max_workgroup_bytes >> 10
        )
    })
}
