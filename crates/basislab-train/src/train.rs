use crate::losses::Losses;
use crate::probe::{Probe, Probed, Probes};
use crate::state::State;
use crate::trainee::{Trainee, loss_and_gradients, update};
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
        /// The update; one more than the last one where the last probe is not finite.
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

impl StepStats {
    pub(crate) fn of(run: &RunSpec, step: u64, loss_and_norm: Option<(f64, f64)>) -> Self {
        let tokens = step * (run.train.batch_size * run.model.n_ctx) as u64;
        Self { step, tokens, lr: run.lr(step), loss_and_norm }
    }
}

/// Takes what a run tells.
pub type Record<'a> = &'a mut dyn FnMut(Event) -> anyhow::Result<()>;

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
    record: Record<'_>,
) -> anyhow::Result<Finished> {
    let batch = |step| on.corpus.batch(seed, step, run.train.batch_size, run.model.n_ctx + 1);
    let last = run.train.steps;
    let (mut trainee, mut step) = (Trainee::new(run, seed, on.corpus.d_vocab(), on.device), 0);
    if let Some(state) = from {
        trainee.restore(run, seed, state)?;
        step = state.step;
    }
    let (mut probes, mut losses) = (Probes::new(run, seed, on), Losses::new(run, on));
    let mut checkpoints = Checkpoints::new(control, step);
    let outcome = loop {
        if probes.is_due(step) {
            match probes.probe(step, &trainee.model, control.stop, record)? {
                Probed::Stopped => break Outcome::Stopped(step),
                Probed::NotFinite(tensor) => break Outcome::Diverged { step: step + 1, tensor },
                Probed::Done => {}
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
        let (gradients, norm) = losses.clip(gradients, run.train.clip_norm);
        losses.update(&mut trainee, run.lr_factor(step), gradients, (loss, norm));

        let stops = || control.stop.load(Ordering::Relaxed) && step < last;
        let save = step == last || checkpoints.is_due(step);
        if let Some(step) = losses.record(step, save || stops() || probes.is_due(step), record)? {
            // The weights are still those before this update: trying it again tells what was not finite.
            let again = update(&mut trainee, &run.train, run.lr_factor(step), &batch(step));
            let tensor = again.err().unwrap_or_else(|| "loss or gradient norm".to_owned());
            break Outcome::Diverged { step, tensor };
        }
        // A stop that was set while losses were recorded counts too, once none is unread.
        let stops = stops() && losses.are_recorded();
        if save || stops {
            probes.settle(record)?;
            checkpoints.save(step, &trainee, &probes, record)?;
        }
        if stops {
            break Outcome::Stopped(step);
        }
    };
    probes.settle(record)?;
    if outcome == Outcome::Stopped(step) && checkpoints.last < step {
        // It stopped within a probe, which is made again after a restart.
        checkpoints.save(step, &trainee, &probes, record)?;
    }
    Ok(Finished { outcome, probe_seconds: probes.seconds() })
}

/// When checkpoints are due.
struct Checkpoints<'a> {
    control: Control<'a>,
    /// The step of the last one, and when it was made.
    last: u64,
    made: Instant,
}

impl<'a> Checkpoints<'a> {
    fn new(control: Control<'a>, step: u64) -> Self {
        Self { control, last: step, made: Instant::now() }
    }

    fn is_due(&self, step: u64) -> bool {
        step - self.last >= self.control.checkpoint_steps || self.made.elapsed() >= self.control.checkpoint_interval
    }

    fn save(&mut self, step: u64, trainee: &Trainee, probes: &Probes, record: Record<'_>) -> anyhow::Result<()> {
        record(Event::Checkpoint { state: trainee.state(step), probe_seconds: probes.seconds() })?;
        (self.last, self.made) = (step, Instant::now());
        Ok(())
    }
}
