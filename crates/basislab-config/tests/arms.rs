//! Arms are changes to shared tables; grids and the command line make arms.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use basislab_config::{Change, Experiment, Key, Kind, Library, Loaded, Role, RuleKeys, load};

const fn key(name: &'static str, kind: Kind, preset: &'static str) -> Key {
    Key { name, kind, about: "", preset: Some(preset), optional: false }
}

const MATRICES: &[Role] = &[Role::Read, Role::Write];

static RULES: &[&RuleKeys] = &[
    &RuleKeys {
        name: "sgd",
        keys: &[key("lr", Kind::Positive(1e6), "0.5"), key("momentum", Kind::FloatBelow(0.0, 1.0), "0.9")],
        roles: Role::ALL,
        slots: &[],
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
        slots: &[],
        check: |_| None,
    },
    &RuleKeys {
        name: "adamw",
        keys: &[key("lr", Kind::Positive(1e6), "1e-2"), key("decoupled_weight_decay", Kind::Float(0.0, 1e3), "0.01")],
        roles: Role::ALL,
        slots: &[],
        check: |_| None,
    },
    &RuleKeys {
        name: "lion",
        keys: &[key("lr", Kind::Positive(1e6), "1e-3")],
        roles: Role::ALL,
        slots: &["momentum"],
        check: |_| None,
    },
    &RuleKeys {
        name: "muon",
        keys: &[key("lr", Kind::Positive(1e6), "2e-2"), key("ns_steps", Kind::Integer(1, 20), "5")],
        roles: MATRICES,
        slots: &["momentum"],
        check: |_| None,
    },
];

/// A complete experiment with one arm.
const BASE: &str = r#"
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
fn with(rest: &str) -> Result<Loaded, String> {
    changed(&format!("{BASE}{rest}"), &[])
}

fn changed(text: &str, changes: &[Change]) -> Result<Loaded, String> {
    let base = |name: &str| match name {
        "base" => Ok(("base.toml".to_owned(), format!("{BASE}{SGD}"))),
        other => Err(format!("found {other:?}, expected base")),
    };
    load(text, "f.toml", changes, Library { rules: RULES, base: &base }).map_err(|error| error.to_string())
}

fn experiment(rest: &str) -> Experiment {
    with(rest).unwrap_or_else(|error| panic!("{error}")).experiment
}

const SGD: &str = r#"
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

fn names(experiment: &Experiment) -> Vec<&str> {
    experiment.arms.iter().map(|arm| arm.name.as_str()).collect()
}

#[test]
fn an_arm_without_changes_is_the_shared_tables() {
    let experiment = experiment("");
    assert_eq!(experiment.arms[0].run, experiment.shared);
    assert_eq!(experiment.arms[0].seeds, [0, 1, 2]);
    assert!(experiment.claims.is_empty() && experiment.sweeps.is_empty());
}

#[test]
fn an_arm_changes_any_shared_key_and_nothing_else() {
    let experiment = experiment(
        r#"
[[arm]]
name = "long"
train.steps = 200
model.norm = "layernorm"
corpus.path = "b.txt"
optimizer.lr = 3e-3
seeds = [1]
"#,
    );
    let arm = experiment.arm("long").unwrap();
    let mut expected = experiment.shared.clone();
    expected.train.steps = 200;
    expected.model.norm = basislab_config::NormKind::Layernorm;
    assert_eq!(arm.seeds, [1]);
    assert_eq!((&arm.run.train, &arm.run.model, &arm.run.probe), (&expected.train, &expected.model, &expected.probe));
    assert_eq!((arm.run.optimizer.lr(), arm.run.optimizer.name()), (3e-3, "adam".to_owned()));
    assert_ne!(arm.run.corpus, expected.corpus);
}

#[test]
fn another_kind_brings_its_presets_and_keeps_nothing_of_the_old_one() {
    let experiment = experiment(SGD);
    let sgd = experiment.arm("sgd").unwrap().run.optimizer.rule_for(Role::Read).unwrap().clone();
    assert_eq!((sgd.kind.as_str(), sgd.lr(), sgd.number("momentum")), ("sgd", 0.25, 0.9));
    assert!(experiment.to_toml().matches("beta_1").count() == 1, "{}", experiment.to_toml());
}

