//! `lwflow doctor`: why there is no usable GPU, and what to do about it. It looks and tests, and changes nothing.

// xtask builds without the rest of the project, and set-up has to look where this command does.
#[path = "../../../xtask/src/adapter.rs"]
#[allow(dead_code, reason = "set-up needs the rest")]
mod adapter;
mod environment;
mod findings;

use super::devices::limits;
use crate::exit::{CommandError, Status};
use crate::progress::print;
use clap::Args;
use environment::{Device, Environment, SelfTest};
use findings::findings;
use lwflow_engine::{
    DeviceChoice, Engine, EngineError, EngineSettings, list_devices, list_unusable_adapters,
};
use std::fmt::Write;

/// Arguments of `lwflow doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The device that has to pass: auto, cpu, gpu (also one in software), software, an index or part of a name.
    #[arg(long, default_value = "auto", env = "LWFLOW_DEVICE", value_parser = super::device)]
    device: DeviceChoice,
}

pub(super) fn run_doctor(args: &DoctorArgs) -> Result<Status, CommandError> {
    let settings = |device| EngineSettings { device, ..EngineSettings::default() };
    let devices = list_devices().into_iter().map(|info| {
        let choice = info.index.map_or(DeviceChoice::Cpu, DeviceChoice::Index);
        let opened = Engine::new(&settings(choice));
        let is_opened = opened.is_ok();
        let test = match opened.and_then(|engine| engine.self_test().map(|_| ())) {
            Ok(()) => SelfTest::Passed,
            Err(error @ EngineError::Limit { .. }) => SelfTest::TooSmall(error.to_string()),
            Err(error) if is_opened => SelfTest::Failed(error.to_string()),
            Err(error) => SelfTest::NotOpened(error.to_string()),
        };
        Device { info, test }
    });
    let unusable = list_unusable_adapters();
    let environment = Environment::of_this_machine(devices.collect(), unusable);
    let mut text = String::from("devices:\n");
    for Device { info, test } in &environment.devices {
        let index = info.index.map(|i| format!("{i}: ")).unwrap_or_default();
        let _ = writeln!(text, "  {index}{info}\n      {}self-test: {test}", limits(info));
    }
    for info in &environment.unusable {
        let _ = writeln!(text, "  {info}\n      {}not used", limits(info));
    }
    let wanted = &args.device;
    // Opened anew, so that the choice is made as every other command makes it.
    let passes = match Engine::new(&settings(wanted.clone())) {
        Err(error) => {
            let _ = writeln!(text, "--device {wanted}: {error}");
            false
        }
        Ok(engine) => {
            let shown = engine.info().to_string();
            let passes =
                environment.devices.iter().any(|d| d.test == SelfTest::Passed && d.info.to_string() == shown);
            let says = if passes { "takes" } else { "would take" };
            let _ = writeln!(text, "--device {wanted} {says} {shown}");
            passes
        }
    };
    let findings = findings(&environment);
    text.push_str(if findings.is_empty() { "nothing is wrong\n" } else { "findings:\n" });
    for finding in &findings {
        let _ = writeln!(text, "  - {}", finding.what);
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(text, "    -> {remedy}");
        }
    }
    print(&text)?;
    Ok(if passes { Status::Success } else { Status::Device })
}
