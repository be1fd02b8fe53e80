//! The result in plain words.

mod claims;
mod outliers;
mod ratio;

pub(crate) use claims::sentence;
pub use outliers::{OutlierDimension, OutlierLine, OutlierSite};
pub(crate) use outliers::{depth, no_dimension, outlier_lines, outlier_sentences};

use crate::answer::Answer;
use crate::figures::in_words;
use crate::index::{RunState, Runs};
use crate::note::list;
use crate::verdicts::Decision;
use basislab_config::{Claim, ClaimKind, Experiment, Reading, RunName, count};
use basislab_stats::Verdict;
use claims::phrase;

/// The claims that decide the question in one sentence, without numbers: the primary ones, or all that are no controls where
/// none is primary. Empty where nothing is claimed.
pub(crate) fn finding(experiment: &Experiment, site: &str, decisions: &[Decision]) -> String {
    let decided = |claim: &Claim| decisions.iter().find(|decision| decision.row.claim == claim.name);
    let claims = || experiment.claims.iter().filter(|claim| claim.symmetry.is_none());
    let has_primary = claims().any(|claim| claim.primary);
    let chosen = claims().filter(|claim| claim.primary || !has_primary);
    let all: Vec<(&Claim, &Decision)> = chosen.filter_map(|claim| Some((claim, decided(claim)?))).collect();
    let with = |verdict: Verdict| all.iter().filter(move |(_, decision)| decision.row.verdict == verdict);
    let mut parts = Vec::new();
    for (verdict, before) in [
        (Verdict::Supported, ""),
        (Verdict::Opposite, "against what was claimed, "),
        (Verdict::Negligible, "differences too small to count: "),
        (Verdict::Refuted, "refuted: "),
        (Verdict::Inconclusive, "undecided: "),
        (Verdict::Exploratory, "exploratory, with too few seeds: "),
    ] {
        let phrases: Vec<(String, String)> =
            with(verdict).map(|(claim, decision)| phrase(experiment, claim, &decision.row)).collect();
        if !phrases.is_empty() {
            parts.push(format!("{before}{}", joined(&phrases)));
        }
    }
    match parts.is_empty() {
        true => String::new(),
        false => format!("{} at {site}: {}.", capital(&in_words(&experiment.verdict.metric)), parts.join("; ")),
    }
}

