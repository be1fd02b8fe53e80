//! Taking a run, so that no other process trains it, and giving it back: finished, failed or as it is.
//!
//! Any number of processes on any number of nodes take runs of one directory. Whoever holds the lock in `SEED.work` has the run. The
//! folder is removed once the run has ended, possibly while other processes are creating, opening or locking files in it. So a
//! lock counts only if its file is still the one at its path, the end of the run is checked again once the run is locked, and
//! a folder that was removed is created again.

use crate::error::RunsError;
use basislab_config::RunName;
use basislab_store::{FileError, Lock, LockError, host, remove, sync_folder};
use basislab_tables::{Failure, RunEnd, part_dir, work_dir};
use jiff::Timestamp;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A run that this process has. It is free again when this is dropped.
#[derive(Debug)]
pub struct HeldRun {
    part: PathBuf,
    work: PathBuf,
    /// None where locks are not asked for: others may have the run too.
    lock: Option<Lock>,
}

/// What came of taking a run.
#[derive(Debug)]
pub enum Taken {
    /// This process has it.
    Free(HeldRun),
    /// It has ended.
    Ended,
    /// Another process has it: the record in the lock file.
    Busy(String),
    /// It failed, and is not tried again.
    Failed(Failure),
}

/// How often a folder that others remove is made again. Each time, a run has ended or was removed.
const ATTEMPTS: usize = 100;

impl HeldRun {
    /// Takes a run that has not ended and that no other process has; with `retry_failed` also one that failed. Without `locks`
    /// others may take it too.
    ///
    /// # Errors
    /// A file system without locks, or files that cannot be read or written.
    pub fn take(dir: &Path, (arm, seed): (&RunName, u64), locks: bool, retry_failed: bool) -> Result<Taken, RunsError> {
        let (part, work) = (part_dir(dir, arm, seed), work_dir(dir, arm, seed));
        let has_ended = || RunEnd::read(&part).map(|end| end.is_some());
        let failure = || if retry_failed { Ok(None) } else { Failure::read(&work) };
        // Nothing is made for a run that is not taken.
        if has_ended()? {
            return Ok(Taken::Ended);
        }
        if let Some(failure) = failure()? {
            return Ok(Taken::Failed(failure));
        }
        let lock = match lock_work(&work, locks) {
            Ok(lock) => lock,
            // Its process may just be removing what it worked in.
            Err(LockError::Busy(_)) if has_ended()? => return Ok(Taken::Ended),
            Err(LockError::Busy(owner)) => return Ok(Taken::Busy(owner)),
            Err(LockError::Unsupported(error)) => return Err(RunsError::no_locks(&work, &error)),
            Err(LockError::File(error) | LockError::ReadOnly(error)) => return Err(error.into()),
        };
        if let Some(lock) = &lock {
            lock.sign()?;
        }
        // Another process may have published it in between, or failed.
        if has_ended()? {
            remove_work(&work, lock)?;
            return Ok(Taken::Ended);
        }
        if let Some(failure) = failure()? {
            return Ok(Taken::Failed(failure));
        }
        Failure::forget(&work)?;
        Ok(Taken::Free(Self { part, work, lock }))
    }

    /// Whether no other process can have it.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// A new folder that no other process writes.
    ///
    /// # Errors
    /// The folder that could not be made.
    pub fn folder(&self) -> Result<PathBuf, FileError> {
        new_folder(&self.work)
    }

