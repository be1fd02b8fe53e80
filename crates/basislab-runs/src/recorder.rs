//! One run's files while it trains: a folder that only this process writes, published by a rename.

use crate::error::RunsError;
use crate::held::HeldRun;
use crate::plan::Job;
use crate::rows::{rows, step_row};
use basislab_config::RunName;
use basislab_store::{Checkpoint, CheckpointError, FileError, TensorError, newest, remove, save, steps, sync_folder};
use basislab_tables::{
    Ending, RUN_TABLES, RunEnd, RunRecord, Shard, TableRow, TimingRow, part_dir, read_table, tables_reach, work_dir,
    write_timing,
};
use basislab_train::{Event, Finished, Outcome, State};
use jiff::Timestamp;
use serde_json::Value;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A run while it trains.
pub(crate) struct RunRecorder {
    arm: RunName,
    seed: u64,
    /// Tokens of one update, and the last update.
    tokens_per_step: u64,
    last: u64,
    /// Where this process writes.
    own: PathBuf,
    shard: Shard,
    identity: Value,
    timing: Timing,
}

/// What the run has cost.
struct Timing {
    begun: Instant,
    before: Option<TimingRow>,
    started: String,
    /// Backend, device and driver.
    device: [String; 3],
}

/// What a run is resumed from.
struct Found {
    folder: PathBuf,
    checkpoint: Checkpoint,
}

impl RunRecorder {
    /// Opens a folder of its own for a run, with the state of the newest checkpoint that any process left of it, if there is
    /// one. `record` is what the run is where it begins here. What other processes left is removed only where the run is locked.
    /// `usable` says whether the run can be resumed from a state. An error leaves no folder behind.
    ///
    /// # Errors
    /// Checkpoints of which none can be used, or files that cannot be written.
    pub(crate) fn open(
        dir: &Path,
        job: &Job<'_>,
        mut record: RunRecord,
        device: [String; 3],
        held: &HeldRun,
        usable: &dyn Fn(&State) -> Result<(), TensorError>,
        warn: &mut dyn FnMut(&CheckpointError),
    ) -> Result<(Self, Option<State>), RunsError> {
        let (arm, seed, locked) = (&job.arm.name, job.seed, held.is_locked());
        let part = part_dir(dir, arm, seed);
        let identity = serde_json::to_value(&record.identity).expect("strings and integers");
        let mut candidates = work_folders(&work_dir(dir, arm, seed))?;
        candidates.extend(part.is_dir().then_some(part));
        let found = best_checkpoint(&candidates, &identity, locked, usable, warn)?;
        let before = found.as_ref().and_then(|found| read_table::<TimingRow>(&found.folder).ok()?.into_iter().next());
        // What was registered when the run first began stays so, even if it left no checkpoint.
        let resumed = found.as_ref().map(|found| found.folder.clone());
        for folder in resumed.iter().chain(&candidates) {
            // A copy that was not finished left the record of another experiment's run.
            let began_here = |record: &RunRecord| resumed.as_ref() == Some(folder) || !record.reused;
            if let Some(earlier) = RunRecord::read(folder)?.filter(began_here) {
                record = continued(earlier, record);
                break;
            }
        }
        let own = held.folder()?;
        let filled = fill(&own, &record, &identity, found, before.as_ref(), locked);
        if filled.is_err() {
            // Without locks no other process removes it. The first error counts.
            let _ = remove(&own);
        }
        let (shard, state) = filled?;
        if locked {
            candidates.iter().try_for_each(|folder| remove(folder))?;
        }
        let started = before.as_ref().map_or_else(|| Timestamp::now().to_string(), |row| row.started.clone());
        let timing = Timing { begun: Instant::now(), before, started, device };
        let (tokens_per_step, last) = (tokens_per_step(job), job.arm.run.train.steps);
        Ok((Self { arm: arm.clone(), seed, tokens_per_step, last, own, shard, identity, timing }, state))
    }

