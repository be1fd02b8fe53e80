//! A claim in words, and its numbers in one line.

use super::ratio;
use crate::answer::small;
use crate::figures::in_words;
use crate::note::{Note, join};
use crate::verdicts::{own_cell, percent, scale};
use basislab_config::{Basis, Cell, Claim, ClaimKind, Direction, Experiment, Reading};
use basislab_stats::Verdict;
use basislab_tables::{Registration, VerdictRow};

/// What a claim is about and what the data say of it, without numbers: `adam`, `is above sgd`. Undecided claims are said as
/// questions: `whether adam`, `differs from sgd`.
pub(super) fn phrase(experiment: &Experiment, claim: &Claim, row: &VerdictRow) -> (String, String) {
    let open = matches!(row.verdict, Verdict::Inconclusive | Verdict::Exploratory);
    let whether = |subject: String| if open { format!("whether {subject}") } else { subject };
    let side = if row.estimate.is_some_and(|estimate| estimate < 0.0) { "below" } else { "above" };
    let differs = |reference: String| match row.verdict {
        Verdict::Supported | Verdict::Opposite => format!("is {side} {reference}"),
        Verdict::Negligible => format!("and {reference}"),
        _ => match claim.test.direction().and_then(Direction::sign) {
            Some(sign) => format!("is {} {reference}", if sign > 0.0 { "above" } else { "below" }),
            None => format!("differs from {reference}"),
        },
    };
    let refuted = row.verdict == Verdict::Refuted;
    let is = if refuted { "is not" } else { "is" };
    match &claim.test {
        ClaimKind::DiffersFromNull { arm, .. } => {
            (whether(subject(experiment, claim, arm)), differs("random bases".to_owned()))
        }
        ClaimKind::EquivalentToNull { arm } => {
            (whether(subject(experiment, claim, arm)), format!("{is} equal to random bases"))
        }
        ClaimKind::ArmsDiffer { arm, other, reading, .. } => {
            let at = if *reading == Reading::MatchedLoss { " at matched loss" } else { "" };
            (whether(subject(experiment, claim, arm)), format!("{}{at}", differs(other.to_string())))
        }
        ClaimKind::EqualLoss { arm, other } => (
            whether(arm.to_string()),
            format!("{} at the loss of {other}", if refuted { "does not end" } else { "ends" }),
        ),
        ClaimKind::BitEqual { arm, other } => (whether(arm.to_string()), format!("{is} {other}, bit for bit")),
        ClaimKind::Ordered { .. } => {
            let verb = match row.verdict {
                Verdict::Opposite => "falls",
                Verdict::Negligible => "hardly changes",
                _ => "rises",
            };
            (whether(quantity(&claim.cell)), format!("{verb} in the order {}", row.comparison))
        }
        ClaimKind::Correlates { with, sign, .. } => {
            let sign = sign.map_or_else(String::new, |sign| format!(" with a {sign} sign"));
            (whether(format!("{} and {}", quantity(&claim.cell), quantity(with))), format!("correlate over arms{sign}"))
        }
        ClaimKind::NearValue { arm, value, tolerance, source } => {
            let source = source.as_ref().map_or_else(String::new, |source| format!(" ({source})"));
            let near = format!("{is} within {} % of {value}{source}", percent(*tolerance));
            (whether(format!("{} of {arm}", quantity(&claim.cell))), near)
        }
        ClaimKind::AtMost { arm, threshold } => {
            let how = if refuted { "above" } else { "at most" };
            (whether(format!("{} of {arm}", quantity(&claim.cell))), format!("is {how} {threshold}"))
        }
        ClaimKind::AtLeast { arm, threshold } => {
            let how = if refuted { "below" } else { "at least" };
            (whether(format!("{} of {arm}", quantity(&claim.cell))), format!("is {how} {threshold}"))
        }
    }
}

/// The numbers of a claim in one line: `adam is 3.63 times random bases (95 %: 3.10 to 4.24), above all 64 random bases in 8 of
/// 8 seeds; p = 1.0e-5 after Holm`. `notes` is `None` where only a recorded text is known.
pub(crate) fn sentence(
    experiment: &Experiment,
    claim: &Claim,
    row: &VerdictRow,
    notes: Option<&[Note]>,
    confidence: f64,
) -> String {
    let mut text = numbers(experiment, claim, row, confidence).unwrap_or_else(|| {
        let (subject, said) = phrase(experiment, claim, row);
        match claim.test {
            ClaimKind::BitEqual { .. } => format!("{subject} {said}"),
            _ => format!("{subject} {said}: no seed has all the numbers that are needed"),
        }
    });
    let (beside, after): (Vec<&Note>, Vec<&Note>) = match notes {
        Some(notes) => notes.iter().partition(|note| matches!(note, Note::Outside { .. } | Note::SameSide { .. })),
        None => Default::default(),
    };
    for note in beside {
        text += &format!(", {note}");
    }
    if let Some(margin) = row.margin.filter(|_| claim.test.is_equality() && claim.symmetry.is_none()) {
        match claim.test {
            ClaimKind::EqualLoss { .. } => text += &format!("; claimed: equal within {margin} nats"),
            ClaimKind::EquivalentToNull { .. } => {
                text += &format!("; claimed: equal within a factor of {:.2}", margin.exp());
            }
            _ => {}
        }
    }
    if let Some(p) = row.p_holm.or(row.p) {
        let corrected = if row.p_holm.is_some() { " after Holm" } else { "" };
        text += &format!("; p = {}{corrected}", small(p));
    }
    let rest = match notes {
        Some(_) => join(&after.into_iter().map(in_short).collect::<Vec<_>>()),
        None => row.note.clone(),
    };
    if rest.is_empty() { text } else { format!("{text}; {rest}") }
}

