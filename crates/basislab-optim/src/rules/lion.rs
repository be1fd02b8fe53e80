use crate::rule::{Rule, beta, decayed, decoupled_weight_decay, lr};
use basislab_config::{Commutes, Role, RuleKeys};
use basislab_kernels::{Formula, Simd};

/// The sign of an interpolation between momentum and gradient.
pub(crate) static LION: Rule = Rule {
    keys: RuleKeys {
        name: "lion",
        keys: &[
            lr("1e-3"),
            beta("beta_1", "0.9", "Weight of the momentum in what the sign is taken of"),
            beta("beta_2", "0.99", "Decay of the momentum"),
            decoupled_weight_decay("0.0"),
        ],
        roles: Role::ALL,
        commutes: Commutes::SignedPermutations { exactly: true },
        slots: |_| &["momentum"],
        check: |_| None,
    },
    about: "Chen et al. 2023 (arXiv:2302.06675), algorithm 2",
    update: |step, grad| {
        let old = step.state.take("momentum");
        let change = decayed(old.clone(), grad.clone(), step.number("beta_1")).sign();
        step.state.put("momentum", decayed(old, grad, step.number("beta_2")));
        change
    },
    one_pass: Some(|step, pass| {
        let betas = ["beta_1", "beta_2"].map(|key| step.number(key));
        pass.run(Lion { betas: betas.map(|beta| beta as f32), news: betas.map(|beta| (1.0 - beta) as f32) });
    }),
};

#[derive(Clone, Copy)]
struct Lion {
    betas: [f32; 2],
    /// `1 - beta`
    news: [f32; 2],
}

impl Formula<1> for Lion {
    #[inline(always)]
    fn change<S: Simd>(&self, g: f32, [m]: &mut [f32; 1]) -> f32 {
        let Self { betas: [beta_1, beta_2], news: [new_1, new_2] } = *self;
        let direction = *m * beta_1 + g * new_1;
        *m = *m * beta_2 + g * new_2;
        // Not `signum`, which has no zero.
        f32::from(u8::from(direction > 0.0)) - f32::from(u8::from(direction < 0.0))
    }
}