#[test]
fn an_optimizer_is_taken_from_an_arm_or_a_preset_by_name() {
    let text = format!(
        "{SGD}\n[[arm]]\nname = \"layernorm\"\nmodel.norm = \"layernorm\"\noptimizer = \"sgd\"\n\n[[arm]]\nname = \"decayed\"\noptimizer = \"adamw\"\n"
    );
    let experiment = experiment(&text);
    let of = |arm: &str| experiment.arm(arm).unwrap().run.optimizer.clone();
    assert_eq!(of("layernorm"), of("sgd"));
    assert_eq!((of("decayed").name(), of("decayed").lr()), ("adamw".to_owned(), 1e-2));
    let error = with("[[arm]]\nname = \"x\"\noptimizer = \"sdg\"\n").unwrap_err();
    assert!(error.contains("arm.x.optimizer") && error.contains("expected a table whose kind is one of sgd"), "{error}");
}

#[test]
fn what_is_written_loads_as_the_same_experiment() {
    let all = [
        "",
        SGD,
        "[[arm]]\nname = \"x\"\nmodel.positions = \"rope\"\ntrain.steps = 50\n[[grid]]\narms = [\"adam\"]\n\"optimizer.lr\" = [1e-3, 1e-2]\n\"model.d_mlp\" = [8, 16]\n",
        "[[grid]]\nzip = { \"model.d_model\" = [16, 32], \"model.d_mlp\" = [32, 64] }\nchoose = { by = \"loss\", on_seeds = [1000, 1001] }\n",
        "[[arm]]\nname = \"x\"\nphases = [{ from = 10, optimizer.lr = 1e-3, moments = \"keep\" }, { from = 20, basis = \"rotated-optimizer\", moments = \"rotate\" }]\n",
        "[[arm]]\nname = \"muon\"\n[arm.optimizer.groups]\nmatrices = { roles = [\"read\", \"write\"], kind = \"muon\" }\nrest = { roles = [\"embedding\", \"vector\", \"head\", \"other\"], kind = \"adam\", lr = 3e-3 }\n",
        "[[claim]]\nname = \"c\"\ntext = \"t\"\ncell = { site = \"embed\", step = 0 }\ntest = { kind = \"equivalent-to-null\", arm = \"adam\" }\nprimary = false\n",
    ];
    for rest in all {
        let loaded = experiment(rest);
        let again = changed(&loaded.to_toml(), &[]).unwrap_or_else(|error| panic!("{error}\n{}", loaded.to_toml()));
        assert_eq!(again.experiment.to_toml(), loaded.to_toml());
        assert!(again.experiment.arms == loaded.arms, "{rest}");
        assert!(again.experiment == loaded, "{rest}");
    }
}

#[test]
fn a_file_says_only_what_differs_from_its_base() {
    let text = r#"
base = "base"
question = "Does LayerNorm give SGD a basis too?"

[[arm]]
name = "sgd-layernorm"
model.norm = "layernorm"
optimizer = "sgd"
"#;
    let loaded = changed(text, &[]).unwrap().experiment;
    assert_eq!(names(&loaded), ["adam", "sgd", "sgd-layernorm"]);
    assert_eq!(loaded.claims.len(), 2);
    let only = changed(&text.replace("question", "only = [\"adam\"]\nquestion"), &[]).unwrap().experiment;
    assert_eq!(names(&only), ["adam", "sgd-layernorm"]);
    assert_eq!(only.arm("sgd-layernorm"), loaded.arm("sgd-layernorm"));
    let claims: Vec<&str> = only.claims.iter().map(|claim| claim.name.as_str()).collect();
    assert_eq!(claims, ["adam-alone"]);
    let error = changed(&text.replace("\"base\"", "\"bases\""), &[]).unwrap_err();
    assert_eq!(error, "f.toml:2:8: base: found \"bases\", expected base");
}

