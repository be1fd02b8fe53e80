//! Doses, correlations, published numbers and thresholds, from tables to sentences.

use super::by_hand::{interval, mean, near, one_sided_t};
use super::{answer_of, rows_of_claims};
use crate::fixture::{self, edit_residual, name};
use basislab_config::{Basis, Cell, Claim, ClaimKind, Experiment, LOSS, RunName, Sign, StepPattern};
use basislab_stats::{Purpose, Verdict, gaussian, spearman, spearman_p, stream};
use basislab_tables::{EvalRow, ResidualRow, Split, Status, StepRow, Tables, VerdictRow};

const ARMS: [&str; 5] = ["a", "b", "c", "d", "e"];
const SEEDS: [u64; 5] = [3, 1, 8, 2, 13];

/// An experiment with five arms and one primary claim about the verdict's cell.
pub(super) fn experiment(test: ClaimKind) -> Experiment {
    let mut experiment = fixture::experiment(5);
    let arm = experiment.arm("adam").unwrap().clone();
    let named = |text| basislab_config::Arm { name: name(text), seeds: SEEDS.to_vec(), ..arm.clone() };
    experiment.arms = ARMS.map(named).to_vec();
    experiment.seeds = SEEDS.to_vec();
    experiment.verdict.min_seeds = 5;
    let (primary, cell) = (!test.is_equality(), experiment.verdict.cell());
    experiment.claims =
        vec![Claim { name: name("it"), text: "It is so".to_owned(), cell, test, primary, symmetry: None }];
    experiment
}

/// Complete runs with these values of the verdict's metric and losses at the last step, and others before it.
pub(super) fn tables(
    experiment: &Experiment,
    value: impl Fn(usize, usize) -> f64,
    loss: impl Fn(usize, usize) -> f64,
) -> Tables {
    let mut tables = Tables::default();
    let cell = experiment.verdict.cell();
    for (place, arm) in experiment.arms.iter().enumerate() {
        for (number, &seed) in arm.seeds.iter().enumerate() {
            for (step, factor) in [(0, 0.3), (arm.run.train.steps, 1.0)] {
                let site = experiment.site(&cell, arm);
                tables.residual.push(ResidualRow {
                    arm: arm.name.clone(),
                    seed,
                    step,
                    site,
                    layer: site.layer(),
                    tokens: cell.tokens,
                    tokens_used: 9,
                    basis: Basis::Standard,
                    metric: cell.metric.clone(),
                    value: Some(factor * value(place, number)),
                });
                let loss = Some(factor * loss(place, number));
                let (arm, split) = (arm.name.clone(), Split::HeldOut);
                tables.evals.push(EvalRow { arm, seed, step, split, loss, loss_above_floor: None });
            }
        }
    }
    tables
}

fn decided(experiment: &Experiment, tables: &Tables) -> (VerdictRow, String) {
    let row = rows_of_claims(experiment, tables).remove(0);
    let answer = answer_of(experiment, tables);
    let text = format!("{answer}{}", serde_json::to_string(&answer).unwrap());
    assert!(!["NaN", "inf ", "inf)", "None", "Some"].iter().any(|word| text.contains(word)), "{text}");
    (row, answer.verdicts[0].sentence.clone())
}

fn names(arms: &[&str]) -> Vec<RunName> {
    arms.iter().copied().map(name).collect()
}

fn ordered(arms: &[&str]) -> ClaimKind {
    ClaimKind::Ordered { arms: names(arms) }
}

fn correlates(experiment_of: &Experiment, sign: Option<Sign>, blocks: Option<&[&[&str]]>) -> ClaimKind {
    let with = Cell { metric: LOSS.to_owned(), ..experiment_of.verdict.cell() };
    let blocks = blocks.map(|blocks| blocks.iter().map(|block| names(block)).collect());
    ClaimKind::Correlates { arms: names(&ARMS), with, blocks, sign }
}

/// A number that is fixed by its place.
fn noise(arm: usize, seed: usize, which: u64) -> f64 {
    gaussian(&mut stream(which, Purpose::Simulation, 1000 * arm as u64 + seed as u64))
}

