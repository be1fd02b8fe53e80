//! Several experiment directories side by side: what was configured, measured and decided in each.

mod display;

use crate::answer::{Scale, verdict_lines};
use crate::figures::{Beside, compared_figures, write_figures};
use crate::index::{RunState, Runs, Values};
use crate::needed::read_needed;
use crate::page::{Plain, Provenance};
use crate::recorded::Recorded;
use crate::records::Records;
use crate::report::{Derived, check_seal};
use basislab_config::{Arm, Claim, Experiment, LOSS, Site};
use basislab_stats::{Verdict, t_interval};
use basislab_store::{FileError, write_if_changed};
use basislab_tables::{SummaryRow, TableError, Tables};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Several directories side by side, for the terminal ([`std::fmt::Display`]) and as JSON ([`Serialize`]). Every list over
/// directories is in their order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// What the directories are called: their names, or their paths where two have the same name.
    pub directories: Vec<String>,
    /// The keys of the configurations that are not the same in all directories.
    pub differences: Vec<Difference>,
    /// One for each arm of any directory.
    pub arms: Vec<ArmComparison>,
    /// One for each claim of any directory.
    pub verdicts: Vec<VerdictComparison>,
}

/// A key whose value is not the same in all directories.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The dotted key. For arms that not all directories have, `arm`; for such a claim `claim.NAME`.
    pub key: String,
    /// The arms in which it differs like this; none for a key that is of no arm.
    pub arms: Vec<String>,
    /// Whether these are all arms that the directories have in common.
    pub every_arm: bool,
    /// The value in each directory, as TOML; `None` where the directory has no such key.
    pub values: Vec<Option<String>>,
}

/// One arm in each directory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmComparison {
    /// The arm.
    pub arm: String,
    /// Its numbers in each directory; `None` where the directory has no such arm.
    pub numbers: Vec<Option<ArmNumbers>>,
}

/// One arm of one directory at its last step. Numbers are over complete runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmNumbers {
    /// Complete runs that have a value of the metric.
    pub n_seeds: usize,
    /// Runs the configuration asks for.
    pub seeds_planned: usize,
    /// The verdict's metric.
    pub metric: String,
    /// Where it is read.
    pub site: Site,
    /// Mean of the metric over seeds.
    pub mean: Option<f64>,
    /// Standard deviation over seeds, `n - 1` in the denominator.
    pub sd: Option<f64>,
    /// The same activations in random bases: mean over seeds of the mean over bases.
    pub null_mean: Option<f64>,
    /// Mean held-out cross-entropy over seeds, nats per token.
    pub loss: Option<f64>,
    /// `mean` over that of the first directory. Empty in the first directory, where either is missing or not above 0, and
    /// where the two are not the same metric of the same tokens in the same basis.
    pub ratio: Option<f64>,
    /// Whether the arm has the same planned seeds as in the first directory; empty in the first directory and where that has
    /// no such arm.
    pub same_seeds: Option<bool>,
    /// The comparison with the first directory seed by seed, where `same_seeds` and `ratio` allow it.
    pub paired: Option<Paired>,
}

/// The log ratio of an arm's metric to that of the first directory, paired by seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Paired {
    /// Seeds that are complete in both directories and have a log ratio.
    pub n_seeds: usize,
    /// Mean over these seeds of `ln(metric / metric of the first directory)`.
    pub mean_log_ratio: f64,
    /// Lower end of its 95 % t interval; empty for one seed.
    pub low: Option<f64>,
    /// Upper end of its 95 % t interval; empty for one seed.
    pub high: Option<f64>,
}

/// One claim in each directory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerdictComparison {
    /// The claim's name.
    pub claim: String,
    /// Its verdict in each directory; `None` where the directory has no such claim.
    pub verdicts: Vec<Option<VerdictNumbers>>,
    /// Whether two directories that have the claim decided it otherwise.
    pub differs: bool,
    /// Whether two directories that have the claim decide it by another rule: another test, cell or number of `[verdict]`, or
    /// for a primary claim another family.
    pub rule_differs: bool,
}

