//! `basislab collect`: the report on the runs of a plan.

use super::CommandResult;
use super::plan::{Decided, STAGES, has_ended, in_root, read};
use super::quantize::of_experiment;
use super::report::{answer_text, answer_value, current, is_unsound};
use crate::args::{CollectArgs, DeviceArgs, FigureArgs};
use crate::backend::Backend;
use crate::directories::is_one;
use crate::exit::{Code, Exit};
use crate::experiments::{self, library};
use crate::terminal::{quoted, say, say_json};
use basislab_config::count;
use basislab_report::{Beside, resolve};
use basislab_runs::{
    Corpora, Job, PlanFile, PlanLine, PlannedExperiment, create_or_extend, create_output_dir, identity, jobs,
    join_runs, lock, open, pending, read_manifest, unfinished_runs,
};
use basislab_tables::{Identity, SelectionRow, is_published, read_optional};
use std::path::PathBuf;

pub(crate) fn collect(args: &CollectArgs) -> CommandResult {
    let plan = read(&args.plan)?;
    let is_there = |root: &PathBuf| plan.experiments.iter().any(|of| is_one(&in_root(&of.dir, Some(root))));
    if let Some(root) = args.from.iter().find(|root| !is_there(root)) {
        let what = "found no directory of an experiment of the plan, expected the --out of a worker or a copy of it";
        return Err(Exit::data(format!("--from {}: {what}", root.display())));
    }
    let mut all = Vec::new();
    for (number, of) in plan.experiments.iter().enumerate() {
        let lines = plan.lines.iter().filter(|line| line.experiment == number).collect();
        let corpora = experiments::corpora(&of.loaded)?;
        let collected = Collected { of, lines, corpora };
        collected.join(&args.from)?;
        all.push(collected);
    }
    refuse_missing(&plan, args)?;
    let (mut unsound, mut values) = (false, Vec::new());
    for collected in &all {
        let dir = &collected.of.dir;
        if !is_one(dir) {
            say(format!("{}: no run has begun\n", dir.display()))?;
            continue;
        }
        collected.check()?;
        let (answer, manifest) = current(dir, Beside::default())?;
        unsound |= is_unsound(&answer, &manifest);
        if args.json {
            let mut value = answer_value(&answer, &manifest)?;
            value["directory"] = dir.display().to_string().into();
            values.push(value);
        } else {
            say(answer_text(&answer, &manifest))?;
        }
        unsound |= collected.quantize(args)?.is_some();
    }
    if args.json {
        say_json(&values.into())?;
    }
    Ok(unsound.then_some(Code::Unsound))
}

/// An experiment of a plan, and its runs.
struct Collected<'p> {
    of: &'p PlannedExperiment,
    lines: Vec<&'p PlanLine>,
    corpora: Corpora,
}

impl Collected<'_> {
    /// Copies runs from the same experiment's directories in other directories of directories.
    fn join(&self, roots: &[PathBuf]) -> Result<(), Exit> {
        let dir = &self.of.dir;
        let there = |root: &PathBuf| Some(in_root(dir, Some(root))).filter(|from| is_one(from));
        let from: Vec<PathBuf> = roots.iter().filter_map(there).collect();
        let Some(first) = from.first() else { return Ok(()) };
        if is_published(dir) {
            let what = "holds tables without the parts that they were made from, so that nothing can be joined";
            return Err(Exit::new(Code::Identity, format!("{}: {what}", dir.display())));
        }
        create_output_dir(dir)?;
        let _lock = lock(dir, false)?;
        let (experiment, backend) = (&self.of.loaded.experiment, &self.of.backend);
        create_or_extend(dir, experiment, &self.corpora, backend, library(), read_manifest(first)?)?;
        // A run's values may be chosen from runs that are joined before.
        for stage in STAGES {
            let decided = self.decided(stage)?;
            for from in &from {
                join_runs(dir, &decided.jobs(), &|job| self.identity(job), from)?;
            }
        }
        Ok(())
    }

    /// Expects the runs that have ended to be those of the plan.
    fn check(&self) -> Result<(), Exit> {
        for stage in STAGES {
            unfinished_runs(&self.of.dir, &self.decided(stage)?.jobs(), &|job| self.identity(job), false)?;
        }
        Ok(())
    }

    /// The runs of a stage, as far as their values are chosen.
    fn decided(&self, stage: u8) -> Result<Decided<'_>, Exit> {
        Decided::of(&self.of.dir, &self.of.loaded.experiment, &self.lines, stage)
    }

    fn identity(&self, job: &Job<'_>) -> Identity {
        let run = &job.arm.run;
        identity(run, job.seed, self.corpora.of(run).sha256(), &self.of.backend)
    }

    /// What `[quantize]` asks for, once all runs have ended.
    fn quantize(&self, args: &CollectArgs) -> CommandResult {
        let dir = &self.of.dir;
        let experiment = open(dir, library())?.experiment;
        if experiment.quantize.is_none() || is_published(dir) || pending(dir, &jobs(&experiment)) > 0 {
            return Ok(None);
        }
        let on = DeviceArgs { backend: Backend::named(&self.of.backend)?, device: args.device };
        let experiment = resolve(&experiment, &read_optional::<SelectionRow>(dir)?);
        of_experiment(dir, &experiment, (on, FigureArgs::default(), args.quiet, args.json), &on.open()?)
    }
}

/// A report on less than the plan is made only where it is asked for.
fn refuse_missing(plan: &PlanFile, args: &CollectArgs) -> Result<(), Exit> {
    let is_missing = |line: &&PlanLine| !has_ended(plan, line, &plan.experiments[line.experiment].dir);
    let missing: Vec<&PlanLine> = plan.lines.iter().filter(is_missing).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let of = &plan.experiments[first.experiment];
    let (name, arm) = (args.plan.display().to_string(), &of.loaded.experiment.arms[first.arm].name);
    let (left, all) = (missing.len(), count(plan.lines.len(), "run"));
    let verb = if left == 1 { "has" } else { "have" };
    let what = format!("{name}: {left} of {all} {verb} not ended, the first is {} {arm} seed {}", of.name, first.seed);
    if args.partial {
        return if args.json { Ok(()) } else { say(format!("{what}: the report is on the others\n\n")) };
    }
    let next = format!("see `basislab plan status {}`, or report on the others with --partial", quoted(&name));
    Err(Exit::new(Code::Busy, format!("{what}; {next}")))
}
