//! The Python side without its packages: every script is valid, every package is pinned, and all that the Rust side asks
//! for by name is there.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Command;

use lwflow_benches::quality::LIBRARIES;

fn scripts() -> PathBuf {
    folder("peers")
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(scripts().join(name)).unwrap()
}

#[test]
fn every_script_is_valid_python() {
    ["peers", "references"].into_iter().for_each(valid_python);
}

fn valid_python(name: &str) {
    let scripts = folder(name);
    let code = "import ast, pathlib, sys\nfiles = sorted(pathlib.Path(sys.argv[1]).glob('*.py'))\n\
                for f in files: ast.parse(f.read_text(), str(f))\nprint(len(files))";
    let output = match Command::new("python3").args(["-c", code]).arg(&scripts).output() {
        Ok(output) => output,
        Err(error) => {
            lwflow_skip::skip(format!("python3: {error}"));
            return;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let n: usize = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert_eq!(
        n,
        std::fs::read_dir(&scripts)
            .unwrap()
            .filter(|e| { e.as_ref().unwrap().path().extension().is_some_and(|e| e == "py") })
            .count()
    );
}

#[test]
fn every_package_has_an_exact_version() {
    let files = [
        "peers/requirements.txt",
        "peers/requirements-cuda.txt",
        "references/requirements.txt",
        "references/sbibm.txt",
    ];
    for file in files {
        let text = std::fs::read_to_string(folder(file)).unwrap();
        let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).collect();
        assert!(!lines.is_empty());
        for line in lines {
            let requirement = line.split(';').next().unwrap().trim();
            let (name, version) = requirement.split_once("==").unwrap_or((requirement, ""));
            assert!(!name.is_empty() && version.starts_with(|c: char| c.is_ascii_digit()), "{file}: {line}");
            assert!(!version.contains('*'), "{file}: {line}");
        }
    }
}

#[test]
fn names_agree_with_the_scripts() {
    let (quality, requirements) = (text("quality.py"), text("requirements.txt"));
    for library in LIBRARIES.split(',') {
        assert!(quality.contains(&format!("\"{library}\":")), "quality.py has no {library}");
        let package = library.split('-').next().unwrap();
        assert!(requirements.contains(&format!("\n{package}==")), "{package} is not installed");
    }
    let contestants = text("torch_flow.py") + &text("jax_flow.py");
    for rival in ["torch", "torch.compile", "jax.jit"] {
        assert!(contestants.contains(&format!("\"{rival}\":")), "no contestant {rival}");
    }
}