#[test]
fn all_missing_keys_are_told_in_one_error() {
    let text = BASE.replace("n_ctx = 8\n", "").replace("steps = 100\n", "").replace("metric = \"token_kurtosis\"\n", "");
    let error = changed(&text, &[]).unwrap_err();
    let all = "f.toml:58:1: verdict.metric: missing, expected a name of 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit, without '..' (The metric, by its name in `basislab metrics list`); also missing: model.n_ctx, train.steps";
    assert_eq!(error, all);
}

#[test]
fn arms_are_added_on_the_command_line() {
    let add = |text: &str| changed(&format!("{BASE}{SGD}"), &[Change::parse_arm(text)?]).map(|loaded| loaded.experiment);
    let added = add("adamw=adam,optimizer.kind=adamw,train.steps=50").unwrap();
    assert_eq!(names(&added), ["adam", "sgd", "adamw"]);
    let arm = added.arm("adamw").unwrap();
    assert_eq!((arm.run.optimizer.name(), arm.run.train.steps), ("adamw".to_owned(), 50));
    assert_eq!(add("x=adm").unwrap_err(), "--arm x=adm: no such arm \"adm\", expected one of adam, sgd; did you mean \"adam\"?");
    assert!(add("sgd=adam").unwrap_err().contains("there is an arm \"sgd\" already"));
    assert!(add("x").unwrap_err().contains("expected NAME=ARM,KEY=VALUE"));
    assert!(add("x=adam,train.stps=3").unwrap_err().contains("did you mean \"steps\""));
}

#[test]
fn no_arm_is_called_by_a_rule_that_it_does_not_have() {
    let set = |path: &str, value: &str| {
        changed(&format!("{BASE}{SGD}"), &[Change::set(path, value, &format!("--set {path}={value}"))])
    };
    let error = set("arm.sgd.optimizer.kind", "adamw").unwrap_err();
    assert_eq!(
        error,
        "--set arm.sgd.optimizer.kind=adamw: arm.sgd.optimizer.kind: found adamw in an arm that is called sgd, expected an arm of another name, as by --arm adamw=sgd,optimizer.kind=adamw"
    );
    let error = set("optimizer.kind", "sgd").unwrap_err();
    assert!(error.starts_with("--set optimizer.kind=sgd: arm.adam.optimizer.kind: found sgd"), "{error}");
    assert!(set("arm.sgd.optimizer.lr", "0.1").is_ok());
}

#[test]
fn grids_cross_and_zip_and_name_what_they_make() {
    let crossed = experiment(
        "[[grid]]\narms = [\"adam\"]\n\"optimizer.lr\" = [1e-3, 0.01]\n\"train.schedule\" = [\"constant\", \"linear\"]\n",
    );
    assert_eq!(
        names(&crossed),
        [
            "adam",
            "adam-lr-0.001-schedule-constant",
            "adam-lr-0.001-schedule-linear",
            "adam-lr-0.01-schedule-constant",
            "adam-lr-0.01-schedule-linear"
        ]
    );
    let arm = crossed.arm("adam-lr-0.001-schedule-linear").unwrap();
    assert_eq!((arm.run.optimizer.lr(), arm.run.train.schedule.name()), (1e-3, "linear"));
    assert_eq!(crossed.sweeps[0].keys, ["optimizer.lr", "train.schedule"]);
    // A point that changes nothing is the same run.
    assert_eq!(experiment("[[grid]]\n\"optimizer.lr\" = [0.01]\n").arms[1].run.hash(), crossed.arms[0].run.hash());
    let zipped = experiment("[[grid]]\nzip = { \"model.d_model\" = [16, 32], \"model.d_mlp\" = [32, 64] }\n");
    assert_eq!(names(&zipped), ["adam", "adam-d_mlp-32-d_model-16", "adam-d_mlp-64-d_model-32"]);
    let swept = [Change::parse_sweep("arm.adam.optimizer.lr=1e-3,3e-3").unwrap()];
    let swept = changed(BASE, &swept).unwrap().experiment;
    assert_eq!(names(&swept), ["adam", "adam-lr-0.001", "adam-lr-0.003"]);
}