/// One claim of one directory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerdictNumbers {
    /// What was decided.
    pub verdict: Verdict,
    /// What the estimate is.
    pub scale: Scale,
    /// Ratio or difference; empty for bits.
    pub estimate: Option<f64>,
    /// Lower end of the interval that the rule names.
    pub low: Option<f64>,
    /// Upper end of the interval that the rule names.
    pub high: Option<f64>,
    /// SHA-256 of what decides the claim.
    pub rule_hash: String,
}

/// What [`Comparison::write`] calls the comparison as JSON.
const COMPARISON: &str = "comparison.json";

/// The key of a difference in which arms there are.
const ARM: &str = "arm";

/// Compares directories with the first of them. Each is read with its own configuration, and with the values that its arms
/// took over from grids. Recorded summaries and verdicts are used where they exist. Writes nothing.
///
/// # Errors
/// The table that is wrong, or the sealed file that was changed.
pub fn compare(dirs: &[(&Path, Experiment)]) -> Result<Comparison, TableError> {
    let all: Vec<Directory> =
        dirs.iter().map(|(dir, experiment)| Directory::read(dir, experiment)).collect::<Result<_, _>>()?;
    Ok(Comparison {
        directories: names(dirs),
        differences: differences(&all),
        arms: in_order(&all, |one| one.derived.experiment.arms.iter().map(|arm| arm.name.to_string()).collect())
            .into_iter()
            .map(|arm| compare_arm(&all, arm))
            .collect(),
        verdicts: in_order(&all, |one| {
            one.derived.verdicts.iter().map(|decision| decision.row.claim.to_string()).collect()
        })
        .into_iter()
        .map(|claim| compare_verdict(&all, claim))
        .collect(),
    })
}

/// One directory with what follows from its tables.
struct Directory {
    tables: Tables,
    derived: Derived,
}

impl Directory {
    fn read(dir: &Path, experiment: &Experiment) -> Result<Self, TableError> {
        check_seal(dir, experiment)?;
        let (records, (tables, standing_out)) = (Records::read(dir, experiment), read_needed(dir, experiment)?);
        let derived = Recorded::read(dir, experiment, &records, (&tables, &standing_out), None)?.derived;
        Ok(Self { tables, derived })
    }

    fn arm(&self, name: &str) -> Option<&Arm> {
        self.derived.experiment.arm(name)
    }

    /// The verdict's metric of an arm at its last step, by seed.
    fn by_seed(&self, arm: &Arm) -> BTreeMap<u64, f64> {
        let (experiment, cell) = (&self.derived.experiment, self.derived.experiment.verdict.cell());
        let values = Values::of_cell(experiment, &self.tables, &cell);
        let seeds = Runs::of(experiment, &self.tables).seeds_in(arm, RunState::Complete);
        let value = |seed: u64| Some((seed, values.value(&arm.name, seed, arm.run.train.steps, cell.basis)?));
        seeds.into_iter().filter_map(value).collect()
    }

    fn numbers(&self, arm: &Arm) -> ArmNumbers {
        let cell = self.derived.experiment.verdict.cell();
        let rows = || self.derived.summary.iter().filter(|row| row.arm == arm.name);
        let of_cell = |row: &&SummaryRow| row.metric == cell.metric && row.basis == Some(cell.basis);
        let row = rows().find(of_cell);
        ArmNumbers {
            n_seeds: row.map_or(0, |row| row.n_seeds),
            seeds_planned: arm.seeds.len(),
            site: self.derived.experiment.site(&cell, arm),
            mean: row.and_then(|row| row.mean),
            sd: row.and_then(|row| row.sd),
            null_mean: row.and_then(|row| row.null_mean),
            loss: rows().find(|row| row.metric == LOSS).and_then(|row| row.mean),
            metric: cell.metric,
            ratio: None,
            same_seeds: None,
            paired: None,
        }
    }
}

/// The names of the directories, or their paths where two have the same name.
fn names(dirs: &[(&Path, Experiment)]) -> Vec<String> {
    let name =
        |dir: &Path| dir.file_name().map_or_else(|| dir.display().to_string(), |name| name.to_string_lossy().into());
    let names: Vec<String> = dirs.iter().map(|(dir, _)| name(dir)).collect();
    let distinct: BTreeSet<&String> = names.iter().collect();
    if distinct.len() == names.len() { names } else { dirs.iter().map(|(dir, _)| dir.display().to_string()).collect() }
}

