use std::path::Path;
use thiserror::Error;

/// Why a model or a tokenizer cannot be read: one line with the file, what was found, what was expected and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}: {what}")]
pub struct ImportError {
    /// The file in quotes.
    pub place: String,
    /// What was found, what would have been accepted, what to do about it.
    pub what: String,
}

impl ImportError {
    /// About a file. `{:?}` escapes control characters in its name.
    pub(crate) fn new(path: &Path, what: impl Into<String>) -> Self {
        Self { place: format!("{path:?}"), what: what.into() }
    }
}