/// Subjects with what is said of them; what is said of one subject in a row is joined, but for pairs: `adam and sgd`.
fn joined(phrases: &[(String, String)]) -> String {
    let of_subject = |group: &[(String, String)]| {
        let said: Vec<&str> = group.iter().map(|(_, said)| said.as_str()).collect();
        // `is above a and below b`, `differs from a and from b`: one verb.
        let verbs = ["is ", "differs "];
        let rest = said[1..].iter().map(|said| verbs.iter().find_map(|verb| said.strip_prefix(verb)).unwrap_or(said));
        let said: Vec<&str> = said[..1].iter().copied().chain(rest).collect();
        format!("{} {}", group[0].0, said.join(" and "))
    };
    phrases.chunk_by(|a, b| a.0 == b.0 && !b.1.starts_with("and ")).map(of_subject).collect::<Vec<_>>().join(", ")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// What a reader must know beside the claims: runs that are missing, what unequal losses mean, failed self-tests.
pub(crate) fn remarks(
    experiment: &Experiment,
    answer: &Answer,
    runs: &Runs<'_>,
    decisions: &[Decision],
) -> Vec<String> {
    let is_of_bits = |name: &RunName| {
        let claim = experiment.claims.iter().find(|claim| claim.name == *name);
        claim.is_some_and(|claim| matches!(claim.test, ClaimKind::BitEqual { .. }))
    };
    let refuted = |decision: &&Decision| decision.row.verdict == Verdict::Refuted && is_of_bits(&decision.row.claim);
    let failed: Vec<String> = decisions
        .iter()
        .filter(refuted)
        .map(|decision| format!("{} ({})", decision.row.claim, decision.row.note))
        .collect();
    let failed = (!failed.is_empty())
        .then(|| format!("Self-test FAILED: {}; trust no rotated arm before this is explained.", failed.join("; ")));
    failed.into_iter().chain([progress(experiment, answer, runs)]).chain(losses(experiment, decisions)).collect()
}

/// How far the runs are.
fn progress(experiment: &Experiment, answer: &Answer, runs: &Runs<'_>) -> String {
    let (complete, planned) = (answer.runs_complete, answer.runs_planned);
    if complete == planned {
        return match planned {
            1 => "The planned run is complete.".to_owned(),
            _ => format!("All {planned} planned runs are complete."),
        };
    }
    let verb = if complete == 1 { "is" } else { "are" };
    let mut text = format!("{complete} of {} {verb} complete", count(planned, "planned run"));
    if answer.runs_diverged > 0 {
        let of_arm = |arm: &basislab_config::Arm| {
            let seeds = runs.seeds_in(arm, RunState::Diverged);
            (!seeds.is_empty()).then(|| format!("{} {}", arm.name, list(&seeds)))
        };
        let list: Vec<String> = experiment.arms.iter().filter_map(of_arm).collect();
        text.push_str(&format!(", {} diverged (arm and seed: {})", answer.runs_diverged, list.join("; ")));
    }
    let missing = planned - complete - answer.runs_diverged;
    if missing > 0 {
        text.push_str(&format!(", {missing} still missing"));
    }
    format!("{text}; claims that need the other runs stay undecided.")
}

/// `step 400`, or `each arm's last step` where they differ.
pub(crate) fn last_step(experiment: &Experiment) -> String {
    let mut steps: Vec<u64> = experiment.arms.iter().map(|arm| arm.run.train.steps).collect();
    steps.dedup();
    if let [step] = steps[..] { format!("step {step}") } else { "each arm's last step".to_owned() }
}

/// A warning for each pair of arms that are compared although their losses were not shown to be equal, with the claims that
/// compare at equal loss: of a third arm that was shown to end at the loss of one of the two, and at matched loss.
fn losses(experiment: &Experiment, decisions: &[Decision]) -> Vec<String> {
    let verdict = |claim: &Claim| decisions.iter().find(|one| one.row.claim == claim.name).map(|one| one.row.verdict);
    let is_shown = |claim: &Claim| matches!(verdict(claim), Some(Verdict::Supported | Verdict::Control) | None);
    let pair = |a: &RunName, b: &RunName| if a < b { [a.clone(), b.clone()] } else { [b.clone(), a.clone()] };
    let equal = || {
        experiment.claims.iter().filter_map(|claim| match &claim.test {
            ClaimKind::EqualLoss { arm, other } => Some((claim, arm, other)),
            _ => None,
        })
    };
    let compared = |reading: Reading, arms: [RunName; 2]| {
        experiment.claims.iter().find(|claim| match &claim.test {
            ClaimKind::ArmsDiffer { arm, other, reading: read, .. } => *read == reading && pair(arm, other) == arms,
            _ => false,
        })
    };
    let mut warnings = Vec::new();
    for (claim, arm, other) in equal().filter(|(claim, ..)| !is_shown(claim)) {
        if compared(Reading::Final, pair(arm, other)).is_none() {
            continue;
        }
        let mut see = Vec::new();
        for (shown, third, of) in equal().filter(|(claim, ..)| verdict(claim) == Some(Verdict::Supported)) {
            let is_of_these = shown.name != claim.name && (of == arm || of == other);
            let compares = compared(Reading::Final, pair(third, of)).filter(|_| is_of_these);
            if let Some((name, verdict)) = compares.and_then(|claim| Some((&claim.name, verdict(claim)?))) {
                see.push(format!("{name} ({verdict}), of {third}, which ends at the loss of {of}"));
            }
        }
        let matched = compared(Reading::MatchedLoss, pair(arm, other));
        if let Some((name, verdict)) = matched.and_then(|claim| Some((&claim.name, verdict(claim)?))) {
            see.push(format!("{name} ({verdict}), at matched loss"));
        }
        let not_shown = format!("Equal loss of {arm} and {other} is not shown");
        warnings.push(match see.is_empty() {
            true => format!("{not_shown}, so their difference may be one of loss."),
            false => format!("{not_shown}: see {}.", see.join("; and ")),
        });
    }
    warnings
}
