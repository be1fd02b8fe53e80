//! A checkpoint is a directory `STEP/`: its files and then its manifest are written and synced, and a rename commits it.

use crate::file::{Extent, FileError, TEMPORARY, names, read_capped, remove, sha256, sync_folder, write_new};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Checkpoints kept: one to fall back to.
const KEPT: usize = 2;

const MANIFEST: &str = "manifest.json";

/// Bytes of a manifest at most; real ones are far smaller.
const MOST_MANIFEST: u64 = 1 << 20;

/// State after `step` updates.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Updates made.
    pub step: u64,
    /// Whole files, by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Length and hash of the tables beside it, by file name.
    pub tables: BTreeMap<String, Extent>,
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its checksums do not match.
    #[error("{}: damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Found and expected.
        what: String,
    },
    /// It is intact, but belongs to another run.
    #[error("{}: belongs to {found}, expected {expected}", path.display())]
    Foreign {
        /// The checkpoint.
        path: PathBuf,
        /// The run that it belongs to.
        found: String,
        /// The run that was expected.
        expected: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    step: u64,
    /// What decides the numbers of the run whose state it is.
    owner: Value,
    files: BTreeMap<String, Extent>,
    tables: BTreeMap<String, Extent>,
    /// SHA-256 of this manifest with this field empty.
    sha256: String,
}

impl Manifest {
    fn text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("strings and integers");
        text.push(b'\n');
        text
    }

    fn sealed(mut self) -> Self {
        self.sha256 = String::new();
        self.sha256 = sha256(&self.text());
        self
    }
}

/// Commits `checkpoint` under `root` and removes all but the newest two.
///
/// # Errors
/// What could not be written; the older checkpoints are still there then.
pub fn save(root: &Path, owner: &Value, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    let fail = |doing, path: &Path| {
        let path = path.to_owned();
        move |error| FileError::new(doing, &path, error)
    };
    fs::create_dir_all(root).map_err(fail("create", root))?;
    root.parent().map_or(Ok(()), sync_folder)?;
    let temporary = root.join(format!("{TEMPORARY}{}-{}", checkpoint.step, std::process::id()));
    remove(&temporary)?;
    fs::create_dir(&temporary).map_err(fail("create", &temporary))?;
    let written = write_and_commit(root, owner, checkpoint, &temporary);
    if written.is_err() {
        // What is left is removed at the next start too; the error is the first one.
        let _ = fs::remove_dir_all(&temporary);
    }
    written?;
    for step in steps(root)?.into_iter().skip(KEPT) {
        retire(root, step)?;
    }
    Ok(())
}

fn write_and_commit(root: &Path, owner: &Value, checkpoint: &Checkpoint, temporary: &Path) -> Result<(), FileError> {
    let mut files = BTreeMap::new();
    for (name, bytes) in &checkpoint.files {
        write_new(&temporary.join(name), bytes)?;
        files.insert(name.clone(), Extent::of(bytes));
    }
    let (step, owner, tables) = (checkpoint.step, owner.clone(), checkpoint.tables.clone());
    let manifest = Manifest { format: 1, step, owner, files, tables, sha256: String::new() }.sealed();
    write_new(&temporary.join(MANIFEST), &manifest.text())?;
    sync_folder(temporary)?;
    let committed = folder(root, step);
    if committed.exists() {
        // A damaged one, or the same state from before a fall-back.
        retire(root, step)?;
    }
    fs::rename(temporary, &committed).map_err(|error| FileError::new("commit", &committed, error))?;
    sync_folder(root)
}

/// The newest checkpoint under `root` that is intact, belongs to `owner`, and `fits` the tables beside it (`fits` returns
/// what does not). Newest is the largest step, never the latest time; `None` without any checkpoint. Each newer one that is
/// skipped is reported to `passed_over`.
///
/// # Errors
/// The newest one's error if none can be used; an owner that differs, and an error of `fits`, at once.
pub fn newest(
    root: &Path,
    owner: &Value,
    fits: &mut dyn FnMut(&Checkpoint) -> Result<Option<String>, FileError>,
    passed_over: &mut dyn FnMut(&CheckpointError),
) -> Result<Option<Checkpoint>, CheckpointError> {
    let mut first = None;
    for step in steps(root)? {
        let path = folder(root, step);
        let error = match open(&path, step, owner) {
            Ok(checkpoint) => match fits(&checkpoint)? {
                None => return Ok(Some(checkpoint)),
                Some(what) => CheckpointError::Damaged { path: path.join(MANIFEST), what },
            },
            Err(error @ CheckpointError::Foreign { .. }) => return Err(error),
            Err(error) => error,
        };
        passed_over(&error);
        first.get_or_insert(error);
    }
    first.map_or(Ok(None), Err)
}

/// Reads one checkpoint and checks every byte before it is parsed.
fn open(path: &Path, step: u64, owner: &Value) -> Result<Checkpoint, CheckpointError> {
    let at = path.join(MANIFEST);
    let damaged = |path: &Path, what: String| CheckpointError::Damaged { path: path.to_owned(), what };
    let text = read_capped(&at, MOST_MANIFEST).map_err(|error| damaged(&at, error.source.to_string()))?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| damaged(&at, error.to_string()))?;
    let (format, found) = (manifest.format, manifest.sha256.clone());
    let manifest = manifest.sealed();
    if found != manifest.sha256 || text != manifest.text() {
        return Err(damaged(&at, format!("found SHA-256 {found}, expected {}", manifest.sha256)));
    }
    if format != 1 || manifest.step != step {
        return Err(damaged(
            &at,
            format!("found step {} in format {format}, expected {step} in format 1", manifest.step),
        ));
    }
    if manifest.owner != *owner {
        let (found, expected) = (manifest.owner.to_string(), owner.to_string());
        return Err(CheckpointError::Foreign { path: path.to_owned(), found, expected });
    }
    let mut files = BTreeMap::new();
    for (name, extent) in manifest.files {
        if name.contains(['/', '\\']) || name == ".." {
            return Err(damaged(&at, format!("found the file name {name:?}, expected a plain one")));
        }
        let at = path.join(&name);
        let bytes = read_capped(&at, extent.bytes).map_err(|error| damaged(&at, error.source.to_string()))?;
        let found = Extent::of(&bytes);
        if found != extent {
            let what = |extent: &Extent| format!("{} bytes of SHA-256 {}", extent.bytes, extent.sha256);
            return Err(damaged(&at, format!("found {}, expected {}", what(&found), what(&extent))));
        }
        files.insert(name, bytes);
    }
    Ok(Checkpoint { step, files, tables: manifest.tables })
}

/// Steps with a committed checkpoint, newest first, unread.
///
/// # Errors
/// A folder that cannot be read.
pub fn steps(root: &Path) -> Result<Vec<u64>, FileError> {
    let mut steps: Vec<u64> = names(root)?
        .iter()
        .filter_map(|name| name.parse().ok().filter(|step| format!("{step:010}") == *name))
        .collect();
    steps.sort_unstable_by(|a, b| b.cmp(a));
    Ok(steps)
}

fn folder(root: &Path, step: u64) -> PathBuf {
    root.join(format!("{step:010}"))
}

/// Renamed before it is removed, so that a kill in between leaves no incomplete checkpoint under its name.
fn retire(root: &Path, step: u64) -> Result<(), FileError> {
    let (old, away) = (folder(root, step), root.join(format!("{TEMPORARY}old-{step}-{}", std::process::id())));
    remove(&away)?;
    fs::rename(&old, &away).map_err(|error| FileError::new("remove", &old, error))?;
    remove(&away)
}
