//! `basislab run`.

mod plan;
mod watch;

use self::plan::{Plan, only_arms, selected};
use self::watch::RunProgress;
use super::CommandResult;
use super::check::{LAW_STEPS, certificates, to_json};
use super::report::{say_answer, write_report};
use crate::args;
use crate::backend::OpenDevice;
use crate::build::build;
use crate::exit::{Code, Exit};
use crate::experiments::{self, Named, library};
use crate::manifest::{broken_law, manifest, thinned};
use crate::progress::Progress;
use crate::signals::Signals;
use crate::{resources, threads};
use basislab_config::{Experiment, count};
use basislab_report::{answer_about, is_finished, read_answer, report_so_far, resolve};
use basislab_runs::{
    Corpora, Job, Opened, RunOutcome, Session, create_or_extend, create_output_dir, identity, in_parallel, jobs, lock,
    needs_manifest, open, pending, plan_hash, remove_temporary_files, resumable, unfinished_runs,
};
use basislab_store::{remove, write_atomic};
use basislab_tables::{SUMS, SelectionRow, is_published, merge, read_optional};
use basislab_train::Control;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) fn run(args: &args::RunArgs) -> CommandResult {
    let signals = Signals::listen()?;
    let named = experiments::find(&args.which)?;
    let device = args.on.open()?;
    device.require(&named.loaded.experiment)?;
    device.work(|| run_on(&device, &named, args, &signals))
}

const ADVICE: resources::Advice = resources::Advice {
    memory: "use fewer --jobs, or a smaller model, batch or context",
    disk: "free some, or choose another --out",
};

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
    let size = resources::Runs { at_once: workers, all: pending(&dir, &planned), resumed: resumable(&dir, &planned) };
    resources::check(experiment, &size, &dir, &device.info, &ADVICE)?;
    create_output_dir(&dir)?;

    let progress = Progress::new(args.quiet);
    let work = Work { device, named, args, signals, corpora: &corpora, dir: &dir, workers, progress: &progress };
    let (Opened { experiment, manifest }, only_read) = work.open()?;
    let plan = Plan::of(&dir, &experiment, args)?;
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
    if args.which.smoke {
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
        work.prepare()?;
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
    device: &'a OpenDevice,
    named: &'a Named,
    args: &'a args::RunArgs,
    signals: &'a Signals,
    corpora: &'a Corpora,
    dir: &'a Path,
    /// Runs that are trained at once.
    workers: usize,
    progress: &'a Progress,
}

