//! `NUMERICS` is raised whenever a bit of a run's output changes: `tests/golden/numerics.txt` has, for each version of the
//! numbers and each class of CPUs, a line `VERSION CLASS CONFIGURATION/BACKEND SHA-256` for each run of `numerics.toml`.
//! Where the bits of a class change, raise `NUMERICS` in `crates/basislab-runs/src/identity.rs`; `UPDATE_GOLDEN=1` then adds the
//! new lines, and never changes one. A class without lines is not compared, and the test says so.

use crate::support::{backends, loaded, never, root, rows_of};
use basislab_config::{Experiment, Key, Kind, RunSpec};
use basislab_data::Corpus;
use basislab_tables::{RUN_TABLES, Shard};
use basislab_train::{Context, Event, train};
use burn::tensor::Device;
use serde_json::Value;
use std::path::Path;

#[test]
#[allow(clippy::print_stderr, reason = "a test that compares nothing says so")]
fn other_bits_are_another_version_of_the_numbers() {
    let dir = tempfile::TempDir::new().unwrap();
    let experiment = experiment(dir.path());
    let prefix = format!("{} {} ", basislab_runs::NUMERICS, class_of_cpu());
    let path = root().join("tests/golden/numerics.txt");
    let mut text = std::fs::read_to_string(&path).unwrap();
    let of_class = |text: &str| text.lines().any(|line| line.starts_with(&prefix));
    let (updates, mut changed, mut unknown) = (std::env::var_os("UPDATE_GOLDEN").is_some(), vec![], vec![]);
    if !of_class(&text) && !updates {
        eprintln!("{} has no lines for {}: its bits are not compared", path.display(), prefix.trim_end());
        return;
    }
    for (name, hash) in hashes(&experiment, dir.path()) {
        let key = format!("{prefix}{name} ");
        let known = text.lines().find_map(|line| line.strip_prefix(&key));
        match known {
            Some(known) if known == hash => {}
            Some(_) => changed.push(name),
            None if updates => text.push_str(&format!("{key}{hash}\n")),
            None => unknown.push(name),
        }
    }
    if updates {
        std::fs::write(&path, &text).unwrap();
    }
    assert!(
        changed.is_empty(),
        "other bits than before: raise NUMERICS, unless this machine's C library or CPU rounds otherwise: {changed:?}"
    );
    assert!(unknown.is_empty(), "numerics.txt lacks the lines of {unknown:?}: UPDATE_GOLDEN=1 adds them");
}

