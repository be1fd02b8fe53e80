use crate::observe::{HeldOut, probe_rows};
use crate::run::{Event, Job};
use crate::state::State;
use basislab_config::{Arm, BasisSpec, Experiment, Sharing, TrainSpec};
use basislab_data::Corpus;
use basislab_model::Transformer;
use basislab_optim::{Basis, Optimizer, bases, clip, rotation, upload};
use basislab_report::{Row, StepRow};
use burn::tensor::{DType, Device, Tensor};
use std::slice::Chunks;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A model with its optimizer.
#[derive(Debug, Clone)]
pub struct Trainee {
    /// The model, on an autodiff device.
    pub model: Transformer,
    /// Its optimizer, one basis per parameter.
    pub optimizer: Optimizer,
}

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
    /// Type of parameters and activations.
    pub dtype: DType,
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

/// Trains one arm with one seed, from the beginning or from `start`. `sink` gets the rows of each update and of each
/// probe as they are made, and checkpoints. The last state is always one, made before the last probe.
///
/// # Errors
/// What `sink` returns, and a `start` of another run; a diverged run is an [`Outcome`].
pub fn train(
    Setting { experiment, corpus, device, dtype }: Setting<'_>,
    Job { arm, seed }: Job<'_>,
    start: Option<&State>,
    control: Control<'_>,
    sink: &mut dyn FnMut(Event) -> anyhow::Result<()>,
) -> anyhow::Result<Finished> {
    let Experiment { train, probe, model: spec, .. } = experiment;
    let mut trainee = prepare(experiment, arm, seed, corpus.d_vocab(), (device, dtype));
    start.map_or(Ok(()), |state| trainee.restore(state))?;
    let held_out = HeldOut::new(experiment, corpus, seed);
    let probe_steps = probe.steps(train.steps);
    let mut step = start.map_or(0, |state| state.step);
    let (mut probe_seconds, mut saved) = (0.0, (step, Instant::now()));
    let outcome = loop {
        let row = |step: u64, loss, norm, status: &str| {
            let (arm, status, lr) =
                (arm.name.to_string(), status.to_owned(), arm.optimizer.lr() * train.lr_factor(step.saturating_sub(1)));
            let tokens = step * (train.batch_size * spec.n_ctx) as u64;
            Event::Rows(vec![Row::Step(StepRow {
                arm,
                seed,
                step,
                tokens,
                lr,
                train_loss: loss,
                grad_norm: norm,
                status,
            })])
        };
        if probe_steps.binary_search(&step).is_ok() {
            let begun = Instant::now();
            let rows = probe_rows(experiment, arm, seed, step, &trainee.model, &held_out, control.stop);
            probe_seconds += begun.elapsed().as_secs_f64();
            let Some(rows) = rows else { break Outcome::Stopped(step) };
            let finite = matches!(rows.first(), Some(Row::Eval(row)) if row.loss.is_some());
            sink(Event::Rows(rows))?;
            if !finite {
                // The update itself broke the weights; nothing after it could be a number.
                sink(row(step, None, None, "diverged"))?;
                let tensor = not_finite(&trainee.model, held_out.sequences.chunks(train.batch_size), &[]);
                break Outcome::Diverged { step, tensor };
            }
        }
        if step == train.steps {
            break Outcome::Complete;
        }
        step += 1;
        let batch = corpus.batch(seed, step, train.batch_size, spec.n_ctx + 1);
        match update(&mut trainee, train, arm.optimizer.lr() * train.lr_factor(step - 1), &batch) {
            Ok((loss, norm)) => sink(row(step, Some(loss), Some(norm), "ok"))?,
            Err(tensor) => {
                sink(row(step, None, None, "diverged"))?;
                break Outcome::Diverged { step, tensor };
            }
        }
        let stop = control.stop.load(Ordering::Relaxed) && step < train.steps;
        let due = step - saved.0 >= control.checkpoint_steps || saved.1.elapsed() >= control.checkpoint_interval;
        if due || step == train.steps {
            sink(Event::Checkpoint { state: trainee.state(step), probe_seconds })?;
            saved = (step, Instant::now());
        }
        if stop {
            break Outcome::Stopped(step);
        }
    };
    if outcome == Outcome::Stopped(step) && saved.0 < step {
        // Where it goes on: after its last update. If it was within a probe, no row of that was written.
        sink(Event::Checkpoint { state: trainee.state(step), probe_seconds })?;
    }
    Ok(Finished { outcome, probe_seconds })
}

