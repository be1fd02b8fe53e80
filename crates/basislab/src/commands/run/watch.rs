//! Progress lines and figures while runs train.

use crate::args::RunArgs;
use crate::experiments::library;
use crate::progress::Progress;
use basislab_config::Experiment;
use basislab_report::{OVER_STEPS, report_so_far};
use basislab_runs::{Job, RunEvent, RunOutcome, finished, jobs, open};
use basislab_store::Lock;
use basislab_tables::{Ending, RunEnd};
use std::path::Path;
use std::sync::Mutex;

/// Shows progress and draws figures while runs train.
pub(super) struct RunProgress<'a> {
    pub(super) dir: &'a Path,
    pub(super) experiment: &'a Experiment,
    pub(super) args: &'a RunArgs,
    pub(super) progress: &'a Progress,
    /// Whether there is a first picture. Held while the report is made.
    pub(super) drawn: &'a Mutex<bool>,
}

impl RunProgress<'_> {
    pub(super) fn on_event(&self, job: &Job<'_>, event: &RunEvent) {
        let (arm, seed) = (&job.arm.name, job.seed);
        match event {
            RunEvent::Resumed(step) => {
                self.progress.skip(*step);
                self.progress.line(&format!("  {arm} seed {seed}: resuming from step {step}"));
            }
            RunEvent::UnusableCheckpoint(error) => {
                self.progress.warn(&format!("  warning: {arm} seed {seed}: {error}; not used"));
            }
            RunEvent::Step(stats) => {
                self.progress.step();
                if let Some((loss, _)) = stats.loss_and_norm.filter(|_| stats.step % 10 == 0) {
                    self.progress.message(format!("{arm} seed {seed} step {} loss {loss:.3}", stats.step));
                }
            }
        }
    }

    pub(super) fn on_outcome(&self, job: &Job<'_>, outcome: &RunOutcome) -> anyhow::Result<()> {
        let (arm, seed, steps) = (&job.arm.name, job.seed, job.arm.run.train.steps);
        match outcome {
            RunOutcome::Trained(RunEnd { state: Ending::Complete, .. }, seconds) => {
                self.progress.line(&format!("  {arm} seed {seed}: {seconds:.1} s"));
            }
            RunOutcome::Trained(RunEnd { step, tensor, .. }, _) => {
                self.progress.skip(steps.saturating_sub(*step));
                let tensor = tensor.as_deref().unwrap_or("loss");
                self.progress.line(&format!("  {arm} seed {seed}: diverged at step {step}: {tensor} is not finite"));
            }
            RunOutcome::Copied(from) => {
                self.progress.skip(steps);
                let from = from.display();
                self.progress
                    .line(&format!("  {arm} seed {seed}: copied from {from}, a finished run of the same identity"));
            }
            RunOutcome::Stopped(step) => {
                self.progress.line(&format!("  {arm} seed {seed}: stopped after step {step}"));
                return Ok(());
            }
            RunOutcome::Failed(failure) => {
                self.progress.warn(&format!("  {arm} seed {seed}: failed: {}", failure.reason));
                return Ok(());
            }
            RunOutcome::AlreadyFinished | RunOutcome::Busy(_) => return Ok(()),
        }
        self.draw(seed)
    }

    /// A first picture as soon as the first run is through, then one whenever a seed is through in every arm. Left out while
    /// another process has the directory's lock.
    fn draw(&self, seed: u64) -> anyhow::Result<()> {
        let mut drawn = self.drawn.lock().expect("no panic while held");
        let mut through = true;
        for job in jobs(self.experiment).iter().filter(|job| job.seed == seed) {
            through &= finished(self.dir, job)?.is_some();
        }
        if seed != self.experiment.seeds[0] && !through {
            return Ok(());
        }
        let _lock = match Lock::take(self.dir) {
            _ if self.args.no_lock => None,
            Ok(lock) => Some(lock),
            Err(_) => return Ok(()),
        };
        report_so_far(self.dir, &open(self.dir, library())?.experiment)?;
        if !*drawn {
            let figure = self.dir.join("figures").join(OVER_STEPS);
            self.progress.line(&format!("  first picture: {} (redrawn as runs finish)", figure.display()));
            *drawn = true;
        }
        Ok(())
    }
}
