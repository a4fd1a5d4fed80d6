//! The two ways in which a batch is written to a child and its answers are read. Invariant: what a row of the answer says
//! is either all its numbers or an error; nothing is guessed.

use super::Answer;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// How batches and answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Little-endian: n and D as u64, for simulators also the number of the first simulation, then theta `[n, D]` as f64; the
    /// answer is `[n, 1 + M]` or `[n, X]` as f64.
    #[default]
    Binary,
    /// A line with n, for simulators also with the number of the first simulation, then n lines of D numbers; the answer is n
    /// lines of 1 + M or X numbers. Numbers are separated by commas.
    Csv,
}

/// Longest line of an answer, in bytes.
const MAX_LINE: usize = 1 << 20;
/// Bytes of a line that an error shows.
const SHOWN: usize = 80;

impl Protocol {
    /// The message that hands over `theta`, `[n, dim]`, and the number of the first simulation where there is one.
    pub(super) fn message(self, theta: &[f64], dim: usize, first: Option<u64>) -> Vec<u8> {
        let n = theta.len() / dim;
        match self {
            Self::Binary => {
                let mut bytes = Vec::with_capacity(24 + 8 * theta.len());
                bytes.extend((n as u64).to_le_bytes());
                bytes.extend((dim as u64).to_le_bytes());
                first.iter().for_each(|first| bytes.extend(first.to_le_bytes()));
                theta.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
                bytes
            }
            Self::Csv => {
                let mut text = first.map_or_else(|| format!("{n}\n"), |first| format!("{n},{first}\n"));
                for row in theta.chunks_exact(dim) {
                    for (j, x) in row.iter().enumerate() {
                        // Debug writes the shortest text that reads back as the same number. Writing to a text cannot fail.
                        let _ = write!(text, "{}{x:?}", if j == 0 { "" } else { "," });
                    }
                    text.push('\n');
                }
                text.into_bytes()
            }
        }
    }

    /// Takes one row off `bytes` and adds it to `out`; the number of bytes taken, `None` if the row is
    /// not complete yet.
    ///
    /// # Errors
    /// What stands there instead of the row, and what was expected.
    pub(super) fn take_row(
        self,
        bytes: &[u8],
        answer: &dyn Answer,
        out: &mut Vec<f64>,
    ) -> Result<Option<usize>, String> {
        let width = answer.width();
        match self {
            Self::Binary => {
                let Some(row) = bytes.get(..8 * width) else { return Ok(None) };
                out.extend(row.chunks_exact(8).map(|b| {
                    let mut eight = [0; 8];
                    eight.copy_from_slice(b);
                    f64::from_le_bytes(eight)
                }));
                Ok(Some(8 * width))
            }
            Self::Csv => {
                let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
                    return if bytes.len() > MAX_LINE { Err(unreadable(bytes, answer)) } else { Ok(None) };
                };
                let line = &bytes[..end];
                let text = std::str::from_utf8(line).map_err(|_| unreadable(line, answer))?;
                let numbers: Result<Vec<f64>, _> = text.split(',').map(|cell| cell.trim().parse()).collect();
                match numbers {
                    Ok(numbers) if numbers.len() == width => out.extend(numbers),
                    _ => return Err(unreadable(line, answer)),
                }
                Ok(Some(end + 1))
            }
        }
    }

    /// Reads `n` answers that are all there and adds them to `out`, as far as they are legal.
    ///
    /// # Errors
    /// What is wrong with the first one that is not, or what follows the last.
    pub(crate) fn read(
        self,
        mut bytes: &[u8],
        n: usize,
        answer: &dyn Answer,
        out: &mut Vec<f64>,
    ) -> Result<(), String> {
        for row in 0..n {
            let start = out.len();
            let Some(taken) = self.take_row(bytes, answer, out)? else {
                return Err(format!("answer {row} is missing{}", self.describe_rest(bytes, answer.width())));
            };
            bytes = &bytes[taken..];
            if let Err(problem) = answer.check(&out[start..]) {
                out.truncate(start);
                return Err(format!("{problem} in answer {row}"));
            }
        }
        if bytes.is_empty() { Ok(()) } else { Err(format!("{} bytes follow the last answer", bytes.len())) }
    }

    /// What has come of a row that is not complete, for an error.
    pub(super) fn describe_rest(self, bytes: &[u8], width: usize) -> String {
        match self {
            _ if bytes.is_empty() => String::new(),
            Self::Binary => format!(" (after {} of the {} bytes of its answer)", bytes.len(), 8 * width),
            Self::Csv => format!(" (after the unfinished line `{}`)", shown(bytes)),
        }
    }
}

fn unreadable(line: &[u8], answer: &dyn Answer) -> String {
    format!("answered `{}`, expected {}", shown(line), answer.words())
}

fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(SHOWN)]);
    let text = text.trim_end();
    if line.len() > SHOWN { format!("{text}...") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pair;

    impl Answer for Pair {
        fn width(&self) -> usize {
            2
        }

        fn words(&self) -> String {
            "a pair".to_owned()
        }

        fn check(&self, _: &[f64]) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn messages_are_those_of_the_document() {
        let theta = [1.0, -0.1, 1e-300, 12345.678901234567];
        assert_eq!(
            Protocol::Csv.message(&theta, 2, None),
            b"2\n1.0,-0.1\n1e-300,12345.678901234567\n".as_slice()
        );
        let binary = Protocol::Binary.message(&theta, 2, None);
        assert_eq!(binary.len(), 16 + 32);
        assert_eq!(binary[..17], [2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(binary[24..32], (-0.1f64).to_le_bytes());
        // Those of a simulator.
        let numbered = Protocol::Csv.message(&theta, 2, Some(1 << 40));
        assert_eq!(numbered, b"2,1099511627776\n1.0,-0.1\n1e-300,12345.678901234567\n".as_slice());
        let numbered = Protocol::Binary.message(&theta, 2, Some(513));
        assert_eq!(numbered[..16], binary[..16]);
        assert_eq!(numbered[16..26], [1, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(numbered[24..], binary[16..]);
    }

    #[test]
    fn rows_are_taken_whole_or_not_at_all() {
        let mut out = Vec::new();
        let mut take = |protocol: Protocol, bytes: &[u8]| protocol.take_row(bytes, &Pair, &mut out);
        assert_eq!(take(Protocol::Csv, b" -1.5, 2e3 \r\nrest"), Ok(Some(13)));
        assert_eq!(take(Protocol::Csv, b"-inf,NAN\n"), Ok(Some(9)));
        assert_eq!(take(Protocol::Csv, b"-1.5,2"), Ok(None));
        let expected = "a pair";
        for line in ["", "1", "1,2,3", "1;2", "1,two"] {
            let error = take(Protocol::Csv, format!("{line}\n").as_bytes()).unwrap_err();
            assert_eq!(error, format!("answered `{line}`, expected {expected}"));
        }
        let error = take(Protocol::Csv, &[b'7'; MAX_LINE + 1]).unwrap_err();
        assert_eq!(error, format!("answered `{}...`, expected {expected}", "7".repeat(80)));
        let bytes: Vec<u8> = [0.25f64, -3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(take(Protocol::Binary, &bytes[..15]), Ok(None));
        assert_eq!(take(Protocol::Binary, &bytes), Ok(Some(16)));
        assert_eq!(out[..3], [-1.5, 2e3, f64::NEG_INFINITY]);
        assert!(out[3].is_nan());
        assert_eq!(out[4..], [0.25, -3.0]);
    }
}
