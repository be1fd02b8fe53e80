//! How the program ends: one `error:` line and a documented exit code.

use crate::terminal::shown;
use basislab_runs::{RunsError, RunsErrorKind};
use basislab_store::{FileError, TensorError};
use basislab_tables::{ReadError, TableError};
use std::fmt;

/// What went wrong, as an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The command line or a config.
    Usage = 2,
    /// Input data.
    Data = 3,
    /// Cannot write.
    Write = 4,
    /// Finished, but a run diverged, or a law or a bit-exact self-test did not hold.
    Unsound = 5,
    /// Another process is writing there.
    Busy = 6,
    /// The directory belongs to something else, or its files are not what was written.
    Identity = 7,
    /// More memory or disk is needed than there is.
    TooLarge = 8,
    /// A device failed in the middle of a run; the last checkpoint is whole.
    Device = 9,
    /// A signal stopped it, after a checkpoint.
    Stopped = 75,
}

/// An error on its way to the user.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) code: Code,
    message: String,
}

impl Exit {
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Code::Usage, message)
    }

    pub(crate) fn data(message: impl fmt::Display) -> Self {
        Self::new(Code::Data, message)
    }

    pub(crate) fn write(message: impl fmt::Display) -> Self {
        Self::new(Code::Write, message)
    }

    pub(crate) fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: shown(&message.to_string().replace('\n', "; ")) }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}

impl std::error::Error for Exit {}

/// What a run returns: an error of ours, else one of the disk.
impl From<anyhow::Error> for Exit {
    fn from(error: anyhow::Error) -> Self {
        macro_rules! known {
            ($($kind:ty),*) => {{
                $(let error = match error.downcast::<$kind>() {
                    Ok(known) => return known.into(),
                    Err(error) => error,
                };)*
                Self::write(format!("{error:#}"))
            }};
        }
        known!(Self, RunsError, TableError, TensorError, FileError)
    }
}

impl From<RunsError> for Exit {
    fn from(error: RunsError) -> Self {
        let code = match error.kind {
            RunsErrorKind::Identity => Code::Identity,
            RunsErrorKind::Busy => Code::Busy,
            RunsErrorKind::Usage => Code::Usage,
            RunsErrorKind::Data => Code::Data,
            RunsErrorKind::Write => Code::Write,
        };
        Self::new(code, error)
    }
}

impl From<TensorError> for Exit {
    fn from(error: TensorError) -> Self {
        RunsError::from(error).into()
    }
}

impl From<FileError> for Exit {
    fn from(error: FileError) -> Self {
        RunsError::from(error).into()
    }
}

impl From<TableError> for Exit {
    fn from(error: TableError) -> Self {
        RunsError::from(error).into()
    }
}

impl From<ReadError> for Exit {
    fn from(error: ReadError) -> Self {
        Self::data(error)
    }
}

impl From<basislab_config::ConfigError> for Exit {
    fn from(error: basislab_config::ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<basislab_data::CorpusError> for Exit {
    fn from(error: basislab_data::CorpusError) -> Self {
        Self::data(error)
    }
}
