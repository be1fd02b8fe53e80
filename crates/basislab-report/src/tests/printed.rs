//! Terminal and JSON: each number beside the arms, level and unit that it belongs to.

use super::by_hand::{Compared, compared, interval, mean, near, null_by_hand, of_seeds};
use super::cases::{Case, LAST, case};
use crate::summary::summarise;
use crate::verdicts::decide_claims;
use crate::{Answer, ArmLine, Scale, VerdictLine, answer::answer};
use basislab_config::{Basis, ClaimKind};
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

/// Estimate, level and ends as they are printed, in their order: ratios of a log ratio in times or percent, losses with their
/// side.
fn printed(it: &Compared) -> Vec<String> {
    let (centre, low, high) = interval(&it.values, it.confidence);
    let level = format!("({} %: ", (it.confidence * 1e5).round() / 1e3);
    if it.comparison.ends_with("(nats)") {
        let side = if centre < 0.0 { "below" } else { "above" };
        return vec![format!("{:.4} nats {side} ", centre.abs()), level, format!("{low:+.4} to {high:+.4})")];
    }
    let [centre, low, high] = [centre, low, high].map(f64::exp);
    if centre >= 2.0 {
        return vec![format!("{centre:.2} times "), level, format!("{low:.2} to {high:.2})")];
    }
    let percent = |ratio: f64| {
        let percent = 100.0 * (ratio - 1.0).abs();
        let digits = if percent < 0.995 { 2 } else { usize::from(percent < 9.95) };
        format!("{percent:.digits$}")
    };
    let side = |ratio: f64| if ratio < 1.0 { "lower" } else { "higher" };
    let ends = match (low < 1.0, high < 1.0) {
        (true, true) => format!("{} to {} %)", percent(high), percent(low)),
        (false, false) if high < 3.0 => format!("{} to {} %)", percent(low), percent(high)),
        _ => format!("{} % {} to {} % {})", percent(low), side(low), percent(high), side(high)),
    };
    vec![format!("{} % {} than ", percent(centre), side(centre)), level, ends]
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
            let said: Vec<&&str> = lines.iter().filter(|one| one.ends_with(&line.sentence)).collect();
            let [said] = said[..] else { panic!("{said:?}: {text}") };
            assert!(said.starts_with(row.verdict.name()), "{said}");
            let subject = claim.test.arms()[0].to_string();
            let own = if claim.cell.basis == Basis::Optimizer { " in its own basis" } else { "" };
            let verb = if row.kind == "equal-loss" { "ends" } else { "is" };
            assert!(line.sentence.starts_with(&format!("{subject}{own} {verb} ")), "{said}");
            in_order(&line.sentence, &printed(&it));
            let reference = match &claim.test {
                ClaimKind::ArmsDiffer { other, .. } => format!("than {other}"),
                ClaimKind::EqualLoss { other, .. } => format!("above {other}"),
                _ => "than random bases".to_owned(),
            };
            let alike = said
                .replace(" times ", " % higher than ")
                .replace(" below ", " above ")
                .replace("lower than", "higher than");
            assert!(alike.contains(&reference), "{reference}: {said}");
            let p = row.p_holm.or(row.p).unwrap();
            assert!((printed_p(said) - p).abs() <= 0.06 * p, "{p}: {said}");
            assert_eq!(said.contains("after Holm"), claim.is_in_family(), "{said}");
        }
    }
}

fn check_arm_line(case: &Case, line: &ArmLine, json: &serde_json::Value, text: &str) {
    let of = |metric: &str| mean(&of_seeds(case, &line.arm, metric, line.basis));
    let (value, (null, spread)) = (of("max_median_ratio"), null_by_hand(case, &line.arm, LAST));
    let (loss, above) = (of("loss"), of("loss_above_floor"));
    let at = |seed: u64| case.at(&line.arm, seed, LAST, line.basis);
    let all = case.seeds(&line.arm);
    let logs = all.iter().map(|seed| (at(*seed) / mean(case.null(&line.arm, *seed, LAST))).ln()).collect::<Vec<_>>();
    let ratio = mean(&logs).exp();
    let larger = |seed: &&u64| case.null(&line.arm, **seed, LAST).iter().all(|draw| *draw < at(**seed));
    let smaller = |seed: &&u64| case.null(&line.arm, **seed, LAST).iter().all(|draw| *draw > at(**seed));
    let outside = (all.iter().filter(larger).count(), all.iter().filter(smaller).count());
    assert_eq!((line.seeds_above, line.seeds_below), outside);
    let expected = [
        ("loss", line.loss, loss),
        ("loss_above_floor", line.loss_above_floor, above),
        ("value", line.value, value),
        ("null_mean", line.null_mean, null),
        ("null_sd", line.null_sd, spread),
        ("ratio", line.ratio, ratio),
    ];
    for (key, found, expected) in expected {
        assert!(near(found, expected), "{key} {expected}: {line:?}");
        assert_eq!(json[key].as_f64(), found, "{key}");
    }
    assert_eq!((&json["arm"], &json["basis"]), (&line.arm.clone().into(), &line.basis.to_string().into()));
    let seeds = case.seeds(&line.arm).len();
    let outside = match outside {
        (0, 0) => format!("0/{seeds}"),
        (above, 0) => format!("{above}/{seeds} above"),
        (0, below) => format!("{below}/{seeds} below"),
        (above, below) => format!("{above} above, {below} below"),
    };
    let cells = format!(
        "{} {} {seeds}/{seeds} {loss:.3} {above:.3} {value:.2} {null:.2} ± {spread:.2} {ratio:.2} {outside}",
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

// The finding names every primary claim once, under its verdict, and no number.
#[test]
fn the_finding_says_each_primary_claim_by_its_verdict() {
    for number in 0..60 {
        let case = case(number);
        let (answer, rows) = answered(&case);
        let text = answer.finding.strip_prefix("Max median ratio at blocks.0.resid_mid: ").unwrap();
        assert!(!text.contains(|c: char| c.is_ascii_digit()) && !text.contains(" and and "), "{text}");
        let claims = case.experiment.claims.iter().zip(&rows).filter(|(claim, _)| claim.is_in_family());
        for (claim, row) in claims {
            let part = |before: &str| {
                text.split("; ").find(|part| part.starts_with(before)).unwrap_or_else(|| panic!("{before}: {text}"))
            };
            let side = if row.estimate.unwrap() < 0.0 { "below" } else { "above" };
            let reference = match &claim.test {
                ClaimKind::ArmsDiffer { other, .. } => other.to_string(),
                _ => "random bases".to_owned(),
            };
            let (within, said) = match row.verdict {
                Verdict::Supported => (text.split("; ").next().unwrap(), format!("{side} {reference}")),
                Verdict::Opposite => (part("against what was claimed, "), format!("{side} {reference}")),
                Verdict::Negligible => (part("differences too small to count: "), format!("and {reference}")),
                Verdict::Inconclusive => (part("undecided: whether "), reference),
                Verdict::Exploratory => (part("exploratory, with too few seeds: whether "), reference),
                other => panic!("{other}"),
            };
            in_order(within, &[claim.test.arms()[0].to_string(), said]);
        }
    }
}