#[test]
fn grids_that_make_no_sense_are_refused_where_they_are_written() {
    for (grid, expected) in [
        ("arms = [\"adm\"]\n\"optimizer.lr\" = [1.0]", "grid.0.arms: found \"adm\""),
        ("arms = [\"adam\"]", "found no key to sweep"),
        ("\"optimizer.lr\" = 1.0", "found the number 1.0, expected a list of values"),
        ("\"optimizer.lr\" = []", "expected a list of values"),
        ("\"optimizer.lrr\" = [1.0]", "unknown key \"lrr\""),
        ("\"optimizer.lr\" = [-1.0]", "arm.adam-lr--1.0.optimizer.lr: found the number -1.0"),
        ("zip = { \"model.d_model\" = [16, 32], \"model.d_mlp\" = [32] }", "expected lists of one length"),
        ("\"optimizer.lr\" = [1.0]\nchoose = { by = \"loss\", on_seeds = [2] }", "found seed 2, which the experiment decides on"),
        ("\"optimizer.lr\" = [1.0]\nchoose = { by = \"lost\", on_seeds = [5] }", "did you mean \"loss\""),
    ] {
        let error = with(&format!("[[grid]]\n{grid}\n")).unwrap_err();
        assert!(error.contains(expected) && error.starts_with("f.toml:"), "{grid}: {error}");
    }
}

#[test]
fn selection_seeds_are_those_of_the_points_alone() {
    let chosen = experiment(
        "[[grid]]\n\"optimizer.lr\" = [1e-3, 1e-2]\nchoose = { by = \"loss\", on_seeds = [1000, 1001] }\n",
    );
    let seeds: Vec<&[u64]> = chosen.arms.iter().map(|arm| &arm.seeds[..]).collect();
    assert_eq!(seeds, [&[0, 1, 2][..], &[1000, 1001], &[1000, 1001]]);
}

#[test]
fn phases_are_complete_and_in_order() {
    let phased = experiment(
        "[[arm]]\nname = \"x\"\nphases = [{ from = 10, optimizer.lr = 1e-3, moments = \"keep\" }, { from = 20, optimizer = \"sgd\", moments = \"reset\" }]\n",
    );
    let phases = &phased.arm("x").unwrap().run.phases;
    assert_eq!((phases[0].optimizer.name(), phases[0].optimizer.lr()), ("adam".to_owned(), 1e-3));
    assert_eq!((phases[1].optimizer.name(), phases[1].optimizer.lr()), ("sgd".to_owned(), 0.5));
    assert_eq!(phases[0].basis, phased.shared.basis);
    for (phases, expected) in [
        ("{ from = 1, moments = \"keep\" }", "found the integer 1"),
        ("{ from = 101, moments = \"keep\" }", "arm.x.phases.0.from: found 101"),
        ("{ from = 9, moments = \"keep\" }, { from = 9, moments = \"keep\" }", "arm.x.phases.1.from: found 9"),
        ("{ from = 9, optimizer = \"muon\", moments = \"keep\" }", "found muon for embedding"),
        ("{ from = 9, optimizer = \"lion\", moments = \"keep\" }", "arm.x.phases.0.moments: found keep, expected reset"),
        ("{ from = 9 }", "arm.x.phases.0.moments: missing"),
        ("{ from = 9, basis = \"rotated-model\", moments = \"keep\" }", "a model keeps its own"),
    ] {
        let error = with(&format!("[[arm]]\nname = \"x\"\nphases = [{phases}]\n")).unwrap_err();
        assert!(error.contains(expected), "{phases}: {error}");
    }
}

