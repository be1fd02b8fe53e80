//! The directory of an experiment: whose it is, what is planned there, which runs have ended.

use crate::corpora::Corpora;
use crate::error::RunsError;
use crate::identity::NUMERICS;
use crate::plan::{Job, jobs};
use basislab_config::{Change, CorpusSpec, Experiment, Library, load};
use basislab_store::{FileError, LFS_POINTER, Lock, LockError, clean, is_lfs_pointer, is_link, sha256, write_atomic};
use basislab_tables::{Identity, RunEnd, RunRecord, SUMS, is_published, part_dir, work_dir};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Format of `manifest.json`.
const FORMAT: u64 = 2;

/// A directory as it was left.
#[derive(Debug)]
pub struct Opened {
    /// Its experiment.
    pub experiment: Experiment,
    /// `manifest.json`.
    pub manifest: Value,
}

/// What each arm's runs are, seeds left out: the hash of its configuration and that of its corpus.
fn arms(experiment: &Experiment, corpora: &Corpora) -> Value {
    let of = |arm: &basislab_config::Arm| {
        let own = json!({ "run": arm.run.hash(), "corpus": corpora.of(&arm.run).sha256() });
        (arm.name.to_string(), own)
    };
    Value::Object(experiment.arms.iter().map(of).collect())
}

/// First 8 hex digits over what is planned in a directory: backend and arms. Never claims, texts or seeds.
pub fn plan_hash(experiment: &Experiment, corpora: &Corpora, backend: &str) -> String {
    let plan = json!({ "backend": backend, "numerics": NUMERICS, "arms": arms(experiment, corpora) });
    sha256(plan.to_string().as_bytes())[..8].to_owned()
}

/// Makes the directory if need be; nothing of anybody else's is touched.
///
/// # Errors
/// A directory of something else, or one that cannot be made.
pub fn enter(dir: &Path) -> Result<(), RunsError> {
    let place = dir.display();
    let refuse = |what: String| RunsError::identity(format!("{place}: {what}; choose another --out"));
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
    fs::create_dir_all(dir).map_err(|error| RunsError::write(format!("{place}: cannot create: {error}")))
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
    let place = dir.display();
    if no_lock || is_published(dir) {
        return Ok(None);
    }
    match Lock::wait(dir, Duration::from_secs(60)) {
        Ok(lock) => Ok(Some(lock)),
        // A finished directory is only read.
        Err(LockError::ReadOnly(_)) if dir.join(SUMS).exists() => Ok(None),
        Err(LockError::Busy(owner)) => Err(RunsError::busy(format!(
            "{place}: another process holds its lock ({owner}); wait for it, or choose another --out"
        ))),
        Err(LockError::Unsupported(error)) => Err(RunsError::busy(format!(
            "{place}: this file system cannot lock files ({error}); with --no-lock several processes may train one run, \
             which costs time and changes nothing"
        ))),
        Err(LockError::File(error) | LockError::ReadOnly(error)) => Err(error.into()),
    }
}

