//! The arms of an experiment while this process trains them, one line each.

use crate::live::{Place, Reading, aligned, decimals, mean, short_number, short_time, widths};
use basislab_config::{Experiment, RunName, count};
use basislab_runs::{Job, RunOutcome};
use basislab_tables::{Ending, RunEnd};
use basislab_train::Probe;
use std::collections::BTreeMap;
use std::time::Instant;

/// Arms that have runs to train, in the order of the configuration.
#[derive(Default)]
pub(crate) struct Arms {
    arms: Vec<ArmRuns>,
    /// Whether there is more to show than another step.
    pub(super) changed: bool,
}

struct ArmRuns {
    name: RunName,
    place: Place,
    steps: u64,
    tokens_per_step: u64,
    /// Runs that are planned, those that have ended, and those of them that diverged.
    planned: usize,
    ended: usize,
    diverged: usize,
    /// By seed.
    running: BTreeMap<u64, Running>,
    /// The last probes of runs that have ended here.
    readings: Vec<Reading>,
}

/// A run that this process trains.
struct Running {
    begun: Instant,
    begun_at: u64,
    step: u64,
    reading: Reading,
}

impl Running {
    /// Seconds of an update, probes included.
    fn pace(&self, now: Instant) -> Option<f64> {
        let made = self.step.saturating_sub(self.begun_at);
        (made > 0).then(|| now.duration_since(self.begun).as_secs_f64() / made as f64)
    }
}

impl Arms {
    /// Adds the arms of runs that are to be trained, of all that are planned.
    pub(crate) fn add(&mut self, experiment: &Experiment, planned: &[Job<'_>], todo: &[Job<'_>]) {
        for arm in &experiment.arms {
            let of = |jobs: &[Job<'_>]| jobs.iter().filter(|job| job.arm.name == arm.name).count();
            let (planned, todo) = (of(planned), of(todo));
            if todo == 0 || self.arms.iter().any(|known| known.name == arm.name) {
                continue;
            }
            self.arms.push(ArmRuns {
                name: arm.name.clone(),
                place: Place::of(experiment, arm),
                steps: arm.run.train.steps,
                tokens_per_step: (arm.run.train.batch_size * arm.run.model.n_ctx) as u64,
                planned,
                ended: planned - todo.min(planned),
                diverged: 0,
                running: BTreeMap::new(),
                readings: Vec::new(),
            });
        }
    }

    fn of(&mut self, job: &Job<'_>) -> Option<&mut ArmRuns> {
        self.arms.iter_mut().find(|arm| arm.name == job.arm.name)
    }

    fn run(&mut self, job: &Job<'_>, step: u64, now: Instant) -> Option<&mut Running> {
        let begun = || Running { begun: now, begun_at: step, step, reading: Reading::default() };
        Some(self.of(job)?.running.entry(job.seed).or_insert_with(begun))
    }

    /// A run starts, or resumes, after this update.
    pub(crate) fn begin(&mut self, job: &Job<'_>, step: u64, now: Instant) {
        self.changed = true;
        self.run(job, step, now);
    }

    /// An update was made.
    pub(crate) fn step(&mut self, job: &Job<'_>, step: u64, now: Instant) {
        if let Some(run) = self.run(job, step.saturating_sub(1), now) {
            run.step = step;
        }
    }

    /// A run was probed.
    pub(crate) fn probe(&mut self, job: &Job<'_>, probe: &Probe, now: Instant) {
        let Some(reading) = self.of(job).map(|arm| Reading::of(probe, &arm.place)) else { return };
        if let Some(run) = self.run(job, probe.step, now) {
            run.reading = reading;
        }
        self.changed = true;
    }

    /// A run has ended, or another process has it.
    pub(crate) fn end(&mut self, job: &Job<'_>, outcome: &RunOutcome) {
        self.changed = true;
        let Some(arm) = self.of(job) else { return };
        let run = arm.running.remove(&job.seed);
        match outcome {
            RunOutcome::Trained(RunEnd { state: Ending::Complete, .. }, _) => {
                arm.readings.extend(run.map(|run| run.reading));
            }
            RunOutcome::Trained(..) => arm.diverged += 1,
            RunOutcome::Copied(_) | RunOutcome::AlreadyFinished => {}
            RunOutcome::Stopped(_) | RunOutcome::Busy(_) | RunOutcome::Failed(_) => return,
        }
        arm.ended += 1;
    }

    /// A table for a terminal of that width and height. Where not all arms fit, those that are training come first.
    pub(crate) fn lines(&self, (width, height): (usize, usize), now: Instant) -> Vec<String> {
        let fits = self.arms.len() < height;
        let most = if fits { self.arms.len() } else { height.saturating_sub(2) };
        let mut shown: Vec<&ArmRuns> = self.arms.iter().collect();
        shown.sort_by_key(|arm| !fits && arm.running.is_empty());
        shown.truncate(most);
        // As wide as they will be, so that nothing moves.
        let step = shown.iter().map(|arm| arm.steps.to_string().len()).max().unwrap_or(0);
        let step = format!("{:>1$}", "step", 2 * step + 1);
        let header = ["arm", " done", &step, "  loss", "over floor", "kurtosis", "  null", "tokens/s", "  ETA"];
        let rows: Vec<Vec<String>> =
            [header.map(str::to_owned).to_vec()].into_iter().chain(shown.iter().map(|arm| arm.cells(now))).collect();
        let widths = widths(&rows, width);
        let mut lines: Vec<String> = rows.iter().map(|row| aligned(row, &widths).trim_end().to_owned()).collect();
        if self.arms.len() > most {
            lines.push(crate::live::cut(&format!("and {}", count(self.arms.len() - most, "more arm")), width));
        }
        lines
    }
}

impl ArmRuns {
    fn cells(&self, now: Instant) -> Vec<String> {
        let running: Vec<Reading> = self.running.values().map(|run| run.reading).collect();
        let reading = Reading::mean(if running.is_empty() { &self.readings } else { &running });
        let diverged = if self.diverged > 0 { format!(" ({} diverged)", self.diverged) } else { String::new() };
        let paces = || self.running.values().filter_map(|run| run.pace(now));
        let steps = mean(self.running.values().map(|run| run.step as f64));
        let step = match steps {
            Some(step) => format!("{:.0}/{}", step.floor(), self.steps),
            None if self.ended == self.planned => self.steps.to_string(),
            None => "-".to_owned(),
        };
        let tokens: f64 = paces().map(|pace| self.tokens_per_step as f64 / pace).sum();
        vec![
            self.name.to_string(),
            format!("{}/{}{diverged}", self.ended, self.planned),
            step,
            decimals(reading.loss, 3),
            decimals(reading.above_floor, 3),
            decimals(reading.value, 2),
            decimals(reading.null, 2),
            short_number((tokens > 0.0).then_some(tokens)),
            short_time(self.seconds_to_go(mean(paces()))),
        ]
    }

    /// Until the arm's last run has ended, with as many at once as now.
    fn seconds_to_go(&self, pace: Option<f64>) -> Option<f64> {
        let waiting = self.planned.saturating_sub(self.ended + self.running.len()) as u64;
        let of_running: u64 = self.running.values().map(|run| self.steps.saturating_sub(run.step)).sum();
        Some(pace? * (waiting * self.steps + of_running) as f64 / self.running.len() as f64)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests;
