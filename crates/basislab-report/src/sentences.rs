//! The findings in plain sentences that hold in every case.

use crate::evidence::list;
use crate::figures::in_words;
use crate::rows::VerdictRow;
use crate::select::{RunState, Runs};
use crate::words::{Answer, VerdictLine};
use basislab_config::{ClaimKind, Experiment, Reading};

const MOST: usize = 8;

/// Three to eight sentences: how far the runs are, the primary claims, the loss, the controls, the self-tests.
pub(crate) fn sentences(
    experiment: &Experiment,
    answer: &Answer,
    runs: &Runs<'_>,
    verdicts: &[VerdictRow],
) -> Vec<String> {
    let claims = experiment.claims.iter().filter_map(|claim| {
        let row = verdicts.iter().find(|row| row.claim == claim.name)?;
        let line = answer.verdicts.iter().find(|line| line.claim == claim.name)?;
        Some(Said { kind: &claim.test, primary: claim.primary, row, line })
    });
    let claims: Vec<Said<'_>> = claims.collect();
    let mut all = vec![progress(experiment, answer, runs)];
    let self_tests = self_tests(&claims);
    let failed = claims.iter().any(|said| said.is("bit-equal", "contradicted"));
    if failed {
        all.extend(self_tests.clone());
    }
    let compared = |said: &&Said<'_>| matches!(said.row.kind.as_str(), "differs-from-null" | "arms-differ");
    let (first, second): (Vec<_>, Vec<_>) = claims.iter().filter(compared).partition(|said| said.primary);
    let say = |said: &&Said<'_>| said.difference(experiment);
    all.extend(first.iter().take(3).map(say));
    all.extend(losses(experiment, &claims));
    all.extend(second.iter().take(1).map(say));
    all.extend(controls(experiment, &claims));
    if !failed {
        all.extend(self_tests);
    }
    all.extend(first.iter().skip(3).chain(second.iter().skip(1)).map(say));
    all.truncate(MOST);
    for line in answer.arms.iter().filter(|line| line.value.is_some()) {
        if all.len() < 3 {
            all.extend(bare_arm(experiment, line));
        }
    }
    all
}

struct Said<'a> {
    kind: &'a ClaimKind,
    primary: bool,
    row: &'a VerdictRow,
    line: &'a VerdictLine,
}

impl Said<'_> {
    fn is(&self, kind: &str, verdict: &str) -> bool {
        self.row.kind == kind && self.row.verdict == verdict
    }

    fn numbers(&self, with_p: bool) -> String {
        self.line.numbers(with_p).unwrap_or_else(|| "no seed has all it needs".to_owned())
    }

    /// What the note adds to the first sentence, which already counts missing runs.
    fn because(&self) -> String {
        let said = |part: &&str| !part.ends_with("missing") && !part.contains("exact symmetry") && !part.is_empty();
        let parts: Vec<&str> = self.row.note.split("; ").filter(said).collect();
        if parts.is_empty() { String::new() } else { format!(" ({})", parts.join("; ")) }
    }

    /// A claim that two things differ.
    fn difference(&self, experiment: &Experiment) -> String {
        let (subject, reference, above, below) = match self.kind {
            ClaimKind::ArmsDiffer { arm, other, reading: Reading::Final } => (arm.clone(), other.clone(), "", ""),
            ClaimKind::ArmsDiffer { arm, other, reading: Reading::MatchedLoss } => (
                format!("{arm}, each arm read where it first reached the higher of the two final losses,"),
                other.clone(),
                "",
                "",
            ),
            ClaimKind::DiffersFromNull { arm, basis } | ClaimKind::EquivalentToNull { arm, basis } => (
                format!("{arm} in {}", basis_in_words(basis)),
                "random bases of the same activations".to_owned(),
                "; above the null, so the basis is preferred",
                "; below the null, which marks a preferred basis as well",
            ),
            ClaimKind::EqualLoss { .. } | ClaimKind::BitEqual { .. } => return String::new(),
        };
        let (numbers, because, n_seeds) = (self.numbers(true), self.because(), self.row.n_seeds);
        let control = if self.row.note.contains("exact symmetry") {
            " (a control: by exact symmetry this is the unrotated optimizer on a rotated model)"
        } else {
            ""
        };
        match self.row.verdict.as_str() {
            "supported" => {
                let direction = if self.row.estimate.is_some_and(|estimate| estimate < 0.0) { below } else { above };
                format!("{subject} differs from {reference}: {numbers}{direction}{control}.")
            }
            "contradicted" => {
                let counts = experiment.verdict.smallest_effect.exp();
                format!(
                    "{subject} does not differ from {reference} by the factor of {counts:.2} that counts: {numbers}."
                )
            }
            "exploratory" => {
                let asked = experiment.verdict.min_seeds;
                format!(
                    "{subject} against {reference}: {numbers}; exploratory, with {n_seeds} seeds where the rule \
                     asks for {asked}{because}."
                )
            }
            _ => format!(
                "Whether {subject} differs from {reference} is undecided, with {n_seeds} seeds so far: \
                 {numbers}{because}."
            ),
        }
    }
}

fn basis_in_words(basis: &str) -> &'static str {
    if basis == "optimizer" { "the optimizer's own basis" } else { "the standard basis" }
}

