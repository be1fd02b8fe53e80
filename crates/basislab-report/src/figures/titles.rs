//! Titles that state what was decided. They are made from verdicts alone and say no more than these; where a claim that a title
//! would be about is not decided, there is none, and the figure says what it shows.

use super::Scene;
use basislab_config::{Claim, ClaimKind, StepPattern};
use basislab_stats::Verdict;
use basislab_tables::VerdictRow;

/// Characters of a title that states findings, at most: two lines that are easy to read.
const MOST: usize = 120;

/// What is said of arms, which come in the order of their claims.
struct Said<'a> {
    /// Of one arm, and of several: `ends above`, `end above`.
    verbs: [String; 2],
    arms: Vec<&'a str>,
    /// What it is said with regard to: `random bases`.
    of: String,
    /// What follows: ` (control)`.
    after: [&'static str; 2],
}

/// The claims about random bases at the verdict's cell: `Token kurtosis: adam ends above random bases; sgd does not differ from
/// them (control)`. `None` while one is not decided. That a difference is a control says nothing of the data.
pub(super) fn of_nulls(scene: &Scene<'_>) -> Option<String> {
    let experiment = scene.experiment;
    let mut all: Vec<Said<'_>> = Vec::new();
    for claim in experiment.claims.iter().filter(|claim| claim.cell == experiment.verdict.cell()) {
        let (ClaimKind::DiffersFromNull { arm, .. } | ClaimKind::EquivalentToNull { arm }) = &claim.test else {
            continue;
        };
        let is_difference = matches!(claim.test, ClaimKind::DiffersFromNull { .. });
        let row = row_of(scene, claim)?;
        if is_difference && row.verdict == Verdict::Control {
            continue;
        }
        let verbs = beside_null(scene, row, is_difference)?;
        let after = if row.verdict == Verdict::Control { [" (control)", " (controls)"] } else { [""; 2] };
        push(&mut all, arm, Said { verbs, arms: Vec::new(), of: "random bases".to_owned(), after });
    }
    titled(&scene.metric(), &all)
}

/// What a row says of an arm beside its random bases; `None` where it decides nothing.
fn beside_null(scene: &Scene<'_>, row: &VerdictRow, is_difference: bool) -> Option<[String; 2]> {
    let VerdictRow { verdict, estimate, margin, p, .. } = row;
    let verdict_spec = &scene.experiment.verdict;
    // Where the verdict is read at the last step, the arm ends there.
    let [one, many] = match verdict_spec.step {
        StepPattern::Last(_) => ["ends", "end"].map(str::to_owned),
        StepPattern::At(step) => ["is", "are"].map(|verb| format!("at step {step} {verb}")),
    };
    let both = |where_: &str| [format!("{one} {where_}"), format!("{many} {where_}")];
    match (*verdict, is_difference) {
        (Verdict::Supported | Verdict::Opposite, true) | (Verdict::Refuted, false) => {
            Some(both(if (*estimate)? > 0.0 { "above" } else { "below" }))
        }
        (Verdict::Negligible, true) | (Verdict::Supported, false) => {
            Some(both(&format!("within {:.0} % of", 100.0 * ((*margin)?.exp() - 1.0))))
        }
        (Verdict::Control, false) if (*p)? > verdict_spec.alpha => {
            Some(["does not differ from", "do not differ from"].map(str::to_owned))
        }
        (Verdict::Control, false) => Some(["deviates from", "deviate from"].map(str::to_owned)),
        _ => None,
    }
}

/// The claims about equal loss: `Held-out loss: adam-short ends within 0.02 nats of sgd; sgd ends above adam`. `None` while one is
/// not decided; controls are left out.
pub(super) fn of_losses(scene: &Scene<'_>) -> Option<String> {
    let mut all: Vec<Said<'_>> = Vec::new();
    for claim in &scene.experiment.claims {
        let ClaimKind::EqualLoss { arm, other } = &claim.test else { continue };
        let row = row_of(scene, claim)?;
        let place = match row.verdict {
            Verdict::Control => continue,
            Verdict::Supported => format!("within {} nats of", row.margin?),
            Verdict::Refuted if row.estimate? > 0.0 => "above".to_owned(),
            Verdict::Refuted => "below".to_owned(),
            _ => return None,
        };
        let verbs = ["ends", "end"].map(|verb| format!("{verb} {place}"));
        push(&mut all, arm, Said { verbs, arms: Vec::new(), of: other.to_string(), after: [""; 2] });
    }
    titled("Held-out loss", &all)
}

fn row_of<'a>(scene: &Scene<'a>, claim: &Claim) -> Option<&'a VerdictRow> {
    scene.verdicts.iter().find(|row| row.claim == claim.name)
}

/// Adds an arm to those of which the same is said.
fn push<'a>(all: &mut Vec<Said<'a>>, arm: &'a str, said: Said<'a>) {
    let is_same = |other: &Said<'_>| other.verbs == said.verbs && other.of == said.of && other.after == said.after;
    let at = all.iter().position(is_same).unwrap_or_else(|| {
        all.push(said);
        all.len() - 1
    });
    if !all[at].arms.contains(&arm) {
        all[at].arms.push(arm);
    }
}

/// With the names of all arms, or where that is too long, with their numbers; `None` where even that is, or nothing is said.
fn titled(metric: &str, all: &[Said<'_>]) -> Option<String> {
    let written = |name: &dyn Fn(&[&str]) -> String| {
        let mut parts: Vec<String> = Vec::new();
        for (place, said) in all.iter().enumerate() {
            let several = usize::from(said.arms.len() > 1);
            let is_repeated = place > 0 && all[place - 1].of == said.of && said.of == "random bases";
            let of = if is_repeated { "them" } else { &said.of };
            parts.push(format!("{} {} {of}{}", name(&said.arms), said.verbs[several], said.after[several]));
        }
        Some(format!("{metric}: {}", parts.join("; "))).filter(|title| title.chars().count() <= MOST)
    };
    if all.is_empty() {
        return None;
    }
    let counted = |arms: &[&str]| if let [one] = arms { (*one).to_owned() } else { format!("{} arms", arms.len()) };
    written(&names).or_else(|| written(&counted))
}

/// `adam`, `adam and sgd`, `adam, lion and sgd`.
fn names(arms: &[&str]) -> String {
    match arms {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}
