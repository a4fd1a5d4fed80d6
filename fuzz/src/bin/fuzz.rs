//! libFuzzer on the target that `LWFLOW_FUZZ_TARGET` names; `cargo xtask test --long` builds and runs it.
#![no_main]
#![allow(unsafe_code, reason = "the macro's C symbols")]
#![allow(clippy::panic, clippy::expect_used, reason = "a wrong call ends here")]

use std::sync::{Mutex, OnceLock, PoisonError};

use lwflow_fuzz::{Target, limit_memory};

static TARGET: OnceLock<Target> = OnceLock::new();

/// What the last panic said.
static PANIC: Mutex<String> = Mutex::new(String::new());

fn begin() {
    let name = std::env::var("LWFLOW_FUZZ_TARGET").unwrap_or_default();
    let names = Target::ALL.map(Target::name).join(", ");
    let target = Target::find(&name);
    let target = target.unwrap_or_else(|| panic!("LWFLOW_FUZZ_TARGET is `{name}`, expected one of {names}"));
    let _ = TARGET.set(target);
    limit_memory().expect("a limit of the address space");
    // In place of libFuzzer's hook, which ends the process also for the panics of decoders that a reader catches.
    std::panic::set_hook(Box::new(|panic| {
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
    }));
}

libfuzzer_sys::fuzz_target!(init: begin(), |bytes: &[u8]| {
    let Some(target) = TARGET.get() else { return };
    if std::panic::catch_unwind(|| target.run(bytes)).is_err() {
        eprintln!("{}", PANIC.lock().unwrap_or_else(PoisonError::into_inner));
        std::process::abort();
    }
});