fn progress(experiment: &Experiment, answer: &Answer, runs: &Runs<'_>) -> String {
    let (complete, planned) = (answer.runs_complete, answer.runs_planned);
    let metric = in_words(&answer.metric);
    let what = format!("what follows is {metric} at {}, step {}, paired by seed", answer.site, experiment.train.steps);
    if complete == planned {
        return format!("All {planned} planned runs are complete; {what}.");
    }
    let mut text = format!("{complete} of {planned} planned runs are complete");
    if answer.runs_diverged > 0 {
        let of_arm = |arm: &basislab_config::Arm| {
            let seeds = runs.seeds_in(experiment, arm, RunState::Diverged);
            (!seeds.is_empty()).then(|| format!("{} {}", arm.name, list(&seeds)))
        };
        let list: Vec<String> = experiment.arms.iter().filter_map(of_arm).collect();
        text.push_str(&format!(", {} diverged (arm and seed: {})", answer.runs_diverged, list.join("; ")));
    }
    let missing = planned - complete - answer.runs_diverged;
    if missing > 0 {
        text.push_str(&format!(", {missing} still missing"));
    }
    format!("{text}; claims that need the others stay undecided; {what}.")
}

/// All equal-loss claims in one sentence, and what an unequal loss means for the comparison of those arms.
fn losses(experiment: &Experiment, claims: &[Said<'_>]) -> Option<String> {
    let mut parts = Vec::new();
    let mut warnings = Vec::new();
    for said in claims {
        let ClaimKind::EqualLoss { arm, other } = said.kind else { continue };
        let how = match said.row.verdict.as_str() {
            "supported" => "equal",
            "contradicted" => "not equal",
            "exploratory" => "exploratory",
            _ => "undecided",
        };
        parts.push(format!("{} {} ({how})", said.row.comparison.replace(" (nats)", ""), said.numbers(false)));
        let same_pair = |a: &str, b: &str| (a == arm && b == other) || (a == other && b == arm);
        let find = |wanted: Reading| {
            claims.iter().find(|said| match said.kind {
                ClaimKind::ArmsDiffer { arm, other, reading } => *reading == wanted && same_pair(arm, other),
                _ => false,
            })
        };
        if said.row.verdict != "supported" && find(Reading::Final).is_some() {
            warnings.push(match find(Reading::MatchedLoss) {
                Some(matched) => format!(
                    "Equal loss of {arm} and {other} is not shown, so read the loss-matched claim {}: {}.",
                    matched.row.claim, matched.row.verdict
                ),
                None => {
                    format!("Equal loss of {arm} and {other} is not shown, so their difference may be one of loss.")
                }
            });
        }
    }
    if parts.is_empty() {
        return None;
    }
    let margin = experiment.verdict.equal_loss_margin;
    let first = format!("Final held-out losses, equal meaning within ±{margin} nats: {}.", parts.join("; "));
    Some(std::iter::once(first).chain(warnings).collect::<Vec<_>>().join(" "))
}

/// All equivalences to the null in one sentence.
fn controls(experiment: &Experiment, claims: &[Said<'_>]) -> Option<String> {
    let parts: Vec<String> = claims
        .iter()
        .filter_map(|said| {
            let ClaimKind::EquivalentToNull { arm, basis } = said.kind else { return None };
            let how = match said.row.verdict.as_str() {
                "supported" => "equal",
                "contradicted" => "not equal",
                "exploratory" => "exploratory",
                _ => "not shown",
            };
            let place = if basis == "standard" { String::new() } else { format!(" in {}", basis_in_words(basis)) };
            let why = if said.row.verdict == "supported" { String::new() } else { said.because() };
            Some(format!("{arm}{place} {} ({how}){why}", said.numbers(false)))
        })
        .collect();
    if parts.is_empty() {
        return None;
    }
    let factor = experiment.verdict.equivalence_margin.exp();
    Some(format!("Against random bases, equal meaning within a factor of {factor:.2}: {}.", parts.join("; ")))
}

fn self_tests(claims: &[Said<'_>]) -> Option<String> {
    let of = |verdict: &str| claims.iter().filter(|said| said.is("bit-equal", verdict)).collect::<Vec<_>>();
    let (passed, failed) = (of("supported"), of("contradicted"));
    let name = |said: &&Said<'_>| format!("{} ({})", said.row.claim, said.row.note);
    if !failed.is_empty() {
        let list = failed.iter().map(name).collect::<Vec<_>>().join("; ");
        return Some(format!("Self-test FAILED: {list}; trust no rotated arm before this is explained."));
    }
    if !passed.is_empty() {
        return Some(format!(
            "Self-test passed, bit for bit: {}.",
            passed.iter().map(name).collect::<Vec<_>>().join("; ")
        ));
    }
    let open = claims.iter().find(|said| said.row.kind == "bit-equal")?;
    Some(format!("The self-test {} has not been decided{}.", open.row.claim, open.because()))
}

fn bare_arm(experiment: &Experiment, line: &crate::words::ArmLine) -> Option<String> {
    let title = in_words(&experiment.verdict.metric);
    let null = line.null_mean.map_or(String::new(), |null| format!(", {null:.2} in random bases"));
    Some(format!("{} in {}: {title} {:.2}{null}.", line.arm, basis_in_words(&line.basis), line.value?))
}
