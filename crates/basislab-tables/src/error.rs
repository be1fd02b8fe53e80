use crate::read::ReadError;
use basislab_store::FileError;

/// Tables that cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A table is not what it should be.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is well-formed, but not what was written.
    #[error("{0}")]
    Changed(String),
}
