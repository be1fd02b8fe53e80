//! The test behind a p is named: exact where everything is enumerated, Monte Carlo where it is sampled.

use super::kinds::{experiment, tables};
use super::{answer_of, rows_of_claims};
use crate::fixture::name;
use basislab_config::{Arm, Cell, ClaimKind, LOSS, Reading};

/// A claim on so many arms and seeds: what is printed of its p, and the note of its row.
fn printed(test: ClaimKind, n_arms: usize, n_seeds: u64) -> (String, String, String) {
    let mut experiment = experiment(test);
    let like = experiment.arms[0].clone();
    experiment.seeds = (0..n_seeds).collect();
    let arm = |at: usize| Arm { name: name(&format!("arm{at}")), seeds: experiment.seeds.clone(), ..like.clone() };
    experiment.arms = (0..n_arms).map(arm).collect();
    let tables =
        tables(&experiment, |arm, seed| 2.0 + (arm * 7 % 5) as f64 + 0.1 * seed as f64, |arm, _| arm as f64 + 1.0);
    let answer = answer_of(&experiment, &tables);
    let text = answer.to_string();
    let line = text.lines().skip_while(|line| !line.ends_with("It is so")).nth(1).unwrap().to_owned();
    let json = serde_json::to_value(&answer).unwrap();
    let note = rows_of_claims(&experiment, &tables).remove(0).note;
    (line, json["verdicts"][0]["p_test"].as_str().unwrap_or_default().to_owned(), note)
}

#[test]
fn the_test_behind_a_p_is_named() {
    let arms = |n: usize| (0..n).map(|at| name(&format!("arm{at}"))).collect::<Vec<_>>();
    let differ = || ClaimKind::ArmsDiffer { arm: name("arm0"), other: name("arm1"), reading: Reading::Final };
    let ordered = || ClaimKind::Ordered { arms: arms(3) };
    let with = Cell { metric: LOSS.to_owned(), ..crate::fixture::experiment(1).verdict.cell() };
    let correlates = |n, blocks| ClaimKind::Correlates { arms: arms(n), with: with.clone(), blocks, sign: None };
    let pairs = |n: usize| Some(arms(n).chunks(2).map(<[_]>::to_vec).collect());
    let source = None;
    for (test, n_arms, n_seeds, expected, draws) in [
        (differ(), 2, 20, "exact sign-flip test", None),
        (differ(), 2, 21, "Monte Carlo sign-flip test, 1048576 draws", Some(1_048_576)),
        (ordered(), 3, 7, "exact permutation test", None),
        (ordered(), 3, 8, "Monte Carlo permutation test, 99999 draws", Some(99_999)),
        (correlates(9, None), 9, 3, "exact permutation test", None),
        (correlates(10, None), 10, 3, "Monte Carlo permutation test, 99999 draws", Some(99_999)),
        (correlates(10, pairs(10)), 10, 3, "exact permutation test", None),
        (ClaimKind::EqualLoss { arm: name("arm0"), other: name("arm1") }, 2, 3, "two one-sided t tests", None),
        (
            ClaimKind::NearValue { arm: name("arm0"), value: 3.0, tolerance: 0.1, source },
            1,
            3,
            "two one-sided t tests",
            None,
        ),
        (ClaimKind::AtMost { arm: name("arm0"), threshold: 3.0 }, 1, 3, "one-sided t test", None),
        (ClaimKind::AtLeast { arm: name("arm0"), threshold: 3.0 }, 1, 3, "one-sided t test", None),
    ] {
        let what = format!("{} of {n_arms} arms and {n_seeds} seeds", test.kind());
        let (line, json, note) = printed(test, n_arms, n_seeds);
        assert!(line.contains(", p = ") && line.contains(&format!("; {expected}")), "{what}: {line}");
        assert_eq!(json, expected, "{what}");
        let said = draws.map_or_else(String::new, |draws: u32| format!("Monte Carlo p of {draws} draws"));
        assert_eq!(note.contains("Monte Carlo"), draws.is_some(), "{what}: {note}");
        assert!(note.contains(&said), "{what}: {note}");
    }
    // Without a p there is no test.
    let bits = ClaimKind::BitEqual { arm: name("arm0"), other: name("arm1") };
    assert_eq!(printed(bits, 2, 2).1, "");
}
