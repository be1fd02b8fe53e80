//! `basislab clean`: removes the folders of runs that the experiment of a directory does not need.

use super::CommandResult;
use crate::directories::expect_one;
use crate::exit::{Code, Exit};
use crate::experiments::library;
use crate::resources::size;
use crate::terminal::{quoted, say, say_json, shown};
use basislab_config::{Experiment, count};
use basislab_runs::{Opened, foreign, lock, open, remove_run, run_of, unneeded, work_of, write_manifest};
use basislab_store::{FileError, Lock, is_link};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
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
        runs.entry(run_of(&path)).or_default().push(Folder::of(path)?);
    }
    // Where one folder of a run is kept, so is the other.
    for folders in runs.values_mut() {
        if let Some(why) = folders.iter().find_map(|folder| folder.kept.clone()) {
            folders.iter_mut().for_each(|folder| _ = folder.kept.get_or_insert(why.clone()));
        }
    }
    if yes {
        for (run, folders) in runs.iter_mut().filter(|(_, folders)| folders.iter().all(|folder| folder.kept.is_none()))
        {
            if let Some(owner) = remove_run(run, folders.iter().map(|folder| &*folder.path))? {
                folders.iter_mut().for_each(|folder| folder.kept = Some(Kept::Busy(owner.clone())));
            }
        }
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
