//! Whose a directory is: what is planned there, written once, extended, never replaced by something else.

use crate::corpora::Corpora;
use crate::directory::{FORMAT, Opened, open, read_manifest, write_manifest};
use crate::error::RunsError;
use crate::identity::NUMERICS;
use basislab_config::{CorpusSpec, Experiment, Library, load};
use basislab_data::BUILTIN_PREFIX;
use basislab_store::{FileError, sha256, write_atomic};
use basislab_tables::{SUMS, is_published};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

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

/// Writes what is planned in the directory, or checks that it is this experiment's: the same arms as there, or more of them,
/// and the seeds of both. Claims and texts may have changed. `description` goes into a new manifest (see
/// [`needs_manifest`]). Returns what is there now; to be called under the directory's lock.
///
/// # Errors
/// A directory of another experiment, or one whose configuration was edited so that its runs are others; a new manifest that
/// is needed without a description.
pub fn create_or_extend(
    dir: &Path,
    experiment: &Experiment,
    corpora: &Corpora,
    backend: &str,
    library: Library<'_>,
    description: Option<Value>,
) -> Result<Opened, RunsError> {
    let Some(mut manifest) = manifest_with_runs(dir)? else {
        let description = description.ok_or_else(|| {
            let what = "its manifest.json was removed while this process started; run the command again";
            RunsError::busy(format!("{}: {what}", dir.display()))
        })?;
        // The manifest first: a directory that holds anything says whose it is.
        let mut manifest = json!({
            "format": FORMAT, "backend": backend, "numerics": NUMERICS, "arms": arms(experiment, corpora),
        });
        extend(&mut manifest, description);
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

/// Whether [`create_or_extend`] would write a new manifest. What it holds takes time to compute, and is computed before the
/// directory is locked. Where two processes start at once, both compute it and one writes it.
///
/// # Errors
/// A manifest that cannot be read.
pub fn needs_manifest(dir: &Path) -> Result<bool, RunsError> {
    Ok(manifest_with_runs(dir)?.is_none())
}

/// The manifest of a directory that has runs. Without runs it describes nothing yet: the build that makes the first one writes
/// its own.
fn manifest_with_runs(dir: &Path) -> Result<Option<Value>, RunsError> {
    let has_runs = dir.join("parts").exists() || is_published(dir);
    Ok(read_manifest(dir)?.filter(|_| has_runs))
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
pub(crate) fn recorded(experiment: &Experiment) -> String {
    let absolute = |path: &str| match path.starts_with(BUILTIN_PREFIX) {
        true => None,
        false => std::path::absolute(path).ok()?.to_str().map(str::to_owned),
    };
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
