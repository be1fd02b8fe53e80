//! The result in plain sentences that hold in every case.

mod claims;

use crate::answer::{Answer, ArmLine, VerdictLine};
use crate::evidence::is_exact_symmetry;
use crate::figures::in_words;
use crate::index::{RunState, Runs};
use crate::note::{Gap, Lack, Note, join, list};
use crate::verdicts::{Decision, own_cell};
use basislab_config::{Basis, Claim, ClaimKind, Experiment, Reading, RunName, count};
use basislab_stats::Verdict;
use basislab_tables::{Registration, VerdictRow};

const MOST: usize = 8;

/// Three to eight sentences: how far the runs are, the primary claims, the loss, the controls, the self-tests.
pub(crate) fn narrative(
    experiment: &Experiment,
    answer: &Answer,
    runs: &Runs<'_>,
    verdicts: &[Decision],
) -> Vec<String> {
    let claims = experiment.claims.iter().filter_map(|claim| {
        let Decision { row, notes } = verdicts.iter().find(|decision| decision.row.claim == claim.name)?;
        let line = answer.verdicts.iter().find(|line| claim.name == line.claim.as_str())?;
        Some(Decided { claim, row, notes: notes.as_deref(), line })
    });
    let claims: Vec<Decided<'_>> = claims.collect();
    let mut all = vec![progress(experiment, answer, runs)];
    let self_tests = self_tests(&claims);
    let failed = claims.iter().any(|decided| decided.is_self_test() && decided.row.verdict == Verdict::Contradicted);
    if failed {
        all.extend(self_tests.clone());
    }
    // Equalities and self-tests are told together further down.
    let compared = |decided: &&Decided<'_>| {
        !matches!(
            decided.claim.test,
            ClaimKind::EquivalentToNull { .. } | ClaimKind::EqualLoss { .. } | ClaimKind::BitEqual { .. }
        )
    };
    let (first, second): (Vec<_>, Vec<_>) = claims.iter().filter(compared).partition(|decided| decided.claim.primary);
    let say = |decided: &&Decided<'_>| decided.statement(experiment).unwrap_or_else(|| decided.difference(experiment));
    all.extend(first.iter().take(3).map(say));
    all.extend(losses(experiment, &claims));
    all.extend(second.iter().take(1).map(say));
    all.extend(controls(experiment, &claims));
    if !failed {
        all.extend(self_tests);
    }
    all.extend(first.iter().skip(3).chain(second.iter().skip(1)).map(say));
    let more = all.len().saturating_sub(MOST);
    all.truncate(MOST);
    if more > 0 {
        let are = if more == 1 { "is" } else { "are" };
        all.push(format!("{} {are} in the list above only.", count(more, "more claim")));
    }
    for line in answer.arms.iter().filter(|line| line.value.is_some()) {
        if all.len() < 3 {
            all.extend(bare_arm(experiment, line));
        }
    }
    all
}

/// A claim with its row of the table and its line of the answer.
struct Decided<'a> {
    claim: &'a Claim,
    row: &'a VerdictRow,
    /// The row's note as values; `None` where it is only a recorded text.
    notes: Option<&'a [Note]>,
    line: &'a VerdictLine,
}

