//! One decision per claim, from the tables and the rule that was fixed before the first step.

use crate::evidence::{Evidence, Lookup, Test};
use crate::note::{Note, join};
use basislab_config::{Claim, ClaimKind, Experiment, Reading, Sign, StepPattern, VerdictSpec, count};
use basislab_stats::{
    Method, Side, Verdict, bound_p, correlation_interval, decide_bound, decide_correlation, decide_difference,
    decide_equivalence, decide_near, decide_ordered, holm, near_margin, near_p, ordered_method, sign_flip_method,
    sign_flip_p, spearman_method, t_interval, tost,
};
use basislab_tables::{Tables, VerdictRow};
use std::fmt::{self, Display, Formatter};

/// A decided claim.
#[derive(Clone)]
pub(crate) struct Decision {
    pub(crate) row: VerdictRow,
    /// The row's note as values; `None` for a recorded row that is not the one that the tables here give.
    pub(crate) notes: Option<Vec<Note>>,
}

impl Decision {
    fn new(row: VerdictRow, notes: Vec<Note>) -> Self {
        Self { row: VerdictRow { note: join(&notes), ..row }, notes: Some(notes) }
    }

    /// With one more note.
    pub(crate) fn noting(self, note: Note) -> Self {
        let notes = self.notes.into_iter().flatten().chain([note]).collect();
        Self::new(self.row, notes)
    }
}

/// Decides every claim of the experiment, in its order. Primary claims are corrected together (Holm).
pub(crate) fn decide_claims(experiment: &Experiment, tables: &Tables) -> Vec<Decision> {
    let lookup = Lookup::of(experiment, tables);
    let all: Vec<Evidence> = experiment.claims.iter().map(|claim| lookup.gather(claim)).collect();
    let p_values: Vec<Option<f64>> = all.iter().map(|evidence| p_value(evidence, &experiment.verdict)).collect();
    let corrected = correct(&experiment.claims, &p_values);
    let claims = experiment.claims.iter().zip(all).zip(p_values.iter().zip(corrected));
    claims.map(|((claim, evidence), (&p, p_holm))| decision(experiment, claim, evidence, p, p_holm)).collect()
}

/// Where the p of a claim comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum PTest {
    SignFlip(Method),
    Permutation(Method),
    /// Two one-sided t tests.
    Tost,
    OneSidedT,
}

impl PTest {
    /// Of a claim whose numbers come from that many seeds; `None` where bits are compared.
    pub(crate) fn of(test: &ClaimKind, n_seeds: usize) -> Option<Self> {
        Some(match test {
            ClaimKind::DiffersFromNull { .. } | ClaimKind::ArmsDiffer { .. } => {
                Self::SignFlip(sign_flip_method(n_seeds))
            }
            ClaimKind::Ordered { arms } => Self::Permutation(ordered_method(arms.len(), n_seeds)),
            ClaimKind::Correlates { .. } => Self::Permutation(spearman_method(test.blocks().len())),
            ClaimKind::EquivalentToNull { .. } | ClaimKind::EqualLoss { .. } | ClaimKind::NearValue { .. } => {
                Self::Tost
            }
            ClaimKind::AtMost { .. } | ClaimKind::AtLeast { .. } => Self::OneSidedT,
            ClaimKind::BitEqual { .. } => return None,
        })
    }

    /// The random draws, where p is not exact.
    fn draws(self) -> Option<u32> {
        match self {
            Self::SignFlip(Method::MonteCarlo { draws }) | Self::Permutation(Method::MonteCarlo { draws }) => {
                Some(draws)
            }
            Self::SignFlip(Method::Exact) | Self::Permutation(Method::Exact) | Self::Tost | Self::OneSidedT => None,
        }
    }
}

impl Display for PTest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::SignFlip(_) => "sign-flip test",
            Self::Permutation(_) => "permutation test",
            Self::Tost => return f.write_str("two one-sided t tests"),
            Self::OneSidedT => return f.write_str("one-sided t test"),
        };
        match self.draws() {
            Some(draws) => write!(f, "Monte Carlo {name}, {draws} draws"),
            None => write!(f, "exact {name}"),
        }
    }
}

/// The level of a claim's interval: `1 - alpha` for a difference, an order or a correlation, `1 - 2 alpha` for an
/// equivalence, a published number or a threshold, whose tests are one-sided.
pub(crate) fn confidence(kind: &ClaimKind, rule: &VerdictSpec) -> f64 {
    match kind {
        ClaimKind::EquivalentToNull { .. }
        | ClaimKind::EqualLoss { .. }
        | ClaimKind::NearValue { .. }
        | ClaimKind::AtMost { .. }
        | ClaimKind::AtLeast { .. } => 1.0 - 2.0 * rule.alpha,
        ClaimKind::DiffersFromNull { .. }
        | ClaimKind::ArmsDiffer { .. }
        | ClaimKind::BitEqual { .. }
        | ClaimKind::Ordered { .. }
        | ClaimKind::Correlates { .. } => 1.0 - rule.alpha,
    }
}

