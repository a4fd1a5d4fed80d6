//! Every example runs, and finds what it says it finds. `cargo test -p lwflow` builds them before it runs this.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::process::Command;

/// Runs an example that cargo has put next to the folder of this test.
fn run(name: &str) {
    let own = std::env::current_exe().unwrap();
    let folder = own.ancestors().nth(2).unwrap().join("examples");
    let program = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(program.is_file(), "{} is not built; `cargo test -p lwflow` does that", program.display());
    let output = Command::new(&program).output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn embed_in_a_wgpu_pipeline() {
    run("embed_wgpu");
}

#[test]
fn a_likelihood_in_rust() {
    run("likelihood_rust");
}

#[test]
fn a_likelihood_in_wgsl() {
    run("likelihood_wgsl");
}

#[test]
fn a_weighted_chain_to_a_density() {
    run("weighted_chain");
}

#[test]
fn a_posterior_as_the_next_prior() {
    run("posterior_as_prior");
}
