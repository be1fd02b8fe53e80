use crate::run::{Event, Job};
use crate::stack::{Sink, Stack};
use crate::state::State;
use crate::update::Ahead;
use basislab_config::{Arm, Experiment};
use basislab_data::Corpus;
use burn::tensor::Device;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All updates were made.
    Complete,
    /// Something was not finite at this update (1-based); it was not made.
    Diverged {
        /// The update.
        step: u64,
        /// What was not finite first.
        tensor: String,
    },
    /// It was told to stop after this update, and its last checkpoint is of then.
    Stopped(u64),
}

/// How a run ended and what looking cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Complete, diverged or stopped.
    pub outcome: Outcome,
    /// Wall-clock seconds spent in probes.
    pub probe_seconds: f64,
}

/// What all runs of an experiment share.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The experiment.
    pub experiment: &'a Experiment,
    /// Its corpus, opened.
    pub corpus: &'a Corpus,
    /// Where to compute, without autodiff.
    pub device: &'a Device,
    /// Updates that may be under way before their losses are read: 1 where the host computes itself, more where it would
    /// only wait for a device.
    pub ahead: usize,
}

/// When to make checkpoints and when to stop. Decides no number.
#[derive(Debug, Clone, Copy)]
pub struct Control<'a> {
    /// Once set, every run stops after its current update, with a checkpoint.
    pub stop: &'a AtomicBool,
    /// Updates between checkpoints at most.
    pub checkpoint_steps: u64,
    /// Time between checkpoints at most.
    pub checkpoint_interval: Duration,
}

/// Trains one arm with one seed, from the beginning or from `start`: [`train_together`] with a stack of one.
///
/// # Errors
/// What `sink` returns, and a `start` of another run; a diverged run is an [`Outcome`].
pub fn train(
    setting: Setting<'_>,
    Job { arm, seed }: Job<'_>,
    start: Option<&State>,
    control: Control<'_>,
    sink: &mut dyn FnMut(Event) -> anyhow::Result<()>,
) -> anyhow::Result<Finished> {
    let mut all = train_together(setting, arm, &[(seed, start)], control, &mut |_, event| sink(event))?;
    Ok(all.remove(0))
}

/// Trains seeds of one arm as one batched model, from the beginning or from states after the same update. `sink` gets the
/// rows of each update and of each probe as they are made, and checkpoints, with the number of the seed in `seeds`. The
/// last state is always one, made before the last probe.
///
/// # Errors
/// What `sink` returns, and a `start` of another run; a diverged run is an [`Outcome`].
///
/// # Panics
/// If `seeds` is empty, or they start after different updates.
pub fn train_together(
    setting: Setting<'_>,
    arm: &Arm,
    seeds: &[(u64, Option<&State>)],
    control: Control<'_>,
    sink: &mut Sink<'_>,
) -> anyhow::Result<Vec<Finished>> {
    std::thread::scope(|beside| {
        let mut stack = Stack::new(setting, arm, seeds, beside, sink)?;
        let outcome = updates(&mut stack, setting, seeds[0].1.map_or(0, |state| state.step), control)?;
        stack.finish(&outcome)
    })
}

/// All updates after `step`, with looks and checkpoints between them.
fn updates(
    stack: &mut Stack<'_, '_>,
    setting: Setting<'_>,
    mut step: u64,
    control: Control<'_>,
) -> anyhow::Result<Outcome> {
    let (train, at_once) = (&setting.experiment.train, setting.ahead <= 1 && stack.is_single());
    let probe_steps = setting.experiment.probe.steps(train.steps);
    let is_probe = |step: u64| probe_steps.binary_search(&step).is_ok();
    let (mut saved, mut flight) = ((step, Instant::now()), Ahead::default());
    let outcome = loop {
        if is_probe(step) && !stack.probe(step, control.stop)? {
            break Outcome::Stopped(step);
        }
        if step == train.steps || stack.is_over() {
            break Outcome::Complete;
        }
        step += 1;
        let stop = || control.stop.load(Ordering::Relaxed) && step < train.steps;
        let due = step - saved.0 >= control.checkpoint_steps || saved.1.elapsed() >= control.checkpoint_interval;
        let save = due || step == train.steps;
        let made = if at_once {
            vec![vec![stack.update(step)]]
        } else {
            stack.update_ahead(step, &mut flight);
            let look = save || stop() || is_probe(step) || flight.unread() >= setting.ahead;
            if look { flight.read() } else { Vec::new() }
        };
        for (step, seen) in (step + 1 - made.len() as u64..).zip(made) {
            stack.record(step, &seen)?;
        }
        if save {
            stack.save(step)?;
            saved = (step, Instant::now());
        }
        if stop() && flight.unread() == 0 {
            break Outcome::Stopped(step);
        }
    };
    if outcome == Outcome::Stopped(step) && saved.0 < step {
        // Where it goes on: after its last update. If it was within a probe, no row of that was written.
        stack.save(step)?;
    }
    Ok(outcome)
}
