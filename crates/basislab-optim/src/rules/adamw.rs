use super::adam::{BETA_1, BETA_2, EPSILON, SLOTS, one_pass, update};
use crate::rule::{Rule, decoupled_weight_decay, lr};
use basislab_config::{Commutes, Role, RuleKeys};

/// Adam with decay outside the gradient.
pub(crate) static ADAMW: Rule = Rule {
    keys: RuleKeys {
        name: "adamw",
        keys: &[lr("1e-2"), BETA_1, BETA_2, EPSILON, decoupled_weight_decay("0.01")],
        roles: Role::ALL,
        commutes: Commutes::SignedPermutations { exactly: true },
        slots: |_| SLOTS,
        check: |_| None,
    },
    about: "Loshchilov & Hutter 2019 (arXiv:1711.05101), as torch.optim.AdamW",
    update,
    one_pass: Some(one_pass),
};