#[test]
fn a_dose_rises_in_every_seed() {
    let experiment = experiment(ordered(&["c", "a", "e"]));
    let rank = |arm: usize| [1.0, 0.0, 0.0, 0.0, 2.0][arm];
    let value =
        |arm: usize, seed: usize| 3.0 * (0.2 * rank(arm) + 0.3 * noise(0, seed, 1) + 0.03 * noise(arm, seed, 2)).exp();
    let (row, sentence) = decided(&experiment, &tables(&experiment, value, |_, _| 3.0));
    let slopes: Vec<f64> = (0..5).map(|seed| 0.5 * (value(4, seed) / value(2, seed)).ln()).collect();
    let (centre, low, high) = interval(&slopes, 0.95);
    for (found, expected) in [(row.estimate, centre), (row.ci_low, low), (row.ci_high, high)] {
        assert!(near(found, expected), "{row:?}");
    }
    assert_eq!((row.p, row.p_holm), (Some(2.0 / 6f64.powi(5)), Some(2.0 / 6f64.powi(5))));
    assert_eq!((row.comparison.as_str(), row.kind.as_str(), row.verdict), ("c < a < e", "ordered", Verdict::Supported));
    assert_eq!((row.n_seeds, row.margin, row.note.as_str()), (5, Some(0.075), "rises from arm to arm in 5 of 5 seeds"));
    let [centre, low, high] = [centre, low, high].map(|log| 100.0 * (log.exp() - 1.0));
    let expected = format!(
        "token kurtosis is {centre:.0} % higher than the arm before, on average, in the order c < a < e (95 %: {low:.0} to \
         {high:.0} %); p = 0.00026 after Holm; rises from arm to arm in 5 of 5 seeds"
    );
    assert_eq!(sentence, expected);
    assert!(
        row.rule.starts_with("supported: Holm-corrected two-sided permutation p <= 0.05, 95 % t interval"),
        "{}",
        row.rule
    );
    assert!(
        row.rule.contains(
            "2 times the mean slope >= 0.15; opposite: the same for a fall; negligible: 2 times the 90 % interval"
        ),
        "{}",
        row.rule
    );
}

#[test]
fn an_order_that_is_another_one_is_said() {
    let experiment = experiment(ordered(&["a", "b", "c"]));
    let of = |values: [f64; 3]| {
        let value =
            move |arm: usize, seed: usize| values.get(arm).copied().unwrap_or(1.0) * (0.01 * noise(arm, seed, 3)).exp();
        decided(&experiment, &tables(&experiment, value, |_, _| 3.0))
    };
    let (row, sentence) = of([2.2, 2.0, 9.0]);
    assert_eq!(row.verdict, Verdict::Supported, "the trend rises");
    assert_eq!(row.note, "rises from arm to arm in 0 of 5 seeds; the means are in the order b < a < c");
    assert!(sentence.ends_with("the means are in the order b < a < c"), "{sentence}");
    let (row, sentence) = of([5.0, 3.0, 2.0]);
    assert_eq!(row.verdict, Verdict::Opposite);
    assert!(
        sentence.starts_with(
            "token kurtosis is 37 % lower than the arm before, on average, in the order a < b < c (95 %: "
        ),
        "{sentence}"
    );
    assert!(row.p == Some(2.0 / 6f64.powi(5)), "two-sided: {row:?}");
    assert_eq!(of([3.0, 3.05, 3.1]).0.verdict, Verdict::Negligible, "a rise too small to count");
}

