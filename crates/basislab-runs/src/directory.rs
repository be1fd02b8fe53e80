//! The directory of an experiment: whose it is, what is planned there, which runs have ended.

use crate::error::RunsError;
use crate::held::remove_work;
use crate::plan::Job;
use crate::recorder::newest_checkpoint;
use basislab_config::{Experiment, Library, load};
use basislab_store::{FileError, LFS_POINTER, Lock, LockError, clean, is_lfs_pointer, is_link, write_atomic};
use basislab_tables::{Ending, Identity, RunEnd, RunRecord, SUMS, is_published, part_dir, work_dir};
use serde_json::Value;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Format of `manifest.json`.
pub const FORMAT: u64 = 2;

/// A directory as it was left.
#[derive(Debug)]
pub struct Opened {
    /// Its experiment.
    pub experiment: Experiment,
    /// `manifest.json`.
    pub manifest: Value,
}

/// Makes the directory if need be; nothing of anybody else's is touched.
///
/// # Errors
/// A directory of something else, or one that cannot be made.
pub fn create_output_dir(dir: &Path) -> Result<(), RunsError> {
    let at = dir.display();
    let refuse = |what: String| RunsError::identity(format!("{at}: {what}; choose another --out"));
    if is_link(dir) {
        let target = fs::read_link(dir).unwrap_or_default();
        return Err(refuse(format!("is a symbolic link to {}, expected a directory of its own", target.display())));
    }
    if let Some(missing) = passed_by(dir) {
        let what = format!("leads back with .. from {}, which does not exist", missing.display());
        return Err(refuse(what));
    }
    let foreign = match fs::read_dir(dir) {
        // Another process may be just starting here.
        Ok(entries) => entries.flatten().any(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name != ".lock" && !name.starts_with(".basislab-")
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(refuse(format!("cannot use as output directory: {error}"))),
    };
    if foreign && !dir.join("manifest.json").exists() {
        let what = "found files but no readable manifest.json, expected an empty directory or one of `basislab run`";
        return Err(refuse(what.to_owned()));
    }
    fs::create_dir_all(dir).map_err(|error| RunsError::write(format!("{at}: cannot create: {error}")))
}

/// A folder that does not exist, from which the path leads back with `..`: making it would lead to a directory that cannot be
/// judged before.
fn passed_by(path: &Path) -> Option<PathBuf> {
    let mut so_far = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir && !so_far.as_os_str().is_empty() && !so_far.is_dir() {
            return Some(so_far);
        }
        so_far.push(part);
    }
    None
}

/// The lock of a directory's tables, report and manifest, which nobody holds for long; waits for it. `None` where the
/// directory is finished and cannot be written, or where `no_lock` does without.
///
/// # Errors
/// Somebody who holds it all the same, a file system without locks, or a directory that cannot be written.
pub fn lock(dir: &Path, no_lock: bool) -> Result<Option<Lock>, RunsError> {
    let at = dir.display();
    if no_lock || is_published(dir) {
        return Ok(None);
    }
    match Lock::wait(dir, Duration::from_secs(60)) {
        Ok(lock) => Ok(Some(lock)),
        // A finished directory is only read.
        Err(LockError::ReadOnly(_)) if dir.join(SUMS).exists() => Ok(None),
        Err(LockError::Busy(owner)) => Err(RunsError::busy(format!(
            "{at}: another process holds its lock ({owner}); wait for it, or choose another --out"
        ))),
        Err(LockError::Unsupported(error)) => Err(RunsError::no_locks(dir, &error)),
        Err(LockError::File(error) | LockError::ReadOnly(error)) => Err(error.into()),
    }
}

/// The manifest of a directory; `None` where there is no file.
///
/// # Errors
/// A file that cannot be read, or is not a manifest of this version.
pub fn read_manifest(dir: &Path) -> Result<Option<Value>, RunsError> {
    let path = dir.join("manifest.json");
    let bytes = match basislab_store::read_capped(&path, 1 << 22) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RunsError::data(error.to_string())),
        Ok(bytes) => bytes,
    };
    let at = path.display();
    if is_lfs_pointer(&bytes) {
        return Err(RunsError::data(format!("{at}: found {LFS_POINTER}")));
    }
    let manifest: Value = serde_json::from_slice(&bytes).map_err(|error| {
        RunsError::identity(format!("{at}: no readable manifest.json: {error}; restore it, or use another directory"))
    })?;
    match manifest["format"].as_u64() {
        Some(FORMAT) => Ok(Some(manifest)),
        Some(other) => Err(RunsError::data(format!(
            "{at}: found format {other}, written by basislab {}, expected format {FORMAT}; use that version",
            manifest["basislab"]["version"]
        ))),
        None => Err(RunsError::identity(format!("{at}: found no format, expected what `basislab run` writes"))),
    }
}

/// Writes `manifest.json`.
///
/// # Errors
/// The file that could not be written.
pub fn write_manifest(dir: &Path, manifest: &Value) -> Result<(), FileError> {
    write_atomic(&dir.join("manifest.json"), format!("{manifest:#}\n").as_bytes())
}

