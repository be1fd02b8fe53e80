use basislab_store::FileError;
use basislab_tables::ReadError;
use std::path::Path;

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A table is not what it should be.
    #[error(transparent)]
    Table(#[from] ReadError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The output is something else's.
    #[error("{0}")]
    Foreign(String),
}

impl ExportError {
    /// A file could not be written, for a reason that a library of a format gives.
    pub(crate) fn write(path: &Path, error: impl std::fmt::Display) -> Self {
        FileError::new("write", path, std::io::Error::other(error.to_string())).into()
    }
}
