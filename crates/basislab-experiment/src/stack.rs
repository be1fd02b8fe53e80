//! Seeds of one arm that are trained as one model; most often one.

use crate::observe::{HeldOut, Look, look, probe_rows};
use crate::run::{Event, Job};
use crate::state::State;
use crate::train::{Finished, Outcome, Setting};
use crate::update::{Ahead, Made, Trainee, not_finite, prepare, update};
use basislab_config::Arm;
use basislab_report::{Row, StepRow};
use std::panic::resume_unwind;
use std::sync::atomic::AtomicBool;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Instant;

/// The seeds, their common trainee, and where their rows go.
pub(crate) struct Stack<'scope, 'env> {
    setting: Setting<'env>,
    arm: &'env Arm,
    lanes: Vec<Lane>,
    trainee: Trainee,
    /// For which looks made the updates wait.
    probe_seconds: f64,
    /// The last look, while a thread of its own measures what was seen and the device goes on.
    measuring: Option<ScopedJoinHandle<'scope, Measured>>,
    beside: &'scope Scope<'scope, 'env>,
    sink: &'env mut Sink<'env>,
}

/// Where rows and checkpoints go, with the number of their seed in the stack.
pub(crate) type Sink<'a> = dyn FnMut(usize, Event) -> anyhow::Result<()> + 'a;

/// Rows, with the number of their seed in the stack.
type Measured = Vec<(usize, Vec<Row>)>;

/// What was seen of one seed, not yet measured.
struct Seen {
    lane: usize,
    seed: u64,
    floor: Option<f64>,
    look: Look,
}

/// One seed.
struct Lane {
    seed: u64,
    held_out: HeldOut,
    /// Set once it has diverged; it makes no rows after that.
    over: Option<Outcome>,
}

impl<'scope, 'env> Stack<'scope, 'env> {
    pub(crate) fn new(
        setting: Setting<'env>,
        arm: &'env Arm,
        seeds: &[(u64, Option<&State>)],
        beside: &'scope Scope<'scope, 'env>,
        sink: &'env mut Sink<'env>,
    ) -> anyhow::Result<Self> {
        let Setting { experiment, corpus, device, .. } = setting;
        let (mut lanes, mut trainees) = (Vec::new(), Vec::new());
        for &(seed, start) in seeds {
            let mut trainee = prepare(experiment, arm, seed, corpus.d_vocab(), device);
            start.map_or(Ok(()), |state| trainee.restore(state))?;
            trainees.push(trainee);
            lanes.push(Lane { seed, held_out: HeldOut::new(experiment, corpus, seed), over: None });
        }
        let trainee = if lanes.len() == 1 { trainees.remove(0) } else { Trainee::stacked(&trainees) };
        Ok(Self { setting, arm, lanes, trainee, probe_seconds: 0.0, measuring: None, beside, sink })
    }

    /// Looks at every seed that has not diverged; `false` once `stop` is set. All seeds or none: a look that was cut short
    /// writes no row, and is done again. Where a device makes the updates, it goes on while what was seen is measured, and
    /// the rows are written by a later call.
    pub(crate) fn probe(&mut self, step: u64, stop: &AtomicBool) -> anyhow::Result<bool> {
        self.settle()?;
        let begun = Instant::now();
        let (Setting { experiment, ahead, .. }, arm) = (self.setting, self.arm);
        let look = |&i: &usize| {
            let Lane { seed, held_out: HeldOut { sequences, floor }, .. } = &self.lanes[i];
            let (measured, batch) = (experiment.probe.residual_sequences, experiment.train.batch_size);
            let look = look(&self.of_lane(i).model, sequences, measured, batch, stop)?;
            Some(Seen { lane: i, seed: *seed, floor: *floor, look })
        };
        let seen: Option<Vec<Seen>> = self.alive().iter().map(look).collect();
        let Some(seen) = seen else { return Ok(false) };
        let broken: Vec<usize> =
            seen.iter().filter(|seen| !seen.look.loss().is_finite()).map(|seen| seen.lane).collect();
        let measure = move |stop: &AtomicBool| -> Option<Measured> {
            let rows = |Seen { lane, seed, floor, look }| {
                let seen = look.observation();
                Some((lane, probe_rows(experiment, Job { arm, seed }, step, &seen, floor, stop)?))
            };
            seen.into_iter().map(rows).collect()
        };
        let rows = if ahead > 1 {
            let whole = move || measure(&AtomicBool::new(false)).expect("nothing stops it");
            self.measuring = Some(self.beside.spawn(whole));
            Some(Vec::new())
        } else {
            measure(stop)
        };
        self.probe_seconds += begun.elapsed().as_secs_f64();
        let Some(rows) = rows else { return Ok(false) };
        self.write(rows)?;
        for i in broken {
            // The update itself broke the weights; nothing after it could be a number.
            let row = self.row(i, step, None);
            (self.sink)(i, row)?;
            let (model, sequences) = (self.of_lane(i).model, &self.lanes[i].held_out.sequences);
            let tensor = not_finite(&model, &experiment.train, sequences, &[]);
            self.lanes[i].over = Some(Outcome::Diverged { step, tensor });
        }
        Ok(true)
    }

