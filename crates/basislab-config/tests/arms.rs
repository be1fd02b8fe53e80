//! Arms are changes to shared tables, from files and from the command line.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod support;

use basislab_config::*;
use support::*;

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
    assert!(
        error.contains("arm.x.optimizer") && error.contains("expected a table whose kind is one of sgd"),
        "{error}"
    );
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
    let set = Change::parse_set("only=[\"adam\"]").unwrap();
    let error = changed(text, &[set]).unwrap_err();
    assert!(error.contains("only is a key of files alone"), "{error}");
    let error = changed(&text.replace("\"base\"", "\"bases\""), &[]).unwrap_err();
    assert_eq!(error, "f.toml:2:8: base: found \"bases\", expected base");
}

#[test]
fn all_missing_keys_are_told_in_one_error() {
    let text =
        BASE.replace("n_ctx = 8\n", "").replace("steps = 100\n", "").replace("metric = \"token_kurtosis\"\n", "");
    let error = changed(&text, &[]).unwrap_err();
    let all = "f.toml:60:1: verdict.metric: missing, expected a name of 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit, without '..' (the metric, by its name in `basislab metrics list`); also missing: model.n_ctx, train.steps";
    assert_eq!(error, all);
}

#[test]
fn arms_are_added_on_the_command_line() {
    let add =
        |text: &str| changed(&format!("{BASE}{SGD}"), &[Change::parse_arm(text)?]).map(|loaded| loaded.experiment);
    let added = add("adamw=adam,optimizer.kind=adamw,train.steps=50").unwrap();
    assert_eq!(names(&added), ["adam", "sgd", "adamw"]);
    let arm = added.arm("adamw").unwrap();
    assert_eq!((arm.run.optimizer.name(), arm.run.train.steps), ("adamw".to_owned(), 50));
    assert_eq!(
        add("x=adm").unwrap_err(),
        "--arm x=adm: no such arm \"adm\", expected one of adam, sgd; did you mean \"adam\"?"
    );
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
        "--set arm.sgd.optimizer.kind=adamw: arm.sgd.optimizer.kind: found adamw in an arm that is called sgd, expected sgd, or another name for an arm with adamw (--arm NAME=sgd,optimizer.kind=adamw adds one)"
    );
    let error = set("optimizer.kind", "sgd").unwrap_err();
    assert!(error.starts_with("--set optimizer.kind=sgd: arm.adam.optimizer.kind: found sgd"), "{error}");
    assert!(set("arm.sgd.optimizer.lr", "0.1").is_ok());
}
