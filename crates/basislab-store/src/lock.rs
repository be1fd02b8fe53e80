use crate::file::{FileError, is_link, is_read_only};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An exclusive lock of a directory. It is the operating system's, and ends with the process, however that ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// Why a directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it: its record in the lock file.
    #[error("{0}")]
    Busy(String),
    /// This file system has no locks.
    #[error("{0}")]
    Unsupported(std::io::Error),
    /// Nothing can be written in this directory, not even the lock file.
    #[error(transparent)]
    ReadOnly(FileError),
    /// The lock file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Lock {
    /// Locks `dir/.lock`, without waiting. [`Lock::sign`] records the holder there.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(".lock");
        let fail = |error| FileError::new("write", &path, error);
        if is_link(&path) {
            return Err(fail(std::io::Error::other("found a symbolic link, expected a file of its own")).into());
        }
        let mut file = match OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path) {
            Err(error) if is_read_only(&error) => return Err(LockError::ReadOnly(fail(error))),
            file => file.map_err(fail)?,
        };
        // `Lock::holder` in another process holds the lock for an instant.
        for attempt in 0.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < 3 => std::thread::sleep(Duration::from_millis(5)),
                Err(TryLockError::WouldBlock) => return Err(LockError::Busy(owner(&mut file))),
                Err(TryLockError::Error(error)) => return Err(LockError::Unsupported(error)),
            }
        }
        Ok(Self { file, path })
    }

    /// [`Lock::take`], waiting up to `most` for another holder.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn wait(dir: &Path, most: Duration) -> Result<Self, LockError> {
        let begun = Instant::now();
        loop {
            match Self::take(dir) {
                Err(LockError::Busy(_)) if begun.elapsed() < most => std::thread::sleep(Duration::from_millis(20)),
                taken => return taken,
            }
        }
    }

    /// Writes process, host and time into the lock file.
    ///
    /// # Errors
    /// The lock file could not be written.
    pub fn sign(&self) -> Result<(), FileError> {
        let record = format!("process {} on {}, since {}\n", std::process::id(), host(), jiff::Timestamp::now());
        let write = || {
            let mut file = &self.file;
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(record.as_bytes())
        };
        write().map_err(|error| FileError::new("write", &self.path, error))
    }

    /// The record of the process that holds the lock of `dir`; `None` where none does.
    pub fn holder(dir: &Path) -> Option<String> {
        let mut file = File::open(dir.join(".lock")).ok()?;
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then(|| owner(&mut file))
    }
}

fn owner(file: &mut File) -> String {
    // A holder writes its record right after it takes the lock.
    for _ in 0..20 {
        let mut text = String::new();
        if file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text)).is_ok() && text.ends_with('\n') {
            return text.trim_end().to_owned();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    "a process that left no record".to_owned()
}

fn host() -> String {
    #[cfg(unix)]
    return rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    return std::env::var("COMPUTERNAME").unwrap_or_else(|_| "this computer".to_owned());
}
