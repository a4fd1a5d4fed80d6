//! Reads one section of a task file key by key. The TOML is kept with its byte positions, so that every error can name
//! its line; keys that the section does not have are refused when it is opened.

use super::error::{Place, TaskError, nearest};
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A closed set of words.
pub(super) trait Choice: Copy + 'static {
    const WORDS: &'static [&'static str];
    const VALUES: &'static [Self];
}

/// The numbers that a key accepts.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) accept: fn(f64) -> bool,
    pub(super) expected: &'static str,
}

pub(super) const FINITE: Bounds = Bounds { accept: |_| true, expected: "a finite number" };
pub(super) const POSITIVE: Bounds = Bounds { accept: |x| x > 0.0, expected: "a finite number above 0" };
pub(super) const SHARE: Bounds =
    Bounds { accept: |x| (0.0..1.0).contains(&x), expected: "a share: at least 0, below 1" };
pub(super) const OPEN_SHARE: Bounds =
    Bounds { accept: |x| x > 0.0 && x < 1.0, expected: "a share: above 0, below 1" };

/// The text of a task file and its name.
pub(super) struct Document<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
    /// All sections with their keys, to recognise a key that stands in the wrong one.
    pub(super) sections: &'static [(&'static str, &'static [&'static str])],
}

impl Document<'_> {
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let end = span.start.min(self.text.len());
        let line = 1 + self.text.as_bytes().iter().take(end).filter(|&&b| b == b'\n').count();
        Place { file: self.file.to_path_buf(), line }
    }

    fn source(&self, span: &Range<usize>) -> &str {
        self.text.get(span.clone()).unwrap_or_default().trim()
    }

    fn home_of(&self, key: &str) -> Option<String> {
        self.sections.iter().find(|(_, keys)| keys.contains(&key)).map(|(name, _)| {
            let name = if *name == "parameters" { "parameters.<name>" } else { name };
            format!("{name}.{key}")
        })
    }
}

/// One opened section; a section that is absent reads as one without keys.
pub(super) struct Section<'a> {
    document: &'a Document<'a>,
    name: String,
    table: Option<&'a DeTable<'a>>,
    span: Range<usize>,
}

