//! `basislab work`: trains runs of a plan.

mod share;

use self::share::share;
use super::CommandResult;
use super::plan::{Decided, STAGES, has_ended, in_root, read};
use crate::args::WorkArgs;
use crate::backend::{Backend, OpenDevice};
use crate::build::class_of_cpu;
use crate::exit::{Code, Exit};
use crate::experiments::{self, Named};
use crate::progress::Progress;
use crate::signals::Signals;
use crate::terminal::quoted;
use crate::training::{ADVICE, Place, in_rounds, show_event, show_outcome};
use crate::{resources, threads};
use basislab_config::{Experiment, count};
use basislab_runs::{
    Corpora, Job, PlanFile, PlanLine, PlannedExperiment, RunEvent, RunOutcome, Session, create_output_dir,
    has_ended_as_planned, resumable, rules,
};
use basislab_store::locks_between_nodes;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) fn work(args: &WorkArgs) -> CommandResult {
    let signals = Signals::listen()?;
    args.time_limit.map_or(Ok(()), |limit| signals.stop_before(limit))?;
    let plan = read(&args.plan)?;
    let mine = share(&plan, args)?;
    let progress = Progress::new(args.training.quiet);
    let dir_of = |line: &PlanLine| in_root(&plan.experiments[line.experiment].dir, args.out.as_deref());
    let ended = |line: &&PlanLine| has_ended(&plan, line, &dir_of(line));
    let left: Vec<&PlanLine> = mine.iter().copied().filter(|line| !ended(line)).collect();
    let (of_plan, complete) = (count(mine.len(), "run"), mine.len() - left.len());
    progress.line(&format!("{of_plan} of {}, {complete} complete", args.plan.display()));
    if left.is_empty() {
        return Ok(None);
    }
    let device = open(&plan, &left, args)?;
    device.work(|| {
        let mut shares = Vec::new();
        for (number, of) in plan.experiments.iter().enumerate() {
            let lines: Vec<&PlanLine> = left.iter().copied().filter(|line| line.experiment == number).collect();
            if let Some(line) = lines.first() {
                let dir = dir_of(line);
                shares.push(Share::of(of, dir, lines, args)?);
            }
        }
        // Runs that experiments of the plan share are registered for the claims of all.
        let rules: Vec<String> = plan.experiments.iter().flat_map(|of| rules(&of.loaded.experiment)).collect();
        let places = shares.iter().map(|share| share.place(&device, &rules, &progress)).collect();
        let worker = Worker { args, signals: &signals, progress: &progress, shares: &shares, places };
        let outcome = worker.work(device.info.kind == "cpu")?;
        progress.finish();
        let left = mine.iter().filter(|line| !ended(line)).count();
        worker.end(&outcome, left)
    })
}

/// The device of the plan's backend, if this machine may train these runs.
fn open(plan: &PlanFile, lines: &[&PlanLine], args: &WorkArgs) -> Result<OpenDevice, Exit> {
    let of = |line: &&PlanLine| &plan.experiments[line.experiment];
    let first = of(&lines[0]);
    if let Some(other) = lines.iter().map(of).find(|other| other.backend != first.backend) {
        let found = format!("found runs for {} and for {}", first.backend, other.backend);
        return Err(Exit::usage(format!(
            "{}: {found}, expected one backend; make a plan for each",
            args.plan.display()
        )));
    }
    let class = class_of_cpu();
    if let Some(required) = lines.iter().filter_map(|line| of(line).require_cpu.as_deref()).find(|one| *one != class) {
        let next = "start the worker on other machines, or make the plan without --require-cpu";
        return Err(Exit::usage(format!("this CPU is of class {class}, and the plan requires {required}; {next}")));
    }
    let device = Backend::named(&first.backend)?.open(args.device as usize)?;
    lines.iter().map(of).try_for_each(|of| device.require(&of.loaded.experiment))?;
    Ok(device)
}

/// The lines of one experiment that a worker has.
struct Share<'p> {
    named: Named,
    corpora: Corpora,
    dir: PathBuf,
    lines: Vec<&'p PlanLine>,
    locks: bool,
}

