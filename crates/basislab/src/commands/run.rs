//! `basislab run`.

pub(super) mod ready;
mod watch;

use self::ready::{Ready, only_arms, selected};
use self::watch::draw;
use super::CommandResult;
use super::report::{say_answer, write_report};
use crate::args;
use crate::backend::OpenDevice;
use crate::exit::{Code, Exit};
use crate::experiments::{self, Named, library};
use crate::manifest::{broken_law, thinned};
use crate::progress::Progress;
use crate::signals::Signals;
use crate::training::{ADVICE, Place, in_rounds, show_event, show_outcome};
use crate::{resources, threads};
use basislab_config::{Experiment, count};
use basislab_report::{answer_about, is_finished, read_answer, report_so_far, resolve};
use basislab_runs::{
    Job, Opened, RunEvent, RunOutcome, create_output_dir, jobs, lock, open, pending, plan_hash, resumable, rules,
    unfinished_runs,
};
use basislab_tables::{SUMS, SelectionRow, is_published, merge, read_optional};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) fn run(args: &args::RunArgs) -> CommandResult {
    let signals = Signals::listen()?;
    let named = experiments::find(&args.which)?;
    let device = args.on.open()?;
    device.require(&named.loaded.experiment)?;
    device.work(|| run_on(&device, &named, args, &signals))
}

fn run_on(device: &OpenDevice, named: &Named, args: &args::RunArgs, signals: &Signals) -> CommandResult {
    let experiment = &named.loaded.experiment;
    let corpora = experiments::corpora(&named.loaded)?;
    let dir = args.out.clone().unwrap_or_else(|| {
        PathBuf::from(format!("runs/{}-{}", named.name, plan_hash(experiment, &corpora, device.info.backend)))
    });
    let planned = selected(experiment, args.only.as_deref())?;
    // A GPU is shared by all runs; whether several at once are faster there depends on the model.
    let usual = if device.info.kind == "cpu" { threads::cores() } else { 1 };
    let workers = args.jobs.map_or(usual, |jobs| jobs as usize).min(planned.len()).max(1);
    let (all, resumed) = (pending(&dir, &planned), resumable(&dir, &planned));
    let size = resources::Runs { at_once: workers, all, resumed, reports: true };
    resources::check(experiment, &size, &dir, &device.info, &ADVICE)?;
    create_output_dir(&dir)?;

    let progress = Progress::new(args.training.quiet);
    let (rules, locks) = (rules(experiment), !args.training.no_lock);
    let place = Place { dir: &dir, named, corpora: &corpora, device, rules: &rules, locks, progress: &progress };
    let work = Work { place, args, signals, workers };
    let (Opened { experiment, manifest }, only_read) = place.open()?;
    let plan = Ready::of(&dir, &experiment, args)?;
    let todo = work.unfinished(&plan)?;
    announce(&progress, &dir, &plan, &todo);
    if experiment.seeds != named.loaded.experiment.seeds {
        let seeds = count(experiment.seeds.len(), "seed");
        progress.line(&format!("  the directory has {seeds}: those of this command and those that it had before"));
    }
    if device.info.kind == "software" {
        let name = &device.info.name;
        progress.warn(&format!("  warning: {name} is a software adapter, not a GPU; --backend cpu is faster"));
    }
    if args.which.changes.smoke {
        progress.line("  a smoke test of a few updates: its numbers mean nothing");
    }
    if only_read && !todo.is_empty() {
        let (at, left) = (dir.display(), todo.len());
        return Err(Exit::write(format!("{at}: cannot lock it to write, and {left} of its runs have not ended")));
    }
    if todo.is_empty() && plan.undecided.is_empty() && (only_read || is_finished(&dir)?) {
        progress.finish();
        let answer = match &args.only {
            Some(only) if !is_published(&dir) => answer_about(&dir, &experiment, &only_arms(only))?,
            _ => read_answer(&dir, &experiment, thinned(&manifest))?,
        };
        let code = say_answer(&answer, &manifest, args.json)?;
        return if is_published(&dir) { Ok(code) } else { work.quantize(code) };
    }
    if !todo.is_empty() {
        place.prepare()?;
    }
    if broken_law(&manifest) {
        progress.warn("  warning: a law of an optimizer is broken: see `basislab check` and the manifest");
    }
    let plan = work.train(plan, &experiment)?;
    progress.finish();
    let code = work.report(&plan)?;
    work.quantize(code)
}

/// What the steps of `basislab run` share.
struct Work<'a> {
    place: Place<'a>,
    args: &'a args::RunArgs,
    signals: &'a Signals,
    /// Runs that are trained at once.
    workers: usize,
}