/// The estimate with its interval; `None` without one.
fn numbers(experiment: &Experiment, claim: &Claim, row: &VerdictRow, confidence: f64) -> Option<String> {
    let estimate = row.estimate?;
    let interval = row.ci_low.zip(row.ci_high);
    let level = percent(confidence);
    let scale = scale(claim);
    let between = |unit: &str| {
        let ends = interval.map(|(low, high)| (scale.digits(low), scale.digits(high)));
        ends.map_or_else(String::new, |(low, high)| format!(" ({level} %: {low} to {high}{unit})"))
    };
    let of_ratio = |estimate: f64| {
        let ends = interval.map(|(low, high)| ratio::interval(estimate.exp(), low.exp(), high.exp()));
        ends.map_or_else(String::new, |ends| format!(" ({level} %: {ends})"))
    };
    Some(match &claim.test {
        ClaimKind::DiffersFromNull { arm, .. } | ClaimKind::EquivalentToNull { arm } => {
            let subject = subject(experiment, claim, arm);
            format!("{subject} is {} random bases{}", ratio::in_words(estimate.exp()), of_ratio(estimate))
        }
        ClaimKind::ArmsDiffer { arm, other, reading, .. } => {
            let at = if *reading == Reading::MatchedLoss { " at matched loss" } else { "" };
            let subject = subject(experiment, claim, arm);
            format!("{subject} is {} {other}{at}{}", ratio::in_words(estimate.exp()), of_ratio(estimate))
        }
        ClaimKind::EqualLoss { arm, other } => {
            let side = if estimate < 0.0 { "below" } else { "above" };
            format!("{arm} ends {:.4} nats {side} {other}{}", estimate.abs(), between(""))
        }
        ClaimKind::BitEqual { .. } => return None,
        ClaimKind::Ordered { .. } => format!(
            "{} is {} the arm before, on average, in the order {}{}",
            quantity(&claim.cell),
            ratio::in_words(estimate.exp()),
            row.comparison,
            of_ratio(estimate)
        ),
        ClaimKind::Correlates { with, .. } => format!(
            "{} and {} have a mean Spearman correlation of {} over arms{}",
            quantity(&claim.cell),
            quantity(with),
            scale.digits(estimate),
            between("")
        ),
        ClaimKind::NearValue { .. } | ClaimKind::AtMost { .. } | ClaimKind::AtLeast { .. } => {
            let (subject, said) = phrase(experiment, claim, row);
            let subject = subject.strip_prefix("whether ").unwrap_or(&subject);
            let asked = said.trim_start_matches("is not ").trim_start_matches("is ");
            let asked = match (&claim.test, row.verdict) {
                (ClaimKind::AtMost { threshold, .. }, _) => format!("at most {threshold}"),
                (ClaimKind::AtLeast { threshold, .. }, _) => format!("at least {threshold}"),
                _ => asked.to_owned(),
            };
            format!("{subject} is {}{}; claimed: {asked}", scale.digits(estimate), between(""))
        }
    })
}

/// An arm and where it is read, as far as that is not what `[verdict]` says.
fn subject(experiment: &Experiment, claim: &Claim, arm: &str) -> String {
    let own = if claim.cell.basis == Basis::Optimizer { " in its own basis" } else { "" };
    let cell = own_cell(experiment, claim).map_or_else(String::new, |cell| format!(" ({cell})"));
    format!("{arm}{own}{cell}")
}

fn quantity(cell: &Cell) -> String {
    if cell.is_loss() { "held-out loss".to_owned() } else { in_words(&cell.metric) }
}

/// A note where `verdicts.csv` has it in full.
fn in_short(note: &Note) -> String {
    match note {
        Note::Registration(Registration::Extended) => "seeds were added".to_owned(),
        Note::Registration(Registration::PostHoc) => "post hoc".to_owned(),
        Note::Registration(Registration::ExistingRuns) => "on existing runs".to_owned(),
        Note::ReadEarlier { seeds, arm, other, step } if seeds.len() > 8 => {
            format!("in {} seeds {arm} ended behind, so {other} is read at step {step}", seeds.len())
        }
        note => note.to_string(),
    }
}
