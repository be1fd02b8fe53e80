//! Sentences of claims that are not about a difference of two quantities: doses, correlations, levels.

use super::Decided;
use crate::figures::in_words;
use crate::note::Note;
use crate::verdicts::percent;
use basislab_config::{Cell, ClaimKind, Experiment, count};
use basislab_stats::Verdict;

/// What a claim says, in the forms that its verdicts need: `x rises in the order a < b`, `whether x rises in the order a < b`.
struct Words {
    holds: String,
    fails: String,
    whether: String,
}

impl Decided<'_> {
    /// A claim of one of those kinds in a sentence; `None` for the others.
    pub(super) fn statement(&self, experiment: &Experiment) -> Option<String> {
        let Words { holds, fails, whether } = self.words(experiment)?;
        let (numbers, because, n_seeds) = (self.numbers(true), self.because(), count(self.row.n_seeds, "seed"));
        Some(match self.row.verdict {
            Verdict::Supported => format!("{holds}: {numbers}{because}."),
            Verdict::Contradicted => format!("{fails}: {numbers}{because}."),
            Verdict::Exploratory => {
                let asked = experiment.verdict.min_seeds;
                format!(
                    "Whether {whether} is exploratory ({n_seeds}; the rule needs at least {asked}): {numbers}{because}."
                )
            }
            Verdict::Inconclusive => {
                format!("Whether {whether} is undecided with {n_seeds}: {numbers}{because}.")
            }
        })
    }

    fn words(&self, experiment: &Experiment) -> Option<Words> {
        let metric = quantity(&self.claim.cell);
        let of = |arm: &str| format!("{metric} of {arm}");
        let words = |holds: String, fails: String| Words { whether: holds.clone(), holds, fails };
        Some(match &self.claim.test {
            ClaimKind::Ordered { .. } => {
                let order = &self.row.comparison;
                let factor = experiment.verdict.smallest_effect.exp();
                let (whether, all) = (format!("{metric} rises in the order {order}"), self.rises_in_every_seed());
                Words {
                    holds: format!("{whether}{}", if all { ", in every seed" } else { "" }),
                    fails: format!("{metric} does not rise by a factor of {factor:.2} or more in the order {order}"),
                    whether,
                }
            }
            ClaimKind::Correlates { with, sign, .. } => {
                let how = sign.map_or_else(String::new, |sign| format!(" with a {sign} sign"));
                let pair = format!("{metric} and {}", quantity(with));
                words(format!("{pair} correlate over arms{how}"), format!("{pair} correlate over arms, but not{how}"))
            }
            ClaimKind::NearValue { arm, value, tolerance, source } => {
                let source = source.as_ref().map_or_else(String::new, |source| format!(" ({source})"));
                let near = format!("within {} % of {value}{source}", percent(*tolerance));
                words(format!("{} is {near}", of(arm)), format!("{} is not {near}", of(arm)))
            }
            ClaimKind::AtMost { arm, threshold } => {
                words(format!("{} is at most {threshold}", of(arm)), format!("{} is above {threshold}", of(arm)))
            }
            ClaimKind::AtLeast { arm, threshold } => {
                words(format!("{} is at least {threshold}", of(arm)), format!("{} is below {threshold}", of(arm)))
            }
            ClaimKind::DiffersFromNull { .. }
            | ClaimKind::EquivalentToNull { .. }
            | ClaimKind::ArmsDiffer { .. }
            | ClaimKind::EqualLoss { .. }
            | ClaimKind::BitEqual { .. } => return None,
        })
    }

    fn rises_in_every_seed(&self) -> bool {
        let rises = |note: &Note| matches!(note, Note::Rises { seeds, of } if seeds == of);
        self.notes.is_some_and(|notes| notes.iter().any(rises))
    }
}

fn quantity(cell: &Cell) -> String {
    if cell.is_loss() { "held-out loss".to_owned() } else { in_words(&cell.metric) }
}