impl<'p> Share<'p> {
    fn of(of: &PlannedExperiment, dir: PathBuf, lines: Vec<&'p PlanLine>, args: &WorkArgs) -> Result<Self, Exit> {
        let named = Named { name: of.name.clone(), loaded: of.loaded.clone(), smoke: of.smoke };
        let corpora = experiments::corpora(&named.loaded)?;
        // Where locks do not hold everywhere, workers may train the same bits side by side.
        let locks = match locks_between_nodes(&dir) {
            _ if args.training.no_lock => false,
            Err(why) if args.claim => {
                let next = "use --shard or --index, or another file system";
                let message =
                    format!("{}: --claim needs locks that hold between machines; {why}; {next}", dir.display());
                return Err(Exit::new(Code::Busy, message));
            }
            held => held.is_ok(),
        };
        Ok(Self { named, corpora, dir, lines, locks })
    }

    fn place<'s>(&'s self, device: &'s OpenDevice, rules: &'s [String], progress: &'s Progress) -> Place<'s> {
        let Self { named, corpora, dir, locks, .. } = self;
        Place { dir, named, corpora, device, rules, locks: *locks, progress }
    }

    fn experiment(&self) -> &Experiment {
        &self.named.loaded.experiment
    }

    fn jobs(&self) -> Vec<Job<'_>> {
        self.lines.iter().map(|line| PlanFile::job(line, self.experiment())).collect()
    }
}

/// One process at work on a plan.
struct Worker<'a> {
    args: &'a WorkArgs,
    signals: &'a Signals,
    progress: &'a Progress,
    shares: &'a [Share<'a>],
    /// Of each share.
    places: Vec<Place<'a>>,
}

/// What became of runs that a worker did not train to their end.
#[derive(Default)]
struct Left {
    /// Who has a run.
    busy: Vec<String>,
    /// What kept a run from its end.
    failed: Vec<Exit>,
    /// Runs of arms whose values cannot be chosen yet.
    waiting: usize,
}

