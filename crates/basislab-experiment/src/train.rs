use crate::observe::{HeldOut, probe_rows};
use basislab_config::{Arm, BasisSpec, Experiment, Sharing, TrainSpec};
use basislab_data::Corpus;
use basislab_model::Transformer;
use basislab_optim::{Basis, Optimizer, bases, clip, rotation, upload};
use basislab_report::{Row, StepRow};
use burn::tensor::{DType, Device, Tensor};
use std::time::Instant;

/// A model with its optimizer.
#[derive(Debug, Clone)]
pub struct Trainee {
    /// The model, on an autodiff device.
    pub model: Transformer,
    /// Its optimizer, one basis per parameter.
    pub optimizer: Optimizer,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All updates were made.
    Complete,
    /// Loss or gradient was not finite at this update (1-based); it was not made.
    Diverged(u64),
}

/// How a run ended and what looking cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finished {
    /// Complete or diverged.
    pub outcome: Outcome,
    /// Wall-clock seconds spent in probes.
    pub probe_seconds: f64,
}

/// Trains one arm with one seed. `sink` gets the rows of each update and of each probe as they are made.
///
/// # Errors
/// Only what `sink` returns; a diverged run is an [`Outcome`].
pub fn train(
    experiment: &Experiment,
    arm: &Arm,
    seed: u64,
    corpus: &Corpus,
    (device, dtype): (&Device, DType),
    sink: &mut dyn FnMut(Vec<Row>) -> anyhow::Result<()>,
) -> anyhow::Result<Finished> {
    let Experiment { train, probe, model: spec, .. } = experiment;
    let mut trainee = prepare(experiment, arm, seed, corpus.d_vocab(), (device, dtype));
    let held_out = HeldOut::new(experiment, corpus, seed);
    let probe_steps = probe.steps(train.steps);
    let mut probe_seconds = 0.0;
    let mut look = |step, model: &Transformer| {
        let start = Instant::now();
        let rows = probe_rows(experiment, arm, seed, step, model, &held_out);
        probe_seconds += start.elapsed().as_secs_f64();
        rows
    };
    let mut outcome = Outcome::Complete;
    sink(look(0, &trainee.model))?;
    for step in 1..=train.steps {
        let batch = corpus.batch(seed, step, train.batch_size, spec.n_ctx + 1);
        let lr = arm.optimizer.lr() * train.lr_factor(step - 1);
        let tokens = step * (train.batch_size * spec.n_ctx) as u64;
        let row = |loss, norm, status: &str| {
            let (arm, status) = (arm.name.clone(), status.to_owned());
            vec![Row::Step(StepRow { arm, seed, step, tokens, lr, train_loss: loss, grad_norm: norm, status })]
        };
        match update(&mut trainee, train, lr, &batch) {
            Some((loss, norm)) => sink(row(Some(loss), Some(norm), "ok"))?,
            None => {
                sink(row(None, None, "diverged"))?;
                outcome = Outcome::Diverged(step);
                break;
            }
        }
        if probe_steps.binary_search(&step).is_ok() {
            let rows = look(step, &trainee.model);
            let finite = matches!(rows.first(), Some(Row::Eval(row)) if row.loss.is_some());
            sink(rows)?;
            if !finite {
                // The update itself broke the weights; nothing after it could be a number.
                sink(row(None, None, "diverged"))?;
                outcome = Outcome::Diverged(step);
                break;
            }
        }
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
/// the gradient's norm before clipping; `None`, and no update, when either is not finite.
pub fn update(trainee: &mut Trainee, train: &TrainSpec, lr: f64, batch: &[Vec<u32>]) -> Option<(f64, f64)> {
    let (loss, grads) = gradients(&trainee.model, batch, train.micro_batches);
    let (grads, norm) = clip(grads, train.clip_norm);
    if !loss.is_finite() || !norm.is_finite() {
        return None;
    }
    let weights = trainee.model.take_values();
    trainee.model.set_values(trainee.optimizer.step(lr, weights, grads));
    Some((loss, norm))
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
