//! A plan: the runs of one or more experiments as JSON Lines, one complete run per line.
//!
//! A plan is made once, and read by any number of workers. It decides no number: each line holds the identity of its run,
//! and a worker whose build or corpus makes another one refuses it.

use crate::corpora::Corpora;
use crate::create::recorded;
use crate::error::RunsError;
use crate::identity::identity;
use crate::plan::{Job, jobs};
use basislab_config::{Experiment, Library, Loaded, RunName, load};
use basislab_tables::Identity;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedRun {
    /// The experiment's name.
    pub experiment: String,
    /// The experiment's directory.
    pub dir: PathBuf,
    /// The arm.
    pub arm: RunName,
    /// The seed.
    pub seed: u64,
    /// 1, or 2 where it needs runs of stage 1: those of the grid that values of the arm are chosen from.
    pub stage: u8,
    /// The backend.
    pub backend: String,
    /// The only class of CPU that may train it, if any will not do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_cpu: Option<String>,
    /// Whether it is part of a smoke test.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub smoke: bool,
    /// What decides its numbers; `None` before the values of its arm are chosen.
    pub identity: Option<Identity>,
    /// The complete configuration of the run, but for the seed. In stage 2 it is that from before the choice.
    pub config: Value,
    /// The experiment's whole configuration, in the first line of each experiment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment_toml: Option<String>,
}

/// A plan as it was read.
#[derive(Debug)]
pub struct PlanFile {
    /// Its experiments, in the order of their first lines.
    pub experiments: Vec<PlannedExperiment>,
    /// Its lines.
    pub lines: Vec<PlanLine>,
}

/// An experiment of a plan.
#[derive(Debug)]
pub struct PlannedExperiment {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub dir: PathBuf,
    /// Its configuration.
    pub loaded: Loaded,
    /// The backend of its runs.
    pub backend: String,
    /// The only class of CPU that may train its runs.
    pub require_cpu: Option<String>,
    /// Whether it is a smoke test.
    pub smoke: bool,
}

/// A run of a plan.
#[derive(Debug)]
pub struct PlanLine {
    /// The place of its experiment.
    pub experiment: usize,
    /// The place of its arm in the experiment.
    pub arm: usize,
    /// The seed.
    pub seed: u64,
    /// See [`PlannedRun::stage`].
    pub stage: u8,
    /// See [`PlannedRun::identity`].
    pub identity: Option<Identity>,
}

/// What all lines of an experiment share.
#[derive(Debug, Clone, Copy)]
pub struct PlanFor<'a> {
    /// The experiment's name.
    pub name: &'a str,
    /// The experiment's directory.
    pub dir: &'a Path,
    /// The backend.
    pub backend: &'a str,
    /// The only class of CPU that may train the runs.
    pub require_cpu: Option<&'a str>,
    /// Whether it is a smoke test.
    pub smoke: bool,
}

/// The lines of an experiment: those of stage 1, then those of stage 2, each as [`jobs`] orders them.
///
/// # Errors
/// A configuration that cannot be loaded again.
pub fn planned_runs(
    of: PlanFor<'_>,
    experiment: &Experiment,
    corpora: &Corpora,
    library: Library<'_>,
) -> Result<Vec<PlannedRun>, RunsError> {
    let toml = recorded(experiment);
    // As a worker reads it, with the same paths of texts.
    let again = load(&toml, &of.dir.display().to_string(), &[], library)?.experiment;
    let configs: BTreeMap<&RunName, (Value, String)> =
        again.arms.iter().map(|arm| (&arm.name, (config(&arm.run), arm.run.hash()))).collect();
    let chosen = chosen_arms(&again);
    let line = |job: &Job<'_>| {
        let (config, hash) = &configs[&job.arm.name];
        let own = experiment.arm(&job.arm.name).map_or(&job.arm.run, |arm| &arm.run);
        let stage = stage(&chosen, &job.arm.name);
        let identity = Identity { run: hash.clone(), ..identity(own, job.seed, corpora.of(own).sha256(), of.backend) };
        PlannedRun {
            experiment: of.name.to_owned(),
            dir: of.dir.to_owned(),
            arm: job.arm.name.clone(),
            seed: job.seed,
            stage,
            backend: of.backend.to_owned(),
            require_cpu: of.require_cpu.map(str::to_owned),
            smoke: of.smoke,
            identity: (stage == 1).then_some(identity),
            config: config.clone(),
            experiment_toml: None,
        }
    };
    let mut lines: Vec<PlannedRun> = jobs(&again).iter().map(line).collect();
    lines.sort_by_key(|line| line.stage);
    if let Some(first) = lines.first_mut() {
        first.experiment_toml = Some(toml);
    }
    Ok(lines)
}

/// Longer lines are in no plan.
const LONGEST_LINE: u64 = 1 << 26;

impl PlanFile {
    /// Reads a plan and checks every line against the configuration of its experiment.
    ///
    /// # Errors
    /// The first line that is wrong, and what was expected there.
    pub fn read(path: &Path, library: Library<'_>) -> Result<Self, RunsError> {
        let unreadable = |error| RunsError::data(format!("{}: cannot read: {error}; expected a plan", path.display()));
        let mut source = BufReader::new(File::open(path).map_err(unreadable)?);
        let mut reading = Reading { path, library, experiments: Vec::new(), lines: Vec::new(), seen: BTreeMap::new() };
        let mut text = String::new();
        for number in 1.. {
            text.clear();
            if (&mut source).take(LONGEST_LINE).read_line(&mut text).map_err(unreadable)? == 0 {
                break;
            }
            if !text.trim().is_empty() {
                reading.line(number, &text)?;
            }
        }
        let Reading { experiments, lines, .. } = reading;
        if lines.is_empty() {
            let what = "found no runs, expected lines that `basislab plan` printed";
            return Err(RunsError::data(format!("{}: {what}", path.display())));
        }
        Ok(Self { experiments: experiments.into_iter().map(|known| known.planned).collect(), lines })
    }

