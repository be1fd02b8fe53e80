//! Runs that an experiment does not need: which folders they are, what a run leaves in them, and how they are removed.

use crate::error::RunsError;
use crate::held::lock_work;
use crate::plan::jobs;
use basislab_config::Experiment;
use basislab_store::{FileError, LockError, is_link, remove, sync_folder};
use basislab_tables::{FAILED, RUN_TABLES, TableRow, TimingRow, part_dir, work_dir};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The parts of runs that the experiment does not need.
///
/// # Errors
/// A folder that cannot be read.
pub fn unneeded(dir: &Path, experiment: &Experiment) -> Result<Vec<PathBuf>, FileError> {
    let needed: BTreeSet<PathBuf> = jobs(experiment)
        .iter()
        .flat_map(|job| [part_dir(dir, &job.arm.name, job.seed), work_dir(dir, &job.arm.name, job.seed)])
        .collect();
    let folders = |path: &Path| -> Result<Vec<PathBuf>, FileError> {
        match fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(FileError::new("read", path, error)),
            Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()),
        }
    };
    let mut all = Vec::new();
    for arm in folders(&dir.join("parts"))? {
        all.extend(folders(&arm)?.into_iter().filter(|part| !needed.contains(part)));
    }
    all.sort();
    Ok(all)
}

/// The folder of a finished run, from it or from that of the run's unfinished work.
pub fn run_of(path: &Path) -> PathBuf {
    path.with_file_name(file_name(path).trim_end_matches(".work"))
}

/// The folder that holds the lock of the run that a folder belongs to.
pub fn work_of(path: &Path) -> PathBuf {
    path.with_file_name(format!("{}.work", file_name(path).trim_end_matches(".work")))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What a folder holds, or is, that no run leaves there; `None` where all of it is a run's. Symbolic links are not followed.
///
/// # Errors
/// A folder that cannot be read.
pub fn foreign(path: &Path) -> Result<Option<String>, FileError> {
    let links = [path.parent().unwrap_or(path), path];
    if let Some(link) = links.into_iter().find(|path| is_link(path)) {
        return Ok(Some(format!("{} is a symbolic link", link.display())));
    }
    let name = file_name(path);
    if name.starts_with(ASIDE) {
        return Ok(None);
    }
    let (seed, is_work) = name.strip_suffix(".work").map_or((&*name, false), |seed| (seed, true));
    if seed.parse::<u64>().map_or(true, |number| number.to_string() != seed) {
        return Ok(Some(format!("{} is not named after a seed", path.display())));
    }
    for entry in fs::read_dir(path).map_err(|error| FileError::new("read", path, error))? {
        let entry = entry.map_err(|error| FileError::new("read", path, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_known = match is_work {
            true => is_of_work(&entry.path()) || (name.starts_with("writer-") && holds_a_run(&entry.path())?),
            false => is_of_run(&entry.path()),
        };
        if !is_known {
            return Ok(Some(format!("no run writes {}", path.join(name).display())));
        }
    }
    Ok(None)
}

/// Whether processes leave such a file beside their folders: the lock, why the run failed, a temporary.
fn is_of_work(path: &Path) -> bool {
    let name = file_name(path);
    name == ".lock" || name.starts_with(".basislab-") || (name == FAILED && !is_link(path) && path.is_file())
}

/// Whether it is a folder with nothing but what a run leaves in one.
fn holds_a_run(folder: &Path) -> Result<bool, FileError> {
    if is_link(folder) || !folder.is_dir() {
        return Ok(false);
    }
    let entries = fs::read_dir(folder).map_err(|error| FileError::new("read", folder, error))?;
    Ok(entries.flatten().all(|entry| is_of_run(&entry.path())))
}

/// Whether a run leaves such a file in its folder, or such a folder of checkpoints.
fn is_of_run(path: &Path) -> bool {
    let name = file_name(path);
    if name == "checkpoints" {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        return !is_link(path) && entries.map(|entry| file_name(&entry.path())).all(|name| is_checkpoint(&name));
    }
    // A temporary, whatever it is.
    if name.starts_with(".basislab-") {
        return true;
    }
    let tables = RUN_TABLES.iter().chain(&[TimingRow::TABLE]);
    let is_known = ["done.json", "run.json"].contains(&&*name) || tables.into_iter().any(|table| table.file == name);
    is_known && !is_link(path) && path.is_file()
}

/// The number of an update, or what is being written or removed.
fn is_checkpoint(name: &str) -> bool {
    name.starts_with(".basislab-") || name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Prefix of folders that are being removed. What a kill leaves of them is not taken for a run, and the next `clean` finds it.
const ASIDE: &str = ".basislab-removed-";

/// Removes the folders of one run under its lock. Returns who has the run where another process has it: then nothing is removed.
///
/// # Errors
/// A folder that cannot be removed, or a file system without locks.
pub fn remove_run<'a>(run: &Path, mut folders: impl Iterator<Item = &'a Path>) -> Result<Option<String>, RunsError> {
    if file_name(run).starts_with(ASIDE) {
        return Ok(folders.try_for_each(remove).map(|()| None)?);
    }
    let (arm, work) = (run.parent().unwrap_or(run), work_of(run));
    let _lock = match lock_work(&work, true) {
        Ok(lock) => lock,
        Err(LockError::Busy(owner)) => return Ok(Some(owner)),
        Err(LockError::Unsupported(error)) => {
            let what = format!("this file system cannot lock files ({error}), so that a run in use cannot be told");
            return Err(RunsError::busy(format!("{}: {what}; remove it yourself", work.display())));
        }
        Err(LockError::File(error) | LockError::ReadOnly(error)) => return Err(error.into()),
    };
    // Both folders are moved away whole first: a run of which a part is left must never count as finished.
    let aside = tempfile::Builder::new().prefix(ASIDE).tempdir_in(arm);
    let aside = aside.map_err(|error| FileError::new("write", arm, error))?.keep();
    for folder in [run, &work] {
        match fs::rename(folder, aside.join(file_name(folder))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FileError::new("remove", folder, error).into());
            }
            _ => {}
        }
    }
    sync_folder(arm)?;
    remove(&aside)?;
    // It stays where another run of the arm is left.
    let _ = fs::remove_dir(arm);
    Ok(None)
}