/// The arm's model and optimizer before the first update. Arms of one seed start as the same function: from the same
/// weights, which a rotated model holds in its own basis.
pub fn prepare(
    experiment: &Experiment,
    arm: &Arm,
    seed: u64,
    d_vocab: usize,
    (device, dtype): (&Device, DType),
) -> Trainee {
    let device = device.clone().autodiff();
    let mut model = basislab_model::init(&experiment.model, d_vocab, seed, &device, dtype);
    let plain = device.without_autodiff();
    let shapes: Vec<_> = model.residual_axes().iter().map(|(_, shape, axis)| (*shape, axis.map(|a| a.index))).collect();
    let standard = vec![Default::default(); shapes.len()];
    let bases = match &arm.basis {
        BasisSpec::Standard {} => standard,
        BasisSpec::RotatedOptimizer { rotation, sharing, axes } => {
            bases(rotation, *sharing, *axes, seed, &shapes, (&plain, dtype))
        }
        BasisSpec::RotatedModel { rotation: spec, sharing } => {
            let shared = upload(&rotation(spec, seed, 0, experiment.model.d_model), &plain, dtype);
            let mut number = 0;
            model.for_each(&mut |_, facing, weight| {
                let own = || upload(&rotation(spec, seed, 2 * number + 1, experiment.model.d_model), &plain, dtype);
                let independent = *sharing == Sharing::Independent;
                if let Some(axis) = facing {
                    let q = if independent { own() } else { shared.clone() };
                    // The parameter moves into the basis, so that the model starts as the same function as its peers.
                    let moved = Basis::on_axis(axis.index, q.clone()).apply(weight.value.clone().inner());
                    weight.value = Tensor::from_inner(moved).require_grad();
                    weight.rotation = Some(q);
                }
                number += 1;
            });
            standard
        }
    };
    Trainee { model, optimizer: Optimizer::new(&arm.optimizer, bases) }
}

/// One update on `batch` (sequences of `n_ctx + 1` tokens) at learning rate `lr`: the mean loss in nats per token and
/// the gradient's norm before clipping.
///
/// # Errors
/// The first thing that is not finite, by name; no update is made then.
pub fn update(trainee: &mut Trainee, train: &TrainSpec, lr: f64, batch: &[Vec<u32>]) -> Result<(f64, f64), String> {
    let (loss, grads) = gradients(&trainee.model, batch, train.micro_batches);
    let (grads, norm) = clip(grads, train.clip_norm);
    if !loss.is_finite() || !norm.is_finite() {
        let parts = batch.chunks(batch.len() / train.micro_batches);
        return Err(not_finite(&trainee.model, parts, &grads));
    }
    let weights = trainee.model.take_values();
    trainee.model.set_values(trainee.optimizer.step(lr, weights, grads));
    Ok((loss, norm))
}

/// The name of what is not finite, in the order in which trouble spreads: weights, activations, the loss, gradients.
fn not_finite(model: &Transformer, parts: Chunks<'_, Vec<u32>>, grads: &[Tensor<2>]) -> String {
    let broken = |tensor: &Tensor<2>| !tensor.clone().into_data().iter::<f64>().all(f64::is_finite);
    let model = model.without_autodiff();
    let paths: Vec<String> = model.residual_axes().into_iter().map(|(path, ..)| path).collect();
    let first =
        |tensors: &[Tensor<2>]| paths.iter().zip(tensors).find(|(_, tensor)| broken(tensor)).map(|(path, _)| path);
    if let Some(path) = first(&model.values()) {
        return format!("weight {path}");
    }
    for part in parts {
        let inputs: Vec<&[u32]> = part.iter().map(|s| &s[..s.len() - 1]).collect();
        let mut site = None;
        let logits = model.forward(model.tokens(&inputs), &mut |at, stream| {
            if site.is_none() && broken(stream) {
                site = Some(format!("activation {at}"));
            }
        });
        if let Some(found) = site.or_else(|| broken(&logits).then(|| "logits".to_owned())) {
            return found;
        }
    }
    first(grads).map_or_else(|| "loss or gradient norm".to_owned(), |path| format!("gradient of {path}"))
}

/// Mean loss over the batch and its gradient, parameter by parameter, from `parts` equal micro-batches.
fn gradients(model: &Transformer, batch: &[Vec<u32>], parts: usize) -> (f64, Vec<Tensor<2>>) {
    let mut total: Option<(f64, Vec<Tensor<2>>)> = None;
    for part in batch.chunks(batch.len() / parts) {
        let loss = mean_loss(model, part);
        let mut grads = loss.backward();
        let values = model.values();
        let grads = values.iter().map(|value| value.grad_remove(&mut grads).expect("every parameter is used"));
        let loss = loss.into_scalar::<f64>();
        total = Some(match total {
            None => (loss, grads.collect()),
            Some((sum, sums)) => (sum + loss, sums.into_iter().zip(grads).map(|(a, b)| a + b).collect()),
        });
    }
    let (loss, grads) = total.expect("a batch has at least one part");
    match parts {
        1 => (loss, grads),
        _ => (loss / parts as f64, grads.into_iter().map(|grad| grad.div_scalar(parts as f64)).collect()),
    }
}

/// Mean next-token loss over whole sequences, `[1]`.
pub(crate) fn mean_loss(model: &Transformer, sequences: &[Vec<u32>]) -> Tensor<1> {
    let inputs: Vec<&[u32]> = sequences.iter().map(|s| &s[..s.len() - 1]).collect();
    let targets: Vec<&[u32]> = sequences.iter().map(|s| &s[1..]).collect();
    model.loss(model.tokens(&inputs), model.tokens(&targets))
}