    /// Writes what the run tells. Rows reach their files with each probe, and the disk with each checkpoint.
    pub(crate) fn record(&mut self, event: Event) -> Result<(), RunsError> {
        match event {
            Event::Step(stats) => self.shard.push(step_row(&self.arm, self.seed, &stats))?,
            Event::Probe(probe) => {
                for row in rows(&self.arm, self.seed, &probe) {
                    self.shard.push(row)?;
                }
                self.shard.commit()?;
            }
            Event::Checkpoint { state: State { step, files }, probe_seconds } => {
                let tables = self.shard.sync()?;
                self.write_timing(step, probe_seconds)?;
                save(&self.own.join("checkpoints"), &self.identity, &Checkpoint { step, files, tables })?;
            }
        }
        Ok(())
    }

    /// Ends the run, and publishes it unless it was stopped: how it ended, and its seconds.
    pub(crate) fn finish(mut self, finished: Finished, held: &HeldRun) -> Result<Option<(RunEnd, f64)>, RunsError> {
        let (state, step, tensor) = match finished.outcome {
            Outcome::Complete => (Ending::Complete, self.last, None),
            Outcome::Diverged { step, tensor } => (Ending::Diverged, step, Some(tensor)),
            Outcome::Stopped(_) => return Ok(None),
        };
        let made = if state == Ending::Complete { step } else { step.saturating_sub(1) };
        let seconds = self.write_timing(made, finished.probe_seconds)?;
        let tables = self.shard.sync()?;
        let end = RunEnd { state, step, tensor, tables };
        end.write(&self.own)?;
        held.publish(&self.own, &end)?;
        Ok(Some((end, seconds)))
    }

    /// Writes what the run has cost up to `step`, and returns the seconds.
    fn write_timing(&self, step: u64, probe_seconds: f64) -> Result<f64, FileError> {
        let Timing { begun, before, started, device: [backend, device, driver] } = &self.timing;
        let (seconds, probes) = before.as_ref().map_or((0.0, 0.0), |row| (row.seconds, row.probe_seconds));
        let (seconds, probe_seconds) = (seconds + begun.elapsed().as_secs_f64(), probes + probe_seconds);
        let train_seconds = seconds - probe_seconds;
        let timing = TimingRow {
            arm: self.arm.clone(),
            seed: self.seed,
            seconds,
            train_seconds,
            probe_seconds,
            tokens_per_second: (step * self.tokens_per_step) as f64 / train_seconds,
            started: started.clone(),
            backend: backend.clone(),
            device: device.clone(),
            driver: driver.clone(),
        };
        write_timing(&self.own, &timing)?;
        Ok(seconds)
    }
}

fn tokens_per_step(job: &Job<'_>) -> u64 {
    (job.arm.run.train.batch_size * job.arm.run.model.n_ctx) as u64
}

/// Writes the record of a run, and the tables and the state that it is resumed from, into a new folder.
fn fill(
    own: &Path,
    record: &RunRecord,
    identity: &Value,
    found: Option<Found>,
    before: Option<&TimingRow>,
    locked: bool,
) -> Result<(Shard, Option<State>), RunsError> {
    // Before any checkpoint: what a kill leaves says what it is.
    record.write(own)?;
    let Some(Found { folder, checkpoint }) = found else { return Ok((Shard::create(own)?, None)) };
    let mut shard = match copied(&folder, own, &checkpoint)? {
        Some(shard) => shard,
        // Another process may have published the run meanwhile, or have continued it.
        None if !locked => return Ok((Shard::create(own)?, None)),
        None => {
            let what = "found tables that changed while they were copied, expected nobody else to write there";
            return Err(RunsError::identity(format!("{}: {what}", folder.display())));
        }
    };
    // On the disk before the folder that they come from is removed.
    shard.sync()?;
    before.map_or(Ok(()), |row| write_timing(own, row))?;
    save(&own.join("checkpoints"), identity, &checkpoint)?;
    [own, own.parent().unwrap_or(own)].into_iter().try_for_each(sync_folder)?;
    Ok((shard, Some(State { step: checkpoint.step, files: checkpoint.files })))
}