    /// Moves the finished run, whose end is written in the folder `own`, to its place. Where another process has published the same
    /// run meanwhile, both must be the same.
    ///
    /// # Errors
    /// Another run there, or files that cannot be moved or removed.
    pub fn publish(&self, own: &Path, end: &RunEnd) -> Result<(), RunsError> {
        let part = &self.part;
        sync_folder(own)?;
        let mut left = Vec::new();
        for attempt in 0.. {
            match fs::rename(own, part) {
                Ok(()) => break,
                // Another process was faster.
                Err(_) if part.join("done.json").is_file() => break,
                // What is there without an end is left of an earlier process: nobody works in it.
                Err(_) if part.is_dir() && attempt < 3 => {
                    let aside = new_folder(&self.work)?;
                    fs::rename(part, &aside).map_err(|error| FileError::new("publish", part, error))?;
                    left.push(aside);
                }
                Err(error) => return Err(FileError::new("publish", part, error).into()),
            }
        }
        sync_folder(part.parent().unwrap_or(part))?;
        let there = RunEnd::read(part)?;
        if there.as_ref() != Some(end) {
            let what = "another process has published other tables of the same run, expected the same bits";
            let (part, own) = (part.display(), own.display());
            return Err(RunsError::identity(format!("{part}: {what}; this one's are in {own}")));
        }
        Ok(left.iter().map(PathBuf::as_path).chain([own]).try_for_each(remove)?)
    }

    /// Removes what is left of unfinished work on a run that has been published.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn end(self) -> Result<(), FileError> {
        remove_work(&self.work, self.lock)
    }

    /// Leaves the reason why the run could not be trained, for other processes and for the user. That it cannot be written must not
    /// hide the reason.
    pub(crate) fn fail(self, reason: &str) {
        let reason = reason.replace('\n', "; ");
        let when = Timestamp::now().to_string();
        let _ = Failure { reason, when, host: host(), process: std::process::id() }.write(&self.work);
    }
}

/// The lock of a folder of unfinished work, which is made where it is missing; none where locks are not asked for.
pub(crate) fn lock_work(work: &Path, locks: bool) -> Result<Option<Lock>, LockError> {
    let make = || {
        fs::create_dir_all(work).map_err(|error| FileError::new("create", work, error))?;
        if locks { Lock::take(work).map(Some) } else { Ok(None) }
    };
    again(make, |error| matches!(error, LockError::File(error) if was_removed(error)))
}

/// A new folder that no other process writes.
fn new_folder(work: &Path) -> Result<PathBuf, FileError> {
    let fail = |error| FileError::new("create", work, error);
    let make = || {
        fs::create_dir_all(work).map_err(fail)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix("writer-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        builder.tempdir_in(work).map_err(fail)
    };
    let made = again(make, was_removed)?.keep();
    // By the path that the user gave.
    Ok(made.file_name().map_or_else(|| made.clone(), |name| work.join(name)))
}

/// Makes something in a folder that others may remove at any time.
fn again<T, E>(mut make: impl FnMut() -> Result<T, E>, was_removed: impl Fn(&E) -> bool) -> Result<T, E> {
    let mut attempts = 1..ATTEMPTS;
    loop {
        match make() {
            Err(error) if was_removed(&error) && attempts.next().is_some() => {}
            made => return made,
        }
    }
}

/// Whether the error may come of a folder that was removed after it had been made or found.
fn was_removed(error: &FileError) -> bool {
    use ErrorKind::{AlreadyExists, NotFound, StaleNetworkFileHandle};
    matches!(error.source.kind(), AlreadyExists | NotFound | StaleNetworkFileHandle)
}

/// Removes the unfinished work on a run that has ended. Without a lock only what nobody can be using.
///
/// # Errors
/// What could not be removed.
pub(crate) fn remove_work(work: &Path, lock: Option<Lock>) -> Result<(), FileError> {
    if let Some(lock) = lock {
        let fail = |error| FileError::new("read", work, error);
        for entry in fs::read_dir(work).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if entry.file_name() != ".lock" {
                remove(&entry.path())?;
            }
        }
        // Last: whoever locks a new file there finds nothing that is being removed.
        lock.remove()?;
    } else {
        let _ = Failure::forget(work);
    }
    // Others who are just making a lock file there, or still work there, remove it once they find that the run has ended.
    let _ = fs::remove_dir(work);
    Ok(())
}
