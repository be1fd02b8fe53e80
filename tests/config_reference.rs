//! `config explain`: every key that a configuration may hold is in the reference, from its own declaration.

use crate::cli::{basislab, refuses, stderr, stdout};
use crate::support::root;
use basislab_config::{KeyEntry, Library, RuleKeys, explained, load, reference};
use basislab_optim::{RULES, rule_keys};
use serde_json::Value;
use std::fs;
use tempfile::TempDir;

fn entries() -> Vec<KeyEntry> {
    let rules: Vec<(&'static RuleKeys, &str)> = RULES.iter().map(|rule| (&rule.keys, rule.about)).collect();
    reference(&rules)
}

fn page() -> String {
    fs::read_to_string(root().join("docs/configuration.md")).unwrap()
}

/// The TOML of the page.
fn blocks(page: &str) -> Vec<&str> {
    page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// Asserts that the reference has the key, and not merely something that ends so.
fn assert_explained(all: &[KeyEntry], path: &str) {
    let found = explained(all, path);
    let last = path.rsplit('.').next();
    assert!(found.first().is_some_and(|entry| entry.path.rsplit('.').next() == last), "{path}: {found:?}");
}

#[test]
fn every_key_that_config_show_prints_is_explained() {
    let built_in = fs::read_to_string(crate::support::EXPERIMENT).unwrap();
    let base = &|name: &str| match name {
        "adam-vs-sgd" => Ok(("configs/adam-vs-sgd.toml".to_owned(), built_in.clone())),
        other => Err(format!("found {other:?}, expected adam-vs-sgd")),
    };
    let library = Library { rules: rule_keys(), base };
    let page = page();
    // Those that show a part of a file are completed by the same base.
    let complete = |text: &str| {
        if text.contains("base = ") { text.to_owned() } else { format!("base = \"adam-vs-sgd\"\n{text}") }
    };
    let texts: Vec<String> = std::iter::once(built_in.clone()).chain(blocks(&page).into_iter().map(complete)).collect();
    assert!(texts.len() >= 9, "only {} files", texts.len());
    let (all, mut count) = (entries(), 0);
    for text in texts {
        for (path, ..) in load(&text, "f.toml", &[], library).unwrap().origins {
            assert_explained(&all, &path);
            count += 1;
        }
    }
    assert!(count > 800, "only {count} keys");
}

#[test]
fn every_key_of_the_documentation_is_explained() {
    let (all, page) = (entries(), page());
    let mut keys: Vec<String> = Vec::new();
    // Arguments: `--set KEY=VALUE`, `--sweep KEY=VALUES`, `--arm NAME=ARM,KEY=VALUE`.
    let words: Vec<&str> = page.split_whitespace().map(|word| word.trim_start_matches('`')).collect();
    for pair in words.windows(2) {
        let assignments: Vec<&str> = match pair[0] {
            "--set" | "--sweep" => vec![pair[1]],
            "--arm" => pair[1].split(',').skip(1).collect(),
            _ => continue,
        };
        keys.extend(assignments.iter().filter_map(|one| Some(one.split_once('=')?.0.to_owned())));
    }
    // Keys in the text, in backticks.
    let tables = ["model.", "corpus.", "train.", "probe.", "optimizer.", "basis.", "verdict.", "claim.", "test."];
    let quoted = page.split('`').skip(1).step_by(2).flat_map(|code| code.split([' ', '=']).next());
    keys.extend(quoted.filter(|code| tables.iter().any(|table| code.starts_with(table))).map(str::to_owned));
    assert!(keys.len() > 15, "only {} keys", keys.len());
    keys.iter().for_each(|key| assert_explained(&all, key));
}

#[test]
fn every_entry_says_what_it_means_and_every_rule_has_its_presets() {
    let all = entries();
    let is_text = |text: &str| text.starts_with(|c: char| c.is_uppercase() || c == '`') && text.ends_with(['.', ')']);
    for entry in &all {
        let text = entry.about.trim_end_matches('.').to_owned() + ".";
        assert!(is_text(&text) && !entry.about.ends_with(','), "{}: {:?}", entry.path, entry.about);
        assert!(!entry.expected.is_empty(), "{}", entry.path);
        assert!(entry.choices.iter().all(|(_, about)| !about.is_empty()), "{}: {:?}", entry.path, entry.choices);
    }
    for rule in RULES {
        for key in rule.keys.keys {
            let path = format!("optimizer.{}", key.name);
            let found = all.iter().find(|entry| {
                entry.path == path
                    && entry.kinds.contains(&(rule.keys.name, key.preset))
                    && entry.about.trim_end_matches('.') == key.about
            });
            assert!(found.is_some(), "{} of {}", key.name, rule.keys.name);
        }
    }
    let kinds = all.iter().find(|entry| entry.path == "optimizer.kind").unwrap();
    assert_eq!(
        kinds.choices.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["sgd", "adam", "adamw", "lion", "muon"]
    );
}

fn explain(args: &[&str]) -> String {
    let dir = TempDir::new().unwrap();
    let output = basislab(dir.path(), &[&["config", "explain"], args].concat());
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

#[test]
fn the_program_lists_all_keys_and_explains_one() {
    let all = entries();
    let listed = explain(&[]);
    for heading in ["[model]", "[optimizer]", "[[arm]]", "[[grid]]", "[[claim]]", "[verdict]", "phases = "] {
        assert!(listed.lines().any(|line| line.starts_with(heading)), "{heading}: {listed}");
    }
    let lines = listed.lines().filter(|line| line.starts_with("  ")).count();
    let tables = listed.lines().filter(|line| line.starts_with('[') || line.starts_with("phases = ")).count();
    assert_eq!(lines + tables, all.len(), "one line for each key and table: {listed}");
    assert!(listed.lines().any(|line| line.starts_with("  n_layers ") && line.contains(" 2 ")), "{listed}");

    let lr = explain(&["optimizer.lr"]);
    for part in [
        "Peak learning rate",
        "a number above 0, at most 1000000.0",
        "0.002 (base = \"adam-vs-sgd\")",
        "0.5 (sgd)",
        "1e-3 (lion)",
    ] {
        assert!(lr.contains(part), "{part}: {lr}");
    }
    // Paths of arms, grids, phases and groups mean the shared keys, as does the end of a path.
    for path in [
        "arm.sgd.optimizer.lr",
        "arm.adam-lr-0.003.optimizer.lr",
        "grid.0.zip.optimizer.lr",
        "phases.1.optimizer.lr",
        "arm.a.phases.0.optimizer.lr",
        "optimizer.groups.rest.lr",
        "lr",
    ] {
        assert_eq!(explain(&[path]), lr, "{path}");
    }
    let norm = explain(&["model.norm"]);
    assert!(norm.contains("layernorm") && norm.contains("privileges the standard basis by architecture"), "{norm}");
    let model = explain(&["model"]);
    assert!(
        model.contains("model.n_ctx\n") && model.contains("model.positions.base\n") && !model.contains("train."),
        "{model}"
    );
    assert!(explain(&["claim.mine.test.threshold"]).contains("at-most, at-least"));

    let json: Value = serde_json::from_str(&explain(&["--json"])).unwrap();
    assert_eq!(json.as_array().unwrap().len(), all.len());
    let json: Value = serde_json::from_str(&explain(&["train.steps", "--json"])).unwrap();
    assert_eq!((&json[0]["key"], &json[0]["default"]), (&"train.steps".into(), &"2000".into()));
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    let dir = TempDir::new().unwrap();
    for (key, nearest) in [
        ("optimizer.lrr", "optimizer.lr"),
        ("arm.sgd.optimizer.momentun", "optimizer.momentum"),
        ("n_layer", "n_layers"),
        ("modle.n_ctx", "model.n_ctx"),
    ] {
        let hint = format!("did you mean {nearest:?}?");
        refuses(dir.path(), &["config", "explain", key], 2, &[&format!("no key {key:?}"), &hint]);
    }
    for key in ["", "zzz", "model.", ".lr", "arm.adam.nothing.at.all", "optimizer.groups.rest.nothing"] {
        refuses(dir.path(), &["config", "explain", key], 2, &["expected one that `basislab config explain` lists"]);
    }
}
