//! Finding and loading experiments.

use crate::args::Which;
use crate::exit::Exit;
use crate::resources;
use basislab_config::{Loaded, MAX_SEED, MAX_SEEDS, Override, integer, load, one_of};
use basislab_data::Corpus;
use basislab_stats::{METRICS, Metric, MetricFn};
use basislab_store::{LFS_POINTER, is_lfs_pointer};
use std::path::Path;

/// `(name, text)` of every file in `configs/`.
pub(crate) static BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/experiments.rs"));

const LARGEST_CONFIG: u64 = 1 << 20;

/// An experiment with its short name, used for output directories.
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) loaded: Loaded,
}

/// Loads what the command line names, with its changes.
pub(crate) fn find(which: &Which) -> Result<Named, Exit> {
    changed(which, Vec::new())
}

/// Loads by name with `--set`s only.
pub(crate) fn find_plain(experiment: &str, set: &[String]) -> Result<Named, Exit> {
    changed(&plain(experiment, set), Vec::new())
}

/// Loads by name with `--text FILE`, whatever the file is called, and then `--set`s.
pub(crate) fn find_with_text(experiment: &str, file: &str, set: &[String]) -> Result<Named, Exit> {
    let literal = |path: &str, text: &str| Override::literal(path, text, &format!("--text {file}"));
    changed(&plain(experiment, set), vec![literal("corpus.kind", "text"), literal("corpus.path", file)])
}

fn plain(experiment: &str, set: &[String]) -> Which {
    Which { experiment: experiment.to_owned(), set: set.to_vec(), seeds: None, smoke: false }
}

/// Loads what `which` names, with `overrides` first and then its own changes.
fn changed(which: &Which, mut overrides: Vec<Override>) -> Result<Named, Exit> {
    let (name, file, text) = text(&which.experiment)?;
    for text in &which.set {
        overrides.push(set(text)?);
    }
    let mut seeds =
        which.seeds.as_deref().map(|text| parse_seeds(text).map(|s| (s, format!("--seeds {text}")))).transpose()?;
    if which.smoke {
        let small: [(&str, &str); 8] = [
            ("train.steps", "4"),
            ("train.warmup_steps", "1"),
            ("probe.log_until", "4"),
            ("probe.every", "4"),
            ("probe.loss_sequences", "8"),
            ("probe.residual_sequences", "4"),
            ("probe.random_bases", "8"),
            ("verdict.null_bases", "8"),
        ];
        let smoke =
            |(path, value): (&str, &str)| Override { path: path.into(), value: value.into(), typed: "--smoke".into() };
        overrides.splice(0..0, small.map(smoke));
        if seeds.is_none() {
            let first = load(&text, &file, &overrides)?.experiment.seeds[..1].to_vec();
            seeds = Some((first, "--smoke".to_owned()));
        }
    }
    if let Some((seeds, typed)) = seeds {
        let value = |seeds: &[u64]| format!("{seeds:?}");
        let change = |path: String, seeds: &[u64]| Override { path, value: value(seeds), typed: typed.clone() };
        // An arm with seeds of its own keeps their number.
        let arms = load(&text, &file, &[])?.experiment.arms;
        overrides.push(change("seeds".to_owned(), &seeds));
        for arm in arms {
            if let Some(own) = arm.seeds {
                overrides.push(change(format!("arm.{}.seeds", arm.name), &seeds[..own.len().min(seeds.len())]));
            }
        }
    }
    let loaded = load(&text, &file, &overrides)?;
    check_metric(&loaded)?;
    Ok(Named { name, loaded })
}

/// Opens the corpus of an experiment. What is wrong with a key is said where the key was written.
pub(crate) fn corpus(loaded: &Loaded) -> Result<Corpus, Exit> {
    let experiment = &loaded.experiment;
    resources::check_corpus(&experiment.corpus)?;
    Corpus::open(&experiment.corpus, experiment.model.n_ctx).map_err(|error| {
        let key = loaded.origins.iter().find(|(path, ..)| *path == error.place);
        key.map_or_else(|| Exit::data(&error), |(.., origin)| Exit::data(format!("{origin}: {error}")))
    })
}

/// The config's crate knows no metrics: whether the verdict's exists is checked here.
fn check_metric(loaded: &Loaded) -> Result<(), Exit> {
    let fits = |metric: &&Metric| metric.basis_dependent && matches!(metric.of, MetricFn::Matrix(_));
    let names: Vec<&str> = METRICS.iter().filter(fits).map(|metric| metric.name).collect();
    let name = loaded.experiment.verdict.metric.as_str();
    if names.contains(&name) {
        return Ok(());
    }
    let origin =
        loaded.origins.iter().find(|(path, ..)| path == "verdict.metric").map(|(.., origin)| origin.to_string());
    let origin = origin.unwrap_or_default();
    Err(Exit::usage(format!("{origin}: verdict.metric: found {name:?}, expected {}", one_of(&names, Some(name)))))
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
    let info = std::fs::metadata(path).map_err(|error| Exit::usage(format!("{experiment}: cannot read: {error}")))?;
    if !info.is_file() {
        return Err(Exit::usage(format!("{experiment}: found something that is not a file, expected a TOML file")));
    }
    if info.len() > LARGEST_CONFIG {
        return Err(Exit::usage(format!(
            "{experiment}: found {} bytes, expected a config of at most {LARGEST_CONFIG}",
            info.len()
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

fn set(text: &str) -> Result<Override, Exit> {
    let (path, value) = text.split_once('=').ok_or_else(|| {
        Exit::usage(format!("--set {text}: found no '=', expected KEY=VALUE, for example train.steps=300"))
    })?;
    // In `KEY = VALUE`, as in a file, the spaces belong to the sign; else they belong to the value.
    let value = if path.ends_with(' ') { value.trim() } else { value };
    Ok(Override { path: path.trim().to_owned(), value: value.to_owned(), typed: format!("--set {text}") })
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
        return Err(fail(format!("found {} seeds, expected at most {MAX_SEEDS}", high - low)));
    }
    Ok((low..high).collect())
}