/// The file is for the version of the numbers that is built, and has no line of a run that is none.
#[test]
fn golden_bits_are_of_this_version_and_of_these_runs() {
    let dir = tempfile::TempDir::new().unwrap();
    let experiment = experiment(dir.path());
    let text = std::fs::read_to_string(root().join("tests/golden/numerics.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let lines: Vec<Vec<&str>> = lines.map(|line| line.split(' ').collect()).collect();
    let version = basislab_runs::NUMERICS.to_string();
    for class in ["linux-x86_64-avx512f", "linux-x86_64-avx2"] {
        let known = |run: &str| lines.iter().any(|line| line[..3] == [version.as_str(), class, run]);
        for arm in &experiment.arms {
            let run = format!("{}/flex", arm.name);
            assert!(known(&run), "no line of version {version} for {class}, {run}");
        }
    }
    for line in &lines {
        let arm = line[2].split('/').next().unwrap();
        assert!(line.len() == 4 && experiment.arm(arm).is_some(), "{line:?}");
    }
}

#[test]
fn every_option_of_a_run_has_golden_bits() {
    let dir = tempfile::TempDir::new().unwrap();
    let experiment = experiment(dir.path());
    let runs: Vec<Value> = experiment.arms.iter().map(|arm| serde_json::to_value(&arm.run).unwrap()).collect();
    let mut missing = Vec::new();
    for key in RunSpec::KEYS {
        let of_runs = runs.iter().filter_map(|run| run.get(key.name));
        // Optimizer and basis of a phase have the options of the run's own.
        let phases = runs.iter().filter_map(|run| run.get("phases")?.as_array()).flatten();
        let of_phases = phases.filter_map(|phase| phase.get(key.name));
        cover(&key.kind, key.name, &of_runs.chain(of_phases).collect::<Vec<_>>(), &mut missing);
    }
    assert!(missing.is_empty(), "options that no run of tests/golden/numerics.toml has: {missing:#?}");
}

/// Collects what a key could hold and none of `values` is.
fn cover(kind: &Kind, path: &str, values: &[&Value], missing: &mut Vec<String>) {
    let mut wanted: Vec<Value> = Vec::new();
    match kind {
        Kind::Bool => wanted.extend([false, true].map(Value::from)),
        Kind::Choice(names) => wanted.extend(names.iter().map(|name| Value::from(name.name))),
        Kind::Table(keys) => cover_keys(keys, path, values, missing),
        Kind::Tagged(variants) => {
            variants.iter().for_each(|variant| cover_kind(variant.name, variant.keys, path, values, missing));
        }
        Kind::Optimizer => {
            let groups = values.iter().filter_map(|value| value.get("groups")?.as_object());
            let rules = groups.flat_map(|groups| groups.values()).chain(values.iter().copied());
            let rules: Vec<&Value> = rules.collect();
            for rule in basislab_optim::rule_keys() {
                cover_kind(rule.name, rule.keys, path, &rules, missing);
            }
        }
        Kind::List(keys) => {
            let items: Vec<&Value> = values.iter().filter_map(|value| value.as_array()).flatten().collect();
            let is_own = |key: &&Key| matches!(key.kind, Kind::Bool | Kind::Choice(_));
            let own = keys.iter().filter(is_own);
            own.for_each(|key| cover_keys(std::slice::from_ref(key), path, &items, missing));
        }
        _ => {}
    }
    let absent = wanted.iter().filter(|value| !values.contains(value));
    missing.extend(absent.map(|value| format!("{path} = {value}")));
}

fn cover_kind(name: &str, keys: &[Key], path: &str, values: &[&Value], missing: &mut Vec<String>) {
    let of: Vec<&Value> = values.iter().copied().filter(|value| value["kind"] == name).collect();
    if of.is_empty() {
        missing.push(format!("{path} = {name}"));
    }
    cover_keys(keys, &format!("{path}.{name}"), &of, missing);
}

fn cover_keys(keys: &[Key], path: &str, values: &[&Value], missing: &mut Vec<String>) {
    for key in keys {
        let of: Vec<&Value> = values.iter().filter_map(|value| value.get(key.name)).collect();
        let (path, mut lacks) = (format!("{path}.{}", key.name), Vec::new());
        cover(&key.kind, &path, &of, &mut lacks);
        // The default of an optional key is not written, and no bidirectional model is trained.
        let default = match key.kind {
            Kind::Bool => Value::from(false),
            Kind::Choice(names) => Value::from(names[0].name),
            _ => Value::Null,
        };
        let exempt = [format!("{path} = {default}"), "model.mask = \"bidirectional\"".to_owned()];
        missing.extend(lacks.into_iter().filter(|lack| !(key.optional && exempt.contains(lack))));
    }
}

/// The runs of `numerics.toml`, with a text in `dir`.
fn experiment(dir: &Path) -> Experiment {
    let path = dir.join("text");
    let lines = (0..400).map(|n| format!("{n} times {n} is {}, and {} is not.\n", n * n, n * n + n % 7));
    std::fs::write(&path, lines.collect::<String>()).unwrap();
    let text = std::fs::read_to_string(root().join("tests/golden/numerics.toml")).unwrap();
    loaded(&text.replace("TEXT", path.to_str().unwrap()), "numerics.toml", &[]).unwrap().experiment
}

/// Of every run on the default backend, and of the first one on each backend of a CPU: `NAME/BACKEND` and the hash of its
/// bytes.
fn hashes(experiment: &Experiment, dir: &Path) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (index, arm) in experiment.arms.iter().enumerate() {
        for (backend, device) in backends().into_iter().filter(|(backend, _)| index == 0 || *backend == "flex") {
            let bytes = bytes_of(experiment, index, &device, &dir.join(format!("{index}-{backend}")));
            all.push((format!("{}/{backend}", arm.name), basislab_store::sha256(&bytes)));
        }
    }
    all
}

/// The bytes of the tables that the run of an arm writes, and of the weights and moments that it ends with.
fn bytes_of(experiment: &Experiment, arm: usize, device: &Device, part: &Path) -> Vec<u8> {
    let arm = &experiment.arms[arm];
    let corpus = Corpus::open(&arm.run.corpus, arm.run.model.n_ctx).unwrap();
    let (mut shard, mut bytes) = (Shard::create(part).unwrap(), Vec::new());
    let mut record = |event| {
        rows_of(arm, 0, &event).into_iter().for_each(|row| shard.push(row).unwrap());
        if let Event::Checkpoint { state, .. } = event {
            state.files.values().for_each(|file| bytes.extend(file));
        }
        Ok(())
    };
    train(&arm.run, 0, Context { corpus: &corpus, device, ahead: 1 }, None, never(), &mut record).unwrap();
    shard.commit().unwrap();
    RUN_TABLES.iter().for_each(|table| bytes.extend(std::fs::read(part.join(table.file)).unwrap()));
    bytes
}

/// What chooses the instructions of kernels, and with them the order of sums.
fn class_of_cpu() -> String {
    #[cfg(target_arch = "x86_64")]
    let level = match (is_x86_feature_detected!("avx512f"), is_x86_feature_detected!("avx2")) {
        (true, _) => "avx512f",
        (false, true) => "avx2",
        (false, false) => "sse2",
    };
    #[cfg(not(target_arch = "x86_64"))]
    let level = "any";
    format!("{}-{}-{level}", std::env::consts::OS, std::env::consts::ARCH)
}
