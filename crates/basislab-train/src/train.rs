use crate::in_flight::InFlight;
use crate::probe::{Probe, Probes};
use crate::state::State;
use crate::trainee::{Trainee, loss_and_gradients, not_finite, update};
use basislab_config::RunSpec;
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

/// How a run ended and what its probes cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Complete, diverged or stopped.
    pub outcome: Outcome,
    /// Seconds during which probes blocked training.
    pub probe_seconds: f64,
}

/// What a run needs besides its configuration.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The run's corpus, opened.
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
    /// Once set, the run stops after its current update, with a checkpoint.
    pub stop: &'a AtomicBool,
    /// Updates between checkpoints at most.
    pub checkpoint_steps: u64,
    /// Time between checkpoints at most.
    pub checkpoint_interval: Duration,
}

/// What a run tells while it trains, in this order.
#[derive(Debug)]
pub enum Event {
    /// An update was made, or was not because of a number that is not finite.
    Step(StepStats),
    /// The model was probed.
    Probe(Probe),
    /// The state after everything so far.
    Checkpoint {
        /// What to resume from.
        state: State,
        /// Seconds during which probes blocked training so far, in this process.
        probe_seconds: f64,
    },
}

/// One update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepStats {
    /// The update, from 1.
    pub step: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Its learning rate.
    pub lr: f64,
    /// Mean loss of the batch before the update, nats per token, and the gradient norm before clipping; `None` where one of
    /// them is not finite: the update was not made.
    pub loss_and_norm: Option<(f64, f64)>,
}

/// Trains a run with one seed, from the beginning or from a state of it. Checkpoints are made as `control` says, and after
/// the last update, before the last probe.
///
/// # Errors
/// What `record` returns, and a state of another run; a diverged run is an [`Outcome`].
pub fn train(
    run: &RunSpec,
    seed: u64,
    on: Context<'_>,
    from: Option<&State>,
    control: Control<'_>,
    record: &mut dyn FnMut(Event) -> anyhow::Result<()>,
) -> anyhow::Result<Finished> {
    let last = run.train.steps;
    let batch = |step| on.corpus.batch(seed, step, run.train.batch_size, run.model.n_ctx + 1);
    let stop_requested = || control.stop.load(Ordering::Relaxed);
    let mut trainee = Trainee::new(run, seed, on.corpus.d_vocab(), on.device);
    let mut step = from.map_or(0, |state| state.step);
    if let Some(state) = from {
        trainee.restore(run, seed, state)?;
    }
    let (mut probes, mut in_flight) = (Probes::new(run, seed, on.corpus), InFlight::new(on.ahead));
    let (mut saved, mut probe_time) = ((step, Instant::now()), Duration::ZERO);
    let outcome = 'run: loop {
        if probes.is_due(step) {
            record_probe(&mut probes, record)?;
            let begun = Instant::now();
            let loss = probes.probe(step, &trainee.model, on.ahead > 1, control.stop);
            probe_time += begun.elapsed();
            match loss {
                None => break Outcome::Stopped(step),
                Some(loss) if !loss.is_finite() => {
                    // The last update broke the weights; nothing after it could be a number.
                    record_probe(&mut probes, record)?;
                    record(Event::Step(stats(run, step, None)))?;
                    let tensor = not_finite(&trainee.model, &run.train, probes.sequences(), &[]);
                    break Outcome::Diverged { step, tensor };
                }
                // Measured between updates, it is there already.
                Some(_) if on.ahead <= 1 => record_probe(&mut probes, record)?,
                Some(_) => {}
            }
        }
        if step == last {
            break Outcome::Complete;
        }
        step += 1;
        if let Some(phase) = run.phase_from(step) {
            trainee.enter(phase, run, seed);
        }
        let (loss, gradients) = loss_and_gradients(&trainee.model, &batch(step), run.train.micro_batches);
        let (gradients, norm) = in_flight.clip(gradients, run.train.clip_norm);
        in_flight.update(&mut trainee, run.lr_factor(step), gradients, (loss, norm));

        let stops = || stop_requested() && step < last;
        let save = step == last
            || step - saved.0 >= control.checkpoint_steps
            || saved.1.elapsed() >= control.checkpoint_interval;
        if !(save || stops() || probes.is_due(step) || in_flight.is_full()) {
            continue;
        }
        let first = step + 1 - in_flight.len() as u64;
        for (step, read) in (first..).zip(in_flight.read()) {
            record(Event::Step(stats(run, step, read)))?;
            if read.is_none() {
                // The weights are still those before this update: trying it again tells what was not finite.
                let again = update(&mut trainee, &run.train, run.lr_factor(step), &batch(step));
                let tensor = again.err().unwrap_or_else(|| "loss or gradient norm".to_owned());
                break 'run Outcome::Diverged { step, tensor };
            }
        }
        // Asked for again: it may have been set while those were recorded, and nothing is under way now.
        let stops = stops();
        if save || stops {
            record_probe(&mut probes, record)?;
            record(Event::Checkpoint { state: trainee.state(step), probe_seconds: probe_time.as_secs_f64() })?;
            saved = (step, Instant::now());
        }
        if stops {
            break Outcome::Stopped(step);
        }
    };
    record_probe(&mut probes, record)?;
    if outcome == Outcome::Stopped(step) && saved.0 < step {
        // It stopped within a probe, which is made again after a restart.
        record(Event::Checkpoint { state: trainee.state(step), probe_seconds: probe_time.as_secs_f64() })?;
    }
    Ok(Finished { outcome, probe_seconds: probe_time.as_secs_f64() })
}

fn record_probe(probes: &mut Probes, record: &mut dyn FnMut(Event) -> anyhow::Result<()>) -> anyhow::Result<()> {
    probes.take().map_or(Ok(()), |probe| record(Event::Probe(probe)))
}

fn stats(run: &RunSpec, step: u64, loss_and_norm: Option<(f64, f64)>) -> StepStats {
    let tokens = step * (run.train.batch_size * run.model.n_ctx) as u64;
    StepStats { step, tokens, lr: run.lr(step), loss_and_norm }
}
