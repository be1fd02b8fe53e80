use crate::corpora::Corpora;
use crate::error::RunsError;
use crate::held::{HeldRun, Taken};
use crate::identity::identity;
use crate::plan::Job;
use crate::recorder::{RunRecorder, work_folders};
use crate::reuse::{self, FinishedRuns};
use basislab_config::{Arm, Claim, ClaimKind, Experiment};
use basislab_store::remove;
use basislab_tables::{Failure, Identity, RunEnd, RunRecord, part_dir, work_dir};
use basislab_train::{Context, Control, Event, Outcome, Probe, State, StepStats, check_state, train};
use burn::tensor::Device;
use serde_json::Value;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// The runs of a directory, as one process trains them.
pub struct Session<'a> {
    /// The directory.
    pub dir: &'a Path,
    /// The experiment's name.
    pub name: &'a str,
    /// The experiment.
    pub experiment: &'a Experiment,
    /// The rules of the claims that are fixed now (see [`rules`]): the experiment's, and those of the others of its plan.
    pub rules: Vec<String>,
    /// The corpora of its arms.
    pub corpora: &'a Corpora,
    /// Where to compute, without autodiff.
    pub device: &'a Device,
    /// See [`Context::ahead`].
    pub ahead: usize,
    /// Backend, device and driver, for `timing.csv`.
    pub device_names: [String; 3],
    /// The build and the machine, for `run.json`.
    pub build: Value,
    /// Whether finished runs of directories beside this one are copied instead of trained.
    pub reuse: bool,
    /// Whether each run is locked while this process has it.
    pub lock: bool,
    /// Whether runs that failed are tried again.
    pub retry_failed: bool,
    /// Finished runs of other directories, read when the first run begins.
    pub finished_runs: OnceLock<FinishedRuns>,
    /// Checkpoints and stopping.
    pub control: Control<'a>,
    /// Called with each event of a run, from several threads.
    pub on_event: &'a (dyn Fn(&Job<'_>, RunEvent<'_>) + Sync),
}

/// An event of a run while it trains.
#[derive(Debug)]
pub enum RunEvent<'e> {
    /// It resumes from a checkpoint after this update.
    Resumed(u64),
    /// A checkpoint cannot be used, and why.
    UnusableCheckpoint(String),
    /// An update was made.
    Step(StepStats),
    /// The model was probed.
    Probe(&'e Probe),
}

/// How [`Session::run_if_free`] ended.
#[derive(Debug)]
pub enum RunOutcome {
    /// It was trained to its end, in so many seconds.
    Trained(RunEnd, f64),
    /// It was copied from this folder.
    Copied(PathBuf),
    /// It was already finished.
    AlreadyFinished,
    /// Another process holds its lock: the record in the lock file.
    Busy(String),
    /// It was stopped after this update.
    Stopped(u64),
    /// It failed before, and is not tried again.
    Failed(Failure),
}

/// Why a run gives up that did not fail itself.
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
struct AnotherFailed;

/// SHA-256 of the rules of an experiment's claims, as runs record them when they begin.
pub fn rules(experiment: &Experiment) -> Vec<String> {
    experiment.claims.iter().map(|claim| experiment.rule_hash(claim)).collect()
}

/// The seeds that are planned for the arm, in ascending order.
fn arm_seeds(job: &Job<'_>) -> Vec<u64> {
    let mut seeds = job.arm.seeds.clone();
    seeds.sort_unstable();
    seeds
}

