use crate::file::{FileError, is_link, is_read_only, read_capped, remove};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
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
    /// Locks `dir/.lock`, without waiting. [`Lock::sign`] records the holder there. The file that is locked is the one at that
    /// path, also where others remove and make it meanwhile.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(".lock");
        let fail = |error| FileError::new("write", &path, error);
        if is_link(&path) {
            return Err(fail(std::io::Error::other("found a symbolic link, expected a file of its own")).into());
        }
        let mut attempt = 0;
        loop {
            let mut file = match OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path) {
                Err(error) if is_read_only(&error) => return Err(LockError::ReadOnly(fail(error))),
                file => file.map_err(fail)?,
            };
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => return Ok(Self { file, path }),
                // Its holder removed it after it was opened here, and others may already lock the one that is there now.
                Ok(()) => {}
                // `Lock::holder` in another process holds the lock for an instant.
                Err(TryLockError::WouldBlock) if attempt < 3 => {
                    attempt += 1;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => return Err(LockError::Busy(owner(&mut file))),
                // On a network file system: another node removed it.
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::StaleNetworkFileHandle => {}
                Err(TryLockError::Error(error)) => return Err(LockError::Unsupported(error)),
            }
        }
    }

    /// Removes the lock file, and lets go of the lock: whoever takes it next makes a new file.
    ///
    /// # Errors
    /// The lock file could not be removed.
    pub fn remove(self) -> Result<(), FileError> {
        remove(&self.path)
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

    /// Process and host of the last record in the lock file, which a process that was killed leaves. The lock is not tried.
    pub fn record(dir: &Path) -> Option<(u32, String)> {
        let bytes = read_capped(&dir.join(".lock"), 4096).ok()?;
        let (process, rest) = std::str::from_utf8(&bytes).ok()?.strip_prefix("process ")?.split_once(" on ")?;
        Some((process.parse().ok()?, rest.split_once(", since ")?.0.to_owned()))
    }

    /// The record of the process that holds the lock of `dir`; `None` where none does.
    pub fn holder(dir: &Path) -> Option<String> {
        let mut file = File::open(dir.join(".lock")).ok()?;
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then(|| owner(&mut file))
    }
}

/// Whether an open file is still the one at that path.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // Opened, since a network file system may answer from its cache where a path is only looked up.
        let there = File::open(path).and_then(|there| there.metadata());
        let of = |info: &std::fs::Metadata| (info.dev(), info.ino());
        matches!((file.metadata(), there), (Ok(ours), Ok(there)) if of(&ours) == of(&there))
    }
    // Windows keeps the name of a file that is open.
    #[cfg(not(unix))]
    (file.metadata().is_ok() && path.exists())
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

/// The name of this computer.
pub fn host() -> String {
    #[cfg(unix)]
    return rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    return std::env::var("COMPUTERNAME").unwrap_or_else(|_| "this computer".to_owned());
}