/// Writes what is planned in the directory, or checks that it is this experiment's: the same arms as there, or more of them,
/// and the seeds of both. Claims and texts may have changed. Returns what is there now; to be called under the directory's
/// lock.
///
/// # Errors
/// A directory of another experiment, or one whose configuration was edited so that its runs are others.
pub fn claim(
    dir: &Path,
    experiment: &Experiment,
    corpora: &Corpora,
    backend: &str,
    library: Library<'_>,
    describe: impl FnOnce() -> Value,
) -> Result<Opened, RunsError> {
    // A manifest without runs describes nothing yet: the build that makes the first one writes its own.
    let has_runs = dir.join("parts").exists() || is_published(dir);
    let Some(mut manifest) = read_manifest(dir)?.filter(|_| has_runs) else {
        // The manifest first: a directory that holds anything says whose it is.
        let mut manifest = json!({
            "format": FORMAT, "backend": backend, "numerics": NUMERICS, "arms": arms(experiment, corpora),
        });
        extend(&mut manifest, describe());
        write_manifest(dir, &manifest)?;
        write_config(dir, experiment, library)?;
        // From here on it is this experiment's, for other processes too.
        let parts = dir.join("parts");
        fs::create_dir_all(&parts).map_err(|error| FileError::new("create", &parts, error))?;
        return Ok(Opened { experiment: experiment.clone(), manifest });
    };
    let there = if dir.join("config.toml").is_file() { Some(open(dir, library)?.experiment) } else { None };
    let planned = arms(experiment, corpora);
    let differences = differences(there.as_ref(), experiment, &manifest, (&planned, backend));
    if !differences.is_empty() {
        return Err(RunsError::identity(format!(
            "{}: belongs to another configuration ({differences}); nothing was touched; choose another --out",
            dir.display()
        )));
    }
    let mut experiment = experiment.clone();
    if let Some(there) = &there {
        experiment.add_seeds(there);
    }
    let changed = there.as_ref().map(without_paths) != Some(without_paths(&experiment)) || manifest["arms"] != planned;
    if changed && is_published(dir) {
        return Err(RunsError::identity(format!(
            "{}: holds tables without the parts they were made from, of other claims or seeds; nothing was touched; choose another --out",
            dir.display()
        )));
    }
    if changed {
        // The report there is of other claims or seeds.
        basislab_store::remove(&dir.join(SUMS))?;
        manifest["arms"] = planned;
        write_manifest(dir, &manifest)?;
        write_config(dir, &experiment, library)?;
    }
    Ok(Opened { experiment, manifest })
}

fn extend(manifest: &mut Value, more: Value) {
    if let (Value::Object(all), Value::Object(more)) = (manifest, more) {
        all.extend(more);
    }
}

/// Writes the configuration, if it can be loaded again: seeds of two configurations together may be refused.
fn write_config(dir: &Path, experiment: &Experiment, library: Library<'_>) -> Result<(), RunsError> {
    let (path, text) = (dir.join("config.toml"), recorded(experiment));
    load(&text, &path.display().to_string(), &[], library)?;
    Ok(write_atomic(&path, text.as_bytes())?)
}

/// The configuration as `config.toml` holds it: usable from any folder.
fn recorded(experiment: &Experiment) -> String {
    let absolute = |path: &str| std::path::absolute(path).ok()?.to_str().map(str::to_owned);
    with_paths(experiment, &|path| absolute(path).unwrap_or_else(|| path.to_owned())).to_toml()
}

/// The same text may lie anywhere.
fn without_paths(experiment: &Experiment) -> Experiment {
    with_paths(experiment, &|_| String::new())
}

