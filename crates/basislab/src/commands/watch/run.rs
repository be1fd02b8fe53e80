//! One run as its files tell it. They are only read, and no lock is taken or tried.

use super::curve::Curve;
use crate::live::{Place, Reading};
use basislab_store::{Lock, host};
use basislab_tables::{
    Ending, EvalRow, FAILED, Failure, Follow, NewLines, ResidualRow, RunEnd, StepRow, TableRow, TimingRow, last_step,
    part_dir, read_table, work_dir,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How far a run is, in the order of `RunState::WORDS`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum State {
    Complete,
    Diverged,
    Running,
    Failed,
    Interrupted,
    #[default]
    NotStarted,
}

impl State {
    pub(super) fn has_ended(self) -> bool {
        matches!(self, Self::Complete | Self::Diverged)
    }
}

/// Where a run lies, and what of it is shown.
pub(super) struct Of<'a> {
    pub(super) dir: &'a Path,
    pub(super) arm: &'a basislab_config::RunName,
    pub(super) place: &'a Place,
    pub(super) tokens_per_step: u64,
}

/// A run.
#[derive(Default)]
pub(super) struct Run {
    pub(super) seed: u64,
    pub(super) state: State,
    /// The last update that its files hold.
    pub(super) step: u64,
    pub(super) reading: Reading,
    pub(super) losses: Curve,
    pub(super) values: Curve,
    /// When a file of it last changed.
    pub(super) changed: Option<SystemTime>,
    /// Seconds of an update, probes included.
    pub(super) pace: Option<f64>,
    /// Why it failed.
    pub(super) failure: Option<String>,
    /// Whether there may be more in its files than was read.
    pub(super) is_unread: bool,
    evals: Follow,
    residual: Follow,
    /// The probe that rows were last read of: its step, and sum and number of the values in random bases.
    probe: (Option<u64>, f64, f64),
}

/// A run of which no file has changed for so long is not taken to be running, unless its process is known to live.
const SILENT: Duration = Duration::from_secs(600);

/// Bytes that are read at once.
const BLOCK: u64 = 1 << 20;

impl Run {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Looks at a run whose folder `DIR/parts/ARM/SEED` or `SEED.work` is there, or neither.
    pub(super) fn look(&mut self, of: &Of<'_>, (is_done, is_work): (bool, bool), now: SystemTime) {
        if is_done && self.state.has_ended() {
            return;
        }
        let part = part_dir(of.dir, of.arm, self.seed);
        // It may have ended since its folders were listed.
        let is_done = is_done || (is_work && part.is_dir());
        match if is_done { RunEnd::read(&part) } else { Ok(None) } {
            Ok(Some(end)) => {
                self.state = if end.state == Ending::Complete { State::Complete } else { State::Diverged };
                (self.step, self.failure, self.is_unread) = (end.step, None, true);
                self.changed = modified(&part.join("done.json"));
                self.pace = self.pace_of(&part, of.tokens_per_step);
            }
            // One run whose files cannot be read must not hide the others.
            Err(error) => (self.state, self.failure) = (State::Failed, Some(error.to_string())),
            Ok(None) if is_work => self.look_at_work(of, now),
            Ok(None) if is_done => self.state = State::Interrupted,
            Ok(None) => *self = Self::new(self.seed),
        }
    }

    fn look_at_work(&mut self, of: &Of<'_>, now: SystemTime) {
        let work = work_dir(of.dir, of.arm, self.seed);
        let writer = newest_writer(&work);
        let failed = work.join(FAILED).is_file();
        self.failure = Failure::read(&work).ok().flatten().map(|failure| failure.reason);
        self.changed = modified(&work);
        if let Some(writer) = &writer {
            let steps = writer.join(StepRow::TABLE.file);
            for path in [&steps, &writer.join("checkpoints"), writer] {
                self.changed = self.changed.max(modified(path));
            }
            self.step = last_step(&steps).ok().flatten().unwrap_or(0);
            self.pace = self.pace_of(writer, of.tokens_per_step);
        } else {
            // Its process is just making it, or removing it.
            self.step = if self.state == State::Running { self.step } else { 0 };
        }
        let silent = self.changed.and_then(|changed| now.duration_since(changed).ok()).is_some_and(|age| age > SILENT);
        self.state = match Lock::record(&work).and_then(|(process, on)| lives(process, &on)) {
            _ if failed => State::Failed,
            Some(true) => State::Running,
            Some(false) => State::Interrupted,
            None if writer.is_none() || silent => State::Interrupted,
            None => State::Running,
        };
        self.is_unread = true;
    }

