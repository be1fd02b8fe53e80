//! Grids with a choice: what is refused, and what the experiment is once the choice is made.

use basislab_config::{Commutes, Experiment, Key, Kind, Library, Role, RuleKeys, RunName, load};

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, about: "", preset: None, optional: false }
}

static RULES: &[&RuleKeys] = &[
    &RuleKeys {
        name: "adam",
        keys: &[
            key("lr", Kind::Finite),
            key("beta_1", Kind::Finite),
            key("beta_2", Kind::Finite),
            key("epsilon", Kind::Finite),
            key("weight_decay", Kind::Finite),
        ],
        roles: Role::ALL,
        commutes: Commutes::SignedPermutations { exactly: true },
        slots: |_| &[],
        check: |_| None,
    },
    &RuleKeys {
        name: "sgd",
        keys: &[
            key("lr", Kind::Finite),
            key("momentum", Kind::Finite),
            key("nesterov", Kind::Bool),
            key("weight_decay", Kind::Finite),
            key("decoupled_weight_decay", Kind::Finite),
        ],
        roles: Role::ALL,
        commutes: Commutes::Rotations { permutations_exactly: true },
        slots: |_| &[],
        check: |_| None,
    },
];

/// An experiment whose seeds are 0 to 7, with more tables.
fn with(rest: &str) -> Result<Experiment, String> {
    let text = format!("{}\n{rest}", include_str!("../../../tests/support/adam-vs-sgd.toml"));
    let library = Library { rules: RULES, base: &|name| Err(format!("found {name:?}, expected none")) };
    load(&text, "f.toml", &[], library).map(|loaded| loaded.experiment).map_err(|error| error.to_string())
}

const CHOICE: &str = r#"
[[grid]]
arms = ["adam"]
"optimizer.lr" = [1e-3, 3e-3]
choose = { by = "loss", on_seeds = [1000, 1001] }
"#;

fn name(text: &str) -> RunName {
    RunName::new(text).unwrap_or_else(|expected| panic!("{text}: {expected}"))
}