#[test]
fn what_is_missing_is_named_and_few_seeds_are_exploratory() {
    let plain = experiment(ordered(&["a", "b", "c"]));
    for test in [
        plain.claims[0].test.clone(),
        correlates(&plain, None, None),
        ClaimKind::NearValue { arm: name("a"), value: 3.0, tolerance: 0.5, source: None },
        ClaimKind::AtMost { arm: name("a"), threshold: 9.0 },
        ClaimKind::AtLeast { arm: name("a"), threshold: 0.1 },
    ] {
        let mut experiment = experiment(test.clone());
        let value = |arm: usize, seed: usize| 3.0 * (0.3 * arm as f64 + 0.01 * noise(arm, seed, 4)).exp();
        let whole = tables(&experiment, value, value);
        let kind = test.kind();
        assert_eq!(decided(&experiment, &whole).0.verdict, Verdict::Supported, "{kind}");

        let mut missing = whole.clone();
        missing.evals.retain(|row| row.arm != "a" || row.seed != 8 || row.step == 0);
        let (row, sentence) = decided(&experiment, &missing);
        assert_eq!((row.verdict, row.n_seeds), (Verdict::Inconclusive, 4), "{kind}");
        assert!(row.note.starts_with("a seed 8 missing"), "{kind}: {}", row.note);
        assert!(sentence.contains("a seed 8 missing"), "{sentence}");

        let mut diverged = whole.clone();
        let (arm, status) = (name("a"), Status::Diverged);
        diverged.steps.push(StepRow {
            arm,
            seed: 2,
            step: 7,
            tokens: 7,
            lr: 0.1,
            train_loss: None,
            grad_norm: None,
            status,
        });
        let (row, sentence) = decided(&experiment, &diverged);
        assert_eq!(row.verdict, Verdict::Inconclusive, "{kind}");
        assert!(
            row.note.starts_with("a seed 2 diverged") && sentence.contains("a seed 2 diverged"),
            "{kind}: {sentence}"
        );

        let mut gone = whole.clone();
        edit_residual(&mut gone, |rows| rows.retain(|row| row.arm != "a"));
        let (row, _) = decided(&experiment, &gone);
        assert_eq!((row.verdict, row.n_seeds, row.estimate, row.p), (Verdict::Inconclusive, 0, None, None), "{kind}");
        assert!(row.note.contains("a seeds 3, 1, 8, 2, 13 without token_kurtosis"), "{kind}: {}", row.note);

        experiment.verdict.min_seeds = 6;
        let (row, _) = decided(&experiment, &whole);
        assert_eq!(row.verdict, Verdict::Exploratory, "{kind}");
        assert_eq!(decided(&experiment, &Tables::default()).0.verdict, Verdict::Exploratory, "{kind}");
    }
    let zero = tables(&plain, |arm, seed| if (arm, seed) == (1, 0) { 0.0 } else { 1.0 + arm as f64 }, |_, _| 3.0);
    let (row, _) = decided(&plain, &zero);
    assert_eq!((row.verdict, row.n_seeds), (Verdict::Inconclusive, 4));
    assert!(row.note.starts_with("b seed 3 without a logarithm"), "{}", row.note);
}

#[test]
fn a_correlation_is_of_seeds_and_its_p_of_blocks() {
    let plain = experiment(ordered(&["a", "b", "c"]));
    for number in 0..20 {
        let value = |arm: usize, seed: usize| 5.0 + noise(arm, 0, number) + 0.4 * noise(arm, 100 + seed, number);
        let loss = |arm: usize, seed: usize| 3.0 + noise(arm, 0, number) + 0.9 * noise(arm, 200 + seed, number);
        let blocks: Option<&[&[&str]]> = if number % 2 == 0 { None } else { Some(&[&["d", "a"]]) };
        let experiment = experiment(correlates(&plain, None, blocks));
        let (row, sentence) = decided(&experiment, &tables(&experiment, value, loss));
        let all = |of: &dyn Fn(usize, usize) -> f64, seed| (0..5).map(|arm| of(arm, seed)).collect::<Vec<f64>>();
        let rhos: Vec<f64> = (0..5).map(|seed| spearman(&all(&value, seed), &all(&loss, seed)).unwrap()).collect();
        let (centre, low, high) = interval(&rhos, 0.95);
        for (found, expected) in [(row.estimate, centre), (row.ci_low, low.max(-1.0)), (row.ci_high, high.min(1.0))] {
            assert!(near(found, expected), "{expected}: {row:?}");
        }
        let of_arm =
            |of: &dyn Fn(usize, usize) -> f64, arm| mean(&(0..5).map(|seed| of(arm, seed)).collect::<Vec<_>>());
        let of_blocks = |of: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
            let arm = |arm| of_arm(of, arm);
            match blocks {
                None => (0..5).map(arm).collect(),
                Some(_) => vec![0.5 * (arm(0) + arm(3)), arm(1), arm(2), arm(4)],
            }
        };
        assert_eq!(row.p, spearman_p(&of_blocks(&value), &of_blocks(&loss)), "{row:?}");
        let grouped = if blocks.is_some() { " in 4 blocks" } else { "" };
        assert_eq!(row.comparison, format!("token_kurtosis ~ loss over 5 arms{grouped}"));
        assert_eq!(row.note.contains("4 blocks give no p below 0.083"), blocks.is_some(), "{}", row.note);
        let clear = low * high > 0.0 && row.p.unwrap() <= 0.05;
        assert_eq!(row.verdict, if clear { Verdict::Supported } else { Verdict::Inconclusive }, "{row:?}");
        let start = format!(
            "token kurtosis and held-out loss have a mean Spearman correlation of {centre:.2} over arms (95 %: "
        );
        assert!(sentence.starts_with(&start), "{sentence}");
    }
}

