//! Directories of very many finished runs, as `basislab run` leaves them, without training more than one run of each rule.

use super::{library, loaded};
use crate::cli::{basislab, stderr};
use basislab_config::{Arm, Experiment};
use basislab_runs::{Corpora, create_or_extend};
use basislab_store::{Extent, FileError};
use basislab_tables::{RUN_TABLES, RunEnd, RunRecord, part_dir};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Which arms and seeds the runs are of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Four arms.
    ManySeeds,
    /// Eight seeds of the points of two grids, one of which is chosen from.
    ManyArms,
}

impl Shape {
    /// The experiment with so many runs.
    pub(crate) fn experiment(self, runs: usize) -> Experiment {
        let base = include_str!("many_runs.toml");
        let list = |seeds: std::ops::Range<usize>| format!("{:?}", seeds.collect::<Vec<_>>());
        let (seeds, rest) = match self {
            Self::ManySeeds => (list(0..runs / 4), FOUR_ARMS.to_owned()),
            Self::ManyArms => {
                // Two arms, 32 points to choose from, and two learning rates of as many values of another key as it takes.
                let values = (runs / 8 - 34) / 2;
                let point = |rate: &str, at: usize| format!("\"adam-beta_2-{:?}-lr-{rate}\"", beta(at));
                let arms: Vec<String> = (0..values).map(|at| point("0.002", at)).collect();
                let rates: Vec<f64> = (1..33).map(|at| f64::from(at) / 64.0).collect();
                let betas: Vec<f64> = (0..values).map(beta).collect();
                let on = list(8..16);
                let (few, all) = (arms[..3].join(", "), arms.join(", "));
                let grids = format!(
                    "[[grid]]\narms = [\"adam\"]\n\"optimizer.lr\" = [2e-3, 4e-3]\n\"optimizer.beta_2\" = {betas:?}\n\n\
                     [[grid]]\narms = [\"sgd\"]\n\"optimizer.lr\" = {rates:?}\nchoose = {{ by = \"loss\", on_seeds = {on} }}\n"
                );
                (list(0..8), grids + &OVER_ARMS.replace("FEW", &few).replace("ALL", &all))
            }
        };
        let text = format!("{}\n{rest}", base.replace("seeds = [0]", &format!("seeds = {seeds}")));
        loaded(&text, "many.toml", &[]).unwrap().experiment
    }
}

fn beta(at: usize) -> f64 {
    1.0 - 1.0 / (at as f64 + 2.0)
}

const FOUR_ARMS: &str = r#"
[[arm]]
name = "adam-rotated"
basis = { kind = "rotated-optimizer", rotation = { kind = "haar", seed = 7 }, sharing = "shared", axes = "residual" }

[[arm]]
name = "adam-identity"
basis = { kind = "rotated-optimizer", rotation = { kind = "identity" }, sharing = "shared", axes = "residual" }

[[claim]]
name = "in-its-own-basis"
text = "Rotated Adam's outliers are in its own basis"
cell = { basis = "optimizer" }
test = { kind = "differs-from-null", arm = "adam-rotated" }
primary = false

[[claim]]
name = "same-bits"
text = "Adam through the identity is Adam"
test = { kind = "bit-equal", arm = "adam-identity", other = "adam" }
primary = false

[[claim]]
name = "rises"
text = "Outliers rise in this order"
test = { kind = "ordered", arms = ["sgd", "adam-rotated", "adam"] }
primary = true

[[claim]]
name = "with-loss"
text = "Outliers go with loss"
test = { kind = "correlates", arms = ["sgd", "adam-rotated", "adam", "adam-identity"], with = { metric = "loss" } }
primary = false
"#;

const OVER_ARMS: &str = r#"
[[claim]]
name = "rises"
text = "Outliers rise in this order"
test = { kind = "ordered", arms = [FEW] }
primary = true

[[claim]]
name = "with-loss"
text = "Outliers go with loss"
test = { kind = "correlates", arms = [ALL], with = { metric = "loss" } }
primary = false
"#;

/// Writes a directory of that many runs, all finished and none reported on.
pub(crate) fn write(dir: &Path, shape: Shape, runs: usize) {
    let experiment = shape.experiment(runs);
    let templates = templates(&experiment);
    let corpora = Corpora::open(&experiment).unwrap();
    let mut manifest: Value = serde_json::from_slice(&templates[0].files["manifest.json"]).unwrap();
    let own = manifest.as_object_mut().unwrap();
    own.retain(|key, _| !["format", "backend", "numerics", "arms"].contains(&key.as_str()));
    fs::create_dir_all(dir).unwrap();
    create_or_extend(dir, &experiment, &corpora, "flex", library(), Some(manifest)).unwrap();
    let registered: Vec<String> = experiment.claims.iter().map(|claim| experiment.rule_hash(claim)).collect();
    for (place, arm) in experiment.arms.iter().enumerate() {
        // The arm itself, or the one that a grid made it of.
        let template = templates.iter().filter(|one| arm.name.starts_with(one.arm.as_str()));
        let template = template.max_by_key(|one| one.arm.len()).unwrap();
        let (hash, mut seeds) = (arm.run.hash(), arm.seeds.clone());
        seeds.sort_unstable();
        for &seed in &arm.seeds {
            let mut record: RunRecord = serde_json::from_slice(&template.files["run.json"]).unwrap();
            record.identity.run.clone_from(&hash);
            record.identity.seed = seed;
            record.seeds.clone_from(&seeds);
            record.registered.clone_from(&registered);
            write_run(dir, arm, place, &record, template).unwrap();
        }
    }
}

