//! Looks for a Vulkan loader and driver manifests on Linux, where the loader itself would look.
//! Files only, no Vulkan call: this must build in seconds on a machine that has no driver yet. It can therefore say
//! that a driver is installed, not that it works; the engine finds that out.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a command needs from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Any Vulkan driver.
    Any,
    /// A driver that runs on the CPU: Mesa's lavapipe, or SwiftShader.
    Software,
}

/// The places to look in.
#[derive(Clone, Debug, Default)]
pub struct SearchPaths {
    /// Manifest files, or directories of them, that the user has put in place of every other (`VK_DRIVER_FILES`).
    pub forced: Option<Vec<PathBuf>>,
    /// Directories of driver manifests, plus single files named by `VK_ADD_DRIVER_FILES`.
    pub manifests: Vec<PathBuf>,
    /// Directories that may hold `libvulkan.so.1`.
    pub libraries: Vec<PathBuf>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The Vulkan loader.
    pub loader: Option<PathBuf>,
    /// A manifest of any driver.
    pub any: Option<PathBuf>,
    /// A manifest of a software driver.
    pub software: Option<PathBuf>,
}

const LOADER: &str = "libvulkan.so.1";

impl SearchPaths {
    /// The loader's search order, with the environment read through `var`.
    ///
    /// Source: Vulkan-Loader, docs/LoaderDriverInterface.md, "Driver Discovery on Linux".
    pub fn from_env(var: impl Fn(&str) -> Option<OsString>) -> Self {
        let list = |name: &str| {
            var(name).filter(|v| !v.is_empty()).map(|v| std::env::split_paths(&v).collect::<Vec<_>>())
        };
        let home = var("HOME").map(PathBuf::from);
        let or_home = |name: &str, below: &str| {
            list(name).unwrap_or_else(|| home.iter().map(|h| h.join(below)).collect())
        };
        let or_default = |name: &str, paths: &[&str]| {
            list(name).unwrap_or_else(|| paths.iter().map(PathBuf::from).collect())
        };
        let roots = [
            or_home("XDG_CONFIG_HOME", ".config"),
            or_default("XDG_CONFIG_DIRS", &["/etc/xdg"]),
            vec![PathBuf::from("/usr/local/etc"), PathBuf::from("/etc")],
            or_home("XDG_DATA_HOME", ".local/share"),
            or_default("XDG_DATA_DIRS", &["/usr/local/share", "/usr/share"]),
        ];
        let mut manifests = list("VK_ADD_DRIVER_FILES").unwrap_or_default();
        manifests.extend(roots.iter().flatten().map(|root| root.join("vulkan/icd.d")));

        let mut libraries = list("LD_LIBRARY_PATH").unwrap_or_default();
        let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
        for root in ["/usr/local/lib", "/usr/lib", "/lib"] {
            libraries.extend([Path::new(root).join(&triple), format!("{root}64").into(), root.into()]);
        }
        Self { forced: list("VK_DRIVER_FILES").or_else(|| list("VK_ICD_FILENAMES")), manifests, libraries }
    }

    /// All manifest files that the loader would read, usable or not.
    pub fn files(&self) -> Vec<PathBuf> {
        self.forced.as_ref().unwrap_or(&self.manifests).iter().flat_map(|p| manifests_at(p)).collect()
    }

    /// Looks for the loader and the manifests; `ldconfig` is the text of `ldconfig -p`, empty if there is none.
    pub fn find(&self, ldconfig: &str) -> Found {
        let mut found = Found {
            loader: self
                .libraries
                .iter()
                .map(|dir| dir.join(LOADER))
                .find(|file| file.is_file())
                .or_else(|| loader_in_ldconfig(ldconfig)),
            ..Found::default()
        };
        for manifest in self.files() {
            if fault(&manifest).is_some() {
                continue;
            }
            if is_software(&manifest) && found.software.is_none() {
                found.software = Some(manifest.clone());
            }
            found.any.get_or_insert(manifest);
        }
        found
    }
}

impl Found {
    /// Looks on this machine.
    pub fn on_this_machine() -> (SearchPaths, Self) {
        let paths = SearchPaths::from_env(|name| std::env::var_os(name));
        // Users of Debian do not have /sbin in PATH.
        let ldconfig = ["ldconfig", "/sbin/ldconfig"].iter().find_map(|program| {
            let output = Command::new(program).arg("-p").stderr(Stdio::null()).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        });
        let found = paths.find(ldconfig.as_deref().unwrap_or_default());
        (paths, found)
    }