#[test]
fn a_claimed_sign_decides() {
    let plain = experiment(ordered(&["a", "b", "c"]));
    let value = |arm: usize, seed: usize| 5.0 + arm as f64 + 0.1 * noise(arm, seed, 5);
    let loss = |arm: usize, seed: usize| 9.0 - arm as f64 + 0.1 * noise(arm, seed, 6);
    let of = |sign| {
        let experiment = experiment(correlates(&plain, sign, None));
        decided(&experiment, &tables(&experiment, value, loss))
    };
    let (row, sentence) = of(Some(Sign::Negative));
    assert_eq!((row.verdict, row.estimate, row.p), (Verdict::Supported, Some(-1.0), Some(2.0 / 120.0)));
    assert!(
        sentence.starts_with("token kurtosis and held-out loss have a mean Spearman correlation of -1.00 over arms"),
        "{sentence}"
    );
    let (row, _) = of(Some(Sign::Positive));
    assert_eq!(row.verdict, Verdict::Opposite);
    assert!(row.rule.contains("opposite: the same with the other sign"), "{}", row.rule);
    assert_eq!(of(None).0.verdict, Verdict::Supported);
}

// Means about the threshold, with every number by hand: t with 4 degrees of freedom has a closed form.
#[test]
fn levels_are_decided_in_the_unit_of_the_metric() {
    let mut seen = Vec::new();
    for number in 0..60 {
        let shift = 0.2 * (noise(0, 0, 100 + number) + 0.1);
        let value = |_: usize, seed: usize| -4.0 + shift + 0.1 * noise(1, seed, 100 + number);
        let source = (number % 2 == 0).then(|| "Smith 2023".to_owned());
        for test in [
            ClaimKind::NearValue { arm: name("b"), value: -4.0, tolerance: 0.05, source: source.clone() },
            ClaimKind::AtMost { arm: name("b"), threshold: -4.0 },
            ClaimKind::AtLeast { arm: name("b"), threshold: -4.0 },
        ] {
            let mut experiment = experiment(test.clone());
            // Every third case is about the loss.
            let of_loss = number % 3 == 0;
            if of_loss {
                experiment.claims[0].cell.metric = LOSS.to_owned();
            }
            let (row, sentence) = decided(
                &experiment,
                &match of_loss {
                    true => tables(&experiment, |_, _| 1.0, value),
                    false => tables(&experiment, value, |_, _| 1.0),
                },
            );
            let values: Vec<f64> = (0..5).map(|seed| value(1, seed)).collect();
            let (centre, low, high) = interval(&values, 0.9);
            let (most, least) =
                (one_sided_t(&values, -4.0), one_sided_t(&values.iter().map(|x| -x).collect::<Vec<_>>(), 4.0));
            let (p, within, beyond, comparison) = match test {
                ClaimKind::AtMost { .. } => (most, high <= -4.0, low > -4.0, "b <= -4"),
                ClaimKind::AtLeast { .. } => (least, low >= -4.0, high < -4.0, "b >= -4"),
                _ => {
                    let above = one_sided_t(&values, -3.8);
                    let below = one_sided_t(&values.iter().map(|x| -x).collect::<Vec<_>>(), 4.2);
                    (above.max(below), low > -4.2 && high < -3.8, low >= -3.8 || high <= -4.2, "b = -4 ± 5 %")
                }
            };
            for (found, expected) in [(row.estimate, centre), (row.ci_low, low), (row.ci_high, high), (row.p, p)] {
                assert!(near(found, expected), "{expected}: {row:?}");
            }
            let expected = match (within, beyond) {
                (true, _) => Verdict::Supported,
                (_, true) => Verdict::Refuted,
                _ => Verdict::Inconclusive,
            };
            assert_eq!((row.verdict, row.comparison.as_str()), (expected, comparison), "{row:?}");
            let place = if of_loss { ("loss", true) } else { ("token_kurtosis", false) };
            assert_eq!((row.metric.as_str(), row.site.is_none()), place);
            assert_eq!(row.p_holm.is_some(), row.primary, "{row:?}");
            let shown = format!("is {centre:.3} (90 %: {low:.3} to {high:.3})");
            assert!(sentence.contains(&shown), "{shown}: {sentence}");
            if let ClaimKind::NearValue { .. } = test {
                assert!(near(row.margin, 0.2) && row.p_holm.is_none(), "{row:?}");
                assert_eq!(sentence.contains("within 5 % of -4 (Smith 2023)"), source.is_some(), "{sentence}");
                assert_eq!(row.rule.contains("(Smith 2023)"), source.is_some(), "{}", row.rule);
            }
            seen.push((test.kind(), row.verdict));
        }
    }
    for kind in ["near-value", "at-most", "at-least"] {
        for verdict in [Verdict::Supported, Verdict::Refuted, Verdict::Inconclusive] {
            let times = seen.iter().filter(|one| **one == (kind, verdict)).count();
            assert!(times >= 5, "{kind} {verdict}: {times} times");
        }
    }
}

