use crate::observe::{HeldOut, probe_rows};
use crate::run::{Event, Job};
use crate::state::State;
use crate::update::{Ahead, Trainee, not_finite, prepare, update};
use basislab_config::{Arm, Experiment};
use basislab_data::Corpus;
use basislab_report::{Row, StepRow};
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

/// One seed of a stack.
struct Lane {
    seed: u64,
    held_out: HeldOut,
    /// Set once it has diverged; it makes no rows after that.
    over: Option<Outcome>,
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
    Setting { experiment, corpus, device, ahead }: Setting<'_>,
    arm: &Arm,
    seeds: &[(u64, Option<&State>)],
    control: Control<'_>,
    sink: &mut dyn FnMut(usize, Event) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Finished>> {
    let Experiment { train, probe, model: spec, .. } = experiment;
    let lr = |step: u64| arm.optimizer.lr() * train.lr_factor(step.saturating_sub(1));
    let batch = |seed, step| corpus.batch(seed, step, train.batch_size, spec.n_ctx + 1);
    let row = |seed: u64, step: u64, seen: Option<(f64, f64)>| {
        let tokens = step * (train.batch_size * spec.n_ctx) as u64;
        let status = if seen.is_some() { "ok" } else { "diverged" };
        let (arm, status, (train_loss, grad_norm)) = (arm.name.to_string(), status.to_owned(), seen.unzip());
        Event::Rows(vec![Row::Step(StepRow { arm, seed, step, tokens, lr: lr(step), train_loss, grad_norm, status })])
    };
    let (mut lanes, mut trainees) = (Vec::new(), Vec::new());
    for &(seed, start) in seeds {
        let mut trainee = prepare(experiment, arm, seed, corpus.d_vocab(), device);
        start.map_or(Ok(()), |state| trainee.restore(state))?;
        trainees.push(trainee);
        lanes.push(Lane { seed, held_out: HeldOut::new(experiment, corpus, seed), over: None });
    }
    let stack = lanes.len();
    let mut trainee = if stack == 1 { trainees.remove(0) } else { Trainee::stacked(&trainees) };
    drop(trainees);
    let of_lane = |trainee: &Trainee, lane| if stack == 1 { trainee.clone() } else { trainee.one_of(lane, stack) };
    let probe_steps = probe.steps(train.steps);
    let is_probe = |step: u64| probe_steps.binary_search(&step).is_ok();
    let mut step = seeds[0].1.map_or(0, |state| state.step);
    let (mut probe_seconds, mut saved, mut flight) = (0.0, (step, Instant::now()), Ahead::default());
    let alive = |lanes: &[Lane]| (0..stack).filter(|&i| lanes[i].over.is_none()).collect::<Vec<usize>>();
    let outcome = loop {
        if is_probe(step) {
            let begun = Instant::now();
            let look = |&i: &usize| {
                let (seed, held_out) = (lanes[i].seed, &lanes[i].held_out);
                probe_rows(experiment, arm, seed, step, &of_lane(&trainee, i).model, held_out, control.stop)
            };
            // All lanes or none: a probe that was cut short is done again.
            let rows: Option<Vec<Vec<Row>>> = alive(&lanes).iter().map(look).collect();
            probe_seconds += begun.elapsed().as_secs_f64() / stack as f64;
            let Some(rows) = rows else { break Outcome::Stopped(step) };
            for (i, rows) in alive(&lanes).into_iter().zip(rows) {
                let finite = matches!(rows.first(), Some(Row::Eval(row)) if row.loss.is_some());
                sink(i, Event::Rows(rows))?;
                if !finite {
                    // The update itself broke the weights; nothing after it could be a number.
                    sink(i, row(lanes[i].seed, step, None))?;
                    let tensor = not_finite(&of_lane(&trainee, i).model, train, &lanes[i].held_out.sequences, &[]);
                    lanes[i].over = Some(Outcome::Diverged { step, tensor });
                }
            }
        }
        if step == train.steps || alive(&lanes).is_empty() {
            break Outcome::Complete;
        }
        step += 1;
        let batches: Vec<Vec<Vec<u32>>> = lanes.iter().map(|lane| batch(lane.seed, step)).collect();
        let stop = || control.stop.load(Ordering::Relaxed) && step < train.steps;
        let due = step - saved.0 >= control.checkpoint_steps || saved.1.elapsed() >= control.checkpoint_interval;
        let save = due || step == train.steps;
        let made = if stack == 1 && ahead <= 1 {
            vec![vec![update(&mut trainee, train, lr(step), &batches[0]).ok()]]
        } else {
            let batches: Vec<&[Vec<u32>]> = batches.iter().map(Vec::as_slice).collect();
            flight.update(&mut trainee, train, lr(step), &batches);
            let look = save || stop() || is_probe(step) || flight.unread() >= ahead;
            if look { flight.read() } else { Vec::new() }
        };
        for (step, seen) in (step + 1 - made.len() as u64..).zip(made) {
            for i in alive(&lanes) {
                let seed = lanes[i].seed;
                sink(i, row(seed, step, seen[i]))?;
                if seen[i].is_none() {
                    // The weights are still those before this update: trying it again says what was not finite.
                    let again = update(&mut of_lane(&trainee, i), train, lr(step), &batch(seed, step));
                    let tensor = again.err().unwrap_or_else(|| "loss or gradient norm".to_owned());
                    lanes[i].over = Some(Outcome::Diverged { step, tensor });
                }
            }
        }
        if save {
            for i in alive(&lanes) {
                sink(i, Event::Checkpoint { state: of_lane(&trainee, i).state(step), probe_seconds })?;
            }
            saved = (step, Instant::now());
        }
        if stop() && flight.unread() == 0 {
            break Outcome::Stopped(step);
        }
    };
    if outcome == Outcome::Stopped(step) && saved.0 < step {
        // Where it goes on: after its last update. If it was within a probe, no row of that was written.
        for i in alive(&lanes) {
            sink(i, Event::Checkpoint { state: of_lane(&trainee, i).state(step), probe_seconds })?;
        }
    }
    let finished = |lane: Lane| Finished { outcome: lane.over.unwrap_or_else(|| outcome.clone()), probe_seconds };
    Ok(lanes.into_iter().map(finished).collect())
}