impl Decided<'_> {
    fn is_self_test(&self) -> bool {
        matches!(self.claim.test, ClaimKind::BitEqual { .. })
    }

    fn numbers(&self, with_p: bool) -> String {
        self.line.numbers(with_p).unwrap_or_else(|| "no seed has all the numbers that are needed".to_owned())
    }

    /// What the note adds to the first sentence, which already counts missing runs.
    fn because(&self) -> String {
        let is_said = |note: &&Note| matches!(note, Note::Control | Note::Gap(Gap { lack: Lack::Missing, .. }));
        let text = match self.notes {
            Some(notes) => join(&notes.iter().filter(|note| !is_said(note)).map(in_short).collect::<Vec<_>>()),
            None => self.row.note.clone(),
        };
        if text.is_empty() { text } else { format!(" ({text})") }
    }

    /// A claim that two things differ.
    fn difference(&self, experiment: &Experiment) -> String {
        let (subject, reference, above, below) = match &self.claim.test {
            ClaimKind::ArmsDiffer { arm, other, reading: Reading::Final } => {
                (arm.to_string(), other.to_string(), "", "")
            }
            ClaimKind::ArmsDiffer { arm, other, reading: Reading::MatchedLoss } => (
                arm.to_string(),
                format!(
                    "{other} at matched loss (each at its first probe at or below the higher of the two final losses)"
                ),
                "",
                "",
            ),
            ClaimKind::DiffersFromNull { arm } | ClaimKind::EquivalentToNull { arm } => (
                format!("{arm} in {}", basis_in_words(self.claim.cell.basis)),
                "random bases of the same activations".to_owned(),
                "; above the null, so the basis is privileged",
                "; below the null, which marks a privileged basis as well",
            ),
            _ => return String::new(),
        };
        let subject = match own_cell(experiment, self.claim) {
            Some(cell) => format!("{subject} ({cell})"),
            None => subject,
        };
        let (numbers, because, n_seeds) = (self.numbers(true), self.because(), count(self.row.n_seeds, "seed"));
        let arms = self.claim.test.arms();
        let of_null = matches!(self.claim.test, ClaimKind::DiffersFromNull { .. });
        let symmetric = |name: &&RunName| experiment.arm(name).is_some_and(is_exact_symmetry);
        let control = if of_null && arms.iter().any(symmetric) {
            " (a control: by exact symmetry this is the unrotated optimizer on a rotated model)"
        } else {
            ""
        };
        match self.row.verdict {
            Verdict::Supported => {
                let direction = if self.row.estimate.is_some_and(|estimate| estimate < 0.0) { below } else { above };
                format!("{subject} differs from {reference}: {numbers}{direction}{control}{because}.")
            }
            Verdict::Contradicted => {
                let counts = experiment.verdict.smallest_effect.exp();
                format!(
                    "{subject} does not differ from {reference} by a factor of {counts:.2} or more: {numbers}{because}."
                )
            }
            Verdict::Exploratory => {
                let asked = experiment.verdict.min_seeds;
                format!(
                    "{subject} against {reference}: {numbers}; exploratory ({n_seeds}; the rule needs at \
                     least {asked}){because}."
                )
            }
            Verdict::Inconclusive => format!(
                "Whether {subject} differs from {reference} is undecided with {n_seeds}: \
                 {numbers}{because}."
            ),
        }
    }
}

/// A note where the list of claims has it in full.
fn in_short(note: &Note) -> String {
    match note {
        Note::Registration(Registration::Extended) => "seeds were added".to_owned(),
        Note::Registration(Registration::PostHoc) => "post hoc".to_owned(),
        Note::Registration(Registration::ExistingRuns) => "on existing runs".to_owned(),
        note => note.to_string(),
    }
}

fn basis_in_words(basis: Basis) -> &'static str {
    match basis {
        Basis::Standard => "the standard basis",
        Basis::Optimizer => "the optimizer's own basis",
        Basis::Random(_) => "a random basis",
    }
}

fn progress(experiment: &Experiment, answer: &Answer, runs: &Runs<'_>) -> String {
    let (complete, planned) = (answer.runs_complete, answer.runs_planned);
    let metric = in_words(&answer.metric);
    let what = format!("the numbers below are {metric} at {}, {}, paired by seed", answer.site, last_step(experiment));
    if complete == planned {
        let whole =
            if planned == 1 { "The planned run is".to_owned() } else { format!("All {planned} planned runs are") };
        return format!("{whole} complete; {what}.");
    }
    let mut text = format!(
        "{complete} of {} {} complete",
        count(planned, "planned run"),
        if complete == 1 { "is" } else { "are" }
    );
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
    format!("{text}; claims that need the other runs stay undecided; {what}.")
}

