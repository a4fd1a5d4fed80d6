//! Peak memory of this process, as Linux counts it.
//! Invariant: where the system does not say, there is no figure.

use std::fs;

/// Forgets the peak so far, so that [`peak_bytes`] sees what comes from now on.
pub fn forget_peak() {
    // Where this is not possible `peak_bytes` has nothing to read either, or an honest but older peak.
    let _ignored = fs::write("/proc/self/clear_refs", "5");
}

/// Largest resident size since [`forget_peak`] (`VmHWM`), in bytes.
#[must_use]
pub fn peak_bytes() -> Option<u64> {
    field(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// A field of `/proc/self/status`, which counts in kB of 1024 bytes.
fn field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kilobytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_found() {
        let status = "Name:\tbench\nVmPeak:\t  99 kB\nVmHWM:\t    1234 kB\n";
        assert_eq!(field(status, "VmHWM:"), Some(1234 * 1024));
        assert_eq!(field(status, "VmSwap:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_large_vector_shows_and_is_forgotten() {
        let size: usize = 64 << 20;
        forget_peak();
        let before = peak_bytes().unwrap_or(0);
        let bytes = std::hint::black_box(vec![1_u8; size]);
        let during = peak_bytes().unwrap_or(0);
        drop(bytes);
        forget_peak();
        let after = peak_bytes().unwrap_or(0);
        let half = (size / 2) as u64;
        assert!(during > before + half && after + half < during, "{before} {during} {after}");
    }
}
