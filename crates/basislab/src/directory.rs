//! A run's directory: whose it is, who writes there, which runs are complete.

use crate::build::reporter;
use crate::exit::{Code, Exit};
use crate::resources;
use basislab_config::{CorpusSpec, Experiment};
use basislab_data::Corpus;
use basislab_experiment::Job;
use basislab_report::{RunEnd, SUMS, is_published, part_dir};
use basislab_store::{FileError, LFS_POINTER, Lock, LockError, clean, is_lfs_pointer, is_link, sha256, write_atomic};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// What decides the numbers of a directory: experiment, backend, corpus, and how many seeds are trained as one model.
/// Never jobs, output or verbosity.
pub(crate) fn identity(experiment: &Experiment, backend: &str, corpus_sha256: &str, stack: usize) -> Value {
    let mut identity = json!({ "experiment": experiment.hash(), "backend": backend, "corpus": corpus_sha256 });
    if stack > 1 {
        identity["stacked_seeds"] = stack.into();
    }
    identity
}

/// First 8 hex digits over the identity.
pub(crate) fn short_hash(identity: &Value) -> String {
    sha256(identity.to_string().as_bytes())[..8].to_owned()
}

/// Makes the directory if need be and becomes its only writer; nothing of anybody else's is touched.
pub(crate) fn enter(dir: &Path, no_lock: bool) -> Result<Option<Lock>, Exit> {
    let place = dir.display();
    let refuse = |what: String| Exit::new(Code::Identity, format!("{place}: {what}; choose another --out"));
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
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(refuse(format!("cannot use as output directory: {error}"))),
    };
    if foreign && !dir.join("manifest.json").exists() {
        let what = "found files but no readable manifest.json, expected an empty directory or one of `basislab run`";
        return Err(refuse(what.to_owned()));
    }
    fs::create_dir_all(dir).map_err(|error| Exit::write(format!("{place}: cannot create: {error}")))?;
    if no_lock || is_published(dir) {
        return Ok(None);
    }
    match Lock::take(dir) {
        Ok(lock) => {
            // A directory that may be complete is left as it is, to the last byte.
            if !dir.join(SUMS).exists() {
                lock.sign()?;
            }
            Ok(Some(lock))
        }
        // A finished directory is only read.
        Err(LockError::ReadOnly(_)) if dir.join(SUMS).exists() => Ok(None),
        Err(LockError::Busy(owner)) => Err(Exit::new(
            Code::Busy,
            format!("{place}: another basislab is running here ({owner}); wait for it, or choose another --out"),
        )),
        Err(LockError::Unsupported(error)) => Err(Exit::new(
            Code::Busy,
            format!(
                "{place}: this file system cannot lock files ({error}); with --no-lock it is on you that nobody else writes here"
            ),
        )),
        Err(LockError::File(error) | LockError::ReadOnly(error)) => Err(error.into()),
    }
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

/// Writes who owns the directory, or checks that it is this experiment's. Returns the manifest that is there now.
pub(crate) fn claim(
    dir: &Path,
    experiment: &Experiment,
    identity: &Value,
    manifest: impl FnOnce() -> Value,
) -> Result<Value, Exit> {
    let config = dir.join("config.toml");
    let write_config = || write_atomic(&config, recorded(experiment).as_bytes());
    // A manifest without runs describes nothing yet: the build that makes the first one writes its own.
    let has_runs = dir.join("parts").exists() || is_published(dir);
    let known = read_manifest(dir)?.filter(|known| known["identity"] != *identity || has_runs);
    let Some(known) = known else {
        // The manifest first: a directory that holds anything says whose it is.
        let manifest = manifest();
        write_manifest(dir, &manifest)?;
        write_config()?;
        return Ok(manifest);
    };
    if known["identity"] != *identity {
        let mut differences = differences(dir, experiment, &known, identity);
        if differences.is_empty() {
            differences = "its config.toml was edited after the run began".to_owned();
        }
        return Err(Exit::new(
            Code::Identity,
            format!(
                "{}: belongs to another configuration ({differences}); nothing was touched; choose another --out",
                dir.display()
            ),
        ));
    }
    if config.is_file() {
        open(dir)?;
    } else {
        write_config()?;
    }
    Ok(known)
}

