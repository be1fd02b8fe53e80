//! Finished runs of other experiments that have the identity of a planned one.

use crate::error::RunsError;
use crate::recorder::table_files;
use basislab_config::RunName;
use basislab_store::{Extent, FileError, is_link, is_plain_folder, is_trusted, read_capped, write_atomic};
use basislab_tables::{Identity, RUN_TABLES, RunEnd, RunRecord};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Finished runs in the directories beside one, by identity.
#[derive(Debug, Default)]
pub struct FinishedRuns(Vec<(Identity, PathBuf)>);

impl FinishedRuns {
    /// Those in the directories beside `dir`, and in `dir` itself. What cannot be read is left out, and so are links and folders
    /// of other users, who could put any numbers there.
    pub fn beside(dir: &Path) -> Self {
        let Ok(dir) = std::path::absolute(dir) else { return Self::default() };
        let Some(parent) = dir.parent() else { return Self::default() };
        let folders = |path: &Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            let own = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            let mut all: Vec<PathBuf> = own.map(|entry| entry.path()).filter(|path| is_trusted(path)).collect();
            all.sort();
            all
        };
        let parts =
            |experiment: &Path| Some(experiment.join("parts")).filter(|path| !is_link(path) && is_trusted(path));
        let mut all = Vec::new();
        for experiment in folders(parent).into_iter().filter(|folder| folder.join("manifest.json").is_file()) {
            for part in parts(&experiment).iter().flat_map(|parts| folders(parts)).flat_map(|arm| folders(&arm)) {
                let record = part.join("done.json").is_file().then(|| RunRecord::read(&part).ok().flatten()).flatten();
                all.extend(record.map(|record| (record.identity, part)));
            }
        }
        Self(all)
    }

    /// The part of a finished run of that identity.
    pub fn find(&self, identity: &Identity) -> Option<&Path> {
        self.0.iter().find(|(known, _)| known == identity).map(|(_, part)| part.as_path())
    }
}

/// Copies a finished run into a folder, as one of `arm`; how it ended. `seeds` are those of the arm where the run is another
/// arm's of the same experiment, and `None` where it is another experiment's. `None` where the run is not of that identity (any
/// more), its tables are not what it wrote or do not reach its end, or its folder holds anything but plain files.
///
/// # Errors
/// A file that could not be read or written.
pub(crate) fn copy(
    from: &Path,
    identity: &Identity,
    arm: &RunName,
    own: &Path,
    seeds: Option<Vec<u64>>,
) -> Result<Option<RunEnd>, RunsError> {
    let is_it = |record: &RunRecord| record.identity == *identity;
    let Some(record) = RunRecord::read(from)?.filter(is_it) else { return Ok(None) };
    if !is_plain_folder(from) {
        return Ok(None);
    }
    let Some(mut end) = RunEnd::read(from)? else { return Ok(None) };
    if RUN_TABLES.iter().any(|table| !end.tables.contains_key(table.file)) || !end.matches_tables(from)? {
        return Ok(None);
    }
    let mut tables = BTreeMap::new();
    for file in table_files() {
        let path = from.join(file);
        let bytes = read_capped(&path, u64::MAX)?;
        if end.tables.get(file).is_some_and(|extent| Extent::of(&bytes) != *extent) {
            return Ok(None);
        }
        let bytes = renamed(&bytes, arm);
        if end.tables.contains_key(file) {
            tables.insert(file.to_owned(), Extent::of(&bytes));
        }
        write_atomic(&own.join(file), &bytes)?;
    }
    copy_folder(&from.join("checkpoints"), &own.join("checkpoints"))?;
    // The directory may have been replaced or cleaned meanwhile.
    if RunRecord::read(from)?.as_ref() != Some(&record) {
        return Ok(None);
    }
    let reused = seeds.is_none() || record.reused;
    RunRecord { reused, seeds: seeds.unwrap_or_else(|| record.seeds.clone()), ..record }.write(own)?;
    end.tables = tables;
    end.write(own)?;
    Ok(Some(end))
}

/// A table with another arm in its first column.
fn renamed(table: &[u8], arm: &RunName) -> Vec<u8> {
    let mut lines = table.split_inclusive(|byte| *byte == b'\n');
    let mut renamed = lines.next().unwrap_or_default().to_vec();
    for line in lines {
        let rest = line.iter().position(|byte| *byte == b',').unwrap_or(0);
        renamed.extend(arm.as_bytes());
        renamed.extend(&line[rest..]);
    }
    renamed
}

pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<(), FileError> {
    if !from.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(to).map_err(|error| FileError::new("create", to, error))?;
    for entry in fs::read_dir(from).map_err(|error| FileError::new("read", from, error))? {
        let entry = entry.map_err(|error| FileError::new("read", from, error))?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(|error| FileError::new("read", &path, error))?;
        if kind.is_dir() {
            copy_folder(&path, &to)?;
        } else if kind.is_file() {
            fs::copy(&path, &to).map_err(|error| FileError::new("write", &to, error))?;
        }
    }
    Ok(())
}