impl<'a> Section<'a> {
    /// Opens the section and refuses keys that are not in `keys`, the first in the file first.
    pub(super) fn open(
        document: &'a Document<'a>,
        name: &str,
        value: Option<&'a Spanned<DeValue<'a>>>,
        keys: &'static [&'static str],
    ) -> Result<Self, TaskError> {
        let section = Self::open_free(document, name, value)?;
        section.refuse_unknown(keys)?;
        Ok(section)
    }

    /// Opens a section whose keys are free.
    pub(super) fn open_free(
        document: &'a Document<'a>,
        name: &str,
        value: Option<&'a Spanned<DeValue<'a>>>,
    ) -> Result<Self, TaskError> {
        let mut section = Self { document, name: name.to_owned(), table: None, span: 0..0 };
        let Some(value) = value else { return Ok(section) };
        section.span = value.span();
        section.table = Some(match value.get_ref().as_table() {
            Some(table) => table,
            None => return Err(section.wrong_type(name.to_owned(), value, "a section")),
        });
        Ok(section)
    }

    /// Opens the whole file, whose keys are the sections.
    pub(super) fn root(
        document: &'a Document<'a>,
        table: &'a DeTable<'a>,
        keys: &'static [&'static str],
    ) -> Result<Self, TaskError> {
        let section = Self { document, name: String::new(), table: Some(table), span: 0..0 };
        section.refuse_unknown(keys)?;
        Ok(section)
    }

    fn refuse_unknown(&self, keys: &'static [&'static str]) -> Result<(), TaskError> {
        let Some((span, key)) =
            self.entries().into_iter().map(|(span, key, _)| (span, key)).find(|(_, key)| !keys.contains(key))
        else {
            return Ok(());
        };
        let near = nearest(key, keys).map(|near| self.full(near));
        Err(TaskError::UnknownKey {
            place: self.document.place(&span),
            key: self.full(key),
            nearest: self.document.home_of(key).or(near),
            valid: keys,
        })
    }

    /// An error about a key that is none of `valid`, which mean the same section; `better` is what was probably meant.
    pub(super) fn unknown(
        &self,
        key: &str,
        better: Option<&'static str>,
        valid: &'static [&'static str],
    ) -> TaskError {
        let home = self.document.home_of(key).filter(|home| !home.starts_with("parameters."));
        let near = better.or_else(|| nearest(key, valid)).map(|near| self.full(near));
        let span = self.entries().into_iter().find(|(_, k, _)| *k == key).map(|(span, _, _)| span);
        TaskError::UnknownKey {
            place: self.document.place(&span.unwrap_or_else(|| self.span.clone())),
            key: self.full(key),
            nearest: if better.is_some() { near } else { home.or(near) },
            valid,
        }
    }

    /// Entries in the order of the file.
    pub(super) fn entries(&self) -> Vec<(Range<usize>, &'a str, &'a Spanned<DeValue<'a>>)> {
        let mut entries: Vec<_> = self
            .table
            .into_iter()
            .flat_map(|table| table.iter())
            .map(|(key, value)| (key.span(), key.get_ref().as_ref(), value))
            .collect();
        entries.sort_by_key(|(span, _, _)| span.start);
        entries
    }

    pub(super) fn full(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    pub(super) fn place(&self) -> Place {
        self.document.place(&self.span)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get(key)
    }

    /// Line of a key (of the section, where the key is absent).
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.get(key).map_or_else(|| self.place(), |value| self.document.place(&value.span()))
    }

    fn wrong_type(&self, key: String, value: &Spanned<DeValue<'_>>, expected: &'static str) -> TaskError {
        let kind = value.get_ref().type_str();
        let source = self.document.source(&value.span());
        let short = source.len() <= 40 && !source.contains('\n') && !value.get_ref().is_table();
        let got = if short { format!("the {kind} {source}") } else { format!("of type {kind}") };
        TaskError::WrongType { place: self.document.place(&value.span()), key, got, expected }
    }

    fn out_of_range(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        expected: impl Into<String>,
    ) -> TaskError {
        TaskError::OutOfRange {
            place: self.document.place(&value.span()),
            key: self.full(key),
            got: self.document.source(&value.span()).to_owned(),
            expected: expected.into(),
        }
    }

    /// An error about the type of a key that only its owner can judge.
    pub(super) fn refuse_type(&self, key: &str, expected: &'static str) -> TaskError {
        match self.get(key) {
            Some(value) => self.wrong_type(self.full(key), value, expected),
            None => self.missing(key, expected),
        }
    }

    /// An error about the value of a key that only its owner can judge.
    pub(super) fn refuse(&self, key: &str, expected: impl Into<String>) -> TaskError {
        let got = self
            .get(key)
            .map_or_else(|| "absent".into(), |value| self.document.source(&value.span()).to_owned());
        TaskError::OutOfRange {
            place: self.place_of(key),
            key: self.full(key),
            got,
            expected: expected.into(),
        }
    }

    /// An error about a key that contradicts another entry.
    pub(super) fn conflict(&self, key: &str, other: impl Into<String>, reason: &'static str) -> TaskError {
        TaskError::Conflict { place: self.place_of(key), key: self.full(key), other: other.into(), reason }
    }

    pub(super) fn missing(&self, key: &str, expected: &'static str) -> TaskError {
        TaskError::Missing { place: self.place(), key: self.full(key), expected }
    }

    /// A finite number within bounds; integers count as numbers.
    pub(super) fn number(&self, key: &str, bounds: Bounds) -> Result<Option<f64>, TaskError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Some(x) = as_number(value.get_ref()) else {
            return Err(self.wrong_type(self.full(key), value, "a number"));
        };
        if x.is_finite() && (bounds.accept)(x) {
            Ok(Some(x))
        } else {
            Err(self.out_of_range(key, value, bounds.expected))
        }
    }

    /// A whole number of at least `least`; `2e6` is one.
    pub(super) fn count(&self, key: &str, least: usize) -> Result<Option<usize>, TaskError> {
        self.get(key).map(|value| self.as_count(key, value, least)).transpose()
    }

    fn as_count(&self, key: &str, value: &Spanned<DeValue<'_>>, least: usize) -> Result<usize, TaskError> {
        let Some(x) = as_number(value.get_ref()) else {
            return Err(self.wrong_type(self.full(key), value, "a whole number"));
        };
        // 2^53: the whole numbers that f64 holds exactly.
        if x.fract() != 0.0 || !(least as f64..=9_007_199_254_740_992.0).contains(&x) {
            return Err(self.out_of_range(key, value, format!("a whole number of at least {least}")));
        }
        Ok(x as usize)
    }

    /// A list of whole numbers of at least one.
    pub(super) fn counts(&self, key: &str) -> Result<Option<Vec<usize>>, TaskError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Some(list) = value.get_ref().as_array() else {
            return Err(self.wrong_type(self.full(key), value, "a list of whole numbers, such as [32, 32]"));
        };
        list.iter().map(|item| self.as_count(key, item, 1)).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, TaskError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref().as_bool() {
            Some(flag) => Ok(Some(flag)),
            None => Err(self.wrong_type(self.full(key), value, "true or false")),
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, TaskError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref().as_str() {
            Some("") => Err(self.out_of_range(key, value, "a text that is not empty")),
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(self.wrong_type(self.full(key), value, "a text in quotes")),
        }
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str, expected: &'static str) -> Result<Option<Vec<String>>, TaskError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let texts = value.get_ref().as_array().map(|list| {
            list.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        match texts {
            Some(Some(texts)) => Ok(Some(texts)),
            _ => Err(self.wrong_type(self.full(key), value, expected)),
        }
    }

    /// One of a list of words.
    pub(super) fn word(
        &self,
        key: &str,
        words: &'static [&'static str],
    ) -> Result<Option<&'static str>, TaskError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match words.iter().find(|&&word| word == text) {
            Some(word) => Ok(Some(word)),
            None => Err(self.unknown_word(key, text, words)),
        }
    }

    /// The error of a word that is none of the valid ones.
    pub(super) fn unknown_word(&self, key: &str, got: String, valid: &'static [&'static str]) -> TaskError {
        TaskError::UnknownValue {
            place: self.place_of(key),
            key: self.full(key),
            nearest: nearest(&got, valid).map(str::to_owned),
            got,
            valid,
        }
    }

    /// One of a closed set.
    pub(super) fn choice<C: Choice>(&self, key: &str) -> Result<Option<C>, TaskError> {
        let Some(word) = self.word(key, C::WORDS)? else { return Ok(None) };
        Ok(C::WORDS.iter().zip(C::VALUES).find(|(w, _)| **w == word).map(|(_, &value)| value))
    }
}

fn as_number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(i) => i128::from_str_radix(i.as_str(), i.radix()).ok().map(|i| i as f64),
        DeValue::Float(x) => x.as_str().parse().ok(),
        _ => None,
    }
}
