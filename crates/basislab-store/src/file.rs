use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot {doing}: {source}", path.display())]
pub struct FileError {
    /// `read`, `write`, ...
    pub doing: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

impl FileError {
    /// `doing` something to `path` failed.
    pub fn new(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self { doing, path: path.to_owned(), source: source.into() }
    }
}

/// Whether the error means that nothing can be written there, not that the disk fails or is full.
pub fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Length and hash of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// Bytes from the start.
    pub bytes: u64,
    /// Their SHA-256, lower-case hex.
    pub sha256: String,
}

impl Extent {
    /// The extent of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, sha256: sha256(bytes) }
    }

    /// The extent of a file, which is read in pieces.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let (mut file, mut hasher, mut piece) = (File::open(path)?, Hasher::default(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut piece) {
                Ok(0) => return Ok(hasher.extent()),
                Ok(length) => hasher.update(&piece[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Length and SHA-256 of bytes that come in parts.
#[derive(Debug, Clone, Default)]
pub struct Hasher {
    hash: Sha256,
    bytes: u64,
}

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// Length and hash of the bytes so far.
    pub fn extent(&self) -> Extent {
        Extent { bytes: self.bytes, sha256: hex(&self.hash.clone().finalize()) }
    }
}

/// SHA-256 in lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Replaces a file atomically: a reader gets the old bytes or the new ones. The bytes are synced when this returns.
///
/// # Errors
/// The file that could not be written.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_atomic_with(path, |file| file.write_all(bytes).map_err(|error| FileError::new("write", path, error)))
}

/// [`write_atomic`], unless the file holds these bytes already; then it is not touched.
///
/// # Errors
/// The file that could not be written.
pub fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    if fs::read(path).is_ok_and(|there| there == bytes) { Ok(()) } else { write_atomic(path, bytes) }
}

/// [`write_atomic`] of what `write` writes.
///
/// # Errors
/// The file that could not be written, and what `write` returns; the old file is still there then.
pub fn write_atomic_with<E: From<FileError>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<(), E>,
) -> Result<(), E> {
    let fail = |error| FileError::new("write", path, error);
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file = builder.tempfile_in(folder).map_err(fail)?;
    let mut buffered = BufWriter::new(file.as_file());
    write(&mut buffered)?;
    buffered.flush().map_err(fail)?;
    drop(buffered);
    file.as_file().sync_all().map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    Ok(sync_folder(folder)?)
}

/// Prefix of temporary files, which a killed process may leave behind.
pub(crate) const TEMPORARY: &str = ".basislab-";

/// Syncs the folder's list of names.
///
/// # Errors
/// The folder that could not be synced.
pub fn sync_folder(folder: &Path) -> Result<(), FileError> {
    // Windows cannot open a folder as a file, and needs no sync of it.
    if cfg!(unix) {
        let sync = || File::open(folder)?.sync_all();
        sync().map_err(|error| FileError::new("sync", folder, error))?;
    }
    Ok(())
}

/// Removes temporary files that a killed process left.
///
/// # Errors
/// What could not be removed.
pub fn clean(folder: &Path) -> Result<(), FileError> {
    for name in names(folder)? {
        if name.starts_with(TEMPORARY) {
            remove(&folder.join(name))?;
        }
    }
    Ok(())
}

/// The names in a folder; none where there is no folder.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, FileError> {
    let fail = |error| FileError::new("read", folder, error);
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(fail(error)),
        Ok(entries) => {
            entries.map(|entry| Ok(entry.map_err(fail)?.file_name().to_string_lossy().into_owned())).collect()
        }
    }
}

/// Removes a file or a whole folder, if it is there.
///
/// # Errors
/// What could not be removed.
pub fn remove(path: &Path) -> Result<(), FileError> {
    let gone = match fs::symlink_metadata(path) {
        Err(error) => Err(error),
        Ok(info) if info.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    match gone {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::new("remove", path, error)),
        _ => Ok(()),
    }
}

/// Creates a file that did not exist, with these bytes on the disk.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| FileError::new("write", path, error))
}

/// A file of at most `most` bytes; anything that is not a plain file is refused before it is opened.
///
/// # Errors
/// What cannot be read, is no file, or is longer.
pub fn read_capped(path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
    let fail = |error: io::Error| FileError::new("read", path, error);
    let other = |message: String| fail(io::Error::other(message));
    if !fs::metadata(path).map_err(fail)?.is_file() {
        return Err(other("found something that is not a file".to_owned()));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes)).map_err(fail)?;
    if bytes.len() as u64 > most {
        return Err(other(format!("found more than {most} bytes")));
    }
    Ok(bytes)
}

/// Whether the path itself is a symbolic link.
pub fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|info| info.file_type().is_symlink())
}

/// Describes a file for which [`is_lfs_pointer`] holds, after "is" or "found" in a message.
pub const LFS_POINTER: &str = "a Git LFS pointer, not the data: run `git lfs pull`";

/// Whether a file or folder belongs to this process's user or to root; always true where files have no such owner. The last
/// link of the path is not followed.
pub fn is_trusted(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let own = rustix::process::geteuid().as_raw();
        fs::symlink_metadata(path).is_ok_and(|info| info.uid() == own || info.uid() == 0)
    }
    #[cfg(not(unix))]
    path.exists()
}

/// Whether a folder holds nothing but plain files and folders, at any depth: no links, pipes or devices.
pub fn is_plain_folder(folder: &Path) -> bool {
    let is_plain = |entry: &fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => is_plain_folder(&entry.path()),
        kind => kind.is_ok_and(|kind| kind.is_file()),
    };
    let is_folder = fs::symlink_metadata(folder).is_ok_and(|info| info.is_dir());
    is_folder
        && fs::read_dir(folder).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| is_plain(&entry))))
}

/// Whether a file that begins with these bytes is a Git LFS pointer, whose data was not fetched.
pub fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(b"version https://git-lfs.github.com/spec/")
}