fn p_value(evidence: &Evidence, rule: &VerdictSpec) -> Option<f64> {
    match evidence.test {
        Test::Difference { .. } => sign_flip_p(&evidence.values),
        Test::Equivalence { margin } => Some(tost(&evidence.values, margin, rule.alpha)?.p),
        Test::Order { p, .. } | Test::Correlation { p, .. } => p,
        Test::Near { value, tolerance } => near_p(&evidence.values, value, tolerance, rule.alpha),
        Test::Bound { threshold, side } => bound_p(&evidence.values, threshold, side),
        Test::SameBits { .. } => None,
    }
}

/// Holm over the primary claims, none of them an equality (a checked configuration has no others). One that has no p yet
/// still counts in the family, as 1: the correction must not depend on which runs have finished.
fn correct(claims: &[Claim], p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let family: Vec<f64> =
        claims.iter().zip(p_values).filter(|pair| pair.0.primary).map(|pair| pair.1.unwrap_or(1.0)).collect();
    let mut corrected = holm(&family).into_iter();
    let mut of = |claim: &Claim, p: &Option<f64>| {
        let corrected = if claim.primary { corrected.next() } else { None };
        p.and(corrected)
    };
    claims.iter().zip(p_values).map(|(claim, p)| of(claim, p)).collect()
}

fn decision(
    experiment: &Experiment,
    claim: &Claim,
    evidence: Evidence,
    p: Option<f64>,
    p_holm: Option<f64>,
) -> Decision {
    let rule = &experiment.verdict;
    let of_metric =
        !claim.cell.is_loss() && !matches!(claim.test, ClaimKind::EqualLoss { .. } | ClaimKind::BitEqual { .. });
    let read = of_metric.then_some(&claim.cell);
    let last = claim.test.arms().first().and_then(|arm| experiment.arm(arm)).map_or(0, |arm| arm.run.train.steps);
    let level = confidence(&claim.test, rule);
    let interval = match evidence.test {
        Test::Correlation { .. } => correlation_interval(&evidence.values, level),
        _ => t_interval(&evidence.values, level),
    };
    let verdict = decide(&evidence, p_holm.or(p), rule);
    let row = VerdictRow {
        claim: claim.name.clone(),
        rule: rule_in_words(&evidence, claim, rule),
        n_seeds: evidence.n_seeds,
        estimate: crate::index::mean(&evidence.values),
        ci_low: interval.map(|interval| interval.low),
        ci_high: interval.map(|interval| interval.high),
        p_exact: p,
        verdict,
        kind: claim.test.kind().to_owned(),
        margin: match evidence.test {
            Test::Difference { smallest_effect: margin } | Test::Equivalence { margin } => Some(margin),
            Test::Order { smallest_effect, steps, .. } => Some(smallest_effect / steps as f64),
            Test::Near { value, tolerance } => Some(near_margin(value, tolerance)),
            Test::Bound { threshold, .. } => Some(threshold),
            Test::Correlation { .. } | Test::SameBits { .. } => None,
        },
        p_holm,
        primary: claim.primary,
        note: String::new(),
        registration: None,
        tokens: read.map(|cell| cell.tokens),
        basis: read.map(|cell| cell.basis),
        step: read.filter(|_| !is_at_matched_loss(&claim.test)).map(|cell| cell.step.resolve(last)),
        comparison: evidence.comparison,
        metric: evidence.metric,
        site: evidence.site,
    };
    let draws = p.and(PTest::of(&claim.test, evidence.n_seeds)).and_then(PTest::draws);
    let notes = evidence.gaps.notes().chain(evidence.notes).chain(draws.map(Note::MonteCarlo));
    Decision::new(row, notes.collect())
}

fn is_at_matched_loss(test: &ClaimKind) -> bool {
    matches!(test, ClaimKind::ArmsDiffer { reading: Reading::MatchedLoss, .. })
}

