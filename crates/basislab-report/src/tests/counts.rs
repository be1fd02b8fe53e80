//! A number and its noun agree, also where the number is 1.

use super::answer_of;
use super::kinds::{experiment as of_kind, tables as of_values};
use crate::fixture::{Outcome, effect, experiment, name, tables};
use crate::{choice_sentences, choose};
use basislab_config::{Cell, ClaimKind, Experiment, count};
use basislab_tables::Tables;

/// `1 seeds`, `1 of 1 runs`, `1 planned runs are`: a noun in the plural after 1, or a verb.
fn assert_agrees(text: &str) {
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '.' && c != '-').collect();
    let nouns = [
        "seeds",
        "runs",
        "steps",
        "bases",
        "arms",
        "claims",
        "files",
        "tokens",
        "parameters",
        "threads",
        "blocks",
        "numbers",
        "points",
        "draws",
        "combinations",
    ];
    for (at, _) in words.iter().enumerate().filter(|(_, word)| **word == "1") {
        // One adjective may stand between them.
        for next in words[at + 1..].iter().take(2) {
            assert!(!nouns.contains(next) && *next != "are", "{:?} in {text}", &words[at..words.len().min(at + 4)]);
            if next.ends_with(char::is_alphabetic) && nouns.iter().any(|noun| noun.trim_end_matches('s') == *next) {
                break;
            }
        }
    }
}

fn printed(experiment: &Experiment, tables: &Tables) -> String {
    let answer = answer_of(experiment, tables);
    format!("{answer}{}", answer.verdicts.iter().map(|line| format!("\n{}", line.rule)).collect::<String>())
}

#[test]
fn nouns_agree_with_their_numbers() {
    assert_eq!(count(0, "run") + " " + &count(1u64, "run") + " " + &count(2usize, "run"), "0 runs 1 run 2 runs");
    assert_eq!(
        (count(1, "random basis"), count(8, "random basis")),
        ("1 random basis".into(), "8 random bases".into())
    );
    assert!(std::panic::catch_unwind(|| assert_agrees("of 1 runs")).is_err());
    assert!(std::panic::catch_unwind(|| assert_agrees("1 of 1 planned runs are")).is_err());
    assert_agrees("of 1 seed, 21 runs, 0.1 seeds, 1 of 3 runs");
}

#[test]
fn a_report_on_one_seed_or_one_run_is_good_english() {
    let diverged = |arm: &str, seed| Outcome { diverges_at: Some(300), ..effect(arm, seed) };
    for n_seeds in [1, 2] {
        let mut experiment = experiment(n_seeds);
        for min_seeds in [1, 2, 8] {
            experiment.verdict.min_seeds = min_seeds;
            for tables in [tables(&experiment, effect), tables(&experiment, diverged), Tables::default()] {
                assert_agrees(&printed(&experiment, &tables));
                let mut one = experiment.clone();
                one.arms.truncate(1);
                one.claims.retain(|claim| claim.test.arms().iter().all(|arm| **arm == one.arms[0].name));
                assert_agrees(&printed(&one, &tables));
            }
        }
    }
}

#[test]
fn claims_over_arms_on_one_seed_are_good_english() {
    let with = Cell { metric: "loss".to_owned(), ..experiment(1).verdict.cell() };
    let arms: Vec<_> = ["a", "b", "c", "d", "e"].map(name).to_vec();
    let all = vec![arms.clone()];
    for test in [
        ClaimKind::Ordered { arms: arms.clone() },
        ClaimKind::Correlates { arms: arms.clone(), with, blocks: Some(all), sign: None },
        ClaimKind::AtMost { arm: name("a"), threshold: 3.0 },
    ] {
        let mut experiment = of_kind(test);
        experiment.seeds.truncate(1);
        experiment.arms.iter_mut().for_each(|arm| arm.seeds.truncate(1));
        for min_seeds in [1, 2] {
            experiment.verdict.min_seeds = min_seeds;
            assert_agrees(&printed(
                &experiment,
                &of_values(&experiment, |arm, _| 2.0 + arm as f64, |arm, _| arm as f64),
            ));
        }
    }
    let grid =
        "[[grid]]\narms = [\"adam\"]\n\"optimizer.lr\" = [1e-3]\nchoose = { by = \"loss\", on_seeds = [1000] }\n";
    let experiment = crate::fixture::experiment_with(1, grid);
    let sentences = choice_sentences(&experiment, &choose(&experiment, &Tables::default())).concat();
    assert!(sentences.contains("1 selection run is missing"), "{sentences}");
    assert_agrees(&sentences);
}