impl Work<'_> {
    fn unfinished<'p>(&self, plan: &'p Ready) -> Result<Vec<Job<'p>>, Exit> {
        let Place { dir, locks, .. } = self.place;
        Ok(unfinished_runs(dir, &plan.jobs(), &|job| self.place.identity(job), locks)?)
    }

    /// Trains the plan, then what it plans once choices are made. Returns the last plan.
    fn train(&self, mut plan: Ready, experiment: &Experiment) -> Result<Ready, Exit> {
        let (dir, locks, progress) = (self.place.dir, self.place.locks, self.place.progress);
        let drawn = Mutex::new(false);
        loop {
            let busy = self.train_plan(&plan, &drawn)?;
            let left = pending(dir, &plan.jobs());
            if left > 0 {
                progress.finish();
                let _lock = lock(dir, !locks)?;
                merge(dir, &open(dir, library())?.experiment)?;
                return Err(match busy.first() {
                    Some(owner) if !self.signals.stop().load(Ordering::Relaxed) => Exit::new(
                        Code::Busy,
                        format!(
                            "{}: other processes have {left} of its runs ({owner}); the last of them makes the report, or \
                             `basislab report` once they are done",
                            dir.display()
                        ),
                    ),
                    None if !self.signals.stop().load(Ordering::Relaxed) => Exit::new(
                        Code::Busy,
                        format!("{}: {left} of its runs were removed meanwhile; run the command again", dir.display()),
                    ),
                    _ => self.signals.goodbye(left),
                });
            }
            if plan.undecided.is_empty() {
                return Ok(plan);
            }
            let next = Ready::of(dir, experiment, self.args)?;
            if next.undecided.len() == plan.undecided.len() {
                return Ok(plan);
            }
            let more = self.unfinished(&next)?;
            progress.plan_more(more.iter().map(|job| job.arm.run.train.steps).sum());
            progress.show_arms(&next.experiment, &next.jobs(), &more);
            plan = next;
        }
    }

    /// Trains the runs of a plan that nobody else has. Returns who has the others.
    fn train_plan(&self, plan: &Ready, drawn: &Mutex<bool>) -> Result<Vec<String>, Exit> {
        let Self { place, args, signals, workers } = *self;
        let control = args.training.control(signals.stop());
        let show = |job: &Job<'_>, event: RunEvent<'_>| show_event(place.progress, job, &event);
        let session = place.session(&plan.experiment, (!args.training.no_reuse, true), control, &show);
        let train = |job: &Job<'_>, failed: &AtomicBool| match session.run_if_free(job, failed)? {
            RunOutcome::Busy(owner) => Ok(Some(owner)),
            outcome => {
                if show_outcome(place.progress, job, &outcome) {
                    draw(place, &plan.experiment, job.seed, drawn)?;
                }
                Ok(None)
            }
        };
        in_rounds(&self.unfinished(plan)?, (workers, threads::cores()), place.progress, signals, &train)
    }

    fn report(&self, plan: &Ready) -> CommandResult {
        let (args, dir) = (self.args, self.place.dir);
        let _lock = lock(dir, args.training.no_lock)?;
        // Another process may have added seeds, arms or claims meanwhile: the report is on what the directory plans now.
        let Opened { experiment, mut manifest } = open(dir, library())?;
        let mut answer = if pending(dir, &jobs(&experiment)) > 0 {
            report_so_far(dir, &experiment, args.figures.beside())?
        } else {
            write_report(dir, &experiment, &mut manifest, args.figures.beside())?
        };
        if let (Some(only), Some(arm)) = (&args.only, plan.undecided.first()) {
            let what = format!("no values of the grid over {arm} can be chosen, since each has a run that diverged");
            let message = format!("{}: --only {only}: {what}; {arm} is not trained", dir.display());
            return Err(Exit::new(Code::Unsound, message));
        }
        if let Some(only) = &args.only {
            answer = answer_about(dir, &experiment, &only_arms(only))?;
        }
        say_answer(&answer, &manifest, args.json)
    }

    /// What `[quantize]` asks for, once all runs have ended. `code` is how the command ends otherwise.
    fn quantize(&self, code: Option<Code>) -> CommandResult {
        let (args, dir, device) = (self.args, self.place.dir, self.place.device);
        if self.place.named.loaded.experiment.quantize.is_none() || args.only.is_some() {
            return Ok(code);
        }
        let experiment = open(dir, library())?.experiment;
        if pending(dir, &jobs(&experiment)) > 0 {
            return Ok(code);
        }
        let experiment = resolve(&experiment, &read_optional::<SelectionRow>(dir)?);
        Ok(code.or(super::quantize::of_experiment(
            dir,
            &experiment,
            (args.on, args.figures, args.training.quiet, args.json),
            device,
        )?))
    }
}

fn announce(progress: &Progress, dir: &Path, plan: &Ready, todo: &[Job<'_>]) {
    progress.plan(todo.iter().map(|job| job.arm.run.train.steps).sum());
    progress.show_arms(&plan.experiment, &plan.jobs(), todo);
    let planned = plan.jobs().len();
    let (at, kept) = (dir.display(), planned - todo.len());
    match (todo.len(), kept) {
        (0, _) if is_published(dir) && !dir.join(SUMS).is_file() => {
            progress.line(&format!("{at} holds tables without the parts they were made from; nothing is run there"));
        }
        (0, _) if !plan.undecided.is_empty() => {
            progress.line(&format!("{at}: every run that can be planned has ended"))
        }
        (0, _) => progress.line(&format!("{at} is already complete; nothing is run again")),
        (_, 0) => progress.line(&format!("{} -> {at}", count(todo.len(), "run"))),
        _ => progress.line(&format!(
            "{kept} of {} {} complete, {} to go -> {at}",
            count(planned, "run"),
            if kept == 1 { "is" } else { "are" },
            todo.len()
        )),
    }
}
