//! One decision per claim, from the tables and the rule that was fixed before the first step.

use crate::evidence::{Evidence, Lookup, Test};
use basislab_config::{Claim, ClaimKind, Experiment, VerdictSpec};
use basislab_stats::{Verdict, decide_difference, decide_equivalence, holm, sign_flip_p, t_interval, tost};
use basislab_tables::{Tables, VerdictRow};

/// Decides every claim of the experiment, in its order. Primary claims are corrected together (Holm).
pub fn decide_claims(experiment: &Experiment, tables: &Tables) -> Vec<VerdictRow> {
    let lookup = Lookup::of(experiment, tables);
    let all: Vec<Evidence> = experiment.claims.iter().map(|claim| lookup.gather(claim)).collect();
    let p_values: Vec<Option<f64>> = all.iter().map(|evidence| p_value(evidence, &experiment.verdict)).collect();
    let corrected = correct(&experiment.claims, &p_values);
    let claims = experiment.claims.iter().zip(all).zip(p_values.iter().zip(corrected));
    claims.map(|((claim, evidence), (&p, p_holm))| row(claim, evidence, p, p_holm, &experiment.verdict)).collect()
}

/// The level of a claim's interval: `1 - alpha` for a difference, `1 - 2 alpha` for an equivalence.
pub(crate) fn confidence(kind: &ClaimKind, rule: &VerdictSpec) -> f64 {
    match kind {
        ClaimKind::EquivalentToNull { .. } | ClaimKind::EqualLoss { .. } => 1.0 - 2.0 * rule.alpha,
        _ => 1.0 - rule.alpha,
    }
}

fn p_value(evidence: &Evidence, rule: &VerdictSpec) -> Option<f64> {
    match evidence.test {
        Test::Difference { .. } => sign_flip_p(&evidence.values),
        Test::Equivalence { margin } => Some(tost(&evidence.values, margin, rule.alpha)?.p),
        Test::SameBits { .. } => None,
    }
}

/// Holm over the primary claims, all of them differences (a checked configuration has no others). One that has no p yet
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

fn row(claim: &Claim, evidence: Evidence, p: Option<f64>, p_holm: Option<f64>, rule: &VerdictSpec) -> VerdictRow {
    let interval = t_interval(&evidence.values, confidence(&claim.test, rule));
    let verdict = decide(&evidence, p_holm.or(p), rule);
    let notes: Vec<String> = evidence.gaps.phrases().into_iter().chain(evidence.notes.iter().cloned()).collect();
    VerdictRow {
        claim: claim.name.clone(),
        rule: rule_in_words(&evidence, claim.primary, rule),
        n_seeds: evidence.n_seeds,
        estimate: crate::index::mean(&evidence.values),
        ci_low: interval.map(|interval| interval.low),
        ci_high: interval.map(|interval| interval.high),
        p_exact: p,
        verdict,
        kind: claim.test.kind().to_owned(),
        margin: match evidence.test {
            Test::Difference { smallest_effect: margin } | Test::Equivalence { margin } => Some(margin),
            Test::SameBits { .. } => None,
        },
        p_holm,
        primary: claim.primary,
        note: notes.join("; "),
        comparison: evidence.comparison,
        metric: evidence.metric,
        site: evidence.site,
    }
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
    match evidence.test {
        Test::Difference { smallest_effect } => {
            decide_difference(&evidence.values, p.unwrap_or(1.0), rule.alpha, smallest_effect, rule.min_seeds)
        }
        Test::Equivalence { margin } => decide_equivalence(&evidence.values, margin, rule.alpha, rule.min_seeds),
        Test::SameBits { equal: Some(true) } => Verdict::Supported,
        Test::SameBits { equal: Some(false) } => Verdict::Contradicted,
        Test::SameBits { equal: None } => Verdict::Inconclusive,
    }
}

fn rule_in_words(evidence: &Evidence, primary: bool, rule: &VerdictSpec) -> String {
    let VerdictSpec { alpha, min_seeds, .. } = rule;
    let seeds = format!("all planned seeds, at least {min_seeds}");
    let (outer, inner) = (percent(1.0 - alpha), percent(1.0 - 2.0 * alpha));
    let corrected = if primary { "Holm-corrected " } else { "" };
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