    /// The job of a line, with the arm as it is in `experiment`.
    ///
    /// # Panics
    /// If `experiment` has not the arms of the line's.
    pub fn job<'a>(line: &PlanLine, experiment: &'a Experiment) -> Job<'a> {
        Job { arm: &experiment.arms[line.arm], seed: line.seed }
    }
}

/// A plan while it is read.
struct Reading<'a> {
    path: &'a Path,
    library: Library<'a>,
    experiments: Vec<Known>,
    lines: Vec<PlanLine>,
    /// The line of each run, by experiment, arm and seed.
    seen: BTreeMap<(usize, usize, u64), usize>,
}

/// An experiment, and what is computed of it once.
struct Known {
    planned: PlannedExperiment,
    toml: String,
    /// Of each arm: its place, the configuration as it is written in a line, its hash.
    arms: BTreeMap<RunName, (usize, Value, String)>,
    chosen: BTreeSet<RunName>,
}

impl Reading<'_> {
    fn line(&mut self, number: usize, text: &str) -> Result<(), RunsError> {
        let (path, next) = (self.path.display(), "make the plan again with `basislab plan`");
        let fail = |what: String| Err(RunsError::data(format!("{path}:{number}: {what}")));
        let mut run: PlannedRun = match serde_json::from_str(text) {
            Ok(run) => run,
            Err(error) if error.is_eof() => {
                return fail(format!("found a line that ends too early ({error}), expected a run; {next}"));
            }
            Err(error) => return fail(format!("found no run ({error}), expected a line of `basislab plan`; {next}")),
        };
        let toml = run.experiment_toml.take();
        let known = self.experiments.iter().position(|known| known.planned.dir == run.dir);
        let at = match (known, toml) {
            (Some(at), Some(toml)) if self.experiments[at].toml != toml => {
                let dir = run.dir.display();
                return fail(format!(
                    "found another configuration of {dir} than before, expected one for each directory"
                ));
            }
            (Some(at), _) => at,
            (None, Some(toml)) => self.experiment(number, &run, toml)?,
            (None, None) => {
                let dir = run.dir.display();
                let what = "expected experiment_toml in the first line of each directory";
                return fail(format!("found a run of {dir} without configuration, {what}; keep that line"));
            }
        };
        let Known { planned, arms, chosen, .. } = &self.experiments[at];
        let shared = [
            ("experiment", planned.name == run.experiment),
            ("backend", planned.backend == run.backend),
            ("require_cpu", planned.require_cpu == run.require_cpu),
            ("smoke", planned.smoke == run.smoke),
        ];
        if let Some((key, _)) = shared.iter().find(|(_, same)| !same) {
            return fail(format!("found another {key} than in the first line of its experiment, expected the same"));
        }
        let Some((arm, config, hash)) = arms.get(&run.arm) else {
            return fail(format!("found arm {}, expected one of its experiment's; {next}", run.arm));
        };
        if !planned.loaded.experiment.arms[*arm].seeds.contains(&run.seed) {
            return fail(format!("found seed {}, expected one of arm {}; {next}", run.seed, run.arm));
        }
        if run.stage != stage(chosen, &run.arm) || (run.stage == 1) != run.identity.is_some() {
            return fail(format!("found stage {} and an identity that do not fit arm {}; {next}", run.stage, run.arm));
        }
        if *config != run.config || run.identity.as_ref().is_some_and(|known| known.run != *hash) {
            let what = "expected that of its experiment's configuration";
            return fail(format!("found another config of arm {} or its hash, {what}; {next}", run.arm));
        }
        if let Some(before) = self.seen.insert((at, *arm, run.seed), number) {
            return fail(format!("found the run of line {before} again, expected each run once"));
        }
        self.lines.push(PlanLine {
            experiment: at,
            arm: *arm,
            seed: run.seed,
            stage: run.stage,
            identity: run.identity,
        });
        Ok(())
    }

    /// Adds the experiment that begins in this line.
    fn experiment(&mut self, number: usize, run: &PlannedRun, toml: String) -> Result<usize, RunsError> {
        let file = format!("{}:{number}: experiment_toml", self.path.display());
        let loaded = load(&toml, &file, &[], self.library)?;
        let of_arm = |(place, arm): (usize, &basislab_config::Arm)| {
            // Numbers as they are read from a line.
            let config = serde_json::from_str(&config(&arm.run).to_string()).expect("JSON of ours");
            (arm.name.clone(), (place, config, arm.run.hash()))
        };
        let arms = loaded.experiment.arms.iter().enumerate().map(of_arm).collect();
        let chosen = chosen_arms(&loaded.experiment);
        let planned = PlannedExperiment {
            name: run.experiment.clone(),
            dir: run.dir.clone(),
            loaded,
            backend: run.backend.clone(),
            require_cpu: run.require_cpu.clone(),
            smoke: run.smoke,
        };
        self.experiments.push(Known { planned, toml, arms, chosen });
        Ok(self.experiments.len() - 1)
    }
}

fn config(run: &basislab_config::RunSpec) -> Value {
    serde_json::to_value(run).expect("strings, numbers, lists and tables")
}

/// The arms whose values are chosen from a grid.
fn chosen_arms(experiment: &Experiment) -> BTreeSet<RunName> {
    experiment.choices().map(|(sweep, _)| sweep.arm.clone()).collect()
}

fn stage(chosen: &BTreeSet<RunName>, arm: &RunName) -> u8 {
    if chosen.contains(arm) { 2 } else { 1 }
}