    /// The driver manifest that answers `need`.
    pub fn driver(&self, need: Need) -> Option<&Path> {
        match need {
            Need::Any => self.any.as_deref(),
            Need::Software => self.software.as_deref(),
        }
    }

    /// What is missing for `need`, in words; `None` when nothing is.
    pub fn missing(&self, need: Need) -> Option<String> {
        let driver = match need {
            Need::Any => "a Vulkan driver",
            Need::Software => "a software Vulkan driver (Mesa's lavapipe)",
        };
        match (&self.loader, self.driver(need)) {
            (Some(_), Some(_)) => None,
            (Some(_), None) => Some(driver.to_owned()),
            (None, Some(_)) => Some(format!("the Vulkan loader ({LOADER})")),
            (None, None) => Some(format!("{driver} and the Vulkan loader ({LOADER})")),
        }
    }
}

/// The manifest files at a path that names a file or a directory, in a fixed order.
fn manifests_at(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut files: Vec<_> = std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|file| file.extension().is_some_and(|ext| ext == "json") && file.is_file())
        .collect();
    files.sort();
    files
}

/// Whether a manifest is that of a driver that runs on the CPU.
pub fn is_software(manifest: &Path) -> bool {
    let name = manifest.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    name.starts_with("lvp_icd") || name.contains("swiftshader")
}

/// Why a manifest brings no driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is for another architecture.
    Architecture,
    /// It cannot be read, or names no library.
    Unreadable,
    /// Its library is not there.
    LibraryMissing(PathBuf),
}

/// What is wrong with a manifest; `None` if nothing is as far as files tell.
pub fn fault(manifest: &Path) -> Option<Fault> {
    let name = manifest.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    // Debian and Fedora write the architecture before the extension: lvp_icd.x86_64.json.
    let arch = name.trim_end_matches(".json").rsplit('.').next().and_then(|suffix| match suffix {
        "x86_64" => Some("x86_64"),
        "i386" | "i686" => Some("x86"),
        "aarch64" => Some("aarch64"),
        _ => None,
    });
    if arch.is_some_and(|arch| arch != std::env::consts::ARCH) {
        return Some(Fault::Architecture);
    }
    let Some(library) = std::fs::read_to_string(manifest).ok().and_then(|text| library_path(&text)) else {
        return Some(Fault::Unreadable);
    };
    // A bare name is looked up by the dynamic linker, whose rules are not repeated here.
    let file = manifest.parent().unwrap_or(Path::new("")).join(&library);
    (library.contains('/') && !file.is_file()).then_some(Fault::LibraryMissing(file))
}

/// The value of `library_path` in a driver manifest.
fn library_path(manifest: &str) -> Option<String> {
    let (_, rest) = manifest.split_once("\"library_path\"")?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    value.split_once('"').map(|(path, _)| path.to_owned())
}

