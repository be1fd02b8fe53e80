use basislab_config::ConfigError;
use basislab_store::{CheckpointError, FileError, TensorError};
use basislab_tables::TableError;
use std::io;
use std::path::Path;

/// What went wrong with a directory or a run.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RunsError {
    /// Of which kind it is.
    pub kind: RunsErrorKind,
    message: String,
}

/// What an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunsErrorKind {
    /// The directory belongs to something else, or its files are not what was written.
    Identity,
    /// Another process has the directory.
    Busy,
    /// A configuration that is not well-formed.
    Usage,
    /// Files that cannot be read.
    Data,
    /// Files that cannot be written.
    Write,
}

impl RunsError {
    pub(crate) fn identity(message: String) -> Self {
        Self { kind: RunsErrorKind::Identity, message }
    }

    pub(crate) fn busy(message: String) -> Self {
        Self { kind: RunsErrorKind::Busy, message }
    }

    /// A file system that cannot lock files in a folder.
    pub(crate) fn no_locks(folder: &Path, error: &io::Error) -> Self {
        Self::busy(format!(
            "{}: this file system cannot lock files ({error}); with --no-lock several processes may train one run, which costs \
             time and changes nothing",
            folder.display()
        ))
    }

    pub(crate) fn data(message: String) -> Self {
        Self { kind: RunsErrorKind::Data, message }
    }

    pub(crate) fn write(message: String) -> Self {
        Self { kind: RunsErrorKind::Write, message }
    }
}

impl From<ConfigError> for RunsError {
    fn from(error: ConfigError) -> Self {
        Self { kind: RunsErrorKind::Usage, message: error.to_string() }
    }
}

impl From<FileError> for RunsError {
    fn from(error: FileError) -> Self {
        let kind = match error.doing {
            "read" => RunsErrorKind::Data,
            "merge" | "resume" => RunsErrorKind::Identity,
            _ => RunsErrorKind::Write,
        };
        Self { kind, message: error.to_string() }
    }
}

impl From<TableError> for RunsError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Read(error) => Self::data(error.to_string()),
            TableError::File(error) => error.into(),
            TableError::Changed(what) => Self::identity(what),
        }
    }
}

impl From<CheckpointError> for RunsError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::File(error) => error.into(),
            CheckpointError::Damaged { ref path, .. } => {
                let folder = path.parent().and_then(std::path::Path::parent).unwrap_or(path);
                let next = format!("restore it, or delete {} to start this run afresh", folder.display());
                Self::identity(format!("{error}; {next}"))
            }
            CheckpointError::Foreign { .. } => Self::identity(error.to_string()),
        }
    }
}

impl From<TensorError> for RunsError {
    fn from(error: TensorError) -> Self {
        Self::identity(format!("a checkpoint of another model: {error}"))
    }
}