fn with_paths(experiment: &Experiment, change: &dyn Fn(&str) -> String) -> Experiment {
    let mut experiment = experiment.clone();
    let arms = experiment.arms.iter_mut().map(|arm| &mut arm.run);
    for run in arms.chain([&mut experiment.shared]) {
        if let CorpusSpec::Text(text) = &mut run.corpus {
            text.path = change(&text.path);
        }
    }
    experiment
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
    let place = path.display();
    if is_lfs_pointer(&bytes) {
        return Err(RunsError::data(format!("{place}: found {LFS_POINTER}")));
    }
    let manifest: Value = serde_json::from_slice(&bytes).map_err(|error| {
        RunsError::identity(format!(
            "{place}: no readable manifest.json: {error}; restore it, or use another directory"
        ))
    })?;
    match manifest["format"].as_u64() {
        Some(FORMAT) => Ok(Some(manifest)),
        Some(other) => Err(RunsError::data(format!(
            "{place}: found format {other}, written by basislab {}, expected format {FORMAT}; use that version",
            manifest["basislab"]["version"]
        ))),
        None => Err(RunsError::identity(format!("{place}: found no format, expected what `basislab run` writes"))),
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
    let changes: &[Change] = &[];
    let experiment = load(&text, &path.display().to_string(), changes, library)?.experiment;
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

/// What keeps an experiment from being continued in a directory; empty where nothing does.
fn differences(
    there: Option<&Experiment>,
    here: &Experiment,
    manifest: &Value,
    (planned, backend): (&Value, &str),
) -> String {
    let mut all = Vec::new();
    if manifest["backend"] != backend {
        all.push(format!("backend: {} there, \"{backend}\" here", manifest["backend"]));
    }
    if manifest["numerics"] != NUMERICS {
        all.push(format!("version of the numbers: {} there, {NUMERICS} here", manifest["numerics"]));
    }
    let none = Map::new();
    let (known, planned) = (manifest["arms"].as_object().unwrap_or(&none), planned.as_object().unwrap_or(&none));
    let mut others = BTreeSet::new();
    for (name, known) in known {
        match planned.get(name) {
            None => all.push(format!("arm {name}: there, not here")),
            Some(planned) => {
                if planned["corpus"] != known["corpus"] {
                    others.insert(format!("corpus: {} there, {} here", known["corpus"], planned["corpus"]));
                }
                if planned["run"] != known["run"] {
                    others.extend(run_differences(there, here, name));
                }
            }
        }
    }
    all.extend(others);
    let choices = |experiment: &Experiment| experiment.choices().map(|(sweep, _)| sweep.clone()).collect::<Vec<_>>();
    if there.is_some_and(|there| choices(there) != choices(here)) {
        all.push("the grids with a choice differ".to_owned());
    }
    if all.len() > 6 {
        let more = all.len() - 6;
        all.truncate(6);
        all.push(format!("and {more} more"));
    }
    all.join("; ")
}

/// The keys of an arm's configuration that differ.
fn run_differences(there: Option<&Experiment>, here: &Experiment, arm: &str) -> Vec<String> {
    let of = |experiment: Option<&Experiment>| {
        let arm = experiment.and_then(|experiment| experiment.arm(arm));
        arm.map(|arm| arm.run.settings()).unwrap_or_default()
    };
    let (there, here) = (of(there), of(Some(here)));
    let keys: BTreeSet<&String> = there.keys().chain(here.keys()).collect();
    let value = |of: &BTreeMap<String, String>, key: &str| of.get(key).map_or("absent", String::as_str).to_owned();
    let differ = keys.into_iter().filter(|key| there.get(*key) != here.get(*key));
    differ.map(|key| format!("{key}: {} there, {} here", value(&there, key), value(&here, key))).collect()
}

/// How many of these runs have not ended, judging by their folders.
pub fn pending(dir: &Path, jobs: &[Job<'_>]) -> usize {
    if is_published(dir) {
        return 0;
    }
    jobs.iter().filter(|job| !part_dir(dir, &job.arm.name, job.seed).join("done.json").is_file()).count()
}

/// Refuses to write through links to elsewhere and runs of another identity than `identify` says, and returns the runs that
/// have not ended.
///
/// # Errors
/// A link where a folder of the run's own is expected, a run of another identity, or a file that is not what a run writes.
pub fn survey<'a>(
    dir: &Path,
    jobs: &[Job<'a>],
    identify: &dyn Fn(&Job<'_>) -> Identity,
) -> Result<Vec<Job<'a>>, RunsError> {
    let unlinked = |path: &Path| match is_link(path) {
        true => Err(RunsError::identity(format!(
            "{}: is a symbolic link, expected a directory of the run's own; remove it",
            path.display()
        ))),
        false => Ok(()),
    };
    if is_published(dir) {
        return Ok(Vec::new());
    }
    for folder in [dir.join("parts"), dir.join("figures")] {
        unlinked(&folder)?;
    }
    let mut unended = Vec::new();
    for job in jobs {
        let part = part_dir(dir, &job.arm.name, job.seed);
        unlinked(&dir.join("parts").join(&job.arm.name))?;
        unlinked(&part)?;
        unlinked(&part.join("checkpoints"))?;
        let work = work_dir(dir, &job.arm.name, job.seed);
        unlinked(&work)?;
        if finished(dir, job)?.is_none() {
            unended.push(*job);
            continue;
        }
        if RunRecord::read(&part)?.is_none_or(|record| record.identity != identify(job)) {
            return Err(RunsError::identity(format!(
                "{}: holds a run of another identity than the one that is planned; choose another --out, or remove it to train the planned one",
                part.display()
            )));
        }
        // What a process left that was killed after it had published the run.
        if work.is_dir()
            && let Ok(_lock) = Lock::take(&work)
        {
            basislab_store::remove(&work)?;
        }
    }
    Ok(unended)
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
pub fn tidy(dir: &Path) -> Result<(), FileError> {
    [dir.to_owned(), dir.join("figures")].iter().try_for_each(|folder| clean(folder))
}

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