/// The configuration as `config.toml` holds it: usable from any folder.
fn recorded(experiment: &Experiment) -> String {
    let mut experiment = experiment.clone();
    if let CorpusSpec::Text(text) = &mut experiment.corpus
        && let Ok(path) = std::path::absolute(&text.path)
        && let Some(path) = path.to_str()
    {
        path.clone_into(&mut text.path);
    }
    experiment.to_toml()
}

/// The manifest of a directory; `None` where there is no file.
pub(crate) fn read_manifest(dir: &Path) -> Result<Option<Value>, Exit> {
    let path = dir.join("manifest.json");
    let bytes = match basislab_store::read_capped(&path, 1 << 20) {
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Exit::data(error)),
        Ok(bytes) => bytes,
    };
    let place = path.display();
    if is_lfs_pointer(&bytes) {
        return Err(Exit::data(format!("{place}: found {LFS_POINTER}")));
    }
    let manifest: Value = serde_json::from_slice(&bytes).map_err(|error| {
        Exit::new(
            Code::Identity,
            format!("{place}: no readable manifest.json: {error}; restore it, or use another directory"),
        )
    })?;
    match manifest["format"].as_u64() {
        Some(1) => Ok(Some(manifest)),
        Some(newer) => Err(Exit::data(format!(
            "{place}: found format {newer}, written by basislab {}, expected format 1; use that version",
            manifest["basislab"]["version"]
        ))),
        None => {
            Err(Exit::new(Code::Identity, format!("{place}: found no format, expected what `basislab run` writes")))
        }
    }
}

pub(crate) fn write_manifest(dir: &Path, manifest: &Value) -> Result<(), FileError> {
    write_atomic(&dir.join("manifest.json"), format!("{manifest:#}\n").as_bytes())
}

/// Records which build makes the report. Summary and verdicts follow from the tables by its code.
pub(crate) fn sign_report(dir: &Path, manifest: &mut Value) -> Result<(), FileError> {
    let reporter = reporter();
    if manifest["report"] == reporter {
        return Ok(());
    }
    manifest["report"] = reporter;
    write_manifest(dir, manifest)
}

/// A report counts only under the rule that was fixed before the first step.
fn check_config(dir: &Path, experiment: &Experiment) -> Result<Value, Exit> {
    let missing = || Exit::data(format!("{}: cannot read: no such file", dir.join("manifest.json").display()));
    let manifest = read_manifest(dir)?.ok_or_else(missing)?;
    if manifest["identity"]["experiment"] == experiment.hash().as_str() {
        return Ok(manifest);
    }
    let place = dir.join("config.toml");
    Err(Exit::new(
        Code::Identity,
        format!(
            "{}: edited after the run began (its hash is not the manifest's), expected the config that ran; restore it, or run the edited one in a directory of its own",
            place.display()
        ),
    ))
}

/// The experiment and the manifest of a directory that `run` wrote.
pub(crate) fn open(dir: &Path) -> Result<(Experiment, Value), Exit> {
    let path = dir.join("config.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Exit::data(format!("{}: cannot read: {error}; expected a directory of `basislab run`", path.display()))
    })?;
    if is_lfs_pointer(text.as_bytes()) {
        return Err(Exit::data(format!("{}: found {LFS_POINTER}", path.display())));
    }
    let experiment = basislab_config::load(&text, &path.display().to_string(), &[])?.experiment;
    let manifest = check_config(dir, &experiment)?;
    Ok((experiment, manifest))
}

/// The corpus that a directory's runs were made with.
pub(crate) fn corpus(dir: &Path, experiment: &Experiment, manifest: &Value) -> Result<Corpus, Exit> {
    let sha256 = manifest["identity"]["corpus"].as_str().unwrap_or_default();
    let restore = format!("put it back, or set corpus.path in {} to where it is", dir.join("config.toml").display());
    let text = match &experiment.corpus {
        CorpusSpec::Text(text) => Some(text),
        CorpusSpec::Language(_) => None,
    };
    resources::check_corpus(&experiment.corpus)?;
    let corpus = Corpus::open(&experiment.corpus, experiment.model.n_ctx).map_err(|mut error| {
        if text.is_some() {
            error.expected = format!("the text of the run, SHA-256 {sha256}");
            error.next.clone_from(&restore);
        }
        Exit::from(error)
    })?;
    if corpus.sha256() == sha256 {
        return Ok(corpus);
    }
    let (place, found) = (dir.display(), corpus.sha256());
    let what = text.map_or_else(|| "the corpus".to_owned(), |text| format!("the text {:?}", text.path));
    let what = format!("{place}: {what} has changed: found SHA-256 {found}, expected {sha256}");
    Err(Exit::new(Code::Identity, if text.is_some() { format!("{what}; {restore}") } else { what }))
}

