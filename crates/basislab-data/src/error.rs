use thiserror::Error;

/// Why a corpus cannot be opened: one line with the file or key, what was found, what was expected and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}: found {found}, expected {expected}; {next}")]
pub struct CorpusError {
    /// The file in quotes, or the configuration key.
    pub place: String,
    /// What was found.
    pub found: String,
    /// What would have been accepted.
    pub expected: String,
    /// What to do about it.
    pub next: String,
}

impl CorpusError {
    /// About a file. `{:?}` escapes control characters in its name.
    pub(crate) fn file(path: &str, found: impl Into<String>, expected: impl Into<String>, next: &str) -> Self {
        Self { place: format!("{path:?}"), found: found.into(), expected: expected.into(), next: next.to_owned() }
    }

    /// About a key of the configuration.
    pub(crate) fn key(key: &str, found: impl Into<String>, expected: impl Into<String>, next: &str) -> Self {
        Self { place: key.to_owned(), found: found.into(), expected: expected.into(), next: next.to_owned() }
    }
}
