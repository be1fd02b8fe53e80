use crate::rule::{Rule, beta, decayed, decoupled_weight_decay, lr};
use basislab_config::{Commutes, Role, RuleKeys};

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
};
