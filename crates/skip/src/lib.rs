//! How a test says that it could not run, or not on an adapter: one line `SKIP name: why`, which `cargo xtask test` counts.
//! Invariant: one line a test, however often it asks; with `LWFLOW_REQUIRE_ADAPTER=1` a missing adapter is a failure.
#![allow(clippy::panic, clippy::print_stdout)]

use std::cell::Cell;
use std::fmt::Display;
use std::thread;

thread_local! {
    static SAID: Cell<bool> = const { Cell::new(false) };
}

/// Prints the line of the calling test, unless it has been printed. libtest names a test's thread after the test.
pub fn skip(why: impl Display) {
    let this = thread::current();
    // With one test thread all tests run on the program's own; there every call prints, and the count takes one a test.
    let test = this.name().filter(|name| *name != "main");
    if is_first(test) {
        println!("{}", line(test, &why.to_string()));
    }
}

/// Whether `test`, which runs on this thread, has not been skipped before.
fn is_first(test: Option<&str>) -> bool {
    test.is_none() || !SAID.replace(true)
}

/// What a test found when it looked for an adapter; `None`, after [`skip`], where there is none.
///
/// # Panics
/// If there is none and `LWFLOW_REQUIRE_ADAPTER` asks for one.
#[track_caller]
pub fn adapter<T, E: Display>(found: Result<T, E>) -> Option<T> {
    let variable = std::env::var("LWFLOW_REQUIRE_ADAPTER").unwrap_or_default();
    or_skip(found, is_on(&variable))
}

#[track_caller]
fn or_skip<T, E: Display>(found: Result<T, E>, required: bool) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(why) if required => panic!("LWFLOW_REQUIRE_ADAPTER is set, but: {why}"),
        Err(why) => {
            skip(why);
            None
        }
    }
}

fn is_on(variable: &str) -> bool {
    !matches!(variable, "" | "0" | "false" | "no")
}

/// Of several lines of `why` the first, so that what is printed is one line.
fn line(test: Option<&str>, why: &str) -> String {
    let why = why.trim().lines().next().unwrap_or("no reason given");
    format!("SKIP {}: {why}", test.unwrap_or("this test"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_test_and_the_reason() {
        assert_eq!(line(Some("kernels::linear"), "no adapter\nof 3"), "SKIP kernels::linear: no adapter");
        assert_eq!(line(None, " "), "SKIP this test: no reason given");
    }

    #[test]
    fn a_test_says_it_once() {
        assert!(is_first(None) && is_first(None));
        assert!(is_first(Some("name")));
        assert!(!is_first(Some("name")));
        assert_eq!(or_skip(Ok::<_, String>(3), true), Some(3));
    }

    #[test]
    #[should_panic(expected = "LWFLOW_REQUIRE_ADAPTER is set, but: no driver")]
    fn a_required_adapter_is_not_skipped() {
        let _: Option<()> = or_skip(Err("no driver"), true);
    }

    #[test]
    fn variables_are_read_as_by_the_checks() {
        assert!(is_on("1") && is_on("true"));
        assert!(!["", "0", "false", "no"].iter().any(|v| is_on(v)));
    }
}