/// The experiment and the manifest of a directory that `basislab run` wrote. Claims and texts may have been edited since;
/// what decides the numbers of its runs may not.
///
/// # Errors
/// Files that are missing, malformed, or of other runs.
pub fn open(dir: &Path, library: Library<'_>) -> Result<Opened, RunsError> {
    let path = dir.join("config.toml");
    let text = fs::read_to_string(&path).map_err(|error| {
        RunsError::data(format!("{}: cannot read: {error}; expected a directory of `basislab run`", path.display()))
    })?;
    if is_lfs_pointer(text.as_bytes()) {
        return Err(RunsError::data(format!("{}: found {LFS_POINTER}", path.display())));
    }
    let experiment = load(&text, &path.display().to_string(), &[], library)?.experiment;
    let missing = || RunsError::data(format!("{}: cannot read: no such file", dir.join("manifest.json").display()));
    let manifest = read_manifest(dir)?.ok_or_else(missing)?;
    for arm in &experiment.arms {
        let known = &manifest["arms"][arm.name.as_str()]["run"];
        if *known != arm.run.hash().as_str() {
            return Err(RunsError::identity(format!(
                "{}: arm {} was edited after its runs began (its hash is not the manifest's), expected the config that ran; \
                 restore it, or run the edited one in a directory of its own",
                path.display(),
                arm.name
            )));
        }
    }
    Ok(Opened { experiment, manifest })
}

/// How many of these runs have not ended, judging by their folders.
pub fn pending(dir: &Path, jobs: &[Job<'_>]) -> usize {
    if is_published(dir) {
        return 0;
    }
    jobs.iter().filter(|job| !part_dir(dir, &job.arm.name, job.seed).join("done.json").is_file()).count()
}

/// How many of these runs are resumed from a checkpoint, judging by their folders.
pub fn resumable(dir: &Path, jobs: &[Job<'_>]) -> usize {
    let unfinished = |job: &&Job<'_>| pending(dir, std::slice::from_ref(*job)) > 0;
    jobs.iter().filter(unfinished).filter(|job| newest_checkpoint(dir, job).is_ok_and(|step| step.is_some())).count()
}

/// Refuses to write through links to elsewhere and runs of another identity than `identify` says, and returns the runs that
/// have not ended. With `locks` it removes what killed processes left of the others.
///
/// # Errors
/// A link where a folder of the run's own is expected, a run of another identity, or a file that is not what a run writes.
pub fn unfinished_runs<'a>(
    dir: &Path,
    jobs: &[Job<'a>],
    identify: &dyn Fn(&Job<'_>) -> Identity,
    locks: bool,
) -> Result<Vec<Job<'a>>, RunsError> {
    if is_published(dir) {
        return Ok(Vec::new());
    }
    unlinked(&dir.join("figures"))?;
    let mut unfinished = Vec::new();
    for job in jobs {
        if !has_ended_as_planned(dir, job, &identify(job), locks)? {
            unfinished.push(*job);
        }
    }
    Ok(unfinished)
}

/// Whether a run of that identity has ended, and its tables with it. With `locks` it removes what a killed process left of it.
///
/// # Errors
/// A link where a folder of the run's own is expected, a run of another identity, or a file that is not what a run writes.
pub fn has_ended_as_planned(dir: &Path, job: &Job<'_>, identity: &Identity, locks: bool) -> Result<bool, RunsError> {
    if is_published(dir) {
        return Ok(true);
    }
    let (arm, seed, parts) = (&job.arm.name, job.seed, dir.join("parts"));
    let (part, work) = (part_dir(dir, arm, seed), work_dir(dir, arm, seed));
    [&parts, &parts.join(arm), &part, &part.join("checkpoints"), &work]
        .into_iter()
        .try_for_each(|path| unlinked(path))?;
    let Some(end) = finished(dir, job)? else { return Ok(false) };
    if !end.matches_tables(&part)? || (end.state == Ending::Complete && end.step != job.arm.run.train.steps) {
        return Err(RunsError::identity(format!(
            "{}: done.json says that the run ended at step {}, and its tables do not; restore them, or delete {} to run it again",
            part.display(),
            end.step,
            part.display()
        )));
    }
    if RunRecord::read(&part)?.is_none_or(|record| record.identity != *identity) {
        return Err(RunsError::identity(format!(
            "{}: holds a run of another identity than the one that is planned; choose another --out, or remove it to train the planned one",
            part.display()
        )));
    }
    // What a process left that was killed after it had published the run.
    if locks
        && work.is_dir()
        && let Ok(lock) = Lock::take(&work)
    {
        remove_work(&work, Some(lock))?;
    }
    Ok(true)
}

/// Refuses a link, through which files would be written elsewhere.
fn unlinked(path: &Path) -> Result<(), RunsError> {
    match is_link(path) {
        true => Err(RunsError::identity(format!(
            "{}: is a symbolic link, expected a directory of the run's own; remove it",
            path.display()
        ))),
        false => Ok(()),
    }
}

/// How a run has ended; `None` while it has not.
///
/// # Errors
/// A file that is not what a run writes.
pub fn finished(dir: &Path, job: &Job<'_>) -> Result<Option<RunEnd>, RunsError> {
    RunEnd::read(&part_dir(dir, &job.arm.name, job.seed)).map_err(|error| RunsError::identity(error.to_string()))
}

/// Removes what killed processes left half written at the top of the directory; to be called under its lock.
///
/// # Errors
/// What could not be removed.
pub fn remove_temporary_files(dir: &Path) -> Result<(), FileError> {
    [dir.to_owned(), dir.join("figures")].iter().try_for_each(|folder| clean(folder))
}