#[test]
fn groups_assign_every_role_once_and_rules_only_where_they_are_defined() {
    let groups = |text: &str| with(&format!("[[arm]]\nname = \"x\"\n[arm.optimizer.groups]\n{text}\n"));
    let rest = "rest = { roles = [\"embedding\", \"vector\", \"head\", \"other\"], kind = \"adam\", lr = 3e-3 }";
    let matrices = "matrices = { roles = [\"read\", \"write\"], kind = \"muon\" }";
    let optimizer = groups(&format!("{matrices}\n{rest}")).unwrap().experiment.arm("x").unwrap().run.optimizer.clone();
    assert_eq!(optimizer.name(), "muon + adam");
    assert_eq!(optimizer.rule_for(Role::Write).unwrap().integer("ns_steps"), 5);
    assert_eq!(optimizer.rule_for(Role::Head).unwrap().lr(), 3e-3);
    for (text, expected) in [
        (format!("{matrices}\n{matrices}2"), "f.toml"),
        (format!("{matrices}\n{}", rest.replace("\"vector\"", "\"read\"")), "found role read a second time"),
        (format!("{matrices}\n{}", rest.replace("\"head\", ", "")), "arm.x.optimizer.groups: found no group for head parameters"),
        (format!("{matrices}\n{}", rest.replace("adam", "muon").replace(", lr = 3e-3", "")), "found muon for embedding parameters"),
        ("a = { kind = \"adam\" }".to_owned(), "arm.x.optimizer.groups.a.roles: missing"),
        ("a = 1".to_owned(), "expected a table with roles and kind"),
    ] {
        let error = groups(&text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let error = with("[[arm]]\nname = \"x\"\noptimizer = \"muon\"\n").unwrap_err();
    assert!(error.contains("found muon for embedding parameters, expected it for read, write alone"), "{error}");
    let set = [Change::set("arm.x.optimizer.groups.rest.lr", "0.5", "--set ...")];
    let text = format!("{BASE}[[arm]]\nname = \"x\"\n[arm.optimizer.groups]\n{matrices}\n{rest}\n");
    let optimizer = changed(&text, &set).unwrap().experiment.arm("x").unwrap().run.optimizer.clone();
    assert_eq!(optimizer.rule_for(Role::Head).unwrap().lr(), 0.5);
}

#[test]
fn only_what_decides_numbers_is_in_a_runs_hash() {
    let hash = |rest: &str| experiment(rest).arms.last().unwrap().run.hash();
    let plain = hash("");
    assert_eq!(hash("[[arm]]\nname = \"another-name\"\n"), plain);
    assert_eq!(hash("[[arm]]\nname = \"x\"\ncorpus.path = \"/elsewhere/a.txt\"\n"), plain);
    assert_eq!(hash("[[arm]]\nname = \"x\"\noptimizer.lr = 0.01\nseeds = [1]\n"), plain);
    assert_eq!(hash("[[arm]]\nname = \"x\"\noptimizer.weight_decay = 0\n"), plain, "0 is 0.0");
    for change in ["optimizer.lr = 0.02", "train.steps = 99", "model.compute_dtype = \"bf16\"", "probe.every = 5", "corpus.held_out = 0.2"] {
        assert_ne!(hash(&format!("[[arm]]\nname = \"x\"\n{change}\n")), plain, "{change}");
    }
}

#[test]
fn a_rules_hash_leaves_out_words_and_seeds() {
    let of = |text: &str| {
        let experiment = changed(text, &[]).unwrap().experiment;
        experiment.claims.iter().map(|claim| experiment.rule_hash(claim)).collect::<Vec<_>>()
    };
    let text = format!("{BASE}{SGD}");
    let plain = of(&text);
    assert_eq!(of(&text.replace("Adam differs from SGD", "Other words").replace("question = \"?\"", "question = \"!\"")), plain);
    assert_eq!(of(&text.replace("seeds = [0, 1, 2]", "seeds = [0, 1, 2, 3]")), plain);
    assert_ne!(of(&text.replace("smallest_effect = 0.15", "smallest_effect = 0.16")), plain);
    let cell = text.replace("text = \"Adam differs from SGD\"", "text = \"t\"\ncell = { tokens = \"all\" }");
    assert!(of(&cell)[0] != plain[0] && of(&cell)[1] != plain[1], "they are one family");
}