/// Everything that is in any directory, once each: in the order of the first directory, then what only the next has.
fn in_order(all: &[Directory], of: impl Fn(&Directory) -> Vec<String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for name in all.iter().flat_map(of) {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

fn differences(all: &[Directory]) -> Vec<Difference> {
    let experiments: Vec<&Experiment> = all.iter().map(|one| &one.derived.experiment).collect();
    let settings: Vec<_> = experiments.iter().map(|experiment| experiment.settings()).collect();
    let mut found: Vec<Difference> = differing(&settings)
        .into_iter()
        .map(|(key, values)| Difference { key, arms: Vec::new(), every_arm: false, values })
        .collect();
    for claim in in_order(all, |one| one.derived.experiment.claims.iter().map(|claim| claim.name.to_string()).collect())
    {
        let of = |experiment: &&Experiment| {
            experiment.claims.iter().find(|one| one.name == claim.as_str()).map(Claim::settings)
        };
        let settings: Vec<Option<BTreeMap<String, String>>> = experiments.iter().map(of).collect();
        let told = match settings.iter().cloned().collect::<Option<Vec<_>>>() {
            Some(everywhere) => differing(&everywhere),
            None => {
                vec![(String::new(), settings.iter().map(|one| one.as_ref().map(|_| "present".to_owned())).collect())]
            }
        };
        found.extend(told.into_iter().map(|(key, values)| {
            let key = format!("claim.{claim}.{key}").trim_end_matches('.').to_owned();
            Difference { key, arms: Vec::new(), every_arm: false, values }
        }));
    }
    let (mut common, mut absent, mut of_arms) = (0, Vec::new(), Vec::new());
    for arm in in_order(all, |one| one.derived.experiment.arms.iter().map(|arm| arm.name.to_string()).collect()) {
        let arms: Vec<Option<&Arm>> = experiments.iter().map(|experiment| experiment.arm(&arm)).collect();
        let Some(everywhere) = arms.iter().copied().collect::<Option<Vec<&Arm>>>() else {
            let values = arms.iter().map(|arm| arm.map(|_| "present".to_owned())).collect();
            absent.push((arm, values));
            continue;
        };
        common += 1;
        let settings = everywhere.iter().zip(&experiments).map(|(arm, experiment)| arm_settings(experiment, arm));
        let settings: Vec<BTreeMap<String, String>> = settings.collect();
        of_arms.extend(differing(&settings).into_iter().map(|(key, values)| (arm.clone(), key, values)));
    }
    // Arms that differ alike are told together.
    let mut grouped: Vec<Difference> = Vec::new();
    for (arm, key, values) in of_arms {
        match grouped.iter_mut().find(|known| known.key == key && known.values == values) {
            Some(known) => known.arms.push(arm),
            None => grouped.push(Difference { key, arms: vec![arm], every_arm: false, values }),
        }
    }
    grouped.iter_mut().for_each(|one| one.every_arm = one.arms.len() == common);
    grouped.sort_by(|a, b| a.key.cmp(&b.key));
    for (arm, values) in absent {
        match found.iter_mut().find(|known| known.key == ARM && known.values == values) {
            Some(known) => known.arms.push(arm),
            None => found.push(Difference { key: ARM.to_owned(), arms: vec![arm], every_arm: false, values }),
        }
    }
    found.extend(grouped);
    found
}

/// The keys of the arm's run, and its seeds where they are not the experiment's.
fn arm_settings(experiment: &Experiment, arm: &Arm) -> BTreeMap<String, String> {
    let mut settings = arm.run.settings();
    if arm.seeds != experiment.seeds {
        settings.insert("seeds".to_owned(), format!("{:?}", arm.seeds));
    }
    settings
}

/// The keys whose values are not the same everywhere, with each value.
fn differing(settings: &[BTreeMap<String, String>]) -> Vec<(String, Vec<Option<String>>)> {
    let keys: BTreeSet<&String> = settings.iter().flat_map(BTreeMap::keys).collect();
    let values = |key: &String| settings.iter().map(|one| one.get(key).cloned()).collect::<Vec<_>>();
    let all = keys.into_iter().map(|key| (key.clone(), values(key)));
    all.filter(|(_, values)| values.iter().any(|value| *value != values[0])).collect()
}

fn compare_arm(all: &[Directory], name: String) -> ArmComparison {
    let mut numbers: Vec<Option<ArmNumbers>> =
        all.iter().map(|one| one.arm(&name).map(|arm| one.numbers(arm))).collect();
    if let Some((first, reference)) = all.first().and_then(|first| Some((first, first.arm(&name)?))) {
        let base = numbers[0].as_ref().and_then(|numbers| numbers.mean);
        let of_first = first.by_seed(reference);
        let quantity = |one: &Directory| {
            let cell = one.derived.experiment.verdict.cell();
            (cell.metric, cell.tokens, cell.basis)
        };
        for (one, numbers) in all.iter().zip(&mut numbers).skip(1) {
            let (Some(arm), Some(numbers)) = (one.arm(&name), numbers) else { continue };
            let same = as_set(&arm.seeds) == as_set(&reference.seeds);
            numbers.same_seeds = Some(same);
            if quantity(one) != quantity(first) {
                continue;
            }
            numbers.ratio = ratio(numbers.mean, base);
            if same {
                numbers.paired = paired(&of_first, &one.by_seed(arm));
            }
        }
    }
    ArmComparison { arm: name, numbers }
}

fn as_set(seeds: &[u64]) -> BTreeSet<u64> {
    seeds.iter().copied().collect()
}

/// The ratio of two numbers above 0.
fn ratio(value: Option<f64>, base: Option<f64>) -> Option<f64> {
    let (value, base) = (value?, base?);
    (value > 0.0 && base > 0.0).then(|| value / base)
}

fn paired(of_first: &BTreeMap<u64, f64>, here: &BTreeMap<u64, f64>) -> Option<Paired> {
    let log_ratio = |(seed, value): (&u64, &f64)| Some(ratio(Some(*value), of_first.get(seed).copied())?.ln());
    let logs: Vec<f64> = here.iter().filter_map(log_ratio).filter(|log| log.is_finite()).collect();
    let interval = t_interval(&logs, 0.95);
    Some(Paired {
        n_seeds: logs.len(),
        mean_log_ratio: crate::index::mean(&logs)?,
        low: interval.map(|interval| interval.low),
        high: interval.map(|interval| interval.high),
    })
}

fn compare_verdict(all: &[Directory], name: String) -> VerdictComparison {
    let of = |one: &Directory| {
        let experiment = &one.derived.experiment;
        let claim = experiment.claims.iter().find(|claim| claim.name == name.as_str())?;
        let line = verdict_lines(experiment, &one.derived.verdicts).into_iter().find(|line| line.claim == name)?;
        let (verdict, scale) = (line.verdict, line.scale);
        let (estimate, low, high) = (line.estimate, line.low, line.high);
        Some(VerdictNumbers { verdict, scale, estimate, low, high, rule_hash: experiment.rule_hash_by_name(claim) })
    };
    let verdicts: Vec<Option<VerdictNumbers>> = all.iter().map(of).collect();
    let present: Vec<&VerdictNumbers> = verdicts.iter().flatten().collect();
    let differs = present.iter().any(|one| one.verdict != present[0].verdict);
    let rule_differs = present.iter().any(|one| one.rule_hash != present[0].rule_hash);
    VerdictComparison { claim: name, verdicts, differs, rule_differs }
}

impl Comparison {
    /// Writes the page, the figure and `comparison.json`, which is what [`Serialize`] gives, into a directory.
    ///
    /// # Errors
    /// The file that could not be written.
    pub fn write(&self, dir: &Path, beside: Beside, provenance: &Provenance) -> Result<(), TableError> {
        let figures = compared_figures(self);
        write_figures(dir, &figures, beside)?;
        let path = dir.join(COMPARISON);
        let json = serde_json::to_string_pretty(self);
        let json = json.map_err(|error| FileError::new("write", &path, std::io::Error::other(error)))?;
        write_if_changed(&path, format!("{json}\n").as_bytes())?;
        let heading = format!("Comparison of {}", self.directories.join(", "));
        let sections = vec![("Side by side".to_owned(), self.to_string())];
        Plain { heading, sections, figures, tables: Vec::new() }.write(dir, provenance)?;
        Ok(())
    }
}
