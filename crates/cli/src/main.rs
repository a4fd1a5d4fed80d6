//! The command `lwflow`.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the environment is changed before there is any other thread")
)]

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_arch = "x86_64")]
    take_all_lanes();
    lwflow_cli::run()
}

/// Mesa's software driver takes half of the lanes of a processor with AVX-512 unless it is told.
#[cfg(target_arch = "x86_64")]
fn take_all_lanes() {
    const WIDTH: &str = "LP_NATIVE_VECTOR_WIDTH";
    if std::env::var_os(WIDTH).is_none() && is_x86_feature_detected!("avx512f") {
        // SAFETY: nothing has run in this process yet that could have started a thread.
        unsafe { std::env::set_var(WIDTH, "512") };
    }
}
