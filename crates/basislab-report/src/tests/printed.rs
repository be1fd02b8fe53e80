//! Terminal, JSON and sentences: each number beside the arms, level and unit that it belongs to.

use super::by_hand::{Compared, compared, interval, mean, near, null_by_hand, of_seeds};
use super::cases::{Case, LAST, case};
use crate::summary::summarise;
use crate::verdicts::decide_claims;
use crate::{Answer, ArmLine, Scale, VerdictLine, answer::answer};
use basislab_config::{Claim, ClaimKind};
use basislab_stats::Verdict;
use basislab_tables::VerdictRow;
use std::path::Path;

/// Asserts that the parts stand in the text, one after another.
fn in_order(text: &str, parts: &[String]) {
    let mut rest = text;
    for part in parts {
        let at =
            rest.find(part.as_str()).unwrap_or_else(|| panic!("{part:?} of {parts:?} is not next in {rest:?}: {text}"));
        rest = &rest[at + part.len()..];
    }
}

/// Estimate, level and ends as they are printed, in their order: ratios of a log ratio, losses as they are.
fn printed(it: &Compared) -> Vec<String> {
    let (centre, low, high) = interval(&it.values, it.confidence);
    let level = format!("{} %", (it.confidence * 1e5).round() / 1e3);
    if it.comparison.ends_with("(nats)") {
        return vec![format!("{centre:+.4} nats"), level, format!("{low:+.4} to {high:+.4}")];
    }
    let [centre, low, high] = [centre, low, high].map(|log| format!("{:.2}", log.exp()));
    vec![format!("{centre} times"), level, format!("{low} to {high}")]
}

/// The p behind `p = `.
fn printed_p(text: &str) -> f64 {
    let word = text.split("p = ").nth(1).and_then(|rest| rest.split([' ', ';', ',']).next());
    word.and_then(|word| word.trim_end_matches('.').parse().ok()).unwrap_or(f64::NAN)
}

fn answered(case: &Case) -> (Answer, Vec<VerdictRow>) {
    let decisions = decide_claims(&case.experiment, &case.tables);
    let rows = decisions.iter().map(|decision| decision.row.clone()).collect();
    let summary = summarise(&case.experiment, &case.tables);
    (answer(&case.experiment, &case.tables, &summary, &decisions, Path::new("o")), rows)
}

#[test]
fn terminal_and_json_print_the_numbers_of_the_rows() {
    for number in 0..30 {
        let case = case(number);
        let (answer, rows) = answered(&case);
        let (text, json) = (answer.to_string(), serde_json::to_value(&answer).unwrap());
        let lines: Vec<&str> = text.lines().collect();
        for (index, (line, arm)) in answer.arms.iter().zip(json["arms"].as_array().unwrap()).enumerate() {
            check_arm_line(&case, line, arm, &text);
            assert_eq!(index, answer.arms.iter().position(|one| one == line).unwrap(), "each arm and basis once");
        }
        assert_eq!(answer.arms.len(), 7);
        let runs: usize = case.experiment.arms.iter().map(|arm| case.seeds(&arm.name).len()).sum();
        assert_eq!((answer.runs_complete, answer.runs_planned, answer.runs_diverged), (runs, runs, 0));
        assert_eq!((answer.metric.as_str(), answer.site.as_str()), ("max_median_ratio", "blocks.0.resid_mid"));
        assert!(text.starts_with(&case.experiment.question), "{text}");
        for ((claim, row), (line, json)) in case
            .experiment
            .claims
            .iter()
            .zip(&rows)
            .zip(answer.verdicts.iter().zip(json["verdicts"].as_array().unwrap()))
        {
            let Some(it) = compared(&case, claim) else { continue };
            check_verdict_line(&it, row, line, json);
            let at = lines.iter().position(|line| line.ends_with(&claim.text)).unwrap();
            assert!(lines[at].starts_with(row.verdict.name()), "{}", lines[at]);
            let facts = lines[at + 1].trim();
            let rest = facts.strip_prefix(&it.comparison).unwrap_or_else(|| panic!("{facts}: {}", it.comparison));
            in_order(rest, &printed(&it));
            let p = row.p_holm.or(row.p_exact).unwrap();
            assert!((printed_p(rest) - p).abs() <= 0.06 * p, "{p}: {facts}");
            assert_eq!(rest.contains("after Holm"), claim.primary, "{facts}");
        }
    }
}

fn check_arm_line(case: &Case, line: &ArmLine, json: &serde_json::Value, text: &str) {
    let of = |metric: &str| mean(&of_seeds(case, &line.arm, metric, line.basis));
    let (value, (null, spread)) = (of("max_median_ratio"), null_by_hand(case, &line.arm, LAST));
    let (loss, above, z) = (of("loss"), of("loss_above_floor"), (value - null) / spread);
    let expected = [
        ("loss", line.loss, loss),
        ("loss_above_floor", line.loss_above_floor, above),
        ("value", line.value, value),
        ("null_mean", line.null_mean, null),
        ("null_sd", line.null_sd, spread),
        ("z", line.z, z),
    ];
    for (key, found, expected) in expected {
        assert!(near(found, expected), "{key} {expected}: {line:?}");
        assert_eq!(json[key].as_f64(), found, "{key}");
    }
    assert_eq!((&json["arm"], &json["basis"]), (&line.arm.clone().into(), &line.basis.to_string().into()));
    let seeds = case.seeds(&line.arm).len();
    let cells = format!(
        "{} {} {seeds}/{seeds} {loss:.3} {above:.3} {value:.2} {null:.2} ± {spread:.2} {z:.1}",
        line.arm, line.basis
    );
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.lines().any(|line| words(line) == cells), "no line {cells:?} in\n{text}");
}

