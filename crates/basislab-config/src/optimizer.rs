//! Optimizers as the configuration sees them. Which rules there are, and which keys each has, is for the caller to say:
//! see [`RuleKeys`].

use crate::keys::{Key, choice};
use crate::symmetry::Commutes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

choice! {
    /// What a parameter does in the model.
    pub enum Role {
        /// A table of vectors that are written to the stream by index: tokens, positions; also a tied head.
        Embedding = "embedding",
        /// A matrix that reads the stream.
        Read = "read",
        /// A matrix that writes to the stream.
        Write = "write",
        /// A vector of the stream: a gain or a bias.
        Vector = "vector",
        /// The matrix that makes logits.
        Head = "head",
        /// A parameter that does not face the stream: the other biases, scalar gains.
        Other = "other",
    }
}

impl Role {
    /// The axis of such a parameter that is `d_model`: 0 where it reads the stream, 1 where it writes to it, none where it
    /// never meets it.
    pub fn residual_axis(self) -> Option<usize> {
        match self {
            Self::Read | Self::Head => Some(0),
            Self::Embedding | Self::Write | Self::Vector => Some(1),
            Self::Other => None,
        }
    }
}

/// A parameter of a model as optimizers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its path in the model, e.g. `blocks.0.w_q`.
    pub path: String,
    /// What it does there.
    pub role: Role,
    /// `[in, out]`; vectors are `[1, n]`.
    pub shape: [usize; 2],
}

/// The configuration of an update rule: what it is called and which keys it has.
#[derive(Debug)]
pub struct RuleKeys {
    /// The value of `kind`.
    pub name: &'static str,
    /// Its keys. One of them is `lr`.
    pub keys: &'static [Key],
    /// The roles that it is defined for.
    pub roles: &'static [Role],
    /// What it remembers of each parameter, by name.
    pub slots: fn(&RuleSpec) -> &'static [&'static str],
    /// Which rotations of its coordinates it commutes with.
    pub commutes: Commutes,
    /// What its keys must be together: the key that is wrong, and what was found and expected.
    pub check: fn(&RuleSpec) -> Option<(&'static str, &'static str)>,
}

/// An update rule with its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleSpec {
    /// Its name.
    pub kind: String,
    /// Its keys, as they are declared.
    #[serde(flatten)]
    settings: BTreeMap<String, Setting>,
}

/// The value of a rule's key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Setting {
    Flag(bool),
    Integer(u64),
    Number(f64),
    Text(String),
}

impl RuleSpec {
    /// Peak learning rate.
    pub fn lr(&self) -> f64 {
        self.number("lr")
    }

    /// The value of a key that holds a number.
    ///
    /// # Panics
    /// If the rule declares no such key.
    pub fn number(&self, key: &str) -> f64 {
        match self.setting(key) {
            Setting::Number(number) => *number,
            Setting::Integer(number) => *number as f64,
            other => panic!("{}.{key} is no number: {other:?}", self.kind),
        }
    }

    /// [`RuleSpec::number`], or `other` where the rule declares no such key.
    pub fn number_or(&self, key: &str, other: f64) -> f64 {
        if self.settings.contains_key(key) { self.number(key) } else { other }
    }

    /// The value of a key that holds an integer.
    ///
    /// # Panics
    /// If the rule declares no such key.
    pub fn integer(&self, key: &str) -> u64 {
        match self.setting(key) {
            Setting::Integer(number) => *number,
            other => panic!("{}.{key} is no integer: {other:?}", self.kind),
        }
    }

    /// The value of a key that holds `true` or `false`.
    ///
    /// # Panics
    /// If the rule declares no such key.
    pub fn flag(&self, key: &str) -> bool {
        match self.setting(key) {
            Setting::Flag(flag) => *flag,
            other => panic!("{}.{key} is neither true nor false: {other:?}", self.kind),
        }
    }

    fn setting(&self, key: &str) -> &Setting {
        self.settings.get(key).unwrap_or_else(|| panic!("{} has no key {key}", self.kind))
    }
}

/// Which rule updates which parameters.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum OptimizerSpec {
    /// One rule for all.
    One(RuleSpec),
    /// A rule for each group of roles.
    Groups {
        /// By their names. Every role that the model has is in exactly one of them.
        groups: BTreeMap<String, GroupSpec>,
    },
}

/// The rule of the parameters that have one of these roles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupSpec {
    /// The roles.
    pub roles: Vec<Role>,
    /// The rule.
    #[serde(flatten)]
    pub rule: RuleSpec,
}

impl OptimizerSpec {
    /// Every rule with the name of its group and the roles that it is for; `""` and `None` where it is for all.
    pub fn rules(&self) -> Vec<(&str, Option<&[Role]>, &RuleSpec)> {
        match self {
            Self::One(rule) => vec![("", None, rule)],
            Self::Groups { groups } => {
                groups.iter().map(|(name, group)| (name.as_str(), Some(&group.roles[..]), &group.rule)).collect()
            }
        }
    }

    /// The rule of the parameters with that role.
    pub fn rule_for(&self, role: Role) -> Option<&RuleSpec> {
        let mut rules = self.rules().into_iter();
        rules.find(|(_, roles, _)| roles.is_none_or(|roles| roles.contains(&role))).map(|(.., rule)| rule)
    }

    /// Whether the other one is the same but for learning rates.
    pub fn equals_but_for_rates(&self, other: &Self) -> bool {
        self.with_lr(1.0) == other.with_lr(1.0)
    }

    /// With this learning rate in every rule.
    fn with_lr(&self, lr: f64) -> Self {
        let mut spec = self.clone();
        let rules = match &mut spec {
            Self::One(rule) => vec![rule],
            Self::Groups { groups } => groups.values_mut().map(|group| &mut group.rule).collect(),
        };
        for rule in rules {
            rule.settings.insert("lr".to_owned(), Setting::Number(lr));
        }
        spec
    }

    /// Its rules by name: `adam`, or `muon + adamw`.
    pub fn name(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for (.., rule) in self.rules() {
            if !names.contains(&rule.kind.as_str()) {
                names.push(&rule.kind);
            }
        }
        names.join(" + ")
    }

    /// Peak learning rate; with groups that of the first one.
    pub fn lr(&self) -> f64 {
        self.rules()[0].2.lr()
    }
}

impl<'de> Deserialize<'de> for OptimizerSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = toml::Table::deserialize(deserializer)?;
        if let Some(groups) = table.get("groups") {
            return Ok(Self::Groups { groups: groups.clone().try_into().map_err(D::Error::custom)? });
        }
        table.try_into().map(Self::One).map_err(D::Error::custom)
    }
}
