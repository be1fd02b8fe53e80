//! The test behind a p is named: exact where everything is enumerated, Monte Carlo where it is sampled.

use super::answer_of;
use super::kinds::{experiment, tables};
use crate::fixture::name;
use basislab_config::{Arm, Cell, ClaimKind, LOSS, Reading};

/// A claim on so many arms and seeds: what is printed, and the test that is named.
fn printed(test: ClaimKind, n_arms: usize, n_seeds: u64) -> (String, String) {
    let mut experiment = experiment(test);
    let like = experiment.arms[0].clone();
    experiment.seeds = (0..n_seeds).collect();
    let arm = |at: usize| Arm { name: name(&format!("arm{at}")), seeds: experiment.seeds.clone(), ..like.clone() };
    experiment.arms = (0..n_arms).map(arm).collect();
    let tables =
        tables(&experiment, |arm, seed| 2.0 + (arm * 7 % 5) as f64 + 0.1 * seed as f64, |arm, _| arm as f64 + 1.0);
    let answer = answer_of(&experiment, &tables);
    let json = serde_json::to_value(&answer).unwrap();
    (answer.to_string(), json["verdicts"][0]["p_test"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn the_test_behind_a_p_is_named() {
    let arms = |n: usize| (0..n).map(|at| name(&format!("arm{at}"))).collect::<Vec<_>>();
    let differ =
        || ClaimKind::ArmsDiffer { arm: name("arm0"), other: name("arm1"), reading: Reading::Final, direction: None };
    let ordered = || ClaimKind::Ordered { arms: arms(3) };
    let with = Cell { metric: LOSS.to_owned(), ..crate::fixture::experiment(1).verdict.cell() };
    let correlates = |n, blocks| ClaimKind::Correlates { arms: arms(n), with: with.clone(), blocks, sign: None };
    let pairs = |n: usize| Some(arms(n).chunks(2).map(<[_]>::to_vec).collect());
    let source = None;
    for (test, n_arms, n_seeds, expected) in [
        (differ(), 2, 20, "exact sign-flip test"),
        (differ(), 2, 21, "sign-flip test, 1048576 draws"),
        (ordered(), 3, 7, "exact permutation test"),
        (ordered(), 3, 8, "permutation test, 99999 draws"),
        (correlates(9, None), 9, 3, "exact permutation test"),
        (correlates(10, None), 10, 3, "permutation test, 99999 draws"),
        (correlates(10, pairs(10)), 10, 3, "exact permutation test"),
        (ClaimKind::EqualLoss { arm: name("arm0"), other: name("arm1") }, 2, 3, "two one-sided t tests"),
        (ClaimKind::NearValue { arm: name("arm0"), value: 3.0, tolerance: 0.1, source }, 1, 3, "two one-sided t tests"),
        (ClaimKind::AtMost { arm: name("arm0"), threshold: 3.0 }, 1, 3, "one-sided t test"),
        (ClaimKind::AtLeast { arm: name("arm0"), threshold: 3.0 }, 1, 3, "one-sided t test"),
    ] {
        let what = format!("{} of {n_arms} arms and {n_seeds} seeds", test.kind());
        let kind = test.kind();
        let (text, json) = printed(test, n_arms, n_seeds);
        assert!(text.contains("; p = "), "{what}: {text}");
        assert!(text.contains(&format!("p values: {expected} ({kind}).")), "{what}: {text}");
        assert_eq!(json, expected, "{what}");
    }
    // Without a p there is no test.
    let bits = ClaimKind::BitEqual { arm: name("arm0"), other: name("arm1") };
    assert_eq!(printed(bits, 2, 2).1, "");
}
