//! A small experiment and rules for tests of configurations.
#![allow(dead_code, reason = "each test file uses a part")]

use basislab_config::{Change, Commutes, Experiment, Key, Kind, Library, Loaded, Role, RuleKeys, load};

pub(crate) const fn key(name: &'static str, kind: Kind, preset: &'static str) -> Key {
    Key { name, kind, about: "", preset: Some(preset), optional: false }
}

pub(crate) const MATRICES: &[Role] = &[Role::Read, Role::Write];

pub(crate) static RULES: &[&RuleKeys] = &[
    &RuleKeys {
        name: "sgd",
        keys: &[key("lr", Kind::Positive(1e6), "0.5"), key("momentum", Kind::FloatBelow(0.0, 1.0), "0.9")],
        roles: Role::ALL,
        commutes: Commutes::Rotations { permutations_exactly: true },
        slots: |_| &[],
        check: |_| None,
    },
    &RuleKeys {
        name: "adam",
        keys: &[
            key("lr", Kind::Positive(1e6), "1e-2"),
            key("beta_1", Kind::FloatBelow(0.0, 1.0), "0.9"),
            key("beta_2", Kind::FloatBelow(0.0, 1.0), "0.999"),
            key("epsilon", Kind::Positive(1e3), "1e-8"),
            key("weight_decay", Kind::Float(0.0, 1e3), "0.0"),
        ],
        roles: Role::ALL,
        commutes: Commutes::SignedPermutations { exactly: true },
        slots: |_| &[],
        check: |_| None,
    },
    &RuleKeys {
        name: "adamw",
        keys: &[key("lr", Kind::Positive(1e6), "1e-2"), key("decoupled_weight_decay", Kind::Float(0.0, 1e3), "0.01")],
        roles: Role::ALL,
        commutes: Commutes::SignedPermutations { exactly: true },
        slots: |_| &[],
        check: |_| None,
    },
    &RuleKeys {
        name: "lion",
        keys: &[key("lr", Kind::Positive(1e6), "1e-3")],
        roles: Role::ALL,
        commutes: Commutes::SignedPermutations { exactly: true },
        slots: |_| &["momentum"],
        check: |_| None,
    },
    &RuleKeys {
        name: "muon",
        keys: &[key("lr", Kind::Positive(1e6), "2e-2"), key("ns_steps", Kind::Integer(1, 20), "5")],
        roles: MATRICES,
        commutes: Commutes::Rotations { permutations_exactly: true },
        slots: |_| &["momentum"],
        check: |_| None,
    },
];

/// A complete experiment with one arm.
pub(crate) const BASE: &str = r#"
question = "?"
seeds = [0, 1, 2]

[model]
n_ctx = 8
n_layers = 2
d_model = 16
n_heads = 2
d_mlp = 24
activation = "gelu"
norm = "rms-scalar"
norm_epsilon = 1e-5
positions = "learned"
attention = "softmax"
tied_head = false
biases = false
init_std = 0.02
param_dtype = "f32"
compute_dtype = "f32"

[corpus]
kind = "text"
path = "a.txt"
tokenizer = "bytes"
d_vocab = 256
held_out = 0.1

[train]
steps = 100
batch_size = 4
micro_batches = 1
clip_norm = 1.0
schedule = "cosine"
warmup_steps = 10
final_lr_fraction = 0.1

[probe]
log_until = 16
every = 10
loss_sequences = 4
residual_sequences = 4
random_bases = 8
tokens = "rest"
null_bases = 8
null_metrics = ["token_kurtosis"]
null_sites = ["blocks.last.resid_post"]
band_bases = 8
band_metrics = ["token_kurtosis"]

[optimizer]
kind = "adam"
lr = 1e-2
beta_1 = 0.9
beta_2 = 0.999
epsilon = 1e-8
weight_decay = 0.0

[basis]
kind = "standard"

[verdict]
metric = "token_kurtosis"
site = "blocks.last.resid_post"
tokens = "rest"
basis = "standard"
step = "last"
alpha = 0.05
min_seeds = 8
smallest_effect = 0.15
equivalence_margin = 0.1
equal_loss_margin = 0.01

[[arm]]
name = "adam"
"#;

/// The complete experiment with more arms and the rest.
pub(crate) fn with(rest: &str) -> Result<Loaded, String> {
    changed(&format!("{BASE}{rest}"), &[])
}

pub(crate) fn changed(text: &str, changes: &[Change]) -> Result<Loaded, String> {
    let base = |name: &str| match name {
        "base" => Ok(("base.toml".to_owned(), format!("{BASE}{SGD}"))),
        other => Err(format!("found {other:?}, expected base")),
    };
    load(text, "f.toml", changes, Library { rules: RULES, base: &base }).map_err(|error| error.to_string())
}

pub(crate) fn experiment(rest: &str) -> Experiment {
    with(rest).unwrap_or_else(|error| panic!("{error}")).experiment
}

pub(crate) const SGD: &str = r#"
[[arm]]
name = "sgd"
optimizer = { kind = "sgd", lr = 0.25 }

[[claim]]
name = "adam-differs"
text = "Adam differs from SGD"
test = { kind = "arms-differ", arm = "adam", other = "sgd", reading = "final" }
primary = true

[[claim]]
name = "adam-alone"
text = "Adam differs from its null"
test = { kind = "differs-from-null", arm = "adam" }
primary = true
"#;

pub(crate) fn names(experiment: &Experiment) -> Vec<&str> {
    experiment.arms.iter().map(|arm| arm.name.as_str()).collect()
}