    /// Waits for what is measured beside the updates, and writes it.
    fn settle(&mut self) -> anyhow::Result<()> {
        let Some(measuring) = self.measuring.take() else { return Ok(()) };
        let begun = Instant::now();
        let rows = measuring.join().unwrap_or_else(|reason| resume_unwind(reason));
        self.probe_seconds += begun.elapsed().as_secs_f64();
        self.write(rows)
    }

    fn write(&mut self, rows: Measured) -> anyhow::Result<()> {
        rows.into_iter().try_for_each(|(i, rows)| (self.sink)(i, Event::Rows(rows)))
    }

    /// Makes update `step` of the only seed and waits for it.
    pub(crate) fn update(&mut self, step: u64) -> Made {
        let (lr, batch) = (self.lr(step), self.batch(0, step));
        update(&mut self.trainee, &self.setting.experiment.train, lr, &batch).ok()
    }

    /// Makes update `step` of all seeds and waits for nothing.
    pub(crate) fn update_ahead(&mut self, step: u64, flight: &mut Ahead) {
        let batches: Vec<Vec<Vec<u32>>> = (0..self.lanes.len()).map(|i| self.batch(i, step)).collect();
        let batches: Vec<&[Vec<u32>]> = batches.iter().map(Vec::as_slice).collect();
        let lr = self.lr(step);
        flight.update(&mut self.trainee, &self.setting.experiment.train, lr, &batches);
    }

    /// Writes what update `step` was, seed by seed.
    pub(crate) fn record(&mut self, step: u64, seen: &[Made]) -> anyhow::Result<()> {
        for i in self.alive() {
            let row = self.row(i, step, seen[i]);
            (self.sink)(i, row)?;
            if seen[i].is_none() {
                // The weights are still those before this update: trying it again says what was not finite.
                let (mut trainee, lr, batch) = (self.of_lane(i), self.lr(step), self.batch(i, step));
                let again = update(&mut trainee, &self.setting.experiment.train, lr, &batch);
                let tensor = again.err().unwrap_or_else(|| "loss or gradient norm".to_owned());
                self.lanes[i].over = Some(Outcome::Diverged { step, tensor });
            }
        }
        Ok(())
    }

    /// Makes a checkpoint of every seed that has not diverged, after the rows of every look before it.
    pub(crate) fn save(&mut self, step: u64) -> anyhow::Result<()> {
        self.settle()?;
        for i in self.alive() {
            let (state, probe_seconds) = (self.of_lane(i).state(step), self.probe_seconds);
            (self.sink)(i, Event::Checkpoint { state, probe_seconds })?;
        }
        Ok(())
    }

    /// Whether it is one seed.
    pub(crate) fn is_single(&self) -> bool {
        self.lanes.len() == 1
    }

    /// Whether every seed has diverged.
    pub(crate) fn is_over(&self) -> bool {
        self.alive().is_empty()
    }

    /// Writes what is left, and tells how each seed ended, where those that have not diverged ended with `outcome`.
    pub(crate) fn finish(mut self, outcome: &Outcome) -> anyhow::Result<Vec<Finished>> {
        self.settle()?;
        let probe_seconds = self.probe_seconds;
        let finished = |lane: Lane| Finished { outcome: lane.over.unwrap_or_else(|| outcome.clone()), probe_seconds };
        Ok(self.lanes.into_iter().map(finished).collect())
    }

    fn alive(&self) -> Vec<usize> {
        (0..self.lanes.len()).filter(|&i| self.lanes[i].over.is_none()).collect()
    }

    fn of_lane(&self, i: usize) -> Trainee {
        match self.lanes.len() {
            1 => self.trainee.clone(),
            stack => self.trainee.one_of(i, stack),
        }
    }

    fn lr(&self, step: u64) -> f64 {
        self.arm.optimizer.lr() * self.setting.experiment.train.lr_factor(step.saturating_sub(1))
    }

    fn batch(&self, i: usize, step: u64) -> Vec<Vec<u32>> {
        let Setting { experiment, corpus, .. } = self.setting;
        corpus.batch(self.lanes[i].seed, step, experiment.train.batch_size, experiment.model.n_ctx + 1)
    }

    /// What update `step` of a seed was: loss and gradient norm, or nothing where they are not finite.
    fn row(&self, i: usize, step: u64, seen: Made) -> Event {
        let experiment = self.setting.experiment;
        let tokens = step * (experiment.train.batch_size * experiment.model.n_ctx) as u64;
        let status = if seen.is_some() { "ok" } else { "diverged" };
        let (arm, seed, (train_loss, grad_norm)) = (self.arm.name.to_string(), self.lanes[i].seed, seen.unzip());
        let (lr, status) = (self.lr(step), status.to_owned());
        Event::Rows(vec![Row::Step(StepRow { arm, seed, step, tokens, lr, train_loss, grad_norm, status })])
    }
}
