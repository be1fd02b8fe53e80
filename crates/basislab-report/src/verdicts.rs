//! One decision per claim, from the tables and the rule that was fixed before the first step.

use crate::answer::Scale;
use crate::evidence::{Evidence, Lookup, Test};
use crate::note::{Note, join};
use basislab_config::{Claim, ClaimKind, Experiment, Reading, Sign, StepPattern, Symmetry, VerdictSpec, count};
use basislab_stats::{
    Method, Side, Verdict, bound_p, correlation_interval, decide_bound, decide_correlation, decide_difference,
    decide_equivalence, decide_near, exchange_method, exchange_p, holm, near_margin, near_p, ordered_method,
    sign_flip_method, sign_flip_p, spearman_method, t_interval, tost,
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

/// Decides every claim of the experiment, in its order. Primary claims that are no controls are corrected together (Holm).
pub(crate) fn decide_claims(experiment: &Experiment, tables: &Tables) -> Vec<Decision> {
    let lookup = Lookup::of(experiment, tables);
    let all: Vec<Evidence> = experiment.claims.iter().map(|claim| lookup.gather(claim)).collect();
    let of_claims = || experiment.claims.iter().zip(&all);
    let p_values: Vec<Option<f64>> =
        of_claims().map(|(claim, evidence)| p_value(claim, evidence, &experiment.verdict)).collect();
    let corrected = correct(&experiment.claims, &p_values);
    let smallest = smallest_p(&experiment.claims, &all);
    let claims = experiment.claims.iter().zip(all).zip(p_values.iter().zip(corrected)).zip(smallest);
    let decide =
        |(((claim, evidence), (&p, p_holm)), smallest)| decision(experiment, claim, evidence, p, p_holm, smallest);
    claims.map(decide).collect()
}

/// What the estimate of a claim is.
pub(crate) fn scale(claim: &Claim) -> Scale {
    match claim.test {
        ClaimKind::BitEqual { .. } => Scale::Bits,
        ClaimKind::EqualLoss { .. } => Scale::Nats,
        ClaimKind::DiffersFromNull { .. } | ClaimKind::EquivalentToNull { .. } | ClaimKind::ArmsDiffer { .. } => {
            Scale::Ratio
        }
        ClaimKind::Ordered { .. } => Scale::RatioPerRank,
        ClaimKind::Correlates { .. } => Scale::Correlation,
        ClaimKind::NearValue { .. } | ClaimKind::AtMost { .. } | ClaimKind::AtLeast { .. } => Scale::Value,
    }
}

/// Where the p of a claim comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum PTest {
    /// Over the choice of one basis per seed.
    Exchange(Method),
    SignFlip(Method),
    Permutation(Method),
    /// Two one-sided t tests.
    Tost,
    OneSidedT,
}

impl PTest {
    /// That of a claim with this evidence; `None` where bits are compared. Controls are tested for a difference.
    fn of(claim: &Claim, evidence: &Evidence) -> Option<Self> {
        let is_control = claim.symmetry.is_some();
        let difference = || match claim.test {
            ClaimKind::DiffersFromNull { .. } | ClaimKind::EquivalentToNull { .. } => {
                Self::Exchange(exchange_method(evidence.bases.iter().map(Vec::len)))
            }
            _ => Self::SignFlip(sign_flip_method(evidence.values.len())),
        };
        Some(match evidence.test {
            Test::Difference { .. } => difference(),
            Test::Equivalence { .. } if is_control => difference(),
            Test::Order { .. } => Self::Permutation(ordered_method(claim.test.arms().len(), evidence.values.len())),
            Test::Correlation { .. } => Self::Permutation(spearman_method(claim.test.blocks().len())),
            Test::Equivalence { .. } | Test::Near { .. } => Self::Tost,
            Test::Bound { .. } => Self::OneSidedT,
            Test::SameBits { .. } => return None,
        })
    }
}

