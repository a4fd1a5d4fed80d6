//! Which packages bring a software Vulkan driver and what tests need, which commands install them, and whether we may run those.
//! Nothing here runs anything: every choice is a function of its arguments, and `setup` acts on it.

/// A package manager we know the package names for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackageManager {
    /// Debian, Ubuntu.
    Apt,
    /// openSUSE.
    Zypper,
    /// Fedora.
    Dnf,
    /// Arch.
    Pacman,
    /// Alpine.
    Apk,
}

/// How we may change the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// We are root.
    Root,
    /// `sudo` is there; it may still ask for a password or refuse.
    Sudo,
    /// Neither.
    None,
}

/// What to do about a missing driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Install it.
    Install,
    /// Ask first, then install.
    Ask,
    /// Print the command for the user to type.
    Print,
}

/// One command: program and arguments.
pub type Argv = Vec<&'static str>;

impl PackageManager {
    /// Tried in this order: Debian packages dnf, and Fedora zypper, but not the other way round in default installs.
    const ALL: [Self; 5] = [Self::Apt, Self::Zypper, Self::Dnf, Self::Pacman, Self::Apk];

    /// The first one whose program exists according to `exists`.
    pub fn choose(exists: impl Fn(&str) -> bool) -> Option<Self> {
        Self::ALL.into_iter().find(|manager| exists(manager.program()))
    }

    fn program(self) -> &'static str {
        match self {
            Self::Apt => "apt-get",
            Self::Zypper => "zypper",
            Self::Dnf => "dnf",
            Self::Pacman => "pacman",
            Self::Apk => "apk",
        }
    }

    /// Software driver and loader.
    pub fn driver_packages(self) -> &'static [&'static str] {
        match self {
            Self::Apt => &["mesa-vulkan-drivers", "libvulkan1"],
            Self::Zypper => &["libvulkan_lvp", "libvulkan1"],
            Self::Dnf => &["mesa-vulkan-drivers", "vulkan-loader"],
            Self::Pacman => &["vulkan-swrast", "vulkan-icd-loader"],
            Self::Apk => &["mesa-vulkan-swrast", "vulkan-loader"],
        }
    }

    /// C compiler and linker, which Rust itself needs for linking.
    pub fn linker_packages(self) -> &'static [&'static str] {
        match self {
            Self::Apt => &["gcc", "libc6-dev"],
            Self::Apk => &["gcc", "musl-dev"],
            Self::Zypper | Self::Dnf | Self::Pacman => &["gcc"],
        }
    }

    /// Python with what makes environments.
    pub fn python_packages(self) -> &'static [&'static str] {
        match self {
            Self::Apt => &["python3", "python3-venv"],
            Self::Zypper | Self::Dnf => &["python3", "python3-pip"],
            Self::Pacman => &["python"],
            Self::Apk => &["python3", "py3-pip"],
        }
    }

    /// A C++ compiler.
    pub fn cxx_packages(self) -> &'static [&'static str] {
        match self {
            Self::Apt | Self::Apk => &["g++"],
            Self::Zypper | Self::Dnf => &["gcc-c++"],
            Self::Pacman => &["gcc"],
        }
    }

    /// A browser that runs without a display. On Ubuntu the package is one of snaps, which containers do not have.
    pub fn browser_packages(self) -> &'static [&'static str] {
        &["chromium"]
    }

    /// The commands that install `packages`, to be run in order; only the last one has to succeed.
    pub fn install(self, packages: &[&'static str]) -> Vec<Argv> {
        let mut commands: Vec<Argv> = match self {
            // A fresh image has no package lists. `env` because sudo drops the variable. The lock: a fresh Ubuntu
            // runs its own upgrade in the background.
            Self::Apt => vec![
                vec!["apt-get", "update"],
                vec![
                    "env",
                    "DEBIAN_FRONTEND=noninteractive",
                    "apt-get",
                    "-o",
                    "DPkg::Lock::Timeout=120",
                    "install",
                    "-y",
                    "--no-install-recommends",
                ],
            ],
            Self::Zypper => vec![vec!["zypper", "--non-interactive", "install"]],
            Self::Dnf => vec![vec!["dnf", "install", "-y"]],
            // A fresh image has no package database (-y); upgrading the whole system (-u) is not ours to do.
            Self::Pacman => vec![vec!["pacman", "-Sy", "--needed", "--noconfirm"]],
            Self::Apk => vec![vec!["apk", "add", "--no-cache"]],
        };
        if let Some(last) = commands.last_mut() {
            last.extend(packages);
        }
        commands
    }
}