impl Session<'_> {
    /// Locks a run that no other process has, and trains it from its last checkpoint or copies it. Stops once `failed` is
    /// set: another run of this process failed.
    ///
    /// # Errors
    /// A run that cannot be resumed, or files that cannot be written. The reason is left beside the run (see [`Failure`]).
    ///
    /// # Panics
    /// Where the device does; the reason is left likewise.
    pub fn run_if_free(&self, job: &Job<'_>, failed: &AtomicBool) -> anyhow::Result<RunOutcome> {
        let run = (&job.arm.name, job.seed);
        let held = match HeldRun::take(self.dir, run, self.lock, self.retry_failed)? {
            Taken::Free(held) => held,
            Taken::Ended => return Ok(RunOutcome::AlreadyFinished),
            Taken::Busy(owner) => return Ok(RunOutcome::Busy(owner)),
            Taken::Failed(failure) => return Ok(RunOutcome::Failed(failure)),
        };
        match catch_unwind(AssertUnwindSafe(|| self.run_held(job, &held, failed))) {
            Ok(Ok(outcome)) => {
                if !matches!(outcome, RunOutcome::Stopped(_)) {
                    held.end()?;
                }
                Ok(outcome)
            }
            Ok(Err(error)) => {
                if !error.is::<AnotherFailed>() {
                    held.fail(&in_one_line(&error));
                }
                Err(error)
            }
            Err(panic) => {
                held.fail(&format!("a computation failed: {}", message(&*panic)));
                resume_unwind(panic)
            }
        }
    }

    /// Trains a run that this process has, or copies it.
    fn run_held(&self, job: &Job<'_>, held: &HeldRun, failed: &AtomicBool) -> anyhow::Result<RunOutcome> {
        let (dir, seed) = (self.dir, job.seed);
        let corpus = self.corpora.of(&job.arm.run);
        let backend = &self.device_names[0];
        let identity = identity(&job.arm.run, seed, corpus.sha256(), backend);
        if let Some(from) = self.copy_finished(job, &identity, held)? {
            return Ok(RunOutcome::Copied(from));
        }
        let record = RunRecord {
            identity,
            experiment: self.name.to_owned(),
            seeds: arm_seeds(job),
            registered: self.rules.clone(),
            reused: false,
            builds: vec![self.build.clone()],
        };
        let mut warn = |error: &basislab_store::CheckpointError| {
            (self.on_event)(job, RunEvent::UnusableCheckpoint(error.to_string()))
        };
        let on = Context { corpus, device: self.device, ahead: self.ahead };
        let usable = |state: &State| check_state(&job.arm.run, seed, on, state);
        let names = self.device_names.clone();
        let (mut recorder, state) = RunRecorder::open(dir, job, record, names, held, &usable, &mut warn)?;
        if let Some(state) = &state {
            (self.on_event)(job, RunEvent::Resumed(state.step));
        }
        let finished = train(&job.arm.run, seed, on, state.as_ref(), self.control, &mut |event| {
            anyhow::ensure!(!failed.load(Ordering::Relaxed), AnotherFailed);
            match &event {
                Event::Step(stats) => (self.on_event)(job, RunEvent::Step(*stats)),
                Event::Probe(probe) => (self.on_event)(job, RunEvent::Probe(probe)),
                Event::Checkpoint { .. } => {}
            }
            Ok(recorder.record(event)?)
        })?;
        let stopped = if let Outcome::Stopped(step) = finished.outcome { Some(step) } else { None };
        let ended = recorder.finish(finished, held)?;
        Ok(ended.map_or(RunOutcome::Stopped(stopped.unwrap_or(0)), |(end, seconds)| RunOutcome::Trained(end, seconds)))
    }

    /// Copies the run from another directory, or from another arm of this one, that has it: from where.
    fn copy_finished(&self, job: &Job<'_>, identity: &Identity, held: &HeldRun) -> Result<Option<PathBuf>, RunsError> {
        if !self.reuse {
            return Ok(None);
        }
        let (dir, arm, seed) = (self.dir, &job.arm.name, job.seed);
        let work = work_dir(dir, arm, seed);
        // A run that began here is continued, with what was registered when it began.
        for folder in work_folders(&work)? {
            if RunRecord::read(&folder).ok().flatten().is_some_and(|record| !record.reused) {
                return Ok(None);
            }
        }
        let twins = self.experiment.arms.iter().filter(|twin| twin.name != *arm && twin.run.hash() == identity.run);
        let twins: Vec<&Arm> = twins.collect();
        // Two arms whose bits are compared are both trained: a copy would be compared with itself.
        let are_compared = |claim: &Claim| {
            let arms = claim.test.arms();
            matches!(claim.test, ClaimKind::BitEqual { .. })
                && arms.contains(&arm)
                && twins.iter().any(|twin| arms.contains(&&twin.name))
        };
        if self.experiment.claims.iter().any(are_compared) {
            return Ok(None);
        }
        let mut parts = twins.iter().map(|twin| part_dir(dir, &twin.name, seed));
        let twin =
            parts.find(|part| RunRecord::read(part).ok().flatten().is_some_and(|record| record.identity == *identity));
        let finished = self.finished_runs.get_or_init(|| FinishedRuns::beside(dir));
        let Some(from) = twin.as_deref().or_else(|| finished.find(identity)) else { return Ok(None) };
        let own = held.folder()?;
        // Another arm of this experiment has seeds of its own.
        let seeds = twin.is_some().then(|| arm_seeds(job));
        match reuse::copy(from, identity, arm, &own, seeds) {
            Ok(Some(end)) => {
                held.publish(&own, &end)?;
                Ok(Some(from.to_owned()))
            }
            // It is trained instead.
            Ok(None) | Err(_) => {
                remove(&own)?;
                Ok(None)
            }
        }
    }
}

/// An error with its causes, each once: some messages hold theirs.
fn in_one_line(error: &anyhow::Error) -> String {
    let causes = error.chain().map(ToString::to_string);
    causes.reduce(|all, cause| if all.contains(&cause) { all } else { format!("{all}: {cause}") }).unwrap_or_default()
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given")
}