#[test]
fn levels_are_said_with_what_was_claimed() {
    let value = |arm: usize, seed: usize| 2.0 + arm as f64 + 0.01 * noise(arm, seed, 7);
    let of = |test: ClaimKind| {
        let experiment = experiment(test);
        let tables = tables(&experiment, value, |_, _| 3.0);
        (decided(&experiment, &tables).1, answer_of(&experiment, &tables).finding)
    };
    let near = |value| ClaimKind::NearValue { arm: name("b"), value, tolerance: 0.1, source: None };
    let most = |threshold| ClaimKind::AtMost { arm: name("b"), threshold };
    let least = |threshold| ClaimKind::AtLeast { arm: name("b"), threshold };
    for (test, claimed, found) in [
        (near(3.1), "within 10 % of 3.1", "is within 10 % of 3.1."),
        (near(4.0), "within 10 % of 4", "refuted: token kurtosis of b is not within 10 % of 4."),
        (most(3.5), "at most 3.5", "is at most 3.5."),
        (most(2.5), "at most 2.5", "refuted: token kurtosis of b is above 2.5."),
        (least(2.5), "at least 2.5", "is at least 2.5."),
        (least(3.5), "at least 3.5", "refuted: token kurtosis of b is below 3.5."),
    ] {
        let (sentence, finding) = of(test);
        assert!(sentence.starts_with("token kurtosis of b is 3.0"), "{sentence}");
        assert!(sentence.contains(&format!("; claimed: {claimed}; p = ")), "{sentence}");
        assert!(
            finding.starts_with("Token kurtosis at blocks.1.resid_post: ") && finding.ends_with(found),
            "{finding}"
        );
    }
}

// The other quantity may be the same metric elsewhere or at another step.
#[test]
fn a_second_cell_is_read_where_it_says() {
    let mut experiment = experiment(ordered(&["a", "b", "c"]));
    let with = Cell { step: StepPattern::At(0), ..experiment.verdict.cell() };
    experiment.claims[0].test = ClaimKind::Correlates { arms: names(&ARMS), with, blocks: None, sign: None };
    let value = |arm: usize, seed: usize| 5.0 + arm as f64 + 0.1 * noise(arm, seed, 8);
    let mut tables = tables(&experiment, value, |_, _| 3.0);
    edit_residual(&mut tables, |rows| {
        for row in rows.iter_mut().filter(|row| row.step == 0) {
            row.value = row.value.map(|value| 100.0 - value);
        }
    });
    let (row, _) = decided(&experiment, &tables);
    assert_eq!(row.comparison, "token_kurtosis ~ token_kurtosis after step 0 over 5 arms");
    assert_eq!((row.estimate, row.verdict), (Some(-1.0), Verdict::Supported));
}
