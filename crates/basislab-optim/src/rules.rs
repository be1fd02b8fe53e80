//! The update rules, with PyTorch's meaning of every number that PyTorch has.

mod adam;
mod adamw;
mod lion;
mod muon;
mod sgd;

use crate::rule::Rule;
use basislab_config::{Commutes, OptimizerSpec, RuleKeys, RuleSpec};
use std::sync::LazyLock;

/// All of them.
pub static RULES: &[&Rule] = &[&sgd::SGD, &adam::ADAM, &adamw::ADAMW, &lion::LION, &muon::MUON];

/// Their keys, for the configuration.
pub fn rule_keys() -> &'static [&'static RuleKeys] {
    static KEYS: LazyLock<Vec<&'static RuleKeys>> = LazyLock::new(|| RULES.iter().map(|rule| &rule.keys).collect());
    &KEYS
}

/// The rule that a configuration names.
///
/// # Panics
/// If there is none of that name: configurations are checked.
pub fn rule(spec: &RuleSpec) -> &'static Rule {
    let found = RULES.iter().find(|rule| rule.keys.name == spec.kind);
    found.unwrap_or_else(|| panic!("no rule is called {:?}", spec.kind))
}

/// What all rules of an optimizer commute with.
pub fn commutes(optimizer: &OptimizerSpec) -> Commutes {
    let all: Vec<Commutes> = optimizer.rules().into_iter().map(|(.., spec)| rule(spec).keys.commutes).collect();
    let rotations = all.iter().all(|commutes| commutes.with_rotations());
    let permutations_exactly = all.iter().all(|commutes| commutes.with_permutations_exactly());
    match (rotations, permutations_exactly) {
        (true, permutations_exactly) => Commutes::Rotations { permutations_exactly },
        (false, true) => Commutes::SignedPermutations { exactly: true },
        (false, false) => Commutes::SignedPermutations { exactly: false },
    }
}