/// The files of a run that was trained, and its manifest.
struct Template {
    arm: String,
    files: BTreeMap<String, Vec<u8>>,
}

/// One trained run of each arm that no grid made.
fn templates(experiment: &Experiment) -> Vec<Template> {
    let dir = tempfile::TempDir::new().unwrap();
    let is_made =
        |arm: &Arm| experiment.sweeps.iter().flat_map(|sweep| &sweep.points).any(|point| point.arm == arm.name);
    let mut few = experiment.clone();
    few.arms.retain(|arm| !is_made(arm));
    few.arms.iter_mut().for_each(|arm| arm.seeds = vec![0]);
    (few.seeds, few.claims, few.sweeps) = (vec![0], Vec::new(), Vec::new());
    fs::write(dir.path().join("few.toml"), few.to_toml()).unwrap();
    let output = basislab(dir.path(), &["run", "few.toml", "--quiet", "--backend", "flex", "--out", "few"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let out = dir.path().join("few");
    let template = |arm: &Arm| {
        let part = part_dir(&out, &arm.name, 0);
        let names = RUN_TABLES.map(|table| table.file).into_iter().chain(["timing.csv", "done.json", "run.json"]);
        let files = names.map(|name| (name, part.join(name))).chain([("manifest.json", out.join("manifest.json"))]);
        let files = files.map(|(name, path)| (name.to_owned(), fs::read(path).unwrap())).collect();
        Template { arm: arm.name.to_string(), files }
    };
    few.arms.iter().map(template).collect()
}

fn write_run(dir: &Path, arm: &Arm, place: usize, record: &RunRecord, template: &Template) -> Result<(), FileError> {
    let seed = record.identity.seed;
    let part = part_dir(dir, &arm.name, seed);
    fs::create_dir_all(&part).unwrap();
    // The identity arm has the bits of Adam, which comes first.
    let own = if template.arm == "adam-identity" { 1 } else { place as u64 + 1 };
    let mut tables = BTreeMap::new();
    for table in RUN_TABLES.iter().map(|table| table.file).chain(["timing.csv"]) {
        let text = std::str::from_utf8(&template.files[table]).unwrap();
        let bytes = copied(table, text, arm, seed, own);
        if table != "timing.csv" {
            tables.insert(table.to_owned(), Extent::of(bytes.as_bytes()));
        }
        fs::write(part.join(table), bytes).unwrap();
    }
    let end: RunEnd = serde_json::from_slice(&template.files["done.json"]).unwrap();
    // As the program writes them, which waits for the disk.
    fs::write(part.join("run.json"), format!("{}\n", serde_json::to_string_pretty(record).unwrap())).unwrap();
    fs::write(part.join("done.json"), format!("{}\n", serde_json::to_string(&RunEnd { tables, ..end }).unwrap()))
        .unwrap();
    Ok(())
}

/// A table of another run: with its arm and seed, other numbers after the first update, and of `residual.csv` and
/// `dimensions.csv` only what a report reads.
fn copied(table: &str, text: &str, arm: &Arm, seed: u64, own: u64) -> String {
    let (name, seed_text) = (arm.name.as_str(), seed.to_string());
    let mut lines = text.lines();
    let mut copy = format!("{}\n", lines.next().unwrap());
    for line in lines {
        let mut cells: Vec<&str> = line.split(',').collect();
        let (step, is_last) = (cells[2], cells[2] == "4");
        let is_end = is_last && ["blocks.0.resid_post", "blocks.*.resid_post"].contains(&cells[3]);
        let is_read = match table {
            "residual.csv" => {
                cells[5] == "rest"
                    && (is_end || cells[8] == "token_kurtosis" || (step == "0" && cells[7] == "standard"))
            }
            "dimensions.csv" => is_end,
            _ => true,
        };
        if !is_read {
            continue;
        }
        let numbers = match table {
            "steps.csv" => 5..7,
            "evals.csv" => 4..6,
            "residual.csv" => 9..10,
            "dimensions.csv" => 7..8,
            _ => 2..2,
        };
        // Arms start alike.
        let of_arm = if step == "0" { 0 } else { own };
        let what = cells[2..numbers.start].iter().flat_map(|cell| cell.bytes()).map(u64::from);
        let key: Vec<u64> = [of_arm, seed].into_iter().chain(what).collect();
        let other = |text: &str| match text.parse::<f64>() {
            Ok(value) => (value * (1.0 + 0.2 * noise(&key))).to_string(),
            Err(_) => text.to_owned(),
        };
        let changed: Vec<String> = cells[numbers.clone()].iter().map(|text| other(text)).collect();
        numbers.zip(&changed).for_each(|(at, text)| cells[at] = text);
        (cells[0], cells[1]) = (name, &seed_text);
        copy += &cells.join(",");
        copy.push('\n');
    }
    copy
}

/// Between -0.5 and 0.5, fixed by its key (SplitMix64).
fn noise(key: &[u64]) -> f64 {
    let mix = |state: u64, part: &u64| {
        let z = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (key.iter().fold(0, mix) >> 11) as f64 / (1u64 << 53) as f64 - 0.5
}
