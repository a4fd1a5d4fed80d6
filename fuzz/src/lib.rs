//! What every reader makes of any bytes: one function per reader, called by the fuzzer and by the replay of its corpora.
//! Invariant: bytes are refused or read as checked values; a function returns, does not panic, and stays below
//! [`MEMORY_BYTES`] of address space beyond what the program has.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is what the fuzzer looks for")]

mod target;

pub use target::Target;

/// Address space that one input may take. A file of some kilobytes that claims to hold 2^60 numbers needs more.
pub const MEMORY_BYTES: u64 = 1 << 30;

/// Limits the address space of this process to what it has now and [`MEMORY_BYTES`] more, where the system can.
///
/// # Errors
/// What the system says.
pub fn limit_memory() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let pages = std::fs::read_to_string("/proc/self/statm")?;
        let pages = pages.split(' ').next().and_then(|n| n.parse::<u64>().ok());
        let pages = pages.ok_or_else(|| std::io::Error::other("/proc/self/statm: no number"))?;
        let (_, hard) = getrlimit(Resource::RLIMIT_AS)?;
        setrlimit(Resource::RLIMIT_AS, (pages * 4096 + MEMORY_BYTES).min(hard), hard)?;
    }
    Ok(())
}