#[test]
fn a_choice_gives_its_arm_the_run_of_the_point_and_changes_nothing_else() {
    let before = with(CHOICE).unwrap_or_else(|error| panic!("{error}"));
    assert!(before.is_selection_arm("adam-lr-0.003") && !before.is_selection_arm("adam"));
    let after = before.with_chosen(&[(name("adam"), name("adam-lr-0.003"))]);
    let lr = |experiment: &Experiment, arm: &str| experiment.arm(arm).map(|arm| arm.run.optimizer.lr());
    assert_eq!((lr(&before, "adam"), lr(&after, "adam")), (Some(1e-2), Some(3e-3)));
    let mut restored = after.clone();
    restored.arms[0].run.clone_from(&before.arms[0].run);
    assert_eq!(restored, before, "seeds, claims and the other arms stay");
    // What no grid offers is not taken over.
    for pair in [("sgd", "adam-lr-0.003"), ("adam", "sgd"), ("adam", "adam-lr-0.01")] {
        assert_eq!(before.with_chosen(&[(name(pair.0), name(pair.1))]), before, "{pair:?}");
    }
    let plain = with(&CHOICE.replace("choose", "# choose")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(plain.with_chosen(&[(name("adam"), name("adam-lr-0.003"))]), plain, "a grid without a choice");
}

#[test]
fn selection_and_decision_never_share_a_seed() {
    let on = |seeds: &str| CHOICE.replace("1000, 1001", seeds);
    let of_point = "\n[[claim]]\nname = \"c\"\ntext = \"t\"\nprimary = false\ntest = { kind = \"equal-loss\", arm = \"sgd\", other = \"adam-lr-0.003\" }\n";
    for (rest, expected) in [
        (on("1000, 7"), "grid: found seed 7, which the experiment decides on"),
        (format!("{CHOICE}{of_point}"), "claim.c.test: found adam-lr-0.003, which runs on the selection seeds alone"),
        (
            format!("{CHOICE}\n[[arm]]\nname = \"adam-lr-0.003\"\n"),
            "grid: found the arm adam-lr-0.003 elsewhere too, expected it in this grid alone",
        ),
        (
            format!("{CHOICE}{}", CHOICE.replace("choose", "# choose")),
            "grid: found the arm adam-lr-0.001 elsewhere too, expected it in this grid alone",
        ),
        (
            format!("{CHOICE}{}", CHOICE.replace("lr\" = [1e-3, 3e-3]", "beta_1\" = [0.8, 0.95]")),
            "grid: found two grids that choose for adam, expected one",
        ),
        (
            format!(
                "{CHOICE}{}",
                CHOICE.replace("[\"adam\"]", "[\"adam-lr-0.003\"]").replace("optimizer.lr", "optimizer.beta_1")
            ),
            "grid: found a choice for adam-lr-0.003, which another choice is among",
        ),
    ] {
        let error = with(&rest).err().unwrap_or_else(|| panic!("accepted: {rest}"));
        assert!(error.starts_with("f.toml:") && error.contains(expected), "{error}\nexpected {expected}");
    }
    assert!(with(&on("8, 9")).is_ok());
}

#[test]
fn losses_that_cannot_be_compared_are_no_criterion() {
    for (key, values, named) in [
        ("train.steps", "200, 400", "train.steps"),
        ("corpus.overlap", "0.0, 0.1", "corpus"),
        ("probe.loss_sequences", "16, 32", "probe"),
        ("model.n_ctx", "32, 64", "model.n_ctx"),
    ] {
        let grid = CHOICE.replace("optimizer.lr", key).replace("1e-3, 3e-3", values);
        let error = with(&grid).err().unwrap_or_else(|| panic!("accepted: {grid}"));
        assert!(error.contains(&format!("found a choice by loss over {named}, expected other keys")), "{error}");
        assert!(with(&grid.replace("choose", "# choose")).is_ok(), "{key}: a grid without a choice");
    }
}

#[test]
fn settings_name_every_key_once_and_no_path() {
    let experiment = with(CHOICE).unwrap_or_else(|error| panic!("{error}"));
    let all = experiment.settings();
    for (key, expected) in [
        ("verdict.alpha", "0.05"),
        ("seeds", "[0, 1, 2, 3, 4, 5, 6, 7]"),
        ("grid.adam.optimizer.lr", "[0.001, 0.003]"),
        ("grid.adam.choose.on_seeds", "[1000, 1001]"),
    ] {
        assert_eq!(all.get(key).map(String::as_str), Some(expected), "{key}");
    }
    let claim = experiment.claims[1].settings();
    assert_eq!(claim.get("test.other").map(String::as_str), Some("\"sgd\""));
    assert_eq!(claim.keys().filter(|key| ["name", "text"].contains(&key.as_str())).collect::<Vec<_>>(), ["text"]);
    let run = experiment.arms[0].run.settings();
    assert_eq!(run.get("optimizer.lr").map(String::as_str), Some("0.01"));
    assert_eq!(run.get("probe.null_sites").map(String::as_str), Some("[\"blocks.last.resid_post\"]"));
    let text = "\n[[arm]]\nname = \"on-text\"\ncorpus = { kind = \"text\", path = \"/a.txt\", tokenizer = \"bytes\", d_vocab = 256, held_out = 0.1 }\n";
    let on_text = with(text).unwrap_or_else(|error| panic!("{error}")).arms[5].run.settings();
    assert_eq!((on_text.get("corpus.kind").map(String::as_str), on_text.get("corpus.path")), (Some("\"text\""), None));
    assert_eq!(on_text.get("corpus.held_out").map(String::as_str), Some("0.1"));
}

#[test]
fn the_values_of_a_grid_are_listed_once_each() {
    let experiment = with(
        "[[grid]]\narms = [\"adam\"]\n\"optimizer.lr\" = [1e-3, 1e-5]\n\"model.norm\" = [\"layernorm\", \"rms\"]\n\"model.n_heads\" = [2]\n",
    );
    let sweep = experiment.unwrap_or_else(|error| panic!("{error}")).sweeps.remove(0);
    assert_eq!(sweep.keys, ["model.n_heads", "model.norm", "optimizer.lr"]);
    assert_eq!([0, 1, 2].map(|place| sweep.is_numeric(place)), [false, false, true], "one value is no sweep");
    assert_eq!([0, 1, 2].map(|place| sweep.values_at(place).len()), [1, 2, 2]);
    assert_eq!(sweep.points[1].in_words(&sweep.keys), "model.n_heads = 2, model.norm = layernorm, optimizer.lr = 1e-5");
    assert_eq!((sweep.points[1].number(2), sweep.points[1].number(1)), (Some(1e-5), None));
}
