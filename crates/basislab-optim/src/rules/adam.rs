use crate::rule::{Rule, Step, beta, decayed, epsilon, lr, weight_decay};
use basislab_config::{Commutes, Key, Role, RuleKeys};
use basislab_kernels::{Formula, Pass, Simd, fma};
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
    one_pass: Some(one_pass),
};

pub(super) const BETA_1: Key = beta("beta_1", "0.9", "Decay of the first moment");
pub(super) const BETA_2: Key = beta("beta_2", "0.999", "Decay of the second moment");
pub(super) const EPSILON: Key = epsilon("1e-8", "Added to the root of the second moment");
pub(super) const SLOTS: &[&str] = &["first", "second"];

pub(super) fn update(step: &mut Step<'_>, grad: Tensor<2>) -> Tensor<2> {
    let [beta_1, beta_2, epsilon] = ["beta_1", "beta_2", "epsilon"].map(|key| step.number(key));
    let first = decayed(step.state.take("first"), grad.clone(), beta_1);
    let second = decayed(step.state.take("second"), grad.square(), beta_2);
    step.state.put("first", first.clone());
    step.state.put("second", second.clone());
    let [scale_1, scale_2] = corrections([beta_1, beta_2], step.count);
    first.mul_scalar(scale_1) / second.sqrt().mul_scalar(scale_2).add_scalar(epsilon)
}

/// What the first moment and the root of the second are multiplied by. In f64: in f32 `1 - beta_2^count` is off by 1e-5
/// relative.
fn corrections([beta_1, beta_2]: [f64; 2], count: u64) -> [f64; 2] {
    let count = count as f64;
    [1.0 / (1.0 - beta_1.powf(count)), 1.0 / (1.0 - beta_2.powf(count)).sqrt()]
}

pub(super) fn one_pass(step: &Step<'_>, pass: Pass<'_>) {
    let [beta_1, beta_2, epsilon] = ["beta_1", "beta_2", "epsilon"].map(|key| step.number(key));
    let scales = corrections([beta_1, beta_2], step.count).map(|scale| scale as f32);
    let news = [beta_1, beta_2].map(|beta| (1.0 - beta) as f32);
    pass.run(Adam { betas: [beta_1, beta_2].map(|beta| beta as f32), news, scales, epsilon: epsilon as f32 });
}

#[derive(Clone, Copy)]
struct Adam {
    betas: [f32; 2],
    /// `1 - beta`
    news: [f32; 2],
    scales: [f32; 2],
    epsilon: f32,
}

impl Formula<2> for Adam {
    #[inline(always)]
    fn change<S: Simd>(&self, g: f32, [m, v]: &mut [f32; 2]) -> f32 {
        let Self { betas: [beta_1, beta_2], news: [new_1, new_2], scales: [scale_1, scale_2], epsilon } = *self;
        *m = fma::<S>(*m, beta_1, g * new_1);
        *v = fma::<S>(*v, beta_2, g * g * new_2);
        *m * scale_1 / fma::<S>(v.sqrt(), scale_2, epsilon)
    }
}
