//! The update rules, with PyTorch's meaning of every number and f64 scalars.

use crate::fused;
use basislab_config::OptimizerSpec;
use burn::tensor::Tensor;

/// What a rule remembers of one parameter, in the basis it works in.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// Momentum buffer or first moment.
    pub(crate) first: Option<Tensor<2>>,
    /// Second moment.
    pub(crate) second: Option<Tensor<2>>,
}

/// The update, to be scaled by the learning rate and subtracted. `count` is 1 for the first update.
pub(crate) fn update(spec: &OptimizerSpec, grad: Tensor<2>, state: &mut State, count: u64) -> Tensor<2> {
    match *spec {
        OptimizerSpec::Sgd { momentum: 0.0, .. } => grad,
        OptimizerSpec::Sgd { momentum, nesterov, .. } => {
            let buffer = match state.first.take() {
                Some(buffer) => buffer.mul_scalar(momentum) + grad.clone(),
                None => grad.clone(),
            };
            state.first = Some(buffer.clone());
            if nesterov { grad + buffer.mul_scalar(momentum) } else { buffer }
        }
        OptimizerSpec::Adam { beta_1, beta_2, epsilon, .. } | OptimizerSpec::Adamw { beta_1, beta_2, epsilon, .. } => {
            if fused::available(&grad) {
                return fused::adam(beta_1, beta_2, epsilon, grad, state, count);
            }
            let first = decayed(state.first.take(), grad.clone(), beta_1);
            let second = decayed(state.second.take(), grad.square(), beta_2);
            state.first = Some(first.clone());
            state.second = Some(second.clone());
            // Bias corrections in f64: in f32 `1 - beta_2^count` is off by 1e-5 relative.
            let correction_1 = 1.0 - beta_1.powf(count as f64);
            let correction_2 = (1.0 - beta_2.powf(count as f64)).sqrt();
            let denominator = second.sqrt().mul_scalar(1.0 / correction_2).add_scalar(epsilon);
            first.mul_scalar(1.0 / correction_1) / denominator
        }
    }
}

/// The weight after the update: `keep w - lr change`.
pub(crate) fn descend(weight: Tensor<2>, change: Tensor<2>, keep: f64, lr: f64) -> Tensor<2> {
    if fused::available(&weight) {
        return fused::descend(weight, change, keep, lr);
    }
    let kept = if keep == 1.0 { weight } else { weight.mul_scalar(keep) };
    kept - change.mul_scalar(lr)
}

/// Decay inside the gradient.
pub(crate) fn coupled_decay(spec: &OptimizerSpec) -> f64 {
    match *spec {
        OptimizerSpec::Sgd { weight_decay, .. } | OptimizerSpec::Adam { weight_decay, .. } => weight_decay,
        OptimizerSpec::Adamw { .. } => 0.0,
    }
}

/// Decay outside the gradient.
pub(crate) fn decoupled_decay(spec: &OptimizerSpec) -> f64 {
    match *spec {
        OptimizerSpec::Sgd { decoupled_weight_decay, .. } | OptimizerSpec::Adamw { decoupled_weight_decay, .. } => {
            decoupled_weight_decay
        }
        OptimizerSpec::Adam { .. } => 0.0,
    }
}

fn decayed(moment: Option<Tensor<2>>, new: Tensor<2>, beta: f64) -> Tensor<2> {
    let new = new.mul_scalar(1.0 - beta);
    match moment {
        Some(moment) => moment.mul_scalar(beta) + new,
        None => new,
    }
}
