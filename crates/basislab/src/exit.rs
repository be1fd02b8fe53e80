//! How the program ends: one `error:` line and a documented exit code.

use crate::terminal::shown;
use basislab_report::{ReadError, ReportError};
use basislab_store::{CheckpointError, FileError, TensorError};
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
    Numbers = 5,
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
        known!(Self, ReportError, CheckpointError, TensorError, FileError)
    }
}

impl From<TensorError> for Exit {
    fn from(error: TensorError) -> Self {
        Self::new(Code::Identity, format!("a checkpoint of another model: {error}"))
    }
}

impl From<FileError> for Exit {
    fn from(error: FileError) -> Self {
        match error.doing {
            "read" => Self::data(error),
            "merge" | "go on with" => Self::new(Code::Identity, error),
            _ => Self::write(error),
        }
    }
}

impl From<CheckpointError> for Exit {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::File(error) => error.into(),
            CheckpointError::Damaged { ref path, .. } => {
                let folder = path.parent().and_then(std::path::Path::parent).unwrap_or(path);
                let next = format!("restore it, or delete {} to start this run afresh", folder.display());
                Self::new(Code::Identity, format!("{error}; {next}"))
            }
            CheckpointError::Foreign { .. } => Self::new(Code::Identity, error),
        }
    }
}

impl From<ReportError> for Exit {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::Read(error) => error.into(),
            ReportError::File(error) => error.into(),
            ReportError::Changed(error) => Self::new(Code::Identity, error),
        }
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
