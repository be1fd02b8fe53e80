//! What `basislab run` and `basislab work` share: an experiment's directory, and what is shown of its runs while they train.

use crate::backend::OpenDevice;
use crate::build::build;
use crate::commands::check::{LAW_STEPS, certificates, to_json};
use crate::exit::Exit;
use crate::experiments::{Named, library};
use crate::manifest::manifest;
use crate::progress::Progress;
use crate::signals::Signals;
use crate::{resources, threads};
use basislab_config::Experiment;
use basislab_runs::{
    Corpora, Job, Opened, RunEvent, RunOutcome, Session, create_or_extend, identity, in_parallel, lock, needs_manifest,
    remove_temporary_files,
};
use basislab_store::{remove, write_atomic};
use basislab_tables::{Ending, Identity, RunEnd, SUMS};
use basislab_train::Control;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where training does not fit.
pub(crate) const ADVICE: resources::Advice = resources::Advice {
    memory: "use fewer --jobs, or a smaller model, batch or context",
    disk: "free some, or choose another --out",
};

/// An experiment, its directory, and where its runs are computed.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) named: &'a Named,
    pub(crate) corpora: &'a Corpora,
    pub(crate) device: &'a OpenDevice,
    /// The rules of all claims that are fixed before runs begin: see [`Session::rules`].
    pub(crate) rules: &'a [String],
    /// Whether runs and directory are locked.
    pub(crate) locks: bool,
    pub(crate) progress: &'a Progress,
}

impl Place<'_> {
    /// Makes the directory this experiment's, or checks that it is. Also says whether it can only be read.
    pub(crate) fn open(&self) -> Result<(Opened, bool), Exit> {
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
        let held = lock(self.dir, !self.locks)?;
        let only_read = held.is_none() && self.locks;
        if let Some(lock) = held.as_ref().filter(|_| !self.dir.join(SUMS).exists()) {
            lock.sign()?;
            remove_temporary_files(self.dir)?;
        }
        let opened = create_or_extend(self.dir, experiment, self.corpora, info.backend, library(), description)?;
        Ok((opened, only_read))
    }

    /// What was finished is not any more, and summary and verdicts are written again as runs end.
    pub(crate) fn prepare(&self) -> Result<(), Exit> {
        let _lock = lock(self.dir, !self.locks)?;
        remove(&self.dir.join(SUMS))?;
        for corpus in self.corpora.iter() {
            if let Some(tokenizer) = corpus.tokenizer_json() {
                write_atomic(&self.dir.join("tokenizer.json"), tokenizer.as_bytes())?;
            }
        }
        Ok(())
    }

    /// What a run is.
    pub(crate) fn identity(&self, job: &Job<'_>) -> Identity {
        let run = &job.arm.run;
        identity(run, job.seed, self.corpora.of(run).sha256(), self.device.info.backend)
    }

    /// Trains runs of the experiment, in which arms have taken over the choices that are made: whether finished runs of
    /// other directories are copied, and whether runs that failed are tried again.
    pub(crate) fn session<'s>(
        &'s self,
        experiment: &'s Experiment,
        (reuse, retry_failed): (bool, bool),
        control: Control<'s>,
        on_event: &'s (dyn Fn(&Job<'_>, RunEvent<'_>) + Sync),
    ) -> Session<'s> {
        let info = &self.device.info;
        Session {
            dir: self.dir,
            name: &self.named.name,
            experiment,
            rules: self.rules.to_vec(),
            corpora: self.corpora,
            device: &self.device.device,
            ahead: self.device.ahead(),
            device_names: [info.backend.to_owned(), info.name.clone(), info.driver.clone()],
            build: build(self.device, &experiment.shared.model),
            reuse,
            lock: self.locks,
            retry_failed,
            finished_runs: Default::default(),
            control,
            on_event,
        }
    }
}

