//! Grids, phases, groups, and what is hashed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod support;

use basislab_config::*;
use support::*;

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
fn an_optimizer_that_is_given_by_name_can_be_swept_and_set() {
    let arms = format!("{SGD}[[arm]]\nname = \"long\"\noptimizer = \"sgd\"\nbasis = \"rotated-optimizer\"\n");
    let grid = "[[grid]]\narms = [\"long\"]\n\"optimizer.lr\" = [0.1, 0.2]\n\"basis.sharing\" = [\"shared\", \"independent\"]\n";
    let swept = experiment(&format!("{arms}{grid}"));
    let (sgd, point) = (swept.arm("sgd").unwrap(), swept.arm("long-sharing-independent-lr-0.2").unwrap());
    assert_eq!((point.run.optimizer.name(), point.run.optimizer.lr()), ("sgd".to_owned(), 0.2));
    assert!(point.run.optimizer.equals_but_for_rates(&sgd.run.optimizer));
    assert!(matches!(&point.run.basis, BasisSpec::RotatedOptimizer { sharing: Sharing::Independent, .. }));
    let changes = [Change::parse_set("arm.long.optimizer.lr=0.3").unwrap()];
    let set = changed(&format!("{BASE}{arms}"), &changes).unwrap().experiment;
    assert_eq!(set.arm("long").unwrap().run.optimizer.lr(), 0.3);
    assert_eq!(set.arm("sgd"), swept.arm("sgd"));
}

#[test]
fn grids_that_make_no_sense_are_refused_where_they_are_written() {
    for (grid, expected) in [
        ("arms = [\"adm\"]\n\"optimizer.lr\" = [1.0]", "grid.0.arms: found \"adm\""),
        ("arms = [\"adam\"]", "found no key to sweep"),
        ("\"optimizer.lr\" = 1.0", "found the number 1.0, expected a list of values"),
        ("\"optimizer.lr\" = []", "expected a list of values"),
        ("\"optimizer.lr\" = [1e-3, 0.1, 0.001]", "found 0.001 twice, expected different values"),
        ("\"optimizer.lrr\" = [1.0]", "unknown key \"lrr\""),
        ("\"optimizer.lr\" = [-1.0]", "arm.adam-lr--1.0.optimizer.lr: found the number -1.0"),
        ("zip = { \"model.d_model\" = [16, 32], \"model.d_mlp\" = [32] }", "expected lists of one length"),
        (
            "\"optimizer.lr\" = [1.0]\nchoose = { by = \"loss\", on_seeds = [2] }",
            "found seed 2, which the experiment decides on",
        ),
        ("\"optimizer.lr\" = [1.0]\nchoose = { by = \"lost\", on_seeds = [5] }", "did you mean \"loss\""),
    ] {
        let error = with(&format!("[[grid]]\n{grid}\n")).unwrap_err();
        assert!(error.contains(expected) && error.starts_with("f.toml:"), "{grid}: {error}");
    }
}

#[test]
fn selection_seeds_are_those_of_the_points_alone() {
    let chosen =
        experiment("[[grid]]\n\"optimizer.lr\" = [1e-3, 1e-2]\nchoose = { by = \"loss\", on_seeds = [1000, 1001] }\n");
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
        (
            "{ from = 9, optimizer = \"lion\", moments = \"keep\" }",
            "arm.x.phases.0.moments: found keep, expected reset",
        ),
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
        (
            format!("{matrices}\n{}", rest.replace("\"head\", ", "")),
            "arm.x.optimizer.groups: found no group for head parameters",
        ),
        (
            format!("{matrices}\n{}", rest.replace("adam", "muon").replace(", lr = 3e-3", "")),
            "found muon for embedding parameters",
        ),
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
    for change in [
        "optimizer.lr = 0.02",
        "train.steps = 99",
        "model.compute_dtype = \"bf16\"",
        "probe.every = 5",
        "corpus.held_out = 0.2",
    ] {
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
    assert_eq!(
        of(&text.replace("Adam differs from SGD", "Other words").replace("question = \"?\"", "question = \"!\"")),
        plain
    );
    assert_eq!(of(&text.replace("seeds = [0, 1, 2]", "seeds = [0, 1, 2, 3]")), plain);
    assert_ne!(of(&text.replace("smallest_effect = 0.15", "smallest_effect = 0.16")), plain);
    let cell = text.replace("text = \"Adam differs from SGD\"", "text = \"t\"\ncell = { tokens = \"all\" }");
    assert!(of(&cell)[0] != plain[0] && of(&cell)[1] != plain[1], "they are one family");
}

#[test]
fn a_rule_is_the_same_before_and_after_its_arms_take_over_a_choice() {
    let of = |lr: &str, seeds: &str| {
        let grid = format!(
            "{SGD}[[grid]]\narms = [\"sgd\"]\n\"optimizer.lr\" = [{lr}]\nchoose = {{ by = \"loss\", on_seeds = [{seeds}] }}\n"
        );
        experiment(&grid)
    };
    let rules =
        |experiment: &Experiment| experiment.claims.iter().map(|claim| experiment.rule_hash(claim)).collect::<Vec<_>>();
    let before = of("0.1, 0.2", "1000, 1001");
    let point = before.sweeps[0].points[1].arm.clone();
    let after = before.with_chosen(&[(before.sweeps[0].arm.clone(), point)]);
    assert_ne!(after.arm("sgd"), before.arm("sgd"));
    assert_eq!(rules(&after), rules(&before));
    assert_ne!(rules(&of("0.1, 0.3", "1000, 1001")), rules(&before));
    assert_ne!(rules(&of("0.1, 0.2", "1000, 1002")), rules(&before));
    assert_eq!(rules(&of("0.2, 0.1", "1000, 1001")), rules(&before), "the order of the points decides nothing");
}
