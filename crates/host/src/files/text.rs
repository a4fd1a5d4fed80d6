//! Tables of numbers separated by blanks, as chain files hold them.
//! Invariant: all rows have the width of the first; each keeps its line number. Lines that start with `#` are comments,
//! the first of which may name the columns.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::error::{FileError, Place};
use super::open;

/// Rows of numbers, row-major.
#[derive(Debug)]
pub(crate) struct TextTable {
    pub(crate) path: PathBuf,
    /// Words of the comment before the first row.
    pub(crate) header: Vec<String>,
    pub(crate) width: usize,
    pub(crate) n: usize,
    pub(crate) data: Vec<f64>,  // [n, width]
    pub(crate) lines: Vec<u64>, // [n]
}

impl TextTable {
    /// # Errors
    /// [`FileError::Empty`], [`FileError::WrongWidth`], [`FileError::NotANumber`], [`FileError::Damaged`].
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        Self::read_any(path, false)
    }

    /// Reads a table whose first line names the columns without a `#`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_with_names(path: &Path) -> Result<Self, FileError> {
        Self::read_any(path, true)
    }

    fn read_any(path: &Path, named: bool) -> Result<Self, FileError> {
        let (file, _) = open(path)?;
        let mut reader = BufReader::new(file);
        let mut table = Self {
            path: path.into(),
            header: Vec::new(),
            width: 0,
            n: 0,
            data: Vec::new(),
            lines: Vec::new(),
        };
        let mut buffer = Vec::new();
        let mut line = 0_u64;
        loop {
            buffer.clear();
            let read = reader.read_until(b'\n', &mut buffer);
            if read.map_err(|source| FileError::Io { path: path.into(), action: "read", source })? == 0 {
                break;
            }
            line += 1;
            let text = std::str::from_utf8(&buffer).map_err(|_| {
                let reason = format!("line {line} is not text");
                FileError::Damaged { path: path.into(), format: "chain", reason }
            })?;
            if named && line == 1 {
                table.header = text.split_whitespace().map(str::to_owned).collect();
                continue;
            }
            table.push_line(text.trim(), line)?;
        }
        if table.n == 0 {
            return Err(FileError::Empty { path: path.into(), what: "it has no rows" });
        }
        Ok(table)
    }

    fn push_line(&mut self, text: &str, line: u64) -> Result<(), FileError> {
        if let Some(comment) = text.strip_prefix('#') {
            if self.n == 0 && self.header.is_empty() {
                self.header = comment.split_whitespace().map(str::to_owned).collect();
            }
            return Ok(());
        }
        if text.is_empty() {
            return Ok(());
        }
        let start = self.data.len();
        for (column, word) in text.split_whitespace().enumerate() {
            let value = parse(word).ok_or_else(|| {
                let field = format!("column {column}");
                let at = Place { path: self.path.clone(), row: self.n, line: Some(line), field };
                FileError::NotANumber { at, text: word.chars().take(80).collect() }
            })?;
            self.data.push(value);
        }
        let got = self.data.len() - start;
        if self.n > 0 && got != self.width {
            let expected = format!("{} as in the rows before (a cut-off last line?)", self.width);
            return Err(FileError::WrongWidth { path: self.path.clone(), line, got, expected });
        }
        self.width = got;
        self.n += 1;
        self.lines.push(line);
        Ok(())
    }

    pub(crate) fn row(&self, row: usize) -> &[f64] {
        &self.data[row * self.width..(row + 1) * self.width]
    }

    /// Checks that there are at least `least` columns.
    pub(crate) fn check_width(&self, least: usize, expected: &str) -> Result<(), FileError> {
        if self.width >= least {
            return Ok(());
        }
        let (line, got, expected) = (self.lines[0], self.width, expected.to_owned());
        Err(FileError::WrongWidth { path: self.path.clone(), line, got, expected })
    }

    /// Refuses a row; `theta` is its range of columns that holds the parameters.
    pub(crate) fn bad_value(
        &self,
        row: usize,
        field: String,
        value: f64,
        expected: &'static str,
        theta: std::ops::Range<usize>,
    ) -> FileError {
        let at = Place { path: self.path.clone(), row, line: Some(self.lines[row]), field };
        FileError::BadValue { at, value, expected, theta: self.row(row)[theta].to_vec() }
    }
}

/// A number, also in Fortran's spelling: with D for the exponent, or without a letter before one of three digits.
fn parse(word: &str) -> Option<f64> {
    word.parse().ok().or_else(|| {
        let mut spelled = word.replace(['d', 'D'], "e");
        if let Some(sign) = spelled.rfind(['+', '-'])
            && sign > 0
            && spelled.as_bytes()[sign - 1].is_ascii_digit()
        {
            spelled.insert(sign, 'e');
        }
        spelled.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fortran_spells_its_own_way() {
        let words = ["1D-2", "-0.179769313486231571+309", "0.5-101", "-2", "1e5", "-", "1+", "1-2-3", "e+1"];
        let values =
            [Some(0.01), Some(-f64::MAX), Some(5e-102), Some(-2.0), Some(1e5), None, None, None, None];
        assert_eq!(words.map(parse), values);
    }
}