/// What a claim reads where it is not what `[verdict]` says: `max median ratio at embed, all tokens, step 16`.
pub(crate) fn own_cell(experiment: &Experiment, claim: &Claim) -> Option<String> {
    let (own, common) = (&claim.cell, experiment.verdict.cell());
    if own.is_loss() || matches!(claim.test, ClaimKind::EqualLoss { .. } | ClaimKind::BitEqual { .. }) {
        return None;
    }
    let site = (own.site != common.site).then(|| format!("at {}", own.site));
    let metric = (own.metric != common.metric || site.is_some()).then(|| crate::figures::in_words(&own.metric));
    let place = [metric, site].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let tokens = (own.tokens != common.tokens).then(|| format!("{} tokens", own.tokens));
    let step = (own.step != common.step).then(|| match own.step {
        StepPattern::At(step) => format!("step {step}"),
        StepPattern::Last(_) => "last step".to_owned(),
    });
    let parts: Vec<String> =
        [Some(place).filter(|place| !place.is_empty()), tokens, step].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn decide(evidence: &Evidence, p: Option<f64>, rule: &VerdictSpec) -> Verdict {
    if !matches!(evidence.test, Test::SameBits { .. }) {
        if evidence.planned < rule.min_seeds {
            return Verdict::Exploratory;
        }
        if !evidence.gaps.is_empty() {
            return Verdict::Inconclusive;
        }
    }
    let (values, p, alpha, min_seeds) = (&evidence.values, p.unwrap_or(1.0), rule.alpha, rule.min_seeds);
    match evidence.test {
        Test::Difference { smallest_effect } => decide_difference(values, p, alpha, smallest_effect, min_seeds),
        Test::Equivalence { margin } => decide_equivalence(values, margin, alpha, min_seeds),
        Test::Order { smallest_effect, steps, .. } => {
            decide_ordered(values, p, alpha, smallest_effect / steps as f64, min_seeds)
        }
        Test::Correlation { tested, sign, .. } => {
            decide_correlation(values, tested.unwrap_or(0.0), p, alpha, sign.map(Sign::number), min_seeds)
        }
        Test::Near { value, tolerance } => decide_near(values, value, tolerance, alpha, min_seeds),
        Test::Bound { threshold, side } => decide_bound(values, threshold, side, p, alpha, min_seeds),
        Test::SameBits { equal: Some(true) } => Verdict::Supported,
        Test::SameBits { equal: Some(false) } => Verdict::Contradicted,
        Test::SameBits { equal: None } => Verdict::Inconclusive,
    }
}

fn rule_in_words(evidence: &Evidence, claim: &Claim, rule: &VerdictSpec) -> String {
    let VerdictSpec { alpha, min_seeds, .. } = rule;
    let seeds = format!("all planned seeds, at least {min_seeds}");
    let (outer, inner) = (percent(1.0 - alpha), percent(1.0 - 2.0 * alpha));
    let corrected = if claim.primary { "Holm-corrected " } else { "" };
    match evidence.test {
        Test::Difference { smallest_effect } => {
            format!(
                "supported: {corrected}sign-flip p <= {alpha}, {outer} % t interval excludes 0 and |mean log ratio| >= \
                 {smallest_effect}; contradicted: {inner} % interval within ±{smallest_effect}; {seeds}"
            )
        }
        Test::Equivalence { margin } => format!(
            "supported: {inner} % t interval within ±{margin} (TOST p <= {alpha}); contradicted: \
             wholly outside; {seeds}"
        ),
        Test::Order { smallest_effect, steps, .. } => format!(
            "supported: {corrected}two-sided permutation p <= {alpha}, {outer} % t interval of the slope per rank above 0 \
             and {steps} times the mean slope >= {smallest_effect}; contradicted: {steps} times the {inner} % interval \
             below {smallest_effect}; {seeds}"
        ),
        Test::Correlation { sign, blocks, .. } => {
            let wanted = sign.map_or_else(String::new, |sign| format!(", with a {sign} sign"));
            let contradicted = if sign.is_some() { "; contradicted: the same with the other sign" } else { "" };
            format!(
                "supported: {corrected}two-sided p <= {alpha} of Spearman over permutations of {}, {outer} % \
                 t interval of the correlations within seeds on the same side of 0{wanted}{contradicted}; {seeds}",
                count(blocks, "block")
            )
        }
        Test::Near { value, tolerance } => {
            let source = if let ClaimKind::NearValue { source: Some(source), .. } = &claim.test {
                format!(" ({source})")
            } else {
                String::new()
            };
            let share = percent(tolerance);
            format!(
                "supported: {inner} % t interval of the mean within {value} ± {share} %{source} (TOST p <= {alpha}); \
                 contradicted: wholly outside; {seeds}"
            )
        }
        Test::Bound { threshold, side } => {
            let (within, beyond) = if side == Side::AtMost { ("<=", ">") } else { (">=", "<") };
            format!(
                "supported: {corrected}one-sided t p <= {alpha} and {inner} % t interval of the mean {within} {threshold}; \
                 contradicted: interval {beyond} {threshold}; {seeds}"
            )
        }
        Test::SameBits { .. } => {
            "losses, gradient norms and the metrics of the standard basis have the same bits in both arms at every \
             recorded step"
                .to_owned()
        }
    }
}

/// 0.95 as `95`, without the tail of binary fractions.
pub(crate) fn percent(share: f64) -> String {
    let text = format!("{:.3}", share * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
