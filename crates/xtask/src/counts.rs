//! Counts tests from the output of `cargo test` while it passes by.
//! A test that finds no adapter prints one line `SKIP <test>: <why>` (crates/skip); libtest counts it as passed, we do not, even
//! if what it could do on the cores has passed.

use std::fmt;

/// Tests seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TestCounts {
    /// As libtest counts, skipped ones included.
    ran_ok: usize,
    failed: usize,
    ignored: usize,
    skip_lines: usize,
    /// Where the lines come from.
    place: Place,
}

/// Whose output is being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Anybody's: every line counts.
    #[default]
    Between,
    /// What one test printed, collected by libtest; its first line counts.
    Test { skipped: bool },
}

impl TestCounts {
    /// Takes in one line of output, standard output or standard error.
    pub fn read_line(&mut self, line: &str) {
        let line = strip_colour(line);
        if let Some((_, counts)) = line.trim().strip_prefix("test result: ").and_then(|l| l.split_once(". "))
        {
            for part in counts.split(';') {
                let mut words = part.split_whitespace();
                let (Some(Ok(n)), Some(kind)) = (words.next().map(str::parse::<usize>), words.next()) else {
                    continue;
                };
                match kind {
                    "passed" => self.ran_ok += n,
                    "failed" => self.failed += n,
                    "ignored" => self.ignored += n,
                    _ => {}
                }
            }
            self.place = Place::Between;
        } else if line.starts_with("---- ") && line.ends_with(" ----") {
            self.place = Place::Test { skipped: false };
        } else if line.starts_with("SKIP ") || (line.starts_with("test ") && line.contains(" ... SKIP ")) {
            // The second form: with one test thread, libtest has printed the name and not yet ended the line.
            self.skip_lines += usize::from(self.place != Place::Test { skipped: true });
            if let Place::Test { skipped } = &mut self.place {
                *skipped = true;
            }
        }
    }

    /// Tests that ran and passed.
    pub fn passed(&self) -> usize {
        self.ran_ok.saturating_sub(self.skip_lines)
    }

    /// Tests that failed, and checks counted by [`Self::add_failure`].
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// Tests that were ignored or skipped themselves, and checks counted by [`Self::add_skip`].
    pub fn skipped(&self) -> usize {
        self.ignored + self.skip_lines
    }

    /// Counts a check that failed without a test of its own to show for it.
    pub fn add_failure(&mut self) {
        self.failed += 1;
    }

    /// Counts a check that could not be run.
    pub fn add_skip(&mut self) {
        self.ignored += 1;
    }
}

impl fmt::Display for TestCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed(), self.failed(), self.skipped())
    }
}

/// `line` without ANSI colour sequences.
fn strip_colour(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // ESC [ parameters letter
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> TestCounts {
        let mut counts = TestCounts::default();
        text.lines().for_each(|line| counts.read_line(line));
        counts
    }

    #[test]
    fn result_lines_are_summed() {
        let counts = count(
            "running 4 tests\ntest a ... ok\n\
             test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s\n\n\
             test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s\n",
        );
        assert_eq!((counts.passed(), counts.failed(), counts.skipped()), (13, 2, 1));
        assert_eq!(counts.to_string(), "13 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_skipped_test_is_not_a_passed_one() {
        let counts = count(
            "SKIP kernels::linear: no adapter\ntest kernels::affine ... SKIP kernels::affine: no adapter\nok\n\
             a line that mentions SKIP in passing\n\
             test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        );
        assert_eq!(counts.to_string(), "3 passed, 0 failed, 2 skipped");
    }

    #[test]
    fn a_test_is_skipped_once_and_a_test_with_two_devices_too() {
        let counts = count(
            "running 4 tests\ntest a ... ok\ntest b ... ok\ntest c ... ok\ntest d ... ok\n\nsuccesses:\n\n\
             ---- a stdout ----\non the cores: 3\nSKIP a: no adapter\n\n\
             ---- b stdout ----\nSKIP this test: no adapter\nSKIP this test: no adapter\n\n\
             ---- c stdout ----\nSKIPPED nothing\n\nsuccesses:\n    a\n    b\n    c\n    d\n\n\
             test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             SKIP another program: no adapter\nSKIP yet another: no adapter\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        );
        assert_eq!(counts.to_string(), "2 passed, 0 failed, 4 skipped");
    }

    #[test]
    fn colours_do_not_hide_a_result() {
        let counts = count("test result: \u{1b}[32mok\u{1b}[0m. 7 passed; 0 failed; 0 ignored; 0 measured");
        assert_eq!(counts.to_string(), "7 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn checks_without_tests_count_too() {
        let mut counts = count("test result: ok. 1 passed; 0 failed; 0 ignored;");
        counts.add_failure();
        counts.add_skip();
        assert_eq!(counts.to_string(), "1 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn other_text_counts_nothing() {
        assert_eq!(
            count("test result: \nerror: test failed\nSKIPPED\n12 passed; 3 failed\n"),
            TestCounts::default()
        );
    }
}
