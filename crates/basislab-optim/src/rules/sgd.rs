use crate::rule::{Rule, accumulated, decoupled_weight_decay, lr, momentum, nesterov, weight_decay};
use basislab_config::{Commutes, Role, RuleKeys, RuleSpec};
use basislab_kernels::{Formula, Simd, Unchanged};

/// Gradient descent with momentum. Linear in the gradients so far, hence the same in every basis.
pub(crate) static SGD: Rule = Rule {
    keys: RuleKeys {
        name: "sgd",
        keys: &[lr("0.5"), momentum("0.9"), nesterov("false"), weight_decay("0.0"), decoupled_weight_decay("0.0")],
        roles: Role::ALL,
        commutes: Commutes::Rotations { permutations_exactly: true },
        slots,
        check: |spec| {
            let wrong = spec.flag("nesterov") && spec.number("momentum") == 0.0;
            wrong.then_some(("nesterov", "found true with momentum 0, expected a momentum above 0"))
        },
    },
    about: "gradient descent with momentum, as torch.optim.SGD",
    update: |step, grad| {
        let momentum = step.number("momentum");
        if momentum == 0.0 {
            return grad;
        }
        let buffer = accumulated(step.state.take("momentum"), grad.clone(), momentum);
        step.state.put("momentum", buffer.clone());
        if step.spec.flag("nesterov") { grad + buffer.mul_scalar(momentum) } else { buffer }
    },
    one_pass: Some(|step, pass| match step.number("momentum") {
        0.0 => pass.run(Unchanged),
        momentum => pass.run(Momentum { momentum: momentum as f32, nesterov: step.spec.flag("nesterov") }),
    }),
};

pub(super) fn slots(spec: &RuleSpec) -> &'static [&'static str] {
    if spec.number("momentum") == 0.0 { &[] } else { &["momentum"] }
}

#[derive(Clone, Copy)]
struct Momentum {
    momentum: f32,
    nesterov: bool,
}

impl Formula<1> for Momentum {
    #[inline(always)]
    fn change<S: Simd>(&self, g: f32, [buffer]: &mut [f32; 1]) -> f32 {
        *buffer = *buffer * self.momentum + g;
        if self.nesterov { g + *buffer * self.momentum } else { *buffer }
    }
}
