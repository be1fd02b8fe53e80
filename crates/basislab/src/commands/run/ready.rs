//! The runs of an experiment that can be trained now, and those of them that `--only` selects.

use crate::args::RunArgs;
use crate::exit::Exit;
use basislab_config::{Choose, Experiment, RunName, Sweep};
use basislab_report::{choose, resolve};
use basislab_runs::{Job, finished, jobs};
use basislab_tables::{SelectionRow, Tables, is_published, part_dir, read_optional, read_table};
use std::collections::BTreeSet;
use std::path::Path;

/// What can be trained now.
pub(super) struct Ready {
    /// The experiment, in which arms have taken over the choices that are made.
    pub(super) experiment: Experiment,
    /// Arms that `--only` selects and whose choice is not made yet.
    pub(super) undecided: Vec<String>,
    only: Option<String>,
}

impl Ready {
    /// From the runs that have ended in the directory.
    pub(super) fn of(dir: &Path, experiment: &Experiment, args: &RunArgs) -> Result<Self, Exit> {
        selected(experiment, args.only.as_deref())?;
        let (mut resolved, mut undecided) = (experiment.clone(), Vec::new());
        if experiment.choices().next().is_some() {
            let rows = choices(dir, experiment)?;
            let is_decided = |arm: &str| rows.iter().any(|row| row.arm == arm && row.chosen);
            let is_selected =
                |arm: &str| args.only.as_deref().is_none_or(|only| only_arms(only).iter().any(|one| one == arm));
            let arms = experiment.choices().map(|(sweep, _)| sweep.arm.to_string());
            undecided = arms.filter(|arm| is_selected(arm) && !is_decided(arm)).collect();
            resolved = resolve(experiment, &rows);
        }
        Ok(Self { experiment: resolved, undecided, only: args.only.clone() })
    }

    /// The runs that `--only` selects, of arms whose choice is made.
    pub(super) fn jobs(&self) -> Vec<Job<'_>> {
        let all = selected(&self.experiment, self.only.as_deref()).unwrap_or_default();
        let is_ready = |job: &Job<'_>| !self.undecided.iter().any(|arm| job.arm.name == arm.as_str());
        all.into_iter().filter(is_ready).collect()
    }
}

/// What is chosen from the experiment's grids, by the runs that have ended in the directory.
pub(in crate::commands) fn choices(dir: &Path, experiment: &Experiment) -> Result<Vec<SelectionRow>, Exit> {
    if is_published(dir) {
        return Ok(read_optional(dir)?);
    }
    let mut tables = Tables::default();
    for arm in experiment.arms.iter().filter(|arm| experiment.is_selection_arm(&arm.name)) {
        for &seed in &arm.seeds {
            let job = Job { arm, seed };
            if finished(dir, &job)?.is_some() {
                let part = part_dir(dir, &arm.name, seed);
                tables.steps.extend(read_table(&part)?);
                tables.evals.extend(read_table(&part)?);
            }
        }
    }
    Ok(choose(experiment, &tables))
}

/// The planned runs that `--only` selects; all of them without it. An arm whose values are chosen from a grid needs the
/// runs of the grid's points too.
pub(super) fn selected<'a>(experiment: &'a Experiment, only: Option<&str>) -> Result<Vec<Job<'a>>, Exit> {
    let all = jobs(experiment);
    let Some(only) = only else { return Ok(all) };
    let (arms, seed) = (only_arms(only), only_seed(only)?);
    if let Some(unknown) = arms.iter().find(|arm| experiment.arm(arm).is_none()) {
        let names: Vec<&str> = experiment.arms.iter().map(|arm| arm.name.as_str()).collect();
        let expected = basislab_config::one_of(&names, Some(unknown));
        return Err(Exit::usage(format!("--only {only}: found arm {unknown:?}, expected {expected}")));
    }
    let wanted =
        |job: &Job<'_>| arms.iter().any(|arm| job.arm.name.as_str() == arm) && seed.is_none_or(|seed| job.seed == seed);
    if !all.iter().any(wanted) {
        let of_arms = arms.iter().filter_map(|arm| experiment.arm(arm)).flat_map(|arm| &arm.seeds);
        let seeds: BTreeSet<u64> = of_arms.copied().collect();
        let shown: Vec<String> = seeds.iter().take(MOST_SHOWN).map(u64::to_string).collect();
        let more = if seeds.len() > MOST_SHOWN { ", ..." } else { "" };
        let expected = shown.join(", ") + more;
        return Err(Exit::usage(format!("--only {only}: found a seed without a run, expected one of {expected}")));
    }
    let chooses = |(sweep, _): &(&Sweep, &Choose)| arms.iter().any(|arm| sweep.arm == arm.as_str());
    let points: Vec<&RunName> =
        experiment.choices().filter(chooses).flat_map(|(sweep, _)| &sweep.points).map(|point| &point.arm).collect();
    Ok(all.into_iter().filter(|job| wanted(job) || points.contains(&&job.arm.name)).collect())
}

/// An error names no more seeds than this.
const MOST_SHOWN: usize = 16;

/// The arms in `A,B[/SEED]`.
pub(super) fn only_arms(only: &str) -> Vec<String> {
    let arms = only.split_once('/').map_or(only, |(arms, _)| arms);
    arms.split(',').map(|arm| arm.trim().to_owned()).collect()
}

fn only_seed(only: &str) -> Result<Option<u64>, Exit> {
    let Some((_, seed)) = only.split_once('/') else { return Ok(None) };
    let seed = basislab_config::integer(seed.trim(), 0, basislab_config::MAX_SEED);
    seed.map(Some).map_err(|what| Exit::usage(format!("--only {only}: {what}, expected ARM,ARM or ARM/SEED")))
}
