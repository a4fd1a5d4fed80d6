//! Runs cargo and finds programs.
//! Every cargo command names the workspace by its manifest and leaves the working directory alone, so that relative
//! paths mean what the user who typed them meant.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::packages::{PackageManager, Privilege, shell_line};

/// The root of the workspace.
pub fn workspace_root() -> PathBuf {
    // At run time cargo says where the package is now; the build may have been in another place.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = here.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    here.ancestors().nth(2).unwrap_or(&here).to_owned()
}

/// `cargo <subcommand>` on this workspace, with the cargo that runs us.
pub fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_package(&mut command);
    quiet_driver(&mut command);
    command.arg(subcommand).arg("--manifest-path").arg(workspace_root().join("Cargo.toml"));
    command
}

/// Keeps what `cargo run` says about this package from a command that builds others.
pub fn forget_package(command: &mut Command) {
    // It would reach build scripts, which then run again for nothing.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_PRIMARY_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(&*name);
        }
    }
}

/// Without a display, Mesa's device-select layer complains on stderr about every opened device; this turns it off.
pub fn quiet_driver(command: &mut Command) {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        command.env("NODEVICE_SELECT", "1");
    }
}

/// Bits of the vectors of Mesa's software driver.
pub const LANES_VARIABLE: &str = "LP_NATIVE_VECTOR_WIDTH";

/// Mesa's software driver takes half of the lanes of a processor with AVX-512 unless it is told; the command `lwflow` does so.
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables))]
pub fn all_lanes(command: &mut Command) {
    #[cfg(target_arch = "x86_64")]
    if std::env::var_os(LANES_VARIABLE).is_none() && is_x86_feature_detected!("avx512f") {
        command.env(LANES_VARIABLE, "512");
    }
}

/// The file that running `program` would start.
pub fn in_path(program: &str) -> Option<PathBuf> {
    let file = format!("{program}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(&file)).find(|path| path.is_file())
}

/// What to type when a cargo component (`fmt`, `clippy`) is missing; `None` when it is there.
pub fn missing_component(subcommand: &str, component: &str) -> Option<String> {
    let there = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([subcommand, "--version"])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success());
    (!there).then(|| {
        format!(
            "cargo {subcommand} is not installed; type:\n    rustup component add {component}\n\
             (without rustup: your system's package of that name)"
        )
    })
}

/// Says so when there is no linker on a Unix system. Only a warning: cargo may be configured to use another one.
pub fn warn_without_linker() {
    if !cfg!(unix) || ["cc", "gcc", "clang"].iter().any(|program| in_path(program).is_some()) {
        return;
    }
    let advice = match PackageManager::choose(|program| in_path(program).is_some()) {
        Some(manager) => {
            let line = shell_line(&manager.install(manager.linker_packages()), privilege());
            format!("; if the build fails, type:\n    {line}")
        }
        None => String::new(),
    };
    eprintln!("xtask: no C compiler (cc, gcc or clang) in PATH, which Rust needs for linking{advice}");
}

/// What this process may do to the system.
pub fn privilege() -> Privilege {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if effective_uid(&status) == Some(0) {
        Privilege::Root
    } else if in_path("sudo").is_some() {
        Privilege::Sudo
    } else {
        Privilege::None
    }
}

/// The effective user id in the text of `/proc/self/status` (`Uid: real effective saved filesystem`).
fn effective_uid(status: &str) -> Option<u32> {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

/// Becomes `command` where the system allows it, otherwise runs it and exits with its status. This way Ctrl-C and the
/// exit status are the command's own.
///
/// # Errors
/// When the command cannot be started.
pub fn replace_with(command: &mut Command) -> anyhow::Result<Infallible> {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        Err(command.exec()).with_context(|| format!("cannot start {}", display(command)))
    }
    #[cfg(not(unix))]
    {
        let status = command.status().with_context(|| format!("cannot start {}", display(command)))?;
        std::process::exit(status.code().unwrap_or(1))
    }
}

/// The command as one line, to show; the manifest path, always the same, is left out.
pub fn display(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_stem().unwrap_or(command.get_program());
    let mut words = vec![program.to_string_lossy().into_owned()];
    let mut args = command.get_args();
    while let Some(arg) = args.next() {
        if arg == "--manifest-path" {
            args.next();
        } else {
            words.push(arg.to_string_lossy().into_owned());
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_root_holds_this_crate() {
        assert!(workspace_root().join("crates/xtask/src/tools.rs").is_file());
        assert!(workspace_root().join("Cargo.lock").is_file());
    }

    #[test]
    fn cargo_is_found_and_shown_without_the_manifest_path() {
        assert!(in_path("cargo").is_some());
        assert_eq!(in_path("no-program-of-this-name"), None);
        let mut command = cargo("test");
        command.arg("--workspace");
        assert_eq!(display(&command), "cargo test --workspace");
    }

    #[test]
    fn the_effective_user_counts() {
        assert_eq!(effective_uid("Name:\txtask\nUid:\t1000\t0\t0\t0\nGid:\t5\t6\t6\t6\n"), Some(0));
        assert_eq!(effective_uid("Name:\txtask\nUid:\t0\t1000\t0\t0\n"), Some(1000));
        assert_eq!(effective_uid(""), None);
    }

    #[test]
    fn a_missing_component_names_the_rustup_command() {
        let text = missing_component("no-such-subcommand", "no-such-component").unwrap();
        assert!(text.contains("rustup component add no-such-component"), "{text}");
        assert_eq!(missing_component("tree", "cargo"), None);
    }
}
