//! How the program ends: one `error:` line and a documented exit code.

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
    /// Finished, but at least one run diverged, or a law did not hold.
    Numbers = 5,
    /// Another process is writing there.
    Busy = 6,
    /// The directory belongs to something else, or its files are not what was written.
    Identity = 7,
    /// More memory or disk is needed than there is.
    TooLarge = 8,
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

/// Text for a terminal: control characters and those that turn the direction of writing are shown, not obeyed.
pub(crate) fn shown(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    text.chars().map(|c| if c.is_control() || turns(c) { '?' } else { c }).collect()
}

/// [`shown`] of a line with its end.
pub(crate) fn shown_line(line: &str) -> String {
    match line.strip_suffix('\n') {
        Some(line) => line.split('\t').map(shown).collect::<Vec<_>>().join("\t") + "\n",
        None => shown(line),
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
        let write = |error: anyhow::Error| Self::write(format!("{error:#}"));
        let file = |error: anyhow::Error| error.downcast::<FileError>().map_or_else(write, Self::from);
        let tensors = |error: TensorError| Self::new(Code::Identity, format!("a checkpoint of another model: {error}"));
        let other = |error: anyhow::Error| error.downcast::<TensorError>().map_or_else(file, tensors);
        let checkpoint = |error: anyhow::Error| error.downcast::<CheckpointError>().map_or_else(other, Self::from);
        let report = |error: anyhow::Error| error.downcast::<ReportError>().map_or_else(checkpoint, Self::from);
        error.downcast::<Self>().unwrap_or_else(report)
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
