//! The update rules, with PyTorch's meaning of every number that PyTorch has.

mod adam;
mod adamw;
mod lion;
mod muon;
mod sgd;

use crate::rule::Rule;
use basislab_config::{RuleKeys, RuleSpec};
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
