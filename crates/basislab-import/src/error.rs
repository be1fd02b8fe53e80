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
    /// About a file. `{:?}` escapes control characters in its name; in `what`, which may quote the file, they become
    /// spaces, and it ends after 1000 characters.
    pub(crate) fn new(path: &Path, what: impl Into<String>) -> Self {
        let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
        Self { place: format!("{path:?}"), what: what.into().chars().take(1000).map(plain).collect() }
    }
}