/// `commands` as one line for a shell, each with `sudo` where that is how we get the right.
pub fn shell_line(commands: &[Argv], privilege: Privilege) -> String {
    let sudo = if privilege == Privilege::Sudo { "sudo " } else { "" };
    commands.iter().map(|argv| format!("{sudo}{}", argv.join(" "))).collect::<Vec<_>>().join(" && ")
}

/// Whether an environment variable such as `CI` is switched on by this value.
pub fn is_on(value: Option<&str>) -> bool {
    !matches!(value.unwrap_or_default().to_ascii_lowercase().as_str(), "" | "0" | "false" | "no")
}

/// Whether to install, ask, or only print. `agreed`: `--yes` or a CI run; `terminal`: there is someone to ask.
///
/// Root without a terminal installs (an image being built, where nobody can answer); sudo without a terminal and
/// without `--yes` does not: using someone's password-less sudo unasked is not ours to decide.
pub fn decide(privilege: Privilege, agreed: bool, terminal: bool) -> Decision {
    match (privilege, agreed, terminal) {
        (Privilege::None, _, _) => Decision::Print,
        (_, true, _) => Decision::Install,
        (_, false, true) => Decision::Ask,
        (Privilege::Root, false, false) => Decision::Install,
        (Privilege::Sudo, false, false) => Decision::Print,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_manager_is_the_one_that_is_there() {
        for (program, manager) in [
            ("apt-get", PackageManager::Apt),
            ("dnf", PackageManager::Dnf),
            ("pacman", PackageManager::Pacman),
            ("zypper", PackageManager::Zypper),
            ("apk", PackageManager::Apk),
        ] {
            assert_eq!(PackageManager::choose(|p| p == program), Some(manager));
        }
        assert_eq!(PackageManager::choose(|_| false), None);
        assert_eq!(PackageManager::choose(|p| p == "apt-get" || p == "dnf"), Some(PackageManager::Apt));
    }

    #[test]
    fn apt_updates_first_and_the_packages_come_last() {
        let apt = PackageManager::Apt;
        let commands = apt.install(apt.driver_packages());
        assert_eq!(
            shell_line(&commands, Privilege::Root),
            "apt-get update && env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 \
             install -y --no-install-recommends mesa-vulkan-drivers libvulkan1"
        );
        let line = shell_line(&commands, Privilege::Sudo);
        assert_eq!(line.matches("sudo ").count(), 2, "{line}");
        assert!(!shell_line(&commands, Privilege::None).contains("sudo"), "there is none to type");
    }

    #[test]
    fn every_manager_installs_driver_and_loader_without_a_question() {
        for manager in PackageManager::ALL {
            let line = shell_line(&manager.install(manager.driver_packages()), Privilege::Root);
            for package in manager.driver_packages() {
                assert!(line.contains(package), "{line}");
            }
            assert!(!manager.cxx_packages().is_empty() && !manager.browser_packages().is_empty());
            assert!(
                ["-y", "--noconfirm", "--non-interactive", "apk add"].iter().any(|f| line.contains(f)),
                "{line}"
            );
        }
    }

    #[test]
    fn ci_never_asks() {
        assert!(is_on(Some("true")) && is_on(Some("1")));
        assert!(!is_on(None) && !is_on(Some("")) && !is_on(Some("false")) && !is_on(Some("0")));
        for privilege in [Privilege::Root, Privilege::Sudo, Privilege::None] {
            for terminal in [false, true] {
                assert_ne!(decide(privilege, true, terminal), Decision::Ask, "{privilege:?} {terminal}");
            }
        }
        assert_eq!(decide(Privilege::Sudo, true, false), Decision::Install);
    }

    #[test]
    fn without_agreement_a_terminal_is_asked_and_no_rights_means_print() {
        assert_eq!(decide(Privilege::Root, false, true), Decision::Ask);
        assert_eq!(decide(Privilege::Sudo, false, true), Decision::Ask);
        assert_eq!(decide(Privilege::Root, false, false), Decision::Install);
        assert_eq!(decide(Privilege::Sudo, false, false), Decision::Print);
        assert_eq!(decide(Privilege::None, true, true), Decision::Print);
    }
}