/// `step 400`, or `each arm's last step` where they differ.
pub(crate) fn last_step(experiment: &Experiment) -> String {
    let mut steps: Vec<u64> = experiment.arms.iter().map(|arm| arm.run.train.steps).collect();
    steps.dedup();
    if let [step] = steps[..] { format!("step {step}") } else { "each arm's last step".to_owned() }
}

/// All equal-loss claims in one sentence, and what an unequal loss means for the comparison of those arms.
fn losses(experiment: &Experiment, claims: &[Decided<'_>]) -> Option<String> {
    let mut parts = Vec::new();
    let mut warnings = Vec::new();
    for decided in claims {
        let ClaimKind::EqualLoss { arm, other } = &decided.claim.test else { continue };
        let how = match decided.row.verdict {
            Verdict::Supported => "equal",
            Verdict::Contradicted => "not equal",
            Verdict::Exploratory => "exploratory",
            Verdict::Inconclusive => "not shown to be equal",
        };
        parts.push(format!("{arm} - {other}: {}, {how}{}", decided.numbers(false), decided.because()));
        let find = |wanted: Reading| {
            claims.iter().find(|decided| match &decided.claim.test {
                ClaimKind::ArmsDiffer { arm: a, other: b, reading } => {
                    *reading == wanted && ((a == arm && b == other) || (a == other && b == arm))
                }
                _ => false,
            })
        };
        if decided.row.verdict != Verdict::Supported && find(Reading::Final).is_some() {
            warnings.push(match find(Reading::MatchedLoss) {
                Some(matched) => format!(
                    "Equal loss of {arm} and {other} is not shown: see the claim at matched loss, {} ({}).",
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
    let first = format!("Final held-out losses (equal: within ±{margin} nats): {}.", parts.join("; "));
    Some(std::iter::once(first).chain(warnings).collect::<Vec<_>>().join(" "))
}

/// All equivalences to the null in one sentence.
fn controls(experiment: &Experiment, claims: &[Decided<'_>]) -> Option<String> {
    let parts: Vec<String> = claims
        .iter()
        .filter_map(|decided| {
            let ClaimKind::EquivalentToNull { arm } = &decided.claim.test else { return None };
            let how = match decided.row.verdict {
                Verdict::Supported => "equal",
                Verdict::Contradicted => "not equal",
                Verdict::Exploratory => "exploratory",
                Verdict::Inconclusive => "not shown to be equal",
            };
            let basis = decided.claim.cell.basis;
            let place = if basis == Basis::Standard { String::new() } else { format!(" in {}", basis_in_words(basis)) };
            Some(format!("{arm}{place}: {}, {how}{}", decided.numbers(false), decided.because()))
        })
        .collect();
    if parts.is_empty() {
        return None;
    }
    let factor = experiment.verdict.equivalence_margin.exp();
    Some(format!("Against random bases (equal: within a factor of {factor:.2}): {}.", parts.join("; ")))
}

fn self_tests(claims: &[Decided<'_>]) -> Option<String> {
    let of = |verdict| {
        claims.iter().filter(|decided| decided.is_self_test() && decided.row.verdict == verdict).collect::<Vec<_>>()
    };
    let (passed, failed) = (of(Verdict::Supported), of(Verdict::Contradicted));
    let name = |decided: &&Decided<'_>| format!("{} ({})", decided.row.claim, decided.row.note);
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
    let open = claims.iter().find(|decided| decided.is_self_test())?;
    Some(format!("The self-test {} has not been decided{}.", open.row.claim, open.because()))
}

fn bare_arm(experiment: &Experiment, line: &ArmLine) -> Option<String> {
    let title = in_words(&experiment.verdict.metric);
    let null = line.null_mean.map_or(String::new(), |null| format!(", {null:.2} in random bases"));
    Some(format!("{} in {}: {title} {:.2}{null}.", line.arm, basis_in_words(line.basis), line.value?))
}