fn check_verdict_line(it: &Compared, row: &VerdictRow, line: &VerdictLine, json: &serde_json::Value) {
    let (centre, low, high) = interval(&it.values, it.confidence);
    let ratio = !it.comparison.ends_with("(nats)");
    let shown = |x: f64| if ratio { x.exp() } else { x };
    assert_eq!(line.scale, if ratio { Scale::Ratio } else { Scale::Nats });
    let expected = [
        ("estimate", line.estimate, shown(centre)),
        ("low", line.low, shown(low)),
        ("high", line.high, shown(high)),
        ("confidence", Some(line.confidence), it.confidence),
        ("p", line.p, it.p),
    ];
    for (key, found, expected) in expected {
        assert!(near(found, expected), "{key} {expected}: {line:?}");
        assert_eq!(json[key].as_f64(), found, "{key}");
    }
    assert_eq!(line.p_holm, row.p_holm);
    assert_eq!(json["p_holm"].as_f64(), row.p_holm);
    assert_eq!(line.verdict, row.verdict);
    for (found, expected) in [
        (&line.claim, &row.claim.to_string()),
        (&line.comparison, &row.comparison),
        (&line.rule, &row.rule),
        (&line.note, &row.note),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn sentences_name_the_arms_in_order_beside_their_own_numbers() {
    let mut directions = [0, 0];
    for number in 0..60 {
        let case = case(number);
        let (answer, rows) = answered(&case);
        let claims = || case.experiment.claims.iter().zip(&rows);
        // A failed self-test comes first.
        let differs =
            |claim: &&Claim| matches!(claim.test, ClaimKind::DiffersFromNull { .. } | ClaimKind::ArmsDiffer { .. });
        let start = 1 + usize::from(answer.sentences[1].starts_with("Self-test FAILED"));
        let primary = claims().filter(|(claim, _)| claim.primary && differs(claim)).take(3);
        for ((claim, row), sentence) in primary.zip(&answer.sentences[start..]) {
            let it = compared(&case, claim).unwrap();
            let subjects = match &claim.test {
                ClaimKind::ArmsDiffer { arm, other, .. } => [arm.to_string(), other.to_string()],
                ClaimKind::DiffersFromNull { arm } => [arm.to_string(), format!("{} basis", claim.cell.basis)],
                _ => unreachable!("one of the two"),
            };
            let [subject, other] = subjects;
            let own = other.replace("standard", "the standard").replace("optimizer", "");
            in_order(sentence, &[vec![subject], vec![own.trim_start().to_owned()], printed(&it)].concat());
            let p = row.p_holm.unwrap();
            assert!((printed_p(sentence) - p).abs() <= 0.06 * p, "{p}: {sentence}");
            let of_null = matches!(claim.test, ClaimKind::DiffersFromNull { .. });
            let up = mean(&it.values) > 0.0;
            if row.verdict == Verdict::Supported && of_null {
                directions[usize::from(up)] += 1;
                assert_eq!((sentence.contains("above the null"), sentence.contains("below the null")), (up, !up));
            }
            if row.verdict == Verdict::Contradicted {
                let factor = format!("factor of {:.2}", case.experiment.verdict.smallest_effect.exp());
                assert!(sentence.contains(&factor), "{factor}: {sentence}");
            }
        }
        for kind in ["equal-loss", "equivalent-to-null"] {
            let parts: Vec<String> = claims()
                .filter(|(_, row)| row.kind == kind)
                .flat_map(|(claim, row)| {
                    let it = compared(&case, claim).unwrap();
                    let arms = it.comparison.split(" (nats)").next().unwrap().split(" / ").next().unwrap().to_owned();
                    let how = match row.verdict.name() {
                        "supported" => ", equal",
                        "contradicted" => ", not equal",
                        "exploratory" => ", exploratory",
                        _ => ", not shown to be equal",
                    };
                    [vec![arms], printed(&it), vec![how.to_owned()]].concat()
                })
                .collect();
            let margin = match kind {
                "equal-loss" => format!("±{} nats", case.experiment.verdict.equal_loss_margin),
                _ => format!("factor of {:.2}", case.experiment.verdict.equivalence_margin.exp()),
            };
            let sentence = answer
                .sentences
                .iter()
                .find(|sentence| sentence.contains(&margin) && sentence.contains("(equal: within"));
            let sentence = sentence.unwrap_or_else(|| panic!("{margin}: {:?}", answer.sentences));
            in_order(sentence, &parts);
        }
    }
    assert!(directions[0] > 3 && directions[1] > 3, "{directions:?}");
}
