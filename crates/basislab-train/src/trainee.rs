//! A model with its optimizer: how it starts, and one update.

use basislab_config::{BasisSpec, Phase, RunSpec, TrainSpec};
use basislab_model::{Transformer, at_least_f32, dtype};
use basislab_optim::{Optimizer, bases, clip};
use burn::tensor::{Device, Tensor};

/// A model with its optimizer.
#[derive(Debug, Clone)]
pub struct Trainee {
    /// The model, on an autodiff device.
    pub model: Transformer,
    /// Its optimizer, one basis per parameter.
    pub optimizer: Optimizer,
}

impl Trainee {
    /// Model and optimizer before the first update. Runs of one seed start as the same function: from the same weights,
    /// which a rotated model holds in its own basis.
    pub fn new(run: &RunSpec, seed: u64, d_vocab: usize, device: &Device) -> Self {
        let mut model = basislab_model::init(&run.model, d_vocab, seed, &device.clone().autodiff());
        if matches!(run.basis, BasisSpec::RotatedModel { .. }) {
            rotate(&mut model, run, seed, device);
        }
        let optimizer =
            Optimizer::new(&run.optimizer, model.parameters(), optimizer_bases(&model, run, &run.basis, seed));
        Self { model, optimizer }
    }

    /// Changes to the optimizer of a phase.
    pub(crate) fn enter(&mut self, phase: &Phase, run: &RunSpec, seed: u64) {
        let bases = optimizer_bases(&self.model, run, &phase.basis, seed);
        self.optimizer = self.optimizer.clone().enter(&phase.optimizer, bases, phase.moments);
    }

    /// One update with these gradients, at `lr_factor` times the peak learning rates. The old weights are given up first,
    /// so that they are changed where they lie.
    pub(crate) fn step(&mut self, lr_factor: f64, gradients: Vec<Tensor<2>>) {
        let weights = self.model.take_values();
        self.model.set_values(self.optimizer.step(lr_factor, weights, gradients));
    }
}

/// The optimizer's basis of each parameter. A rotated model has a plain optimizer.
fn optimizer_bases(
    model: &Transformer,
    run: &RunSpec,
    basis: &BasisSpec,
    seed: u64,
) -> Vec<basislab_optim::ParameterBasis> {
    let own = if matches!(basis, BasisSpec::RotatedModel { .. }) { &BasisSpec::Standard {} } else { basis };
    let device = model.device().clone().without_autodiff();
    bases(own, seed, &model.parameters(), &device, dtype(run.model.param_dtype.at_least_f32()))
}

/// Moves every parameter that faces the stream into its basis, so that the model starts as the same function as its peers.
fn rotate(model: &mut Transformer, run: &RunSpec, seed: u64, device: &Device) {
    let (param, wide) = (dtype(run.model.param_dtype), dtype(run.model.param_dtype.at_least_f32()));
    let plain = device.clone().without_autodiff();
    let mut bases = bases(&run.basis, seed, &model.parameters(), &plain, wide).into_iter();
    model.for_each(&mut |_, role, weight| {
        let basis = bases.next().expect("one per parameter");
        let Some(q) = role.residual_axis().and_then(|axis| basis.map(axis)) else { return };
        let moved = basis.apply(weight.value.clone().inner().cast(wide));
        weight.value = Tensor::from_inner(moved.cast(param)).require_grad();
        weight.rotation = Some(q.clone().cast(param));
    });
}

/// One update on `batch` (sequences of `n_ctx + 1` tokens), read by the host at once: the mean loss in nats per token and
/// the gradient's norm before clipping.
///
/// # Errors
/// The first thing that is not finite, by name; no update is made then.
pub fn update(
    trainee: &mut Trainee,
    train: &TrainSpec,
    lr_factor: f64,
    batch: &[Vec<u32>],
) -> Result<(f64, f64), String> {
    let (loss, gradients) = loss_and_gradients(&trainee.model, batch, train.micro_batches);
    let (gradients, norm) = clip(gradients, train.clip_norm);
    let loss = loss.into_scalar::<f64>();
    if !loss.is_finite() || !norm.is_finite() {
        return Err(not_finite(&trainee.model, train, batch, &gradients));
    }
    trainee.step(lr_factor, gradients);
    Ok((loss, norm))
}

/// Mean loss over the batch, `[1]`, and the gradient, parameter by parameter, in at least `f32`, from `parts` equal
/// micro-batches.
pub(crate) fn loss_and_gradients(model: &Transformer, batch: &[Vec<u32>], parts: usize) -> (Tensor<1>, Vec<Tensor<2>>) {
    let mut total: Option<(Tensor<1>, Vec<Tensor<2>>)> = None;
    for part in batch.chunks(batch.len() / parts) {
        let loss = mean_loss(model, part);
        let mut grads = loss.backward();
        let of = |value: &Tensor<2>| at_least_f32(value.grad_remove(&mut grads).expect("every parameter is used"));
        let (loss, grads): (_, Vec<Tensor<2>>) = (loss.inner(), model.values().iter().map(of).collect());
        total = Some(match total {
            None => (loss, grads),
            Some((sum, sums)) => (sum + loss, sums.into_iter().zip(grads).map(|(a, b)| a + b).collect()),
        });
    }
    let (loss, grads) = total.expect("a batch has at least one part");
    match parts {
        1 => (loss, grads),
        _ => (loss.div_scalar(parts as f64), grads.into_iter().map(|grad| grad.div_scalar(parts as f64)).collect()),
    }
}

/// Mean next-token loss over whole sequences, `[1]`.
fn mean_loss(model: &Transformer, sequences: &[Vec<u32>]) -> Tensor<1> {
    let (inputs, targets) = inputs_and_targets(model, sequences);
    model.loss(inputs, targets)
}

/// All tokens of each sequence but the last, and all but the first, `[B, T]`.
pub(crate) fn inputs_and_targets(
    model: &Transformer,
    sequences: &[Vec<u32>],
) -> (Tensor<2, burn::tensor::Int>, Tensor<2, burn::tensor::Int>) {
    let inputs: Vec<&[u32]> = sequences.iter().map(|s| &s[..s.len() - 1]).collect();
    let targets: Vec<&[u32]> = sequences.iter().map(|s| &s[1..]).collect();
    (model.tokens(&inputs), model.tokens(&targets))
}

/// The name of what is not finite, in the order in which trouble spreads: weights, activations, the loss, gradients.
pub(crate) fn not_finite(model: &Transformer, train: &TrainSpec, batch: &[Vec<u32>], grads: &[Tensor<2>]) -> String {
    let broken = |tensor: &Tensor<2>| !tensor.clone().into_data().iter::<f64>().all(f64::is_finite);
    let model = model.without_autodiff();
    let parameters = model.parameters();
    let first = |tensors: &[Tensor<2>]| {
        parameters.iter().zip(tensors).find(|(_, tensor)| broken(tensor)).map(|(parameter, _)| &parameter.path)
    };
    if let Some(path) = first(&model.values()) {
        return format!("weight {path}");
    }
    for part in batch.chunks(train.batch_size / train.micro_batches) {
        let mut site = None;
        let logits = model.forward(inputs_and_targets(&model, part).0, &mut |at, stream| {
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
