//! `basislab clean`: removes the folders of runs that the experiment of a directory does not need.

use super::CommandResult;
use crate::directories::expect_one;
use crate::exit::{Code, Exit};
use crate::experiments::library;
use crate::resources::size;
use crate::terminal::{quoted, say, say_json, shown};
use basislab_config::{Experiment, count};
use basislab_runs::{Opened, lock, open, unneeded, write_manifest};
use basislab_store::{FileError, Lock, LockError, is_link, remove, sync_folder};
use basislab_tables::{RUN_TABLES, TableRow, TimingRow};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) fn clean(dir: &Path, yes: bool, as_json: bool) -> CommandResult {
    expect_one(dir)?;
    for path in [dir.to_owned(), dir.join("parts")] {
        if is_link(&path) {
            let what = "found a symbolic link, expected a directory of its own; nothing is removed";
            return Err(Exit::new(Code::Identity, format!("{}: {what}", path.display())));
        }
    }
    // A directory of something else is refused before a lock file is made in it.
    open(dir, library())?;
    // Under this lock no process can plan another run here.
    let held = if yes { lock(dir, false)? } else { None };
    if yes && held.is_none() && dir.join("parts").exists() {
        let what = "cannot lock it to write, expected a directory that can be written; nothing is removed";
        return Err(Exit::write(format!("{}: {what}", dir.display())));
    }
    let Opened { experiment, mut manifest } = open(dir, library())?;
    let mut runs: BTreeMap<PathBuf, Vec<Folder>> = BTreeMap::new();
    for path in unneeded(dir, &experiment)? {
        let run = path.with_file_name(file_name(&path).trim_end_matches(".work"));
        runs.entry(run).or_default().push(Folder::of(path)?);
    }
    // Where one folder of a run is kept, so is the other.
    for folders in runs.values_mut() {
        if let Some(why) = folders.iter().find_map(|folder| folder.kept.clone()) {
            folders.iter_mut().for_each(|folder| _ = folder.kept.get_or_insert(why.clone()));
        }
    }
    if yes {
        runs.iter_mut().try_for_each(|(run, folders)| remove_run(run, folders))?;
        forget_arms(dir, &experiment, &mut manifest)?;
    }
    let folders: Vec<&Folder> = runs.values().flatten().collect();
    if as_json {
        let all: Vec<Value> = folders.iter().map(|folder| folder.json(yes)).collect();
        say_json(&json!({ "directory": dir.display().to_string(), "folders": all }))?;
    } else {
        say(text(dir, &folders, yes))?;
    }
    let is_busy = folders.iter().any(|folder| matches!(folder.kept, Some(Kept::Busy(_))));
    Ok((yes && is_busy).then_some(Code::Busy))
}

/// Takes arms out of the manifest that are neither planned nor have a run any more, so that the directory can be run again.
fn forget_arms(dir: &Path, experiment: &Experiment, manifest: &mut Value) -> Result<(), Exit> {
    let Some(arms) = manifest["arms"].as_object_mut() else { return Ok(()) };
    let before = arms.len();
    arms.retain(|arm, _| experiment.arm(arm).is_some() || dir.join("parts").join(arm).exists());
    if arms.len() < before {
        write_manifest(dir, manifest)?;
    }
    Ok(())
}

/// A folder of a run that the experiment does not need.
struct Folder {
    path: PathBuf,
    bytes: u64,
    /// Why it is not removed.
    kept: Option<Kept>,
}

#[derive(Clone)]
enum Kept {
    /// Another process has the run; which, as far as it says.
    Busy(String),
    /// It is not a folder that a run writes.
    Foreign(String),
}

impl Folder {
    fn of(path: PathBuf) -> Result<Self, Exit> {
        let foreign = foreign(&path)?;
        let bytes = if foreign.is_none() { bytes_in(&path)? } else { 0 };
        let busy = || Lock::holder(&work_of(&path)).map(Kept::Busy);
        let kept = foreign.map(Kept::Foreign).or_else(busy);
        Ok(Self { path, bytes, kept })
    }