/// The loader of this architecture in the output of `ldconfig -p`:
/// `libvulkan.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libvulkan.so.1`.
fn loader_in_ldconfig(text: &str) -> Option<PathBuf> {
    let tag = match std::env::consts::ARCH {
        "x86_64" => "x86-64",
        "aarch64" => "AArch64",
        _ => "",
    };
    text.lines()
        .filter_map(|line| line.trim().strip_prefix(LOADER)?.split_once(" => "))
        .find(|(kind, _)| kind.contains(tag))
        .map(|(_, path)| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A directory tree with `usr/lib` and `usr/share/vulkan/icd.d`, and the paths that point at it.
    fn tree() -> (tempfile::TempDir, SearchPaths) {
        let root = tempfile::tempdir().unwrap();
        let paths = SearchPaths {
            forced: None,
            manifests: vec![root.path().join("absent"), root.path().join("usr/share/vulkan/icd.d")],
            libraries: vec![root.path().join("usr/lib")],
        };
        fs::create_dir_all(&paths.manifests[1]).unwrap();
        fs::create_dir_all(&paths.libraries[0]).unwrap();
        (root, paths)
    }

    fn manifest(path: &Path, library: &str) {
        fs::write(path, format!("{{\n \"ICD\": {{ \"library_path\" : \"{library}\" }}\n}}")).unwrap();
    }

    #[test]
    fn an_empty_machine_misses_both() {
        let (_root, paths) = tree();
        let found = paths.find("");
        assert_eq!(found, Found::default());
        let text = found.missing(Need::Software).unwrap();
        assert!(text.contains("lavapipe") && text.contains(LOADER), "{text}");
    }

    #[test]
    fn a_hardware_driver_alone_is_no_software_driver() {
        let (_root, paths) = tree();
        fs::write(paths.libraries[0].join(LOADER), "").unwrap();
        manifest(&paths.manifests[1].join("radeon_icd.json"), "libvulkan_radeon.so");
        let found = paths.find("");
        assert_eq!(found.missing(Need::Any), None);
        assert!(found.missing(Need::Software).unwrap().contains("lavapipe"));

        manifest(&paths.manifests[1].join("lvp_icd.json"), "libvulkan_lvp.so");
        let found = paths.find("");
        assert_eq!(found.missing(Need::Software), None);
        assert_eq!(found.driver(Need::Software), Some(paths.manifests[1].join("lvp_icd.json").as_path()));
    }

    #[test]
    fn a_driver_without_the_loader_is_not_enough() {
        let (_root, paths) = tree();
        manifest(&paths.manifests[1].join("lvp_icd.json"), "libvulkan_lvp.so");
        let text = paths.find("").missing(Need::Software).unwrap();
        assert!(text.contains(LOADER) && !text.contains("lavapipe"), "{text}");
    }

    #[test]
    fn another_architecture_and_a_removed_library_do_not_count() {
        let (root, paths) = tree();
        let other = if std::env::consts::ARCH == "x86" { "x86_64" } else { "i686" };
        manifest(&paths.manifests[1].join(format!("lvp_icd.{other}.json")), "libvulkan_lvp.so");
        assert_eq!(paths.find("").software, None);

        let library = root.path().join("usr/lib/libvulkan_lvp.so");
        let here = paths.manifests[1].join(format!("lvp_icd.{}.json", std::env::consts::ARCH));
        manifest(&here, library.to_str().unwrap());
        assert_eq!(paths.find("").software, None, "the library does not exist yet");
        fs::write(&library, "").unwrap();
        assert_eq!(paths.find("").software, Some(here));
    }

    #[test]
    fn a_broken_manifest_is_passed_over() {
        let (_root, paths) = tree();
        fs::write(paths.manifests[1].join("lvp_icd.json"), "{ \"ICD\": {} }").unwrap();
        assert_eq!(paths.find("").any, None);
    }

    #[test]
    fn forced_manifests_replace_the_directories() {
        let (root, mut paths) = tree();
        manifest(&paths.manifests[1].join("lvp_icd.json"), "libvulkan_lvp.so");
        let own = root.path().join("own_icd.json");
        manifest(&own, "libown.so");
        paths.forced = Some(vec![own.clone()]);
        let found = paths.find("");
        assert_eq!(found.any, Some(own));
        assert_eq!(found.software, None);

        paths.forced = Some(vec![paths.manifests[1].clone()]);
        assert!(paths.find("").software.is_some(), "a directory may be forced too");
    }

    #[test]
    fn the_environment_names_the_directories() {
        let joined = std::env::join_paths(["/x/share", "/y/share"]).unwrap();
        let paths = SearchPaths::from_env(|name| match name {
            "HOME" => Some("/home/me".into()),
            "XDG_DATA_DIRS" => Some(joined.clone()),
            "VK_ICD_FILENAMES" => Some("/old.json".into()),
            "VK_DRIVER_FILES" => Some("/new.json".into()),
            _ => None,
        });
        assert_eq!(paths.forced, Some(vec!["/new.json".into()]));
        for dir in ["/etc", "/home/me/.config", "/home/me/.local/share", "/x/share", "/y/share"] {
            assert!(paths.manifests.contains(&Path::new(dir).join("vulkan/icd.d")), "{dir}");
        }
        assert!(!paths.manifests.contains(&"/usr/share/vulkan/icd.d".into()), "XDG_DATA_DIRS replaces it");

        let bare = SearchPaths::from_env(|_| None);
        assert!(bare.forced.is_none());
        for dir in ["/etc", "/usr/local/share", "/usr/share"] {
            assert!(bare.manifests.contains(&Path::new(dir).join("vulkan/icd.d")), "{dir}");
        }
    }

    #[test]
    fn ldconfig_knows_a_loader_elsewhere() {
        let (_root, paths) = tree();
        let tag = match std::env::consts::ARCH {
            "x86_64" => "libc6,x86-64",
            "aarch64" => "libc6,AArch64",
            _ => "libc6",
        };
        let text =
            format!("3 libs found\n\tlibvulkan.so (wrong) => /dev\n\t{LOADER} ({tag}) => /opt/{LOADER}\n");
        assert_eq!(paths.find(&text).loader, Some(Path::new("/opt").join(LOADER)));
        assert_eq!(paths.find("3 libs found\n").loader, None);
    }
}
