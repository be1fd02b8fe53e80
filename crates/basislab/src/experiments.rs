//! Finding and loading experiments.

use crate::args::{ChangeArgs, ExperimentArgs};
use crate::exit::{Code, Exit};
use crate::resources;
use basislab_config::{
    Arm, Change, CorpusSpec, Experiment, Library, Loaded, MAX_SEED, MAX_SEEDS, Origin, Phase, count, integer, load,
    one_of,
};
use basislab_data::{Corpus, CorpusError};
use basislab_optim::rule_keys;
use basislab_runs::Corpora;
use basislab_stats::{METRICS, Metric, MetricFn};
use basislab_store::{LFS_POINTER, is_lfs_pointer};
use serde_json::Value;
use std::path::Path;

/// `(name, text)` of every file in `configs/`.
pub(crate) static BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/experiments.rs"));

const LARGEST_CONFIG: u64 = 1 << 20;

/// An experiment with its short name, used for output directories.
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) loaded: Loaded,
    /// Whether `--smoke` reduced it.
    pub(crate) smoke: bool,
}

/// Loads what the command line names, with its changes.
pub(crate) fn find(which: &ExperimentArgs) -> Result<Named, Exit> {
    find_changed(&which.experiment, &which.changes)
}

/// Loads by name with what the command line changes.
pub(crate) fn find_changed(experiment: &str, changes: &ChangeArgs) -> Result<Named, Exit> {
    changed(experiment, changes, Vec::new())
}

/// Loads by name with `--set`s only.
pub(crate) fn find_plain(experiment: &str, set: &[String]) -> Result<Named, Exit> {
    find_with_arms(experiment, &[], set)
}

/// Loads by name with `--arm`s and `--set`s.
pub(crate) fn find_with_arms(experiment: &str, arm: &[String], set: &[String]) -> Result<Named, Exit> {
    let changes = ChangeArgs { arm: arm.to_vec(), set: set.to_vec(), ..ChangeArgs::default() };
    find_changed(experiment, &changes)
}

/// Loads by name with `--text FILE`, whatever the file is called, and then `--set`s.
pub(crate) fn find_with_text(experiment: &str, file: &str, set: &[String]) -> Result<Named, Exit> {
    let literal = |path: &str, text: &str| Change::literal(path, text, &format!("--text {file}"));
    let own = ChangeArgs { set: set.to_vec(), ..ChangeArgs::default() };
    changed(experiment, &own, vec![literal("corpus.kind", "text"), literal("corpus.path", file)])
}

/// What a configuration may name: the update rules, and the built-in experiments and files as bases.
pub(crate) fn library() -> Library<'static> {
    Library { rules: rule_keys(), base: &base }
}

/// The text of a base: what errors call it, and the text.
fn base(name: &str) -> Result<(String, String), String> {
    text(name).map(|(_, file, text)| (file, text)).map_err(|exit| exit.to_string())
}

/// Loads what `experiment` names, with `changes` first and then those of the command line.
fn changed(experiment: &str, which: &ChangeArgs, mut changes: Vec<Change>) -> Result<Named, Exit> {
    let (name, file, text) = text(experiment)?;
    let load = |changes: &[Change]| load(&text, &file, changes, library());
    let parsed = |texts: &[String], parse: fn(&str) -> Result<Change, String>| {
        texts.iter().map(|text| parse(text).map_err(Exit::usage)).collect::<Result<Vec<_>, _>>()
    };
    changes.extend(parsed(&which.arm, Change::parse_arm)?);
    changes.extend(parsed(&which.set, Change::parse_set)?);
    changes.extend(parsed(&which.sweep, Change::parse_sweep)?);
    let mut seeds =
        which.seeds.as_deref().map(|text| parse_seeds(text).map(|s| (s, format!("--seeds {text}")))).transpose()?;
    if which.smoke {
        let small: [(&str, &str); 9] = [
            ("train.steps", "4"),
            ("train.warmup_steps", "1"),
            ("probe.log_until", "4"),
            ("probe.every", "4"),
            ("probe.loss_sequences", "8"),
            ("probe.residual_sequences", "4"),
            ("probe.random_bases", "8"),
            ("probe.null_bases", "8"),
            ("probe.band_bases", "8"),
        ];
        let mut smoke: Vec<Change> = small.iter().map(|(path, value)| Change::set(path, value, "--smoke")).collect();
        smoke.extend(LENGTHS.iter().map(|(key, from)| Change::shrink_grids(key, *from, "--smoke")));
        let plain = load(&[])?;
        // What an arm says itself would stand against what all share.
        let own = |arm: &Arm| {
            let paths = small.map(|(path, value)| (format!("arm.{}.{path}", arm.name), value));
            let said = paths.into_iter().filter(|(path, _)| plain.origins.iter().any(|(known, ..)| known == path));
            said.map(|(path, value)| Change::set(&path, value, "--smoke")).collect::<Vec<_>>()
        };
        smoke.extend(written_arms(&plain.experiment).flat_map(own));
        smoke.extend(early_phases(&plain.experiment));
        let steps = plain.experiment.claims.iter().map(|claim| format!("claim.{}.cell.step", claim.name));
        let said = steps.filter(|path| plain.origins.iter().any(|(known, ..)| known == path));
        smoke.extend(said.map(|path| Change::set(&path, "last", "--smoke")));
        changes.splice(0..0, smoke);
        if seeds.is_none() {
            let first = load(&changes)?.experiment.seeds[..1].to_vec();
            seeds = Some((first, "--smoke".to_owned()));
        }
    }
    if let Some((seeds, typed)) = seeds {
        let change = |path: &str, seeds: &[u64]| Change::set(path, &format!("{seeds:?}"), &typed);
        // An arm with seeds of its own keeps their number.
        let Loaded { experiment: before, origins } = load(&[])?;
        changes.push(change("seeds", &seeds));
        let has_own = |arm: &&Arm| origins.iter().any(|(path, ..)| *path == format!("arm.{}.seeds", arm.name));
        for arm in written_arms(&before).filter(has_own) {
            let selects = arm.seeds.iter().any(|seed| !before.seeds.contains(seed));
            if !selects {
                let own = &seeds[..arm.seeds.len().min(seeds.len())];
                changes.push(change(&format!("arm.{}.seeds", arm.name), own));
            }
        }
    }
    let loaded = load(&changes)?;
    check_metrics(&loaded)?;
    Ok(Named { name, loaded, smoke: which.smoke })
}