    fn json(&self, yes: bool) -> Value {
        let (busy, foreign) = match &self.kept {
            Some(Kept::Busy(owner)) => (Some(owner), None),
            Some(Kept::Foreign(why)) => (None, Some(why)),
            None => (None, None),
        };
        json!({
            "path": self.path, "bytes": self.bytes, "removed": yes && self.kept.is_none(), "held_by": busy, "not_a_run": foreign,
        })
    }
}

/// The folder that holds the lock of the run that a folder belongs to.
fn work_of(path: &Path) -> PathBuf {
    path.with_file_name(format!("{}.work", file_name(path).trim_end_matches(".work")))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What a folder holds, or is, that no run leaves there; `None` where all of it is a run's. Symbolic links are not followed.
fn foreign(path: &Path) -> Result<Option<String>, Exit> {
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
            true => name == ".lock" || (name.starts_with("writer-") && holds_a_run(&entry.path())?),
            false => is_of_run(&entry.path()),
        };
        if !is_known {
            return Ok(Some(format!("no run writes {}", path.join(name).display())));
        }
    }
    Ok(None)
}

/// Whether it is a folder with nothing but what a run leaves in one.
fn holds_a_run(folder: &Path) -> Result<bool, Exit> {
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

/// Removes the folders of one run under its lock.
fn remove_run(run: &Path, folders: &mut [Folder]) -> Result<(), Exit> {
    if folders.iter().any(|folder| folder.kept.is_some()) {
        return Ok(());
    }
    if file_name(run).starts_with(ASIDE) {
        return Ok(folders.iter().try_for_each(|folder| remove(&folder.path))?);
    }
    let (arm, work) = (run.parent().unwrap_or(run), work_of(run));
    fs::create_dir_all(&work).map_err(|error| FileError::new("create", &work, error))?;
    let _lock = match Lock::take(&work) {
        Ok(lock) => lock,
        Err(LockError::Busy(owner)) => {
            folders.iter_mut().for_each(|folder| folder.kept = Some(Kept::Busy(owner.clone())));
            return Ok(());
        }
        Err(LockError::Unsupported(error)) => {
            let what = format!("this file system cannot lock files ({error}), so that a run in use cannot be told");
            return Err(Exit::new(Code::Busy, format!("{}: {what}; remove it yourself", work.display())));
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
    Ok(())
}

/// Bytes of the files in a folder; of a symbolic link, its own.
fn bytes_in(path: &Path) -> Result<u64, Exit> {
    let fail = |error| FileError::new("read", path, error);
    let info = fs::symlink_metadata(path).map_err(fail)?;
    if !info.is_dir() {
        return Ok(info.len());
    }
    let entries = fs::read_dir(path).map_err(fail)?;
    entries.map(|entry| bytes_in(&entry.map_err(fail)?.path())).sum()
}

fn text(dir: &Path, folders: &[&Folder], yes: bool) -> String {
    let at = dir.display().to_string();
    let removable: Vec<&&Folder> = folders.iter().filter(|folder| folder.kept.is_none()).collect();
    let total = size(removable.iter().map(|folder| folder.bytes).sum::<u64>() as f64);
    let number = count(removable.len(), "folder");
    let mut text = match (yes, removable.is_empty()) {
        (_, true) if folders.is_empty() => {
            format!("{}: nothing to remove; the experiment needs every run\n", shown(&at))
        }
        (_, true) => format!("{}: nothing can be removed\n", shown(&at)),
        (true, _) => format!("{}: removed {number} of runs that the experiment does not need, {total}\n", shown(&at)),
        (false, _) => format!("{}: {number} of runs that the experiment does not need, {total}\n", shown(&at)),
    };
    for folder in folders {
        let path = shown(&folder.path.display().to_string());
        text += &match &folder.kept {
            None => format!("  {path}  {}\n", size(folder.bytes as f64)),
            Some(Kept::Busy(owner)) => format!("  {path}  kept: another process has the run ({owner})\n"),
            Some(Kept::Foreign(why)) => format!("  {path}  kept: {}\n", shown(why)),
        };
    }
    if !yes && !removable.is_empty() {
        text += &format!("\nNothing has been removed. Remove:  basislab clean {} --yes\n", quoted(&at));
    }
    text
}
