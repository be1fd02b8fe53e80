//! How the program ends: one `error:` line and a documented exit code.

use basislab_report::{FileError, ReportError};
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
    /// Finished, but at least one run diverged, or a law did not hold.
    Numbers = 5,
    /// Another process is writing there.
    Busy = 6,
    /// The directory belongs to something else.
    Identity = 7,
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
        let shown = |c: char| if c.is_control() { '?' } else { c };
        Self { code, message: message.to_string().replace('\n', "; ").chars().map(shown).collect() }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}

/// Writing is all that is left to fail once input has been read.
impl From<anyhow::Error> for Exit {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<ReportError>() {
            Ok(error) => error.into(),
            Err(error) => Self::write(format!("{error:#}")),
        }
    }
}

impl From<FileError> for Exit {
    fn from(error: FileError) -> Self {
        Self::write(error)
    }
}

impl From<ReportError> for Exit {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::Read(error) => Self::data(error),
            ReportError::File(error) => Self::write(error),
        }
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