/// What `--smoke` makes of the lengths that grids compare: the least of each.
const LENGTHS: [(&str, i64); 2] = [("train.steps", 4), ("train.warmup_steps", 1)];

/// The arms that the file has. Those that a grid makes of them follow.
fn written_arms(experiment: &Experiment) -> impl Iterator<Item = &Arm> {
    let is_made =
        |arm: &&Arm| experiment.sweeps.iter().any(|sweep| sweep.points.iter().any(|point| point.arm == arm.name));
    experiment.arms.iter().filter(move |arm| !is_made(arm))
}

/// Changes that let every phase begin within the few steps of `--smoke`.
fn early_phases(experiment: &Experiment) -> Vec<Change> {
    let of = |prefix: &str, phases: &[Phase]| -> Vec<Change> {
        let early = |at: usize| Change::set(&format!("{prefix}phases.{at}.from"), &(at + 2).to_string(), "--smoke");
        (0..phases.len()).map(early).collect()
    };
    let shared = &experiment.shared.phases;
    let own = written_arms(experiment).filter(|arm| arm.run.phases != *shared);
    let own = own.flat_map(|arm| of(&format!("arm.{}.", arm.name), &arm.run.phases));
    of("", shared).into_iter().chain(own).collect()
}

/// Opens the corpora of all arms. What is wrong with a key is said where the key was written.
pub(crate) fn corpora(loaded: &Loaded) -> Result<Corpora, Exit> {
    let experiment = &loaded.experiment;
    experiment.arms.iter().try_for_each(|arm| resources::check_corpus(&arm.run.corpus))?;
    Corpora::open(experiment).map_err(|(arm, error)| at_key(&error, loaded.origin(&arm.name, &error.place)))
}

/// Opens the corpus that arms share.
pub(crate) fn shared_corpus(loaded: &Loaded) -> Result<Corpus, Exit> {
    let shared = &loaded.experiment.shared;
    resources::check_corpus(&shared.corpus)?;
    Corpus::open(&shared.corpus, shared.model.n_ctx).map_err(|error| at_key(&error, loaded.origin("", &error.place)))
}

fn at_key(error: &CorpusError, origin: Option<&Origin>) -> Exit {
    origin.map_or_else(|| Exit::data(error), |origin| Exit::data(format!("{origin}: {error}")))
}

/// Opens the corpora that a directory's runs were made with.
pub(crate) fn check_corpora(dir: &Path, experiment: &Experiment, manifest: &Value) -> Result<Corpora, Exit> {
    let known = |arm: &str| manifest["arms"][arm]["corpus"].as_str().unwrap_or_default();
    let restore = format!("put it back, or set corpus.path in {} to where it is", dir.join("config.toml").display());
    experiment.arms.iter().try_for_each(|arm| resources::check_corpus(&arm.run.corpus))?;
    let corpora = Corpora::open(experiment).map_err(|(arm, mut error)| {
        if matches!(arm.run.corpus, CorpusSpec::Text(_)) {
            error.expected = format!("the text of the run, SHA-256 {}", known(&arm.name));
            error.next.clone_from(&restore);
        }
        Exit::from(error)
    })?;
    for arm in &experiment.arms {
        let (found, expected, at) = (corpora.of(&arm.run).sha256(), known(&arm.name), dir.display());
        if found != expected {
            let sums = format!("has changed: found SHA-256 {found}, expected {expected}");
            return Err(Exit::new(
                Code::Identity,
                match &arm.run.corpus {
                    CorpusSpec::Text(text) => format!("{at}: the text {:?} {sums}; {restore}", text.path),
                    CorpusSpec::Language(_) => format!("{at}: the corpus {sums}"),
                },
            ));
        }
    }
    Ok(corpora)
}

