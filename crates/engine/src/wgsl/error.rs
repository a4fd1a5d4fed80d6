//! An error in a user's WGSL file, told by the user's own file, line and column.
//! Invariant: no position of the text that the engine puts around the file ever reaches a message.

use naga::Span;
use naga::front::wgsl::ParseError;
use naga::valid::ValidationError;

use super::splice::Spliced;

/// What is wrong in a user's WGSL file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}{}", quoted(.excerpt, *.column))]
pub struct WgslError {
    /// The file, as the caller named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What was found and what was expected.
    pub message: String,
    /// The line's text.
    pub excerpt: String,
}

fn quoted(excerpt: &str, column: usize) -> String {
    if excerpt.trim().is_empty() {
        return String::new();
    }
    // Tabs stay tabs, so that the mark stands below its character.
    let before: String =
        excerpt.chars().take(column.saturating_sub(1)).map(|c| if c == '\t' { c } else { ' ' }).collect();
    format!("\n    {excerpt}\n    {before}^")
}

impl WgslError {
    /// `message` at byte `at` of the user's text; a place before or behind it is its beginning or end.
    pub(crate) fn at(file: &str, text: &str, at: usize, message: impl Into<String>) -> Self {
        let mut at = at.min(text.trim_end().len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let begin = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let excerpt = text[begin..].lines().next().unwrap_or_default().to_owned();
        Self {
            file: file.to_owned(),
            line: 1 + text[..at].matches('\n').count(),
            column: 1 + text[begin..at].chars().count(),
            message: message.into(),
            excerpt,
        }
    }

    /// `message` at the first of `spans` that lies in the user's text.
    pub(crate) fn spliced(
        spliced: &Spliced,
        spans: impl IntoIterator<Item = Span>,
        message: impl Into<String>,
    ) -> Self {
        let ranges: Vec<_> = spans.into_iter().filter_map(|s| s.to_range()).collect();
        let user = spliced.user();
        let at = ranges
            .iter()
            .find(|r| user.contains(&r.start))
            .or(ranges.first())
            .map_or(user.start, |range| range.start);
        Self::at(spliced.file(), &spliced.text()[user.clone()], at.saturating_sub(user.start), message)
    }

    /// A text that is no WGSL.
    pub(crate) fn parse(spliced: &Spliced, error: &ParseError) -> Self {
        let mut message = error.message().to_owned();
        for note in error.notes() {
            message.push_str("; ");
            message.push_str(note);
        }
        Self::spliced(spliced, error.labels().map(|(span, _)| span), message)
    }

    /// WGSL that is not valid.
    pub(crate) fn validation(spliced: &Spliced, error: &naga::WithSpan<ValidationError>) -> Self {
        // The outer ones only say which function and expression, by naga's numbers; the narrowest span says it better.
        let mut inner: &dyn std::error::Error = error.as_inner();
        while let Some(cause) = inner.source() {
            inner = cause;
        }
        let mut spans: Vec<Span> = error.spans().map(|(span, _)| *span).collect();
        spans.sort_by_key(|span| span.to_range().map_or(usize::MAX, |range| range.len()));
        Self::spliced(spliced, spans, inner.to_string())
    }
}
