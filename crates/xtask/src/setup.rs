//! Makes sure that a Vulkan driver is installed, or says exactly what to type.
//! Only Linux ever needs it: macOS has Metal, Windows DirectX 12 with a software adapter of its own.

use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::adapter::{Found, Need};
use crate::packages::{Argv, Decision, PackageManager, Privilege, decide, is_on, shell_line};
use crate::python::can_make_environments;
use crate::tools::{in_path, privilege};

/// There is no driver and it was not installed; the text says what to do.
#[derive(Debug)]
pub struct MissingDriver(pub String);

impl fmt::Display for MissingDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MissingDriver {}

/// Installs a driver that answers `need` unless one is there; `yes` skips the question, and so does a CI run.
///
/// # Errors
/// [`MissingDriver`] when there is still none: not installable here, not allowed, declined, or the installation failed.
pub fn ensure_driver(need: Need, yes: bool) -> Result<(), MissingDriver> {
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let (paths, found) = Found::on_this_machine();
    let Some(missing) = found.missing(need).map(|what| format!("{what} is missing")) else { return Ok(()) };
    if let (Some(forced), None) = (&paths.forced, found.driver(need)) {
        return Err(MissingDriver(format!(
            "{missing}: VK_DRIVER_FILES (or VK_ICD_FILENAMES) allows only {forced:?}; unset it or add one there"
        )));
    }
    install_if_allowed(
        &missing,
        "Mesa's Vulkan drivers (lavapipe) and the Vulkan loader",
        PackageManager::driver_packages,
        yes,
    )
    .map_err(MissingDriver)?;
    match Found::on_this_machine().1.missing(need) {
        None => Ok(()),
        Some(missing) => Err(MissingDriver(format!(
            "the packages are installed, but {missing} is still missing from the usual places: is there a build of \
             them for {}?",
            std::env::consts::ARCH
        ))),
    }
}

/// Something that only tests need.
struct Tool {
    missing: &'static str,
    is_there: fn() -> bool,
    packages: fn(PackageManager) -> &'static [&'static str],
}

/// Installs Python's environments as [`ensure_driver`] does a driver.
///
/// # Errors
/// What to type.
pub fn ensure_python(yes: bool) -> Result<(), String> {
    let missing = "python3 with the modules venv and ensurepip is missing";
    ensure(&Tool { missing, is_there: can_make_environments, packages: PackageManager::python_packages }, yes)
}

/// A C++ compiler, which libFuzzer is built with, on the same terms.
///
/// # Errors
/// What to type.
pub fn ensure_cxx(yes: bool) -> Result<(), String> {
    let is_there = || ["c++", "g++", "clang++"].into_iter().any(|program| in_path(program).is_some());
    ensure(
        &Tool { missing: "a C++ compiler is missing", is_there, packages: PackageManager::cxx_packages },
        yes,
    )
}

/// A browser that runs without a display, on the same terms.
///
/// # Errors
/// What to type.
pub fn ensure_browser(yes: bool) -> Result<PathBuf, String> {
    let missing = "Chromium is missing";
    let is_there = || browser().is_some();
    ensure(&Tool { missing, is_there, packages: PackageManager::browser_packages }, yes)?;
    browser().ok_or_else(|| missing.to_owned())
}

fn browser() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"].into_iter().find_map(in_path)
}

fn ensure(tool: &Tool, yes: bool) -> Result<(), String> {
    let Tool { missing, is_there, packages } = *tool;
    if is_there() {
        return Ok(());
    }
    if !cfg!(target_os = "linux") {
        return Err(missing.to_owned());
    }
    install_if_allowed(missing, "it", packages, yes)?;
    if is_there() { Ok(()) } else { Err(missing.to_owned()) }
}

/// Installs packages as root or with sudo: after a question on a terminal, without one given `yes` or in a CI run.
///
/// # Errors
/// Why not and what to type, in one text that begins with what is missing.
fn install_if_allowed(
    missing: &str,
    what: &str,
    packages: fn(PackageManager) -> &'static [&'static str],
    yes: bool,
) -> Result<(), String> {
    let Some(manager) = PackageManager::choose(|program| in_path(program).is_some()) else {
        return Err(format!(
            "{missing}, and none of apt-get, zypper, dnf, pacman and apk is here to install it: install {what} by hand"
        ));
    };
    let commands = manager.install(packages(manager));
    let privilege = privilege();
    let line = shell_line(&commands, privilege);
    let by_hand = format!("to install it, type:\n    {line}");
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let agreed = yes || is_on(std::env::var("CI").ok().as_deref());

    eprintln!("xtask: {missing}");
    match decide(privilege, agreed, terminal) {
        Decision::Install => {}
        Decision::Ask if confirmed(&line) => {}
        Decision::Ask => return Err(format!("{missing} and was not installed; {by_hand}")),
        Decision::Print if privilege == Privilege::None => {
            return Err(format!(
                "{missing}; installing needs root, and there is no sudo here; as root, type:\n    {line}"
            ));
        }
        Decision::Print => {
            return Err(format!("{missing}; there is no terminal to ask on: pass --yes; {by_hand}"));
        }
    }
    install(&commands, privilege, terminal)
        .map_err(|why| format!("{missing}; the installation failed: {why}; {by_hand}"))
}

/// Installs a software driver, or says that there is nothing to do.
///
/// # Errors
/// As [`ensure_driver`].
pub fn setup(yes: bool) -> Result<(), MissingDriver> {
    ensure_driver(Need::Software, yes)?;
    if !cfg!(target_os = "linux") {
        println!("Nothing to install on {}: the system brings its own driver.", std::env::consts::OS);
        return Ok(());
    }
    let (_, found) = Found::on_this_machine();
    for (what, path) in [("loader", &found.loader), ("software driver", &found.software)] {
        if let Some(path) = path {
            println!("{what}: {}", path.display());
        }
    }
    Ok(())
}

fn confirmed(line: &str) -> bool {
    eprint!("This installs it:\n    {line}\nRun it now? [y/N] ");
    let mut answer = String::new();
    // No answer, for whatever reason, is a no.
    let read = std::io::stderr().flush().and_then(|()| std::io::stdin().read_line(&mut answer));
    read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Runs the commands in order. Only the last decides: a package list may fail to refresh for a repository that has
/// nothing to do with ours.
fn install(commands: &[Argv], privilege: Privilege, terminal: bool) -> Result<(), String> {
    let mut result = Ok(());
    for argv in commands {
        let mut words: Vec<&str> = match privilege {
            Privilege::Root => vec![],
            Privilege::Sudo | Privilege::None if terminal => vec!["sudo"],
            // Nobody can type a password.
            Privilege::Sudo | Privilege::None => vec!["sudo", "-n"],
        };
        words.extend(argv);
        let line = words.join(" ");
        eprintln!("xtask: {line}");
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        if !terminal {
            command.stdin(Stdio::null());
        }
        result = match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("`{line}`: {status}")),
            Err(why) => Err(format!("`{line}` cannot be started: {why}")),
        };
    }
    result
}

// The programs true and false are there on Unix only.
#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_last_command_decides() {
        let (yes, no) = (vec!["true"], vec!["false"]);
        assert_eq!(install(&[no.clone(), yes.clone()], Privilege::Root, false), Ok(()));
        let why = install(&[yes, no], Privilege::Root, false).unwrap_err();
        assert!(why.contains("`false`"), "{why}");
        let why = install(&[vec!["no-program-of-this-name"]], Privilege::Root, false).unwrap_err();
        assert!(why.contains("cannot be started"), "{why}");
    }
}