/// The config's crate knows no metrics: whether those that it names exist is checked here.
fn check_metrics(loaded: &Loaded) -> Result<(), Exit> {
    let fits = |metric: &&Metric| metric.basis_dependent && matches!(metric.of, MetricFn::Matrix(_));
    let names: Vec<&str> = METRICS.iter().filter(fits).map(|metric| metric.name).collect();
    let check = |key: &str, name: &str| {
        if names.contains(&name) {
            return Ok(());
        }
        let origin = loaded.origins.iter().find(|(path, ..)| path == key).map(|(.., origin)| origin.to_string());
        let origin = origin.map_or_else(String::new, |origin| format!("{origin}: "));
        Err(Exit::usage(format!("{origin}{key}: found {name:?}, expected {}", one_of(&names, Some(name)))))
    };
    let experiment = &loaded.experiment;
    check("verdict.metric", &experiment.verdict.metric)?;
    for claim in &experiment.claims {
        for (key, cell) in claim.cells().into_iter().filter(|(_, cell)| !cell.is_loss()) {
            check(&format!("claim.{}.{key}.metric", claim.name), &cell.metric)?;
        }
    }
    let runs = std::iter::once(&experiment.shared).chain(experiment.arms.iter().map(|arm| &arm.run));
    runs.flat_map(|run| &run.probe.null_metrics).try_for_each(|name| check("probe.null_metrics", name))
}

/// `(short name, what errors call it, text)`.
fn text(experiment: &str) -> Result<(String, String, String), Exit> {
    if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == experiment) {
        return Ok(((*name).to_owned(), format!("configs/{name}.toml"), (*text).to_owned()));
    }
    if !experiment.contains('/') && !experiment.ends_with(".toml") {
        let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        let expected = one_of(&names, Some(experiment));
        return Err(Exit::usage(format!(
            "no experiment {experiment:?}, expected the path of a .toml file or {expected}"
        )));
    }
    let path = Path::new(experiment);
    let info = std::fs::metadata(path)
        .map_err(|error| Exit::usage(format!("{experiment}: cannot read: {error}; expected a TOML file")))?;
    if !info.is_file() {
        return Err(Exit::usage(format!("{experiment}: found something that is not a file, expected a TOML file")));
    }
    if info.len() > LARGEST_CONFIG {
        return Err(Exit::usage(format!(
            "{experiment}: found {}, expected a config of at most {LARGEST_CONFIG}",
            count(info.len(), "byte")
        )));
    }
    let bytes = std::fs::read(path).map_err(|error| Exit::usage(format!("{experiment}: cannot read: {error}")))?;
    if is_lfs_pointer(&bytes) {
        return Err(Exit::usage(format!("{experiment}: found {LFS_POINTER}")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        Exit::usage(format!(
            "{experiment}: not UTF-8 at byte {}, expected a TOML file",
            error.utf8_error().valid_up_to()
        ))
    })?;
    Ok((short_name(path), experiment.to_owned(), text))
}

/// `results/adam-vs-sgd/config.toml` is called `adam-vs-sgd`, `mine.toml` `mine`.
fn short_name(path: &Path) -> String {
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let parent = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let name = if stem == "config" { parent.unwrap_or(stem) } else { stem };
    let safe: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(64).collect();
    if safe.is_empty() { "experiment".to_owned() } else { safe }
}

fn parse_seeds(text: &str) -> Result<Vec<u64>, Exit> {
    let fail = |what: String| Exit::usage(format!("--seeds {text}: {what}"));
    let number = |text: &str| {
        let form = "seeds are a range such as 0..8 or a list such as 0,3,5";
        integer(text.trim(), 0, MAX_SEED).map_err(|what| fail(format!("{what}; {form}")))
    };
    if text.contains("..") && text.contains(',') {
        return Err(fail("found a range in a list, expected a range such as 0..8 or a list such as 0,3,5".to_owned()));
    }
    let Some((low, high)) = text.split_once("..") else {
        if text.trim().is_empty() {
            return Err(fail("found no seed, expected a range such as 0..8 or a list such as 0,3,5".to_owned()));
        }
        return text.split(',').map(number).collect();
    };
    for (end, name) in [(low, "LOW"), (high, "HIGH")] {
        if end.trim().is_empty() {
            return Err(fail(format!("found no {name}, expected LOW..HIGH, for example 0..8 (8 excluded)")));
        }
    }
    let (low, high) = (number(low)?, number(high)?);
    if low >= high {
        let turned = low > high && low - high <= MAX_SEEDS as u64;
        let example = if turned { format!("{high}..{low}") } else { "0..8".to_owned() };
        let what = "the range holds no seed, expected LOW..HIGH with LOW below HIGH";
        return Err(fail(format!("{what}, for example {example}")));
    }
    if high - low > MAX_SEEDS as u64 {
        return Err(fail(format!("found {}, expected at most {MAX_SEEDS}", count(high - low, "seed"))));
    }
    Ok((low..high).collect())
}