/// Shows an event of a run.
pub(crate) fn show_event(progress: &Progress, job: &Job<'_>, event: &RunEvent<'_>) {
    let (arm, seed) = (&job.arm.name, job.seed);
    match event {
        RunEvent::Resumed(step) => {
            progress.skip(*step);
            progress.arms(|arms, now| arms.begin(job, *step, now));
            progress.line(&format!("  {arm} seed {seed}: resuming from step {step}"));
        }
        RunEvent::UnusableCheckpoint(error) => {
            progress.warn(&format!("  warning: {arm} seed {seed}: {error}; not used"));
        }
        RunEvent::Step(stats) => {
            progress.step();
            progress.arms(|arms, now| arms.step(job, stats.step, now));
            if let Some((loss, _)) = stats.loss_and_norm.filter(|_| stats.step % 10 == 0) {
                progress.message(|| format!("{arm} seed {seed} step {} loss {loss:.3}", stats.step));
            }
        }
        RunEvent::Probe(probe) => progress.arms(|arms, now| arms.probe(job, probe, now)),
    }
}

/// Shows how a run ended. Says whether there is a new finished one.
pub(crate) fn show_outcome(progress: &Progress, job: &Job<'_>, outcome: &RunOutcome) -> bool {
    let (arm, seed, steps) = (&job.arm.name, job.seed, job.arm.run.train.steps);
    // Before the line, which draws them.
    progress.arms(|arms, _| arms.end(job, outcome));
    match outcome {
        RunOutcome::Trained(RunEnd { state: Ending::Complete, .. }, seconds) => {
            progress.line(&format!("  {arm} seed {seed}: {seconds:.1} s"));
        }
        RunOutcome::Trained(RunEnd { step, tensor, .. }, _) => {
            progress.skip(steps.saturating_sub(*step));
            let tensor = tensor.as_deref().unwrap_or("loss");
            progress.line(&format!("  {arm} seed {seed}: diverged at step {step}: {tensor} is not finite"));
        }
        RunOutcome::Copied(from) => {
            progress.skip(steps);
            let from = from.display();
            progress.line(&format!("  {arm} seed {seed}: copied from {from}, a finished run of the same identity"));
        }
        RunOutcome::Stopped(step) => {
            progress.line(&format!("  {arm} seed {seed}: stopped after step {step}"));
            return false;
        }
        RunOutcome::AlreadyFinished | RunOutcome::Busy(_) | RunOutcome::Failed(_) => return false,
    }
    true
}

/// Trains runs side by side, as many as `size` says with so many threads in all. `train` says who has a run that another
/// process has: those whose process ended meanwhile are trained in another round. Returns who has the others.
pub(crate) fn in_rounds<T: Copy + Sync>(
    todo: &[T],
    size: (usize, usize),
    progress: &Progress,
    signals: &Signals,
    train: &(dyn Fn(&T, &AtomicBool) -> anyhow::Result<Option<String>> + Sync),
) -> Result<Vec<String>, Exit> {
    let (workers, threads) = (size.0.min(todo.len()).max(1), size.1);
    let pools = threads::pools(workers, (threads / workers).max(1));
    if !todo.is_empty() && pools.len() < workers {
        let granted = pools.len().max(1);
        progress.warn(&format!(
            "  warning: the system refuses more threads: {granted} instead of {workers} --jobs (see `ulimit -u`)"
        ));
    }
    let mut left = todo.to_vec();
    loop {
        let busy: Mutex<Vec<(usize, String)>> = Mutex::default();
        let numbered: Vec<(usize, T)> = left.iter().copied().enumerate().collect();
        in_parallel(&numbered, &pools, signals.stop(), &|(number, item), failed| {
            if let Some(owner) = train(item, failed)? {
                busy.lock().expect("no panic while held").push((*number, owner));
            }
            Ok(())
        })?;
        let mut busy = busy.into_inner().expect("no panic while held");
        busy.sort();
        if busy.is_empty() || busy.len() == left.len() || signals.stop().load(Ordering::Relaxed) {
            return Ok(busy.into_iter().map(|(_, owner)| owner).collect());
        }
        left = busy.iter().map(|(number, _)| left[*number]).collect();
    }
}
