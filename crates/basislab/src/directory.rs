//! A run's directory: whose it is, what it holds, which runs are complete.

use crate::exit::{Code, Exit};
use basislab_config::Experiment;
use basislab_experiment::{Job, Outcome};
use basislab_report::{FileError, part_dir, write_atomic};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What decides the numbers of a directory: experiment, backend, dtype, corpus. Never jobs, output or verbosity.
pub(crate) fn identity(experiment: &Experiment, backend: &str, dtype: &str, corpus_sha256: &str) -> Value {
    json!({ "experiment": experiment.hash(), "backend": backend, "dtype": dtype, "corpus": corpus_sha256 })
}

/// First 8 hex digits over the identity.
pub(crate) fn short_hash(identity: &Value) -> String {
    hex(&Sha256::digest(identity.to_string()))[..8].to_owned()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes the directory, or checks that it is this experiment's.
pub(crate) fn claim(dir: &Path, experiment: &Experiment, manifest: &Value) -> Result<(), Exit> {
    let place = dir.display();
    let old = dir.join("manifest.json");
    let empty = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => {
            return Err(Exit::new(Code::Identity, format!("{place}: cannot use as output directory: {error}")));
        }
    };
    if empty {
        fs::create_dir_all(dir).map_err(|error| Exit::write(format!("{place}: cannot create: {error}")))?;
        // The manifest first: a directory that holds anything says whose it is.
        write_atomic(&old, format!("{manifest:#}\n").as_bytes())?;
        return Ok(write_atomic(&dir.join("config.toml"), experiment.to_toml().as_bytes())?);
    }
    let known = fs::read_to_string(&old).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let Some(known) = known else {
        return Err(Exit::new(
            Code::Identity,
            format!(
                "{place}: found files but no readable manifest.json, expected an empty directory or one of `basislab run`; choose another --out"
            ),
        ));
    };
    if known["identity"] == manifest["identity"] {
        let config = dir.join("config.toml");
        return if config.is_file() { Ok(()) } else { Ok(write_atomic(&config, experiment.to_toml().as_bytes())?) };
    }
    let differences = differences(dir, experiment, &known, manifest);
    Err(Exit::new(
        Code::Identity,
        format!("{place}: belongs to another configuration ({differences}); nothing was touched; choose another --out"),
    ))
}

/// One writer per directory: the lock is the kernel's and ends with the process that holds it.
pub(crate) fn lock(dir: &Path) -> Result<fs::File, Exit> {
    let path = dir.join(".lock");
    let cannot = |error: std::io::Error| Exit::write(format!("{}: cannot create: {error}", path.display()));
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(Exit::new(
            Code::Busy,
            format!("{}: another basislab is running here; wait for it, or choose another --out", dir.display()),
        )),
    }
}

/// A report counts only under the rule that was fixed before the first step.
pub(crate) fn check_config(dir: &Path, experiment: &Experiment) -> Result<(), Exit> {
    let path = dir.join("manifest.json");
    let text =
        fs::read_to_string(&path).map_err(|error| Exit::data(format!("{}: cannot read: {error}", path.display())))?;
    let manifest: Value =
        serde_json::from_str(&text).map_err(|error| Exit::data(format!("{}: not JSON: {error}", path.display())))?;
    if manifest["identity"]["experiment"] == experiment.hash().as_str() {
        return Ok(());
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

fn differences(dir: &Path, experiment: &Experiment, known: &Value, manifest: &Value) -> String {
    let mut all: Vec<String> = ["backend", "dtype", "corpus"]
        .into_iter()
        .filter(|key| known["identity"][key] != manifest["identity"][key])
        .map(|key| format!("{key}: {} there, {} here", known["identity"][key], manifest["identity"][key]))
        .collect();
    let there = fs::read_to_string(dir.join("config.toml")).unwrap_or_default();
    if let Ok(there) = basislab_config::load(&there, "config.toml", &[]) {
        let flat = |text: &str| -> BTreeMap<String, String> {
            let loaded = basislab_config::load(text, "config.toml", &[]);
            loaded.map_or_else(|_| BTreeMap::new(), |l| l.origins.into_iter().map(|(k, v, _)| (k, v)).collect())
        };
        let (there, here) = (flat(&there.experiment.to_toml()), flat(&experiment.to_toml()));
        let keys: std::collections::BTreeSet<&String> = there.keys().chain(here.keys()).collect();
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

/// Whether a run has ended (complete or diverged), as written by [`mark_done`].
pub(crate) fn is_done(dir: &Path, job: &Job<'_>) -> bool {
    part_dir(dir, &job.arm.name, job.seed).join("done.json").is_file()
}

/// The last thing a run writes: from here on it is not run again.
pub(crate) fn mark_done(dir: &Path, job: &Job<'_>, outcome: Outcome) -> Result<(), FileError> {
    let state = match outcome {
        Outcome::Complete => json!({ "state": "complete" }),
        Outcome::Diverged(step) => json!({ "state": "diverged", "step": step }),
    };
    write_atomic(&part_dir(dir, &job.arm.name, job.seed).join("done.json"), format!("{state}\n").as_bytes())
}

/// Removes what an interrupted run left, so that it starts afresh.
pub(crate) fn clear(dir: &Path, job: &Job<'_>) -> Result<(), Exit> {
    let part = part_dir(dir, &job.arm.name, job.seed);
    match fs::remove_dir_all(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Exit::write(format!("{}: cannot remove an interrupted run: {error}", part.display())))
        }
        _ => Ok(()),
    }
}