impl Work<'_> {
    /// Makes the directory this experiment's, or checks that it is. Also says whether it can only be read.
    fn open(&self) -> Result<(Opened, bool), Exit> {
        let (experiment, info) = (&self.named.loaded.experiment, &self.device.info);
        let describe = || {
            if info.kind != "cpu" {
                let name = &info.name;
                self.progress.line(&format!("checking the laws of every optimizer on {name} before the first run"));
            }
            let certificates = to_json(experiment, &certificates(experiment, LAW_STEPS, self.device), self.device);
            manifest(self.named, self.device, certificates)
        };
        let description = if needs_manifest(self.dir)? { Some(describe()) } else { None };
        let held = lock(self.dir, self.args.no_lock)?;
        let only_read = held.is_none() && !self.args.no_lock;
        if let Some(lock) = held.as_ref().filter(|_| !self.dir.join(SUMS).exists()) {
            lock.sign()?;
            remove_temporary_files(self.dir)?;
        }
        let opened = create_or_extend(self.dir, experiment, self.corpora, info.backend, library(), description)?;
        Ok((opened, only_read))
    }

    fn unfinished<'p>(&self, plan: &'p Plan) -> Result<Vec<Job<'p>>, Exit> {
        let identify = |job: &Job<'_>| {
            let run = &job.arm.run;
            identity(run, job.seed, self.corpora.of(run).sha256(), self.device.info.backend)
        };
        Ok(unfinished_runs(self.dir, &plan.jobs(), &identify, !self.args.no_lock)?)
    }

    /// What was finished is not any more, and summary and verdicts are written again as runs end.
    fn prepare(&self) -> Result<(), Exit> {
        let _lock = lock(self.dir, self.args.no_lock)?;
        remove(&self.dir.join(SUMS))?;
        for corpus in self.corpora.iter() {
            if let Some(tokenizer) = corpus.tokenizer_json() {
                write_atomic(&self.dir.join("tokenizer.json"), tokenizer.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Trains the plan, then what it plans once choices are made. Returns the last plan.
    fn train(&self, mut plan: Plan, experiment: &Experiment) -> Result<Plan, Exit> {
        let drawn = Mutex::new(false);
        loop {
            let busy = self.train_plan(&plan, experiment, &drawn)?;
            let left = pending(self.dir, &plan.jobs());
            if left > 0 {
                self.progress.finish();
                let _lock = lock(self.dir, self.args.no_lock)?;
                merge(self.dir, &open(self.dir, library())?.experiment)?;
                return Err(match busy.first() {
                    Some(owner) if !self.signals.stop().load(Ordering::Relaxed) => Exit::new(
                        Code::Busy,
                        format!(
                            "{}: other processes have {left} of its runs ({owner}); the last of them makes the report, or \
                             `basislab report` once they are done",
                            self.dir.display()
                        ),
                    ),
                    None if !self.signals.stop().load(Ordering::Relaxed) => Exit::new(
                        Code::Busy,
                        format!(
                            "{}: {left} of its runs were removed meanwhile; run the command again",
                            self.dir.display()
                        ),
                    ),
                    _ => self.signals.goodbye(left),
                });
            }
            if plan.undecided.is_empty() {
                return Ok(plan);
            }
            let next = Plan::of(self.dir, experiment, self.args)?;
            if next.undecided.len() == plan.undecided.len() {
                return Ok(plan);
            }
            self.progress.plan_more(self.unfinished(&next)?.iter().map(|job| job.arm.run.train.steps).sum());
            plan = next;
        }
    }

    /// Trains the runs of a plan that nobody else has. Returns who has the others.
    fn train_plan(&self, plan: &Plan, experiment: &Experiment, drawn: &Mutex<bool>) -> Result<Vec<String>, Exit> {
        let Self { device, args, dir, progress, .. } = *self;
        let info = &device.info;
        let runs = RunProgress { dir, experiment: &plan.experiment, args, progress, drawn };
        let session = Session {
            dir,
            name: &self.named.name,
            experiment: &plan.experiment,
            corpora: self.corpora,
            device: &device.device,
            ahead: device.ahead(),
            device_names: [info.backend.to_owned(), info.name.clone(), info.driver.clone()],
            build: build(device, &experiment.shared.model),
            reuse: !args.no_reuse,
            lock: !args.no_lock,
            retry_failed: true,
            finished_runs: Default::default(),
            control: Control {
                stop: self.signals.stop(),
                checkpoint_steps: args.checkpoint_steps.unwrap_or(u64::MAX),
                checkpoint_interval: Duration::from_secs(args.checkpoint_seconds),
            },
            on_event: &|job, event| runs.on_event(job, &event),
        };
        train_all(&session, &self.unfinished(plan)?, self.workers, &runs, self.signals)
    }

    fn report(&self, plan: &Plan) -> CommandResult {
        let Self { args, dir, .. } = *self;
        let _lock = lock(dir, args.no_lock)?;
        // Another process may have added seeds, arms or claims meanwhile: the report is on what the directory plans now.
        let Opened { experiment, mut manifest } = open(dir, library())?;
        let mut answer = if pending(dir, &jobs(&experiment)) > 0 {
            report_so_far(dir, &experiment)?
        } else {
            write_report(dir, &experiment, &mut manifest)?
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
        let Self { args, dir, device, .. } = *self;
        if self.named.loaded.experiment.quantize.is_none() || args.only.is_some() {
            return Ok(code);
        }
        let experiment = open(dir, library())?.experiment;
        if pending(dir, &jobs(&experiment)) > 0 {
            return Ok(code);
        }
        let experiment = resolve(&experiment, &read_optional::<SelectionRow>(dir)?);
        Ok(code.or(super::quantize::of_experiment(dir, &experiment, args, device)?))
    }
}

/// Trains the runs that no other process holds, and returns the holders of the others.
fn train_all(
    session: &Session<'_>,
    todo: &[Job<'_>],
    workers: usize,
    runs: &RunProgress<'_>,
    signals: &Signals,
) -> Result<Vec<String>, Exit> {
    let workers = workers.min(todo.len()).max(1);
    let pools = threads::pools(workers, (threads::cores() / workers).max(1));
    if !todo.is_empty() && pools.len() < workers {
        let granted = pools.len().max(1);
        runs.progress.warn(&format!(
            "  warning: the system refuses more threads: {granted} instead of {workers} --jobs (see `ulimit -u`)"
        ));
    }
    let mut left = todo.to_vec();
    loop {
        let busy: Mutex<Vec<(usize, String)>> = Mutex::default();
        let numbered: Vec<(usize, Job<'_>)> = left.iter().copied().enumerate().collect();
        in_parallel(&numbered, &pools, signals.stop(), &|(number, job), failed| {
            match session.run_if_free(job, failed)? {
                RunOutcome::Busy(owner) => busy.lock().expect("no panic while held").push((*number, owner)),
                outcome => runs.on_outcome(job, &outcome)?,
            }
            Ok(())
        })?;
        let mut busy = busy.into_inner().expect("no panic while held");
        busy.sort();
        // Runs whose process ended meanwhile are trained in another round.
        if busy.is_empty() || busy.len() == left.len() || signals.stop().load(Ordering::Relaxed) {
            return Ok(busy.into_iter().map(|(_, owner)| owner).collect());
        }
        left = busy.iter().map(|(number, _)| left[*number]).collect();
    }
}

fn announce(progress: &Progress, dir: &Path, plan: &Plan, todo: &[Job<'_>]) {
    progress.plan(todo.iter().map(|job| job.arm.run.train.steps).sum());
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
