//! The desk: where the events of all runs arrive and become files.

use crate::backend::Facts;
use crate::directory::{self, checkpoints};
use crate::progress::Progress;
use basislab_config::Experiment;
use basislab_experiment::{Event, Finished, Job, Outcome, Starts, State};
use basislab_report::{Ending, Row, RunEnd, Shard, TimingRow, part_dir, read_table, report_so_far, write_timing};
use basislab_store::{Checkpoint, CheckpointError, FileError, Owner, newest, remove, save, steps};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Where the runs' events arrive.
pub(crate) struct Desk<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) identity: &'a Value,
    pub(crate) experiment: &'a Experiment,
    pub(crate) all: &'a [Job<'a>],
    pub(crate) facts: &'a Facts,
    pub(crate) progress: &'a Progress,
    /// Runs in progress, by arm and seed.
    pub(crate) open: Mutex<OpenRuns>,
    /// Held while the report is rebuilt.
    pub(crate) drawn: Mutex<bool>,
}

pub(crate) type OpenRuns = BTreeMap<(String, u64), Arc<Mutex<Open>>>;

/// A run in progress: its files, and what it cost before this process.
pub(crate) struct Open {
    shard: Shard,
    begun: Instant,
    before: Option<TimingRow>,
    started: String,
}

impl Desk<'_> {
    /// Opens the files of runs that are trained together, each at its last checkpoint if there is one; after the same
    /// update if they can be, since they are one model then.
    pub(crate) fn begin(&self, jobs: &[Job<'_>]) -> anyhow::Result<Starts> {
        let known = jobs.iter().map(|job| steps(&checkpoints(self.dir, job))).collect::<Result<Vec<_>, _>>()?;
        let most = common_step(&known).unwrap_or(u64::MAX);
        jobs.iter().map(|job| self.begin_one(job, most)).collect()
    }

    /// Opens a run's files, at its last checkpoint up to update `most` if there is one.
    fn begin_one(&self, job: &Job<'_>, most: u64) -> anyhow::Result<Option<State>> {
        let part = part_dir(self.dir, &job.arm.name, job.seed);
        let name = format!("{} seed {}", job.arm.name, job.seed);
        let mut shard = None;
        let mut fits = |checkpoint: &Checkpoint| {
            shard = Shard::resume(&part, &checkpoint.tables)?;
            Ok(shard.is_none().then(|| "the run's tables are not what they were when it was made".to_owned()))
        };
        let mut warn = |error: &CheckpointError| self.progress.warn(&format!("  warning: {name}: {error}; not used"));
        let found = newest(&checkpoints(self.dir, job), &self.owner(job), most, &mut fits, &mut warn)?;
        let resumed = shard.zip(found);
        let (shard, state, before) = match resumed {
            Some((shard, Checkpoint { step, files, .. })) => {
                self.progress.skip(step);
                self.progress.line(&format!("  {name}: goes on after step {step}"));
                let before = read_table::<TimingRow>(&part).ok().and_then(|rows| rows.into_iter().next());
                (shard, Some(State { step, files }), before)
            }
            None => {
                remove(&part)?;
                (Shard::create(&part)?, None, None)
            }
        };
        let started = before.as_ref().map_or_else(|| Timestamp::now().to_string(), |row| row.started.clone());
        let open = Open { shard, begun: Instant::now(), before, started };
        self.open.lock().expect("no panic while held").insert(key(job), Arc::new(Mutex::new(open)));
        Ok(state)
    }

    /// Writes what a run tells.
    pub(crate) fn take(&self, job: &Job<'_>, event: Event) -> anyhow::Result<()> {
        let open = Arc::clone(&self.open.lock().expect("no panic while held")[&key(job)]);
        let mut open = open.lock().expect("no panic while held");
        match event {
            Event::Rows(rows) => {
                if let Some(Row::Step(row)) = rows.first() {
                    self.progress.step();
                    if let Some(loss) = row.train_loss.filter(|_| row.step % 10 == 0) {
                        self.progress
                            .message(format!("{} seed {} step {} loss {loss:.3}", job.arm.name, job.seed, row.step));
                    }
                }
                // A probe's rows come together, led by its loss: lines reach the disk from probe to probe.
                let probe = matches!(rows.first(), Some(Row::Eval(_)));
                for row in rows {
                    open.shard.push(row)?;
                }
                if probe {
                    open.shard.commit()?;
                }
                Ok(())
            }
            Event::Checkpoint { state, probe_seconds } => {
                let tables = open.shard.sync()?;
                self.write_timing(job, &open, state.step, probe_seconds)?;
                let State { step, files } = state;
                save(&checkpoints(self.dir, job), &self.owner(job), &Checkpoint { step, files, tables })?;
                Ok(())
            }
            Event::Finished(finished) => self.finished(job, &mut open, finished),
        }
    }

    fn finished(&self, job: &Job<'_>, open: &mut Open, finished: Finished) -> anyhow::Result<()> {
        let (name, seed, steps) = (&job.arm.name, job.seed, self.experiment.train.steps);
        self.open.lock().expect("no panic while held").remove(&key(job));
        let (state, step, tensor) = match finished.outcome {
            Outcome::Complete => (Ending::Complete, steps, None),
            Outcome::Diverged { step, tensor } => (Ending::Diverged, step, Some(tensor)),
            Outcome::Stopped(step) => {
                self.progress.line(&format!("  {name} seed {seed}: stopped after step {step}"));
                return Ok(());
            }
        };
        let made = if state == Ending::Complete { steps } else { step.saturating_sub(1) };
        let seconds = self.write_timing(job, open, made, finished.probe_seconds)?;
        let tables = open.shard.sync()?;
        let done = RunEnd { state, step, tensor: tensor.clone(), tables };
        done.write(&part_dir(self.dir, name, seed))?;
        match tensor {
            None => self.progress.line(&format!("  {name} seed {seed}: {seconds:.1} s")),
            Some(tensor) => {
                self.progress.skip(steps - step);
                self.progress.line(&format!("  {name} seed {seed}: diverged at step {step}: {tensor} is not finite"));
            }
        }
        self.draw(seed)
    }

    /// Writes what the run has cost up to `step`, and returns the seconds.
    fn write_timing(&self, job: &Job<'_>, open: &Open, step: u64, probe_seconds: f64) -> Result<f64, FileError> {
        let before = open.before.as_ref().map_or((0.0, 0.0), |row| (row.seconds, row.probe_seconds));
        let seconds = before.0 + open.begun.elapsed().as_secs_f64();
        let probe_seconds = before.1 + probe_seconds;
        let train_seconds = seconds - probe_seconds;
        let tokens = step * (self.experiment.train.batch_size * self.experiment.model.n_ctx) as u64;
        let timing = TimingRow {
            arm: job.arm.name.to_string(),
            seed: job.seed,
            seconds,
            train_seconds,
            probe_seconds,
            tokens_per_second: tokens as f64 / train_seconds,
            started: open.started.clone(),
            backend: self.facts.backend.to_owned(),
            device: self.facts.name.clone(),
            driver: self.facts.driver.clone(),
        };
        write_timing(&part_dir(self.dir, &job.arm.name, job.seed), &timing)?;
        Ok(seconds)
    }

    /// A first picture as soon as the first run is through, then one whenever a seed is through in every arm.
    fn draw(&self, seed: u64) -> anyhow::Result<()> {
        let mut drawn = self.drawn.lock().expect("no panic while held");
        let mut through = true;
        for job in self.all.iter().filter(|job| job.seed == seed) {
            through &= directory::done(self.dir, job)?.is_some();
        }
        if seed != self.experiment.seeds[0] && !through {
            return Ok(());
        }
        report_so_far(self.dir, self.experiment)?;
        if !*drawn {
            let figure = self.dir.join("figures/kurtosis_over_steps.svg");
            self.progress.line(&format!("  first picture: {} (redrawn as runs finish)", figure.display()));
            *drawn = true;
        }
        Ok(())
    }

    fn owner(&self, job: &Job<'_>) -> Owner {
        Owner { identity: self.identity.clone(), arm: job.arm.name.to_string(), seed: job.seed }
    }
}

/// The last update after which every run has a checkpoint, given the steps of each one's; 0 if one was killed before its
/// first and the others after theirs. `None` where there is no such update: one diverged long before the others' last ones.
fn common_step(known: &[Vec<u64>]) -> Option<u64> {
    let (first, others) = known.split_first()?;
    let common = first.iter().copied().filter(|step| others.iter().all(|steps| steps.contains(step))).max();
    let at_first = || known.iter().any(Vec::is_empty) && known.iter().all(|steps| steps.len() <= 1);
    common.or_else(|| at_first().then_some(0))
}

fn key(job: &Job<'_>) -> (String, u64) {
    (job.arm.name.to_string(), job.seed)
}
