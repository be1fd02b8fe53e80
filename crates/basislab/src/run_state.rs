//! How far a run is, judging by its folders.

use crate::exit::Exit;
use basislab_runs::{Job, finished, newest_checkpoint};
use basislab_store::Lock;
use basislab_tables::{Ending, Failure, work_dir};
use std::path::Path;

/// How far a run is.
pub(crate) enum RunState {
    Complete,
    /// At which update, and what was not finite.
    Diverged(u64, Option<String>),
    /// Who has it, as far as that process says, and its last checkpoint.
    Running(String, Option<u64>),
    /// Why, and its last checkpoint.
    Failed(String, Option<u64>),
    /// Its last checkpoint.
    Interrupted(Option<u64>),
    NotStarted,
}

impl RunState {
    /// What [`RunState::word`] may be, in the order in which runs are counted.
    pub(crate) const WORDS: [&str; 6] = ["complete", "diverged", "running", "failed", "interrupted", "not started"];

    /// Of a run in a directory that holds parts.
    pub(crate) fn of(dir: &Path, job: &Job<'_>) -> Result<Self, Exit> {
        if let Some(done) = finished(dir, job)? {
            return Ok(match done.state {
                Ending::Complete => Self::Complete,
                Ending::Diverged => Self::Diverged(done.step, done.tensor),
            });
        }
        let (step, work) = (newest_checkpoint(dir, job)?, work_dir(dir, &job.arm.name, job.seed));
        if let Some(holder) = Lock::holder(&work) {
            return Ok(Self::Running(holder, step));
        }
        Ok(match Failure::read(&work)? {
            Some(failure) => Self::Failed(in_words(&failure), step),
            None if step.is_some() || work.is_dir() => Self::Interrupted(step),
            None => Self::NotStarted,
        })
    }

    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Diverged(..) => "diverged",
            Self::Running(..) => "running",
            Self::Failed(..) => "failed",
            Self::Interrupted(_) => "interrupted",
            Self::NotStarted => "not started",
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self, Self::Complete | Self::Diverged(..))
    }

    pub(crate) fn sentence(&self) -> String {
        let checkpoint = |step: &Option<u64>| {
            step.map_or_else(|| "no checkpoint yet".to_owned(), |step| format!("checkpoint of step {step}"))
        };
        match self {
            Self::Diverged(step, tensor) => {
                let what = tensor.as_ref().map_or_else(String::new, |tensor| format!(": {tensor} was not finite"));
                format!("diverged at step {step}{what}")
            }
            Self::Failed(failure, _) => format!("failed: {failure}"),
            Self::Running(_, step) | Self::Interrupted(step) => format!("{}, {}", self.word(), checkpoint(step)),
            Self::Complete | Self::NotStarted => self.word().to_owned(),
        }
    }
}

/// Why a run failed, where and when.
fn in_words(failure: &Failure) -> String {
    let Failure { reason, when, host, process } = failure;
    format!("{reason} (process {process} on {host}, {when})")
}