impl Display for PTest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (name, method) = match self {
            Self::Exchange(method) => ("exchangeability test over random bases", method),
            Self::SignFlip(method) => ("sign-flip test", method),
            Self::Permutation(method) => ("permutation test", method),
            Self::Tost => return f.write_str("two one-sided t tests"),
            Self::OneSidedT => return f.write_str("one-sided t test"),
        };
        match method {
            Method::MonteCarlo { draws } => write!(f, "{name}, {draws} draws"),
            Method::Exact => write!(f, "exact {name}"),
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

fn p_value(claim: &Claim, evidence: &Evidence, rule: &VerdictSpec) -> Option<f64> {
    match (PTest::of(claim, evidence)?, evidence.test) {
        (PTest::Exchange(_), _) => exchange_p(&evidence.bases),
        (PTest::SignFlip(_), _) => sign_flip_p(&evidence.values),
        (_, Test::Order { p, .. } | Test::Correlation { p, .. }) => p,
        (_, Test::Equivalence { margin }) => Some(tost(&evidence.values, margin, rule.alpha)?.p),
        (_, Test::Near { value, tolerance }) => near_p(&evidence.values, value, tolerance, rule.alpha),
        (_, Test::Bound { threshold, side }) => bound_p(&evidence.values, threshold, side),
        (_, Test::Difference { .. } | Test::SameBits { .. }) => None,
    }
}

/// Holm over the primary claims, none of them an equality (a checked configuration has no others) or a control. One that has
/// no p yet still counts in the family, as 1: the correction must not depend on which runs have finished.
fn correct(claims: &[Claim], p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let family: Vec<f64> =
        claims.iter().zip(p_values).filter(|pair| pair.0.is_in_family()).map(|pair| pair.1.unwrap_or(1.0)).collect();
    let mut corrected = holm(&family).into_iter();
    let mut of = |claim: &Claim, p: &Option<f64>| {
        let corrected = if claim.is_in_family() { corrected.next() } else { None };
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
    smallest: Option<f64>,
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
    let verdict = decide(claim, &evidence, p_holm.or(p), rule);
    let is_ratio = scale(claim).is_ratio();
    let ratio = |log: Option<f64>| log.filter(|_| is_ratio).map(f64::exp);
    let estimate = crate::index::mean(&evidence.values);
    let (low, high) = (interval.map(|interval| interval.low), interval.map(|interval| interval.high));
    let row = VerdictRow {
        claim: claim.name.clone(),
        verdict,
        comparison: evidence.comparison.clone(),
        direction: claim.test.direction(),
        kind: claim.test.kind().to_owned(),
        metric: evidence.metric.clone(),
        site: evidence.site,
        tokens: read.map(|cell| cell.tokens),
        basis: read.map(|cell| cell.basis),
        step: read.filter(|_| !is_at_matched_loss(&claim.test)).map(|cell| cell.step.resolve(last)),
        n_seeds: evidence.n_seeds,
        estimate,
        ci_low: low,
        ci_high: high,
        ratio: ratio(estimate),
        ratio_low: ratio(low),
        ratio_high: ratio(high),
        p,
        p_test: p.and(PTest::of(claim, &evidence)).map_or_else(String::new, |test| test.to_string()),
        p_holm,
        margin: match evidence.test {
            Test::Difference { smallest_effect: margin, .. } | Test::Equivalence { margin } => Some(margin),
            Test::Order { smallest_effect, steps, .. } => Some(smallest_effect / steps as f64),
            Test::Near { value, tolerance } => Some(near_margin(value, tolerance)),
            Test::Bound { threshold, .. } => Some(threshold),
            Test::Correlation { .. } | Test::SameBits { .. } => None,
        },
        primary: claim.is_in_family(),
        registration: None,
        note: String::new(),
        rule: rule_in_words(&evidence, claim, rule),
    };
    let control = claim.symmetry.clone().filter(|_| !matches!(evidence.test, Test::SameBits { .. }));
    // That one arm is another in its own basis says nothing of a comparison with random bases.
    let is_tested = |symmetry: &Symmetry| !matches!(symmetry, Symmetry::SameLaw(..)) || evidence.bases.is_empty();
    let control = control.map(|symmetry| {
        let deviates = p.filter(|_| is_tested(&symmetry)).map(|p| p <= rule.alpha);
        Note::Control { symmetry, deviates }
    });
    let few = smallest.filter(|smallest| *smallest > rule.alpha && evidence.values.len() > 1);
    let few = few.map(|p| Note::SmallestP { units: evidence.values.len(), unit: "seed", p });
    let notes = evidence.gaps.notes().chain(evidence.notes).chain(few).chain(control);
    Decision::new(row, notes.collect())
}

/// The smallest p that the sign flips of so few seeds can give each claim, corrected where several claims of the family have
/// no smaller one.
fn smallest_p(claims: &[Claim], all: &[Evidence]) -> Vec<Option<f64>> {
    let of_claim = |(claim, evidence): (&Claim, &Evidence)| {
        let is_flipped = matches!(PTest::of(claim, evidence), Some(PTest::SignFlip(_))) && !evidence.values.is_empty();
        is_flipped.then(|| 0.5f64.powi(evidence.values.len() as i32 - 1))
    };
    let alone: Vec<Option<f64>> = claims.iter().zip(all).map(of_claim).collect();
    let in_family = || claims.iter().zip(&alone).filter(|(claim, _)| claim.is_in_family()).filter_map(|(_, p)| *p);
    let corrected = |claim: &Claim, p: f64| match claim.is_in_family() {
        true => (in_family().filter(|other| *other >= p).count() as f64 * p).min(1.0),
        false => p,
    };
    claims.iter().zip(&alone).map(|(claim, p)| p.map(|p| corrected(claim, p))).collect()
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

fn decide(claim: &Claim, evidence: &Evidence, p: Option<f64>, rule: &VerdictSpec) -> Verdict {
    if let Test::SameBits { equal } = evidence.test {
        return match equal {
            Some(true) => Verdict::Control,
            Some(false) => Verdict::Refuted,
            None => Verdict::Inconclusive,
        };
    }
    if claim.symmetry.is_some() {
        return Verdict::Control;
    }
    if evidence.planned < rule.min_seeds {
        return Verdict::Exploratory;
    }
    if !evidence.gaps.is_empty() {
        return Verdict::Inconclusive;
    }
    let (values, p, alpha, min_seeds) = (&evidence.values, p.unwrap_or(1.0), rule.alpha, rule.min_seeds);
    match evidence.test {
        Test::Difference { smallest_effect, sign } => {
            decide_difference(values, p, alpha, smallest_effect, sign, min_seeds)
        }
        Test::Equivalence { margin } => decide_equivalence(values, margin, alpha, min_seeds),
        Test::Order { smallest_effect, steps, .. } => {
            decide_difference(values, p, alpha, smallest_effect / steps as f64, Some(1.0), min_seeds)
        }
        Test::Correlation { tested, sign, .. } => {
            decide_correlation(values, tested.unwrap_or(0.0), p, alpha, sign.map(Sign::number), min_seeds)
        }
        Test::Near { value, tolerance } => decide_near(values, value, tolerance, alpha, min_seeds),
        Test::Bound { threshold, side } => decide_bound(values, threshold, side, p, alpha, min_seeds),
        Test::SameBits { .. } => Verdict::Inconclusive,
    }
}

fn rule_in_words(evidence: &Evidence, claim: &Claim, rule: &VerdictSpec) -> String {
    let VerdictSpec { alpha, min_seeds, .. } = rule;
    let seeds = format!("all planned seeds, at least {min_seeds}");
    let (outer, inner) = (percent(1.0 - alpha), percent(1.0 - 2.0 * alpha));
    let corrected = if claim.is_in_family() { "Holm-corrected " } else { "" };
    if let Some(symmetry) = claim.symmetry.as_ref().filter(|_| !matches!(evidence.test, Test::SameBits { .. })) {
        return format!("control: {symmetry}; deviates when p of a difference <= {alpha}");
    }
    match evidence.test {
        Test::Difference { smallest_effect, sign } => {
            let test = match claim.test {
                ClaimKind::DiffersFromNull { .. } => "exchangeability",
                _ => "sign-flip",
            };
            let (side, opposite) = match sign {
                None => (format!("|mean log ratio| >= {smallest_effect}"), ""),
                Some(sign) if sign > 0.0 => {
                    (format!("mean log ratio >= {smallest_effect}"), "; opposite: the same on the other side")
                }
                Some(_) => (format!("mean log ratio <= -{smallest_effect}"), "; opposite: the same on the other side"),
            };
            format!(
                "supported: {corrected}{test} p <= {alpha}, {outer} % t interval excludes 0 and {side}{opposite}; \
                 negligible: {inner} % interval within ±{smallest_effect}; {seeds}"
            )
        }
        Test::Equivalence { margin } => format!(
            "supported: {inner} % t interval within ±{margin} (TOST p <= {alpha}); refuted: wholly outside; {seeds}"
        ),
        Test::Order { smallest_effect, steps, .. } => format!(
            "supported: {corrected}two-sided permutation p <= {alpha}, {outer} % t interval of the slope per rank above 0 \
             and {steps} times the mean slope >= {smallest_effect}; opposite: the same for a fall; negligible: {steps} \
             times the {inner} % interval within ±{smallest_effect}; {seeds}"
        ),
        Test::Correlation { sign, blocks, .. } => {
            let wanted = sign.map_or_else(String::new, |sign| format!(", with a {sign} sign"));
            let opposite = if sign.is_some() { "; opposite: the same with the other sign" } else { "" };
            format!(
                "supported: {corrected}two-sided p <= {alpha} of Spearman over permutations of {}, {outer} % \
                 t interval of the correlations within seeds on the same side of 0{wanted}{opposite}; {seeds}",
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
                 refuted: wholly outside; {seeds}"
            )
        }
        Test::Bound { threshold, side } => {
            let (within, beyond) = if side == Side::AtMost { ("<=", ">") } else { (">=", "<") };
            format!(
                "supported: {corrected}one-sided t p <= {alpha} and {inner} % t interval of the mean {within} {threshold}; \
                 refuted: interval {beyond} {threshold}; {seeds}"
            )
        }
        Test::SameBits { .. } => {
            "control: losses, gradient norms and the metrics of the standard basis have the same bits in both arms at every \
             recorded step; refuted: one of them differs, on a backend that repeats its own bits"
                .to_owned()
        }
    }
}

/// 0.95 as `95`, without the tail of binary fractions.
pub(crate) fn percent(share: f64) -> String {
    let text = format!("{:.3}", share * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
