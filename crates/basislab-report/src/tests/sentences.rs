//! Every sentence that claims of every kind can print, in every verdict and direction.
//!
//! `UPDATE_SENTENCES=1 cargo test -p basislab-report --lib sentences` writes them again, to be read.

use super::answer_of;
use super::kinds::{experiment, tables};
use crate::fixture::{Outcome, edit_residual, effect, experiment as default_experiment, name, tables as run_tables};
use crate::{Answer, Scale};
use basislab_config::{Cell, ClaimKind, Direction, Experiment, LOSS, Reading, Sign};
use basislab_tables::Tables;
use std::collections::BTreeSet;

/// Seeds differ a little.
fn wobble(arm: usize, seed: usize) -> f64 {
    [0.011, -0.013, 0.004, -0.008, 0.009][(2 * arm + seed) % 5]
}

/// Values of the arms a to e, around which the seeds lie, and how far.
type Levels = ([f64; 5], f64);

fn made(experiment: &Experiment, (levels, spread): Levels) -> Tables {
    let value = |arm: usize, seed: usize| levels[arm] * (spread * wobble(arm, seed)).exp();
    let mut tables = tables(experiment, value, |arm, seed| 10.0 - levels[arm] + 0.1 * spread * wobble(arm + 1, seed));
    // Random bases around 3 for the last step.
    let of_arms: Vec<_> = tables.residual.to_rows().into_iter().filter(|row| row.step > 0).collect();
    for (number, row) in of_arms.into_iter().enumerate() {
        let value = Some(3.0 + 0.01 * (number % 3) as f64);
        tables.residual.push(basislab_tables::ResidualRow { basis: basislab_config::Basis::Random(0), value, ..row });
    }
    tables
}

fn kinds() -> Vec<ClaimKind> {
    let [a, b] = ["a", "b"].map(name);
    let with = Cell { metric: LOSS.to_owned(), ..default_experiment(1).verdict.cell() };
    let arms = ["a", "b", "c", "d", "e"].map(name).to_vec();
    let correlates = |sign| ClaimKind::Correlates { arms: arms.clone(), with: with.clone(), blocks: None, sign };
    let source = Some("Smith 2023".to_owned());
    vec![
        ClaimKind::DiffersFromNull { arm: a.clone(), direction: None },
        ClaimKind::DiffersFromNull { arm: a.clone(), direction: Some(Direction::Above) },
        ClaimKind::EquivalentToNull { arm: a.clone() },
        ClaimKind::ArmsDiffer {
            arm: a.clone(),
            other: b.clone(),
            reading: Reading::Final,
            direction: Some(Direction::Below),
        },
        ClaimKind::ArmsDiffer {
            arm: a.clone(),
            other: b.clone(),
            reading: Reading::MatchedLoss,
            direction: Some(Direction::Above),
        },
        ClaimKind::EqualLoss { arm: a.clone(), other: b.clone() },
        ClaimKind::Ordered { arms: arms[..3].to_vec() },
        correlates(None),
        correlates(Some(Sign::Negative)),
        correlates(Some(Sign::Positive)),
        ClaimKind::NearValue { arm: a.clone(), value: 3.0, tolerance: 0.1, source },
        ClaimKind::AtMost { arm: a.clone(), threshold: 3.0 },
        ClaimKind::AtLeast { arm: a, threshold: 3.0 },
    ]
}

#[test]
fn every_sentence_is_as_it_was_read() {
    let levels: [Levels; 6] = [
        ([4.5, 3.0, 3.1, 3.2, 3.3], 1.0),
        ([2.0, 3.0, 4.0, 5.0, 6.0], 1.0),
        ([3.01, 3.02, 3.0, 3.01, 3.02], 0.2),
        ([3.3, 3.0, 3.4, 3.2, 3.1], 20.0),
        ([3.0, 3.0, 3.0, 3.0, 3.0], 1.0),
        ([6.0, 5.0, 4.0, 3.0, 2.0], 1.0),
    ];
    let (mut text, mut found) = (String::new(), BTreeSet::new());
    for test in kinds() {
        let (mut sentences, mut shown) = (Vec::new(), BTreeSet::new());
        for levels in levels {
            for (min_seeds, missing) in [(5, false), (5, true), (8, false)] {
                let mut experiment = experiment(test.clone());
                (experiment.verdict.min_seeds, experiment.verdict.alpha) = (min_seeds, 0.1);
                let mut tables = made(&experiment, levels);
                if missing {
                    tables.evals.retain(|row| row.seed != 8 || row.arm != "a");
                    edit_residual(&mut tables, |rows| rows.retain(|row| row.seed != 13 || row.arm != "a"));
                }
                let answer = answer_of(&experiment, &tables);
                let line = &answer.verdicts[0];
                found.insert((test.kind(), line.verdict.name()));
                // One sentence for each verdict and direction, whole and with a missing seed.
                let above =
                    line.estimate.is_some_and(|estimate| estimate > if line.scale == Scale::Ratio { 1.0 } else { 0.0 });
                if shown.insert((line.verdict.name(), above, missing)) {
                    sentences.push(format!("{}: {}\n    {}", line.verdict, line.sentence, answer.finding));
                }
            }
        }
        text += &format!("# {}\n{}\n\n", test.kind(), sentences.join("\n"));
    }
    let mut whole = BTreeSet::new();
    let behind = |arm: &str, seed| Outcome { loss: if arm == "sgd" { 3.6 } else { 3.4 }, ..effect(arm, seed) };
    let diverged =
        |arm: &str, seed| Outcome { diverges_at: (arm == "sgd" && seed == 2).then_some(300), ..effect(arm, seed) };
    for n_seeds in [1, 8] {
        let experiment = default_experiment(n_seeds);
        for mut tables in
            [run_tables(&experiment, effect), run_tables(&experiment, behind), run_tables(&experiment, diverged)]
        {
            whole.extend(said(&answer_of(&experiment, &tables)));
            tables.steps.retain(|row| row.arm != "adam-identity" || row.step != 417);
            whole.extend(said(&answer_of(&experiment, &tables)));
        }
        whole.extend(said(&answer_of(&experiment, &Tables::default())));
    }
    text += &format!("# the default experiment\n{}\n", Vec::from_iter(whole).join("\n"));
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/sentences.txt");
    if std::env::var_os("UPDATE_SENTENCES").is_some() {
        std::fs::write(file, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(file).unwrap());
    let equality = ["supported", "refuted", "inconclusive", "exploratory"];
    let difference = ["supported", "opposite", "negligible", "inconclusive", "exploratory"];
    for test in kinds() {
        let level = matches!(test, ClaimKind::AtMost { .. } | ClaimKind::AtLeast { .. });
        let verdicts = if test.is_equality() || level { &equality[..] } else { &difference[..] };
        // A correlation is never shown to be negligible.
        let is_possible =
            |verdict: &&&str| !(matches!(test, ClaimKind::Correlates { .. }) && **verdict == "negligible");
        for verdict in verdicts.iter().filter(is_possible) {
            assert!(found.contains(&(test.kind(), *verdict)), "no sentence for {} {verdict}", test.kind());
        }
    }
}

/// Every line of an answer that is made of words.
fn said(answer: &Answer) -> Vec<String> {
    let lines = answer.verdicts.iter().map(|line| format!("{}: {}", line.verdict, line.sentence));
    lines.chain(answer.remarks.clone()).chain([answer.finding.clone()]).collect()
}