impl Worker<'_> {
    /// Trains all shares, as far as other workers leave them.
    fn work(&self, on_cpu: bool) -> Result<Left, Exit> {
        let threads = self.args.threads.map_or_else(threads::cores, |threads| threads as usize);
        let workers = self.args.jobs.map_or(if on_cpu { threads } else { 1 }, |jobs| jobs as usize);
        for (share, place) in self.shares.iter().zip(&self.places) {
            as_planned(share, place)?;
            let jobs = share.jobs();
            let size = resources::Runs {
                at_once: workers.min(jobs.len()),
                all: jobs.len(),
                resumed: resumable(&share.dir, &jobs),
                reports: false,
            };
            resources::check(share.experiment(), &size, &share.dir, &place.device.info, &ADVICE)?;
            create_output_dir(&share.dir)?;
            place.open()?;
            place.prepare()?;
            self.progress.plan_more(jobs.iter().map(|job| job.arm.run.train.steps).sum());
        }
        let mut left = Left::default();
        for stage in STAGES {
            let mut decided = Vec::new();
            for share in self.shares {
                decided.push(Decided::of(&share.dir, share.experiment(), &share.lines, stage)?);
            }
            left.waiting += decided.iter().map(|decided| decided.waiting).sum::<usize>();
            self.train(&decided, (workers, threads), &mut left)?;
        }
        Ok(left)
    }

    /// Trains runs of all shares.
    fn train(&self, decided: &[Decided<'_>], size: (usize, usize), left: &mut Left) -> Result<(), Exit> {
        let args = self.args;
        let control = args.training.control(self.signals.stop());
        let show = |job: &Job<'_>, event: RunEvent<'_>| show_event(self.progress, job, &event);
        let sessions: Vec<Session<'_>> = std::iter::zip(&self.places, decided)
            .map(|(place, of)| {
                place.session(&of.experiment, (!args.training.no_reuse, args.retry_failed), control, &show)
            })
            .collect();
        let jobs: Vec<Vec<Job<'_>>> = decided.iter().map(Decided::jobs).collect();
        let todo: Vec<(usize, Job<'_>)> =
            jobs.iter().enumerate().flat_map(|(at, jobs)| jobs.iter().map(move |job| (at, *job))).collect();
        let failed = Mutex::new(Vec::new());
        let train = |(at, job): &(usize, Job<'_>), others: &AtomicBool| {
            let tried = train_one(&sessions[*at], &self.places[*at], job, others);
            match tried.map_err(Exit::from) {
                Ok(RunOutcome::Busy(owner)) => return Ok(Some(owner)),
                Ok(RunOutcome::Failed(failure)) => {
                    let exit = Exit::new(Code::Unsound, format!("{} (--retry-failed tries it again)", failure.reason));
                    failed.lock().expect("no panic while held").push(exit);
                }
                Ok(outcome) => _ = show_outcome(self.progress, job, &outcome),
                // Other runs would meet the same.
                Err(exit) if matches!(exit.code, Code::Write | Code::TooLarge | Code::Device) => {
                    return Err(exit.into());
                }
                Err(exit) => {
                    self.progress.warn(&format!("  {} seed {}: failed: {exit}", job.arm.name, job.seed));
                    failed.lock().expect("no panic while held").push(exit);
                }
            }
            Ok(None)
        };
        left.busy.extend(in_rounds(&todo, size, self.progress, self.signals, &train)?);
        left.failed.extend(failed.into_inner().expect("no panic while held"));
        Ok(())
    }

    /// How the worker ends with `left` of its runs to go.
    fn end(&self, outcome: &Left, left: usize) -> CommandResult {
        let plan = self.args.plan.display().to_string();
        let Left { busy, failed, waiting } = outcome;
        if let Some(first) = failed.first() {
            let (runs, status) = (count(failed.len(), "run"), format!("basislab plan status {}", quoted(&plan)));
            return Err(Exit::new(first.code, format!("{runs} failed, the first because: {first}; see `{status}`")));
        }
        if left > 0 && self.signals.stop().load(Ordering::Relaxed) {
            return Err(self.signals.goodbye(left));
        }
        if *waiting > 0 {
            let what = "of arms whose values are chosen from a grid wait for runs of stage 1";
            let message = format!("{plan}: {} {what}; run the command again later", count(*waiting, "run"));
            return Err(Exit::new(Code::Busy, message));
        }
        if let Some(owner) = busy.first().filter(|_| left > 0) {
            let message = format!("{plan}: other processes have {left} of the runs ({owner})");
            if !self.args.claim {
                return Err(Exit::new(Code::Busy, format!("{message}; run the command again later")));
            }
            self.progress.line(&message);
        }
        self.progress.line(&format!(
            "nothing is left to take; once all workers have ended:  basislab collect {}",
            quoted(&plan)
        ));
        Ok(None)
    }
}

/// Expects the runs of a share to be those of the plan.
fn as_planned(share: &Share<'_>, place: &Place<'_>) -> Result<(), Exit> {
    for (line, job) in share.lines.iter().zip(share.jobs()) {
        let found = place.identity(&job);
        let Some(planned) = line.identity.as_ref().filter(|planned| **planned != found) else { continue };
        let what = if planned.corpus == found.corpus {
            format!("version {} of the numbers in the plan, {} here", planned.numerics, found.numerics)
        } else {
            format!("a corpus with SHA-256 {} in the plan, {} here", planned.corpus, found.corpus)
        };
        let next = "use the text and the version of basislab that the plan was made with, or make the plan again";
        let message = format!("{} seed {}: found {what}, expected the same; {next}", job.arm.name, job.seed);
        return Err(Exit::new(Code::Identity, message));
    }
    Ok(())
}

/// Trains a run that no other process has, in a place of its own.
fn train_one(
    session: &Session<'_>,
    place: &Place<'_>,
    job: &Job<'_>,
    others: &AtomicBool,
) -> anyhow::Result<RunOutcome> {
    if has_ended_as_planned(place.dir, job, &place.identity(job), place.locks)? {
        return Ok(RunOutcome::AlreadyFinished);
    }
    session.run_if_free(job, others)
}