    /// Reads what is new in the run's tables. Says whether all was read in time.
    pub(super) fn read(&mut self, of: &Of<'_>, until: Instant) -> bool {
        if !self.is_unread {
            return true;
        }
        let folder = if self.state.has_ended() {
            Some(part_dir(of.dir, of.arm, self.seed))
        } else {
            newest_writer(&work_dir(of.dir, of.arm, self.seed))
        };
        // Files that are gone are looked for again in the next round.
        let Some(folder) = folder else { return true };
        while let Ok(new) = self.evals.read(&folder.join(EvalRow::TABLE.file), BLOCK) {
            self.add_losses(&new);
            if new.is_all {
                break;
            }
            if Instant::now() >= until {
                return false;
            }
        }
        while let Ok(new) = self.residual.read(&folder.join(ResidualRow::TABLE.file), BLOCK) {
            self.add_values(&new, of.place);
            if new.is_all {
                break;
            }
            if Instant::now() >= until {
                return false;
            }
        }
        self.is_unread = false;
        true
    }

    fn add_losses(&mut self, new: &NewLines) {
        if new.restarted {
            self.losses = Curve::default();
            (self.reading.loss, self.reading.above_floor) = (None, None);
        }
        for row in new.rows::<EvalRow>() {
            self.losses.add(row.step, row.loss);
            (self.reading.loss, self.reading.above_floor) = (row.loss, row.loss_above_floor);
        }
    }

    fn add_values(&mut self, new: &NewLines, place: &Place) {
        if new.restarted {
            self.values = Curve::default();
            self.probe = Default::default();
            (self.reading.value, self.reading.null) = (None, None);
        }
        for row in new.rows::<ResidualRow>() {
            if self.probe.0 != Some(row.step) {
                self.probe = (Some(row.step), 0.0, 0.0);
                (self.reading.value, self.reading.null) = (None, None);
            }
            match place.has(row.site, row.tokens, row.basis, &row.metric) {
                Some(true) => {
                    self.values.add(row.step, row.value);
                    self.reading.value = row.value;
                }
                Some(false) => {
                    let (_, sum, number) = &mut self.probe;
                    (*sum, *number) = row.value.map_or((*sum, *number), |value| (*sum + value, *number + 1.0));
                    self.reading.null = (*number > 0.0).then(|| *sum / *number);
                }
                None => {}
            }
        }
    }

    /// By the run's times, which are written with each checkpoint; before the first one, by those of its files.
    fn pace_of(&self, folder: &Path, tokens_per_step: u64) -> Option<f64> {
        let made = |row: &TimingRow| (row.tokens_per_second * row.train_seconds / tokens_per_step as f64).round();
        let row = read_table::<TimingRow>(folder).ok().and_then(|rows| rows.into_iter().next());
        if let Some(row) = row.filter(|row| made(row) >= 1.0) {
            return Some(row.seconds / made(&row));
        }
        let [begun, last] = ["run.json", StepRow::TABLE.file].map(|file| modified(&folder.join(file)));
        let seconds = last?.duration_since(begun?).ok()?.as_secs_f64();
        (self.step > 0 && seconds > 0.0).then(|| seconds / self.step as f64)
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// The folder in which a process last wrote.
fn newest_writer(work: &Path) -> Option<PathBuf> {
    let folders = fs::read_dir(work).ok()?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).max_by_key(|path| (modified(&path.join(StepRow::TABLE.file)), path.clone()))
}

/// Whether a process lives; `None` where this computer cannot say.
fn lives(process: u32, on: &str) -> Option<bool> {
    if on != host() {
        return None;
    }
    #[cfg(unix)]
    {
        let process = rustix::process::Pid::from_raw(i32::try_from(process).ok()?)?;
        // Another user's answers with an error of its own.
        Some(rustix::process::test_kill_process(process) != Err(rustix::io::Errno::SRCH))
    }
    #[cfg(not(unix))]
    {
        let _ = process;
        None
    }
}
