use crate::fused;
use crate::rule::{Rule, Step, beta, decayed, epsilon, lr, weight_decay};
use basislab_config::{Commutes, Key, Role, RuleKeys};
use burn::tensor::Tensor;

/// Kingma & Ba 2015, with L2 decay inside the gradient.
pub(crate) static ADAM: Rule = Rule {
    keys: RuleKeys {
        name: "adam",
        keys: &[lr("1e-2"), BETA_1, BETA_2, EPSILON, weight_decay("0.0")],
        roles: Role::ALL,
        commutes: Commutes::SignedPermutations { exactly: true },
        slots: |_| SLOTS,
        check: |_| None,
    },
    about: "Kingma & Ba 2015 (arXiv:1412.6980), as torch.optim.Adam",
    update,
};

pub(super) const BETA_1: Key = beta("beta_1", "0.9", "Decay of the first moment");
pub(super) const BETA_2: Key = beta("beta_2", "0.999", "Decay of the second moment");
pub(super) const EPSILON: Key = epsilon("1e-8", "Added to the root of the second moment");
pub(super) const SLOTS: &[&str] = &["first", "second"];

pub(super) fn update(step: &mut Step<'_>, grad: Tensor<2>) -> Tensor<2> {
    let [beta_1, beta_2, epsilon] = ["beta_1", "beta_2", "epsilon"].map(|key| step.number(key));
    let moments = [step.state.take("first"), step.state.take("second")];
    let count = step.count as f64;
    let (change, [first, second]) = if fused::available(&grad) {
        fused::adam([beta_1, beta_2, epsilon], grad, moments, step.count)
    } else {
        let [first, second] = moments;
        let first = decayed(first, grad.clone(), beta_1);
        let second = decayed(second, grad.square(), beta_2);
        // Bias corrections in f64: in f32 `1 - beta_2^count` is off by 1e-5 relative.
        let correction_1 = 1.0 - beta_1.powf(count);
        let correction_2 = (1.0 - beta_2.powf(count)).sqrt();
        let denominator = second.clone().sqrt().mul_scalar(1.0 / correction_2).add_scalar(epsilon);
        (first.clone().mul_scalar(1.0 / correction_1) / denominator, [first, second])
    };
    step.state.put("first", first);
    step.state.put("second", second);
    change
}