/// The record of a run that another process began.
fn continued(earlier: RunRecord, here: RunRecord) -> RunRecord {
    let mut builds = earlier.builds;
    for build in here.builds {
        if !builds.contains(&build) {
            builds.push(build);
        }
    }
    RunRecord { builds, ..earlier }
}

/// The folders in which processes have worked on a run.
pub(crate) fn work_folders(work: &Path) -> Result<Vec<PathBuf>, FileError> {
    let fail = |error| FileError::new("read", work, error);
    let mut all = Vec::new();
    match fs::read_dir(work) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(fail(error)),
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(fail)?;
                if entry.file_type().map_err(fail)?.is_dir() {
                    all.push(entry.path());
                }
            }
        }
    }
    all.sort();
    Ok(all)
}

/// The last step of which a run that has not ended has a checkpoint.
///
/// # Errors
/// A folder that cannot be read.
pub fn newest_checkpoint(dir: &Path, job: &Job<'_>) -> Result<Option<u64>, FileError> {
    let mut newest = None;
    let own = part_dir(dir, &job.arm.name, job.seed);
    for folder in work_folders(&work_dir(dir, &job.arm.name, job.seed))?.into_iter().chain([own]) {
        newest = newest.max(steps(&folder.join("checkpoints"))?.first().copied());
    }
    Ok(newest)
}

/// The newest checkpoint in any of the folders. A folder whose checkpoints are all damaged is an error unless another one
/// has a checkpoint that is whole, or unless no lock is held.
fn best_checkpoint(
    folders: &[PathBuf],
    identity: &Value,
    locked: bool,
    usable: &dyn Fn(&State) -> Result<(), TensorError>,
    warn: &mut dyn FnMut(&CheckpointError),
) -> Result<Option<Found>, RunsError> {
    let (mut best, mut damaged): (Option<Found>, Option<CheckpointError>) = (None, None);
    for folder in folders {
        let mut fits = |checkpoint: &Checkpoint| {
            if !tables_reach(folder, &checkpoint.tables)? {
                return Ok(Some("the run's tables are not what they were when it was made".to_owned()));
            }
            let state = State { step: checkpoint.step, files: checkpoint.files.clone() };
            Ok(usable(&state).err().map(|error| format!("no state of this run: {error}")))
        };
        match newest(&folder.join("checkpoints"), identity, &mut fits, warn) {
            Ok(None) => {}
            Ok(Some(checkpoint)) => {
                if best.as_ref().is_none_or(|best| best.checkpoint.step < checkpoint.step) {
                    best = Some(Found { folder: folder.clone(), checkpoint });
                }
            }
            // Without a lock another process may be writing there.
            Err(CheckpointError::Damaged { .. } | CheckpointError::File(_)) if !locked => {}
            Err(error @ CheckpointError::Damaged { .. }) => damaged = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    match (best, damaged) {
        (None, Some(error)) => Err(error.into()),
        (best, _) => Ok(best),
    }
}

/// Copies a run's tables as far as they go at a checkpoint, and opens them; `None` where they are not what they were then.
fn copied(from: &Path, own: &Path, checkpoint: &Checkpoint) -> Result<Option<Shard>, FileError> {
    for table in RUN_TABLES {
        let (from, to) = (from.join(table.file), own.join(table.file));
        match fs::copy(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            copied => _ = copied.map_err(|error| FileError::new("write", &to, error))?,
        }
    }
    Shard::resume(own, &checkpoint.tables)
}

/// The tables of a run, with the header of each.
pub(crate) fn table_files() -> impl Iterator<Item = &'static str> {
    RUN_TABLES.iter().map(|table| table.file).chain([TimingRow::TABLE.file])
}
