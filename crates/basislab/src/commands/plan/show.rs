//! `basislab plan show`: how many runs there are, how many exist, and what the others will take.

mod calibration;

use self::calibration::Calibration;
use super::{has_ended, read};
use crate::backend::{Backend, OpenDevice};
use crate::commands::CommandResult;
use crate::exit::Exit;
use crate::experiments;
use crate::progress::Progress;
use crate::resources::{size, training};
use crate::terminal::{say, say_json, shown};
use basislab_config::count;
use basislab_runs::{FinishedRuns, PlanFile, PlanLine, PlannedExperiment};
use serde_json::{Value, json};
use std::path::Path;

pub(super) fn show(path: &Path, json: bool, quiet: bool) -> CommandResult {
    let plan = read(path)?;
    let progress = Progress::new(quiet);
    let mut all = Vec::new();
    for (number, of) in plan.experiments.iter().enumerate() {
        let lines: Vec<&PlanLine> = plan.lines.iter().filter(|line| line.experiment == number).collect();
        let device = Backend::named(&of.backend)?.open(0)?;
        all.push(device.work(|| Shown::of(&plan, of, &lines, &device, &progress))?);
    }
    progress.finish();
    if json {
        let experiments: Vec<Value> = all.iter().map(Shown::json).collect();
        say_json(&json!({ "runs": plan.lines.len(), "core_hours_left": hours(&all), "experiments": experiments }))?;
        return Ok(None);
    }
    let mut text = format!("{}: {}\n", shown(&path.display().to_string()), count(plan.lines.len(), "run"));
    all.iter().for_each(|shown| text += &shown.text());
    let (hours, unit) = (hours(&all), all.first().map_or("core", |shown| shown.unit));
    text += &match hours {
        0.0 => "\nEvery run exists.\n".to_owned(),
        _ => {
            format!("\nIn all about {} {unit}-hours to go, by a few updates of each kind of run here.\n", digits(hours))
        }
    };
    say(text)?;
    Ok(None)
}

/// Hours of one core (or device) for all runs that do not exist yet.
fn hours(all: &[Shown<'_>]) -> f64 {
    all.iter().map(|shown| shown.hours).sum()
}

/// What is shown of an experiment.
struct Shown<'p> {
    of: &'p PlannedExperiment,
    runs: usize,
    /// Of these, how many wait for others.
    second: usize,
    complete: usize,
    /// How many are finished in directories beside the experiment's.
    elsewhere: usize,
    /// For the runs that do not exist yet.
    hours: f64,
    /// Of the longest run.
    longest: f64,
    /// Bytes of a worker with one run at a time.
    memory: f64,
    /// What hours are of.
    unit: &'static str,
}

impl<'p> Shown<'p> {
    fn of(
        plan: &PlanFile,
        of: &'p PlannedExperiment,
        lines: &[&PlanLine],
        device: &OpenDevice,
        progress: &Progress,
    ) -> Result<Self, Exit> {
        let experiment = &of.loaded.experiment;
        let corpora = experiments::corpora(&of.loaded)?;
        let (ended, left): (Vec<&PlanLine>, Vec<&PlanLine>) =
            lines.iter().copied().partition(|line| has_ended(plan, line, &of.dir));
        let beside = FinishedRuns::beside(&of.dir);
        let is_elsewhere =
            |line: &&PlanLine| line.identity.as_ref().is_some_and(|identity| beside.find(identity).is_some());
        let (elsewhere, left): (Vec<&PlanLine>, Vec<&PlanLine>) = left.into_iter().partition(is_elsewhere);
        let mut calibration = Calibration::new(device, &corpora);
        let (mut seconds, mut longest) = (0.0, 0.0_f64);
        for line in &left {
            let arm = &experiment.arms[line.arm];
            let of_run = calibration.seconds(&arm.run, |what| progress.message(|| format!("{}: {what}", arm.name)))?;
            seconds += of_run;
            longest = longest.max(of_run);
        }
        Ok(Self {
            of,
            runs: lines.len(),
            second: lines.iter().filter(|line| line.stage == 2).count(),
            complete: ended.len(),
            elsewhere: elsewhere.len(),
            hours: seconds / 3600.0,
            longest: longest / 3600.0,
            memory: training(experiment, 1),
            unit: if device.info.kind == "cpu" { "core" } else { "device" },
        })
    }

    fn text(&self) -> String {
        let Self { of, runs, second, complete, elsewhere, hours, longest, memory, unit } = self;
        let arms = count(of.loaded.experiment.arms.len(), "arm");
        let mut text = format!("\n{} -> {}\n", shown(&of.name), shown(&of.dir.display().to_string()));
        text += &format!("  {} of {arms} on {}, {complete} complete", count(*runs, "run"), of.backend);
        if *elsewhere > 0 {
            text += &format!(", {elsewhere} to be copied from directories beside it");
        }
        if *second > 0 {
            text += &format!(
                "\n  {} of stage 2: they begin when the values of their arms are chosen from runs of stage 1",
                count(*second, "run")
            );
        }
        if let Some(class) = &of.require_cpu {
            text += &format!("\n  only on CPUs of class {class}");
        }
        if *hours > 0.0 {
            let (hours, longest, memory) = (digits(*hours), digits(*longest), size(*memory));
            text += &format!(
                "\n  about {hours} {unit}-hours to go, at most {longest} for one run; a worker with one run at a time takes \
                 about {memory}"
            );
        }
        text + "\n"
    }

    fn json(&self) -> Value {
        json!({
            "experiment": self.of.name, "directory": self.of.dir, "backend": self.of.backend,
            "require_cpu": self.of.require_cpu, "runs": self.runs, "stage_2": self.second, "complete": self.complete,
            "to_be_copied": self.elsewhere, "hours_left": self.hours, "longest_run_hours": self.longest,
            "hours_of": self.unit, "bytes_of_a_worker": self.memory,
        })
    }
}

/// Two significant digits.
fn digits(hours: f64) -> String {
    let places = (1.0 - hours.max(1e-6).log10().floor()).max(0.0) as usize;
    format!("{hours:.places$}")
}
