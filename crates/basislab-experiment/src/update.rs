//! One arm's model and optimizer, and one update of them.

use basislab_config::{Arm, BasisSpec, Experiment, ModelSpec, Sharing, TrainSpec};
use basislab_model::{Transformer, dtype, wide};
use basislab_optim::{Basis, Optimizer, bases, clip, clip_ahead, rotation, upload};
use burn::tensor::{Bool, Device, Tensor};

/// A model with its optimizer.
#[derive(Debug, Clone)]
pub struct Trainee {
    /// The model, on an autodiff device.
    pub model: Transformer,
    /// Its optimizer, one basis per parameter.
    pub optimizer: Optimizer,
}

/// The arm's model and optimizer before the first update. Arms of one seed start as the same function: from the same
/// weights, which a rotated model holds in its own basis.
pub fn prepare(experiment: &Experiment, arm: &Arm, seed: u64, d_vocab: usize, device: &Device) -> Trainee {
    let device = device.clone().autodiff();
    let mut model = basislab_model::init(&experiment.model, d_vocab, seed, &device);
    let ModelSpec { d_model, param_dtype, .. } = experiment.model;
    let (param, wide) = (dtype(param_dtype), dtype(param_dtype.at_least_f32()));
    let plain = device.without_autodiff();
    let shapes: Vec<_> = model.residual_axes().iter().map(|(_, shape, axis)| (*shape, axis.map(|a| a.index))).collect();
    let standard = vec![Default::default(); shapes.len()];
    let bases = match &arm.basis {
        BasisSpec::Standard {} => standard,
        BasisSpec::RotatedOptimizer { rotation, sharing, axes } => {
            bases(rotation, *sharing, *axes, seed, &shapes, (&plain, wide))
        }
        BasisSpec::RotatedModel { rotation: spec, sharing } => {
            let shared = upload(&rotation(spec, seed, 0, d_model), &plain, wide);
            let mut number = 0;
            model.for_each(&mut |_, facing, weight| {
                let own = || upload(&rotation(spec, seed, 2 * number + 1, d_model), &plain, wide);
                let independent = *sharing == Sharing::Independent;
                if let Some(axis) = facing {
                    let q = if independent { own() } else { shared.clone() };
                    // The parameter moves into the basis, so that the model starts as the same function as its peers.
                    let other = weight.value.dims()[1 - axis.index];
                    let basis = Basis::on_axis(axis.index, q.clone(), other);
                    let moved = basis.apply(weight.value.clone().inner().cast(wide));
                    weight.value = Tensor::from_inner(moved.cast(param)).require_grad();
                    weight.rotation = Some(q.cast(param));
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
    let (loss, grads) = gradients(&trainee.model, &[batch], train.micro_batches);
    let (grads, norm) = clip(grads, train.clip_norm);
    let loss = loss.into_scalar::<f64>();
    if !loss.is_finite() || !norm.is_finite() {
        return Err(not_finite(&trainee.model, train, batch, &grads));
    }
    let weights = trainee.model.take_values();
    trainee.model.set_values(trainee.optimizer.step(lr, weights, grads));
    Ok((loss, norm))
}

/// Updates that a device has been given and nobody has looked at.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// Loss and gradient norm of each, seed by seed, `[S, 2]`.
    unread: Vec<Tensor<2>>,
    /// Whose numbers were not finite so far, `[S, 1]`.
    halted: Option<Tensor<2, Bool>>,
}

/// Loss and gradient norm of an update, or nothing where they are not finite.
pub(crate) type Made = Option<(f64, f64)>;

impl Ahead {
    /// [`update`] of every seed in the stack, each on its own batch, without waiting for the device. From the first update
    /// with anything that is not finite, a seed's weights stay as they were before it.
    pub(crate) fn update(&mut self, trainee: &mut Trainee, train: &TrainSpec, lr: f64, batches: &[&[Vec<u32>]]) {
        let stack = batches.len();
        let (losses, grads) = gradients(&trainee.model, batches, train.micro_batches);
        let (grads, norms) = clip_ahead(grads, train.clip_norm, stack);
        let seen = Tensor::cat(vec![losses.reshape([stack, 1]), norms], 1);
        let bad = seen.clone().is_finite().bool_not().any_dim(1);
        let halted = match self.halted.take() {
            Some(before) => before.bool_or(bad),
            None => bad,
        };
        let before: Vec<_> = trainee.model.values().into_iter().map(Tensor::inner).collect();
        let after = trainee.optimizer.step(lr, before.clone(), grads);
        let kept = after.into_iter().zip(before).map(|(after, before)| {
            let shape = after.dims();
            let by_seed = [stack, shape[0] * shape[1] / stack];
            let halted = halted.clone().expand(by_seed);
            after.reshape(by_seed).mask_where(halted, before.reshape(by_seed)).reshape(shape)
        });
        trainee.model.set_values(kept.collect());
        self.unread.push(seen);
        self.halted = Some(halted);
    }

    /// Updates that nobody has looked at.
    pub(crate) fn unread(&self) -> usize {
        self.unread.len()
    }

    /// What the unread updates were, seed by seed for each, in one transfer.
    pub(crate) fn read(&mut self) -> Vec<Vec<Made>> {
        let unread = std::mem::take(&mut self.unread);
        let Some(stack) = unread.first().map(|seen| seen.dims()[0]) else { return Vec::new() };
        let values: Vec<f64> = Tensor::cat(unread, 0).into_data().iter::<f64>().collect();
        let seen = |pair: &[f64]| pair.iter().all(|x| x.is_finite()).then_some((pair[0], pair[1]));
        values.chunks(2 * stack).map(|update| update.chunks(2).map(seen).collect()).collect()
    }
}

impl Trainee {
    /// The trainees of several seeds of one arm as one: every update is made of all of them at once.
    pub(crate) fn stacked(trainees: &[Self]) -> Self {
        let (models, optimizers): (Vec<_>, Vec<_>) =
            trainees.iter().map(|one| (one.model.clone(), one.optimizer.clone())).unzip();
        Self { model: Transformer::stacked(&models), optimizer: Optimizer::stacked(&optimizers) }
    }

    /// The trainee of seed number `index` in a stack of `stack`.
    pub(crate) fn one_of(&self, index: usize, stack: usize) -> Self {
        Self { model: self.model.one_of(index), optimizer: self.optimizer.one_of(index, stack) }
    }
}

/// The name of what is not finite, in the order in which trouble spreads: weights, activations, the loss, gradients.
pub(crate) fn not_finite(model: &Transformer, train: &TrainSpec, batch: &[Vec<u32>], grads: &[Tensor<2>]) -> String {
    let broken = |tensor: &Tensor<2>| !tensor.clone().into_data().iter::<f64>().all(f64::is_finite);
    let model = model.without_autodiff();
    let paths: Vec<String> = model.residual_axes().into_iter().map(|(path, ..)| path).collect();
    let first =
        |tensors: &[Tensor<2>]| paths.iter().zip(tensors).find(|(_, tensor)| broken(tensor)).map(|(path, _)| path);
    if let Some(path) = first(&model.values()) {
        return format!("weight {path}");
    }
    for part in batch.chunks(train.batch_size / train.micro_batches) {
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

/// Mean loss over the batch of each seed, `[S]`, and the gradient, parameter by parameter, in at least `f32`, from
/// `parts` equal micro-batches.
fn gradients(model: &Transformer, batches: &[&[Vec<u32>]], parts: usize) -> (Tensor<1>, Vec<Tensor<2>>) {
    let mut total: Option<(Tensor<1>, Vec<Tensor<2>>)> = None;
    let size = batches[0].len() / parts;
    for part in 0..parts {
        let sequences = batches.iter().flat_map(|batch| &batch[part * size..(part + 1) * size]);
        let losses = mean_loss(model, &sequences.map(Vec::as_slice).collect::<Vec<_>>());
        // No parameter is shared between seeds: the gradient of the sum is each one's own.
        let mut grads = if batches.len() == 1 { losses.backward() } else { losses.clone().sum().backward() };
        let of = |value: &Tensor<2>| wide(value.grad_remove(&mut grads).expect("every parameter is used"));
        let (losses, grads): (_, Vec<Tensor<2>>) = (losses.inner(), model.values().iter().map(of).collect());
        total = Some(match total {
            None => (losses, grads),
            Some((sum, sums)) => (sum + losses, sums.into_iter().zip(grads).map(|(a, b)| a + b).collect()),
        });
    }
    let (losses, grads) = total.expect("a batch has at least one part");
    match parts {
        1 => (losses, grads),
        _ => (losses.div_scalar(parts as f64), grads.into_iter().map(|grad| grad.div_scalar(parts as f64)).collect()),
    }
}

/// Mean next-token loss over whole sequences, `[S]`.
fn mean_loss(model: &Transformer, sequences: &[&[u32]]) -> Tensor<1> {
    let inputs: Vec<&[u32]> = sequences.iter().map(|s| &s[..s.len() - 1]).collect();
    let targets: Vec<&[u32]> = sequences.iter().map(|s| &s[1..]).collect();
    model.loss(model.tokens(&inputs), model.tokens(&targets))
}
