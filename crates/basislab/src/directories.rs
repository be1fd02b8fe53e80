//! Directories that `basislab run` wrote, as the commands that take one find them.

use crate::exit::Exit;
use basislab_config::count;
use basislab_runs::read_manifest;
use std::path::{Path, PathBuf};

/// The experiment directories one folder down, in the order of their names.
pub(crate) fn inside(dir: &Path) -> Result<Vec<PathBuf>, Exit> {
    let entries = std::fs::read_dir(dir).map_err(|error| {
        Exit::data(format!("{}: cannot read: {error}; expected a directory of `basislab run`", dir.display()))
    })?;
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| is_one(path)).collect();
    folders.sort();
    Ok(folders)
}

/// Whether the directory looks like that of an experiment.
pub(crate) fn is_one(dir: &Path) -> bool {
    dir.join("manifest.json").exists()
}

/// Whether the directory is one of `basislab measure` or `basislab quantize`.
pub(crate) fn is_measured(dir: &Path) -> bool {
    matches!(read_manifest(dir), Ok(Some(manifest)) if manifest["measured"].is_object())
}

/// Refuses a directory that only holds directories of experiments, and names them. Any other directory passes: what opens it
/// says what is wrong.
pub(crate) fn expect_one(dir: &Path) -> Result<(), Exit> {
    if is_measured(dir) {
        let what = "found a directory of `basislab measure` or `quantize`, expected one of `basislab run`";
        return Err(Exit::data(format!("{}: {what}; `basislab report` reads them all", dir.display())));
    }
    let folders = inside(dir).unwrap_or_default();
    if is_one(dir) || dir.join("config.toml").exists() || folders.is_empty() {
        return Ok(());
    }
    let mut names: Vec<String> = folders.iter().take(MOST_NAMED).map(|folder| folder.display().to_string()).collect();
    if folders.len() > MOST_NAMED {
        names.push(format!("{} more", folders.len() - MOST_NAMED));
    }
    Err(Exit::data(format!(
        "{}: found a directory of {}, expected one of them: {}",
        dir.display(),
        count(folders.len(), "experiment"),
        names.join(", ")
    )))
}

/// An error names no more directories than this.
const MOST_NAMED: usize = 8;
