//! `basislab plan`: prints plans, and says what is in one.

mod script;
mod show;
mod stages;
mod status;

pub(super) use self::stages::{Decided, STAGES};

use super::CommandResult;
use crate::args::{PlanArgs, PlanCommand, ScriptArgs};
use crate::exit::Exit;
use crate::experiments::{self, find_changed, library};
use crate::terminal::{say, say_line};
use basislab_runs::{PlanFile, PlanFor, PlanLine, finished, plan_hash, planned_runs};
use basislab_tables::is_published;
use clap::ValueEnum;
use std::path::{Path, PathBuf};

pub(crate) fn plan(args: &PlanArgs) -> CommandResult {
    match &args.command {
        None => make(args),
        Some(PlanCommand::Show { plan, json, quiet }) => show::show(plan, *json, *quiet),
        Some(PlanCommand::Script(args)) => script(args),
        Some(PlanCommand::Status { plan, watch, json, out }) => status::status(plan, *watch, *json, out.as_deref()),
    }
}

/// Prints a script that runs a plan.
fn script(args: &ScriptArgs) -> CommandResult {
    let plan = read(&args.plan)?;
    let of = |stage| plan.lines.iter().filter(|line| line.stage == stage).count();
    say(script::script(args, [of(1), of(2)])?)?;
    Ok(None)
}

/// Prints the runs of all experiments: those that need no others first.
fn make(args: &PlanArgs) -> CommandResult {
    let backend = args.backend.resolve();
    if !backend.is_built() {
        // Says how to get it.
        backend.places(1)?;
    }
    let require_cpu = args.require_cpu.and_then(|class| Some(class.to_possible_value()?.get_name().to_owned()));
    let mut lines = Vec::new();
    for name in &args.experiments {
        let named = find_changed(name, &args.changes)?;
        let experiment = &named.loaded.experiment;
        let corpora = experiments::corpora(&named.loaded)?;
        let hash = plan_hash(experiment, &corpora, backend.name());
        let dir = args.out.join(format!("{}-{hash}", named.name));
        if lines.iter().any(|line: &basislab_runs::PlannedRun| line.dir == dir) {
            return Err(Exit::usage(format!("{name}: found the same runs twice, expected different experiments")));
        }
        let of = PlanFor {
            name: &named.name,
            dir: &dir,
            backend: backend.name(),
            require_cpu: require_cpu.as_deref(),
            smoke: named.smoke,
        };
        lines.extend(planned_runs(of, experiment, &corpora, library())?);
    }
    lines.sort_by_key(|line| line.stage);
    for line in &lines {
        if !say_line(&serde_json::to_string(line).map_err(Exit::write)?)? {
            break;
        }
    }
    Ok(None)
}

/// Reads a plan.
pub(super) fn read(path: &Path) -> Result<PlanFile, Exit> {
    Ok(PlanFile::read(path, library())?)
}

/// An experiment's directory, in another directory of directories where one is given.
pub(super) fn in_root(dir: &Path, root: Option<&Path>) -> PathBuf {
    match (root, dir.file_name()) {
        (Some(root), Some(name)) => root.join(name),
        _ => dir.to_owned(),
    }
}

/// Whether a run of the plan has ended in its experiment's directory, which is `dir`.
pub(super) fn has_ended(plan: &PlanFile, line: &PlanLine, dir: &Path) -> bool {
    let job = PlanFile::job(line, &plan.experiments[line.experiment].loaded.experiment);
    is_published(dir) || finished(dir, &job).is_ok_and(|end| end.is_some())
}