fn differences(dir: &Path, experiment: &Experiment, known: &Value, identity: &Value) -> String {
    let mut all: Vec<String> = ["backend", "corpus", "stacked_seeds"]
        .into_iter()
        .filter(|key| known["identity"][key] != identity[key])
        .map(|key| format!("{key}: {} there, {} here", known["identity"][key], identity[key]))
        .collect();
    let there = fs::read_to_string(dir.join("config.toml")).unwrap_or_default();
    if let Ok(there) = basislab_config::load(&there, "config.toml", &[]) {
        let flat = |text: &str| -> BTreeMap<String, String> {
            let loaded = basislab_config::load(text, "config.toml", &[]);
            loaded.map_or_else(|_| BTreeMap::new(), |l| l.origins.into_iter().map(|(k, v, _)| (k, v)).collect())
        };
        let (there, here) = (flat(&there.experiment.to_toml()), flat(&experiment.to_toml()));
        // The path of a text decides nothing; the text has its hash.
        let keys: BTreeSet<&String> = there.keys().chain(here.keys()).filter(|key| *key != "corpus.path").collect();
        let absent = "absent".to_owned();
        for key in keys {
            let (a, b) = (there.get(key).unwrap_or(&absent), here.get(key).unwrap_or(&absent));
            if a != b {
                all.push(format!("{key}: {a} there, {b} here"));
            }
        }
    }
    if all.len() > 6 {
        let more = all.len() - 6;
        all.truncate(6);
        all.push(format!("and {more} more"));
    }
    all.join("; ")
}

/// Where a run's checkpoints are.
pub(crate) fn checkpoints(dir: &Path, job: &Job<'_>) -> PathBuf {
    part_dir(dir, &job.arm.name, job.seed).join("checkpoints")
}

/// How many of these have not ended, judging by their folders.
pub(crate) fn pending(dir: &Path, jobs: &[Job<'_>]) -> usize {
    if is_published(dir) {
        return 0;
    }
    jobs.iter().filter(|job| !part_dir(dir, &job.arm.name, job.seed).join("done.json").is_file()).count()
}

/// Removes what killed processes left half written, and refuses to write through links to elsewhere. Returns the jobs
/// that have not ended.
pub(crate) fn survey<'a>(dir: &Path, jobs: &[Job<'a>]) -> Result<Vec<Job<'a>>, Exit> {
    let unlinked = |path: &Path| match is_link(path) {
        true => Err(Exit::new(
            Code::Identity,
            format!("{}: is a symbolic link, expected a directory of the run's own; remove it", path.display()),
        )),
        false => Ok(()),
    };
    if is_published(dir) {
        return Ok(Vec::new());
    }
    clean(dir)?;
    for folder in [dir.join("parts"), dir.join("figures")] {
        unlinked(&folder)?;
        clean(&folder)?;
    }
    let mut todo = Vec::new();
    for job in jobs {
        let part = part_dir(dir, &job.arm.name, job.seed);
        unlinked(&dir.join("parts").join(&job.arm.name))?;
        unlinked(&part)?;
        unlinked(&checkpoints(dir, job))?;
        clean(&part)?;
        clean(&checkpoints(dir, job))?;
        if done(dir, job)?.is_none() {
            todo.push(*job);
        }
    }
    Ok(todo)
}

/// How a run has ended; `None` while it has not.
pub(crate) fn done(dir: &Path, job: &Job<'_>) -> Result<Option<RunEnd>, Exit> {
    RunEnd::read(&part_dir(dir, &job.arm.name, job.seed)).map_err(|error| Exit::new(Code::Identity, error))
}
