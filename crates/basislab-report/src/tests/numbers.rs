//! Every cell of verdicts and summary, over many small cases whose effects are about as large as their margins, so that
//! another level, margin, arm, step or end of an interval changes what comes out.

use super::by_hand::{
    Compared, compared, holm, interval, mean, near, null_by_hand, numbers_in, of_seeds, sd, verdict_by_hand,
};
use super::cases::{Case, LAST, SITE, TOKENS_USED, case};
use crate::summary::summarise;
use basislab_config::{Basis, ClaimKind, Symmetry, Tokens};
use basislab_tables::SummaryRow;
use std::collections::BTreeMap;

const CASES: u64 = 150;

#[test]
fn every_cell_of_a_verdict_follows_from_the_rule() {
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    for number in 0..CASES {
        let case = case(number);
        let (rows, claims) = (super::rows_of_claims(&case.experiment, &case.tables), &case.experiment.claims);
        assert_eq!(rows.len(), claims.len());
        let all: Vec<Option<Compared>> = claims.iter().map(|claim| compared(&case, claim)).collect();
        let primary: Vec<usize> =
            (0..claims.len()).filter(|at| claims[*at].primary && claims[*at].symmetry.is_none()).collect();
        let corrected = holm(&primary.iter().map(|at| all[*at].as_ref().unwrap().p).collect::<Vec<_>>());
        for (at, row) in rows.iter().enumerate() {
            let (claim, what) = (&claims[at], format!("case {number}: {row:?}"));
            assert_eq!((&row.claim, row.primary), (&claim.name, primary.contains(&at)));
            let Some(it) = &all[at] else { continue };
            let p_holm = primary.iter().position(|one| *one == at).map(|one| corrected[one]);
            let (centre, low, high) = interval(&it.values, it.confidence);
            assert_eq!(row.comparison, it.comparison, "{what}");
            assert_eq!(row.n_seeds, it.values.len(), "{what}");
            let expected = [(row.estimate, centre), (row.ci_low, low), (row.ci_high, high), (row.p, it.p)];
            for (found, expected) in expected {
                assert!(near(found, expected), "{expected}: {what}");
            }
            assert_eq!(row.p_holm.is_some(), p_holm.is_some(), "{what}");
            assert!(p_holm.is_none_or(|p| near(row.p_holm, p)), "{p_holm:?}: {what}");
            assert_eq!(row.margin, Some(it.margin), "{what}");
            assert_eq!(row.verdict, verdict_by_hand(&case, claim, it, p_holm.unwrap_or(it.p)), "{what}");
            let ratio = |log: f64| row.kind != "equal-loss" && near(Some(row.estimate.unwrap()), log);
            assert_eq!(row.ratio.is_some(), ratio(centre), "{what}");
            for (found, log) in [(row.ratio, centre), (row.ratio_low, low), (row.ratio_high, high)] {
                assert!(found.is_none() || near(found, log.exp()), "{what}");
            }
            let said = numbers_in(&row.note);
            let alike = |(found, expected): (&f64, &f64)| (found - expected).abs() <= 0.01 * expected;
            assert!(
                said.len() == it.note.len() && said.iter().zip(&it.note).all(alike),
                "{said:?}, not {:?}: {what}",
                it.note
            );
            assert_eq!(row.note.contains("settled by symmetry"), claim.symmetry.is_some(), "{what}");
            let of_law = matches!(claim.symmetry, Some(Symmetry::SameLaw(..))) && row.kind != "equal-loss";
            let deviates = claim.symmetry.is_some() && !of_law && it.p <= case.experiment.verdict.alpha;
            assert_eq!(row.note.contains("deviates"), deviates, "{what}");
            let of_losses = matches!(claim.test, ClaimKind::EqualLoss { .. });
            let place = if of_losses { ("loss", None) } else { ("max_median_ratio", Some(SITE)) };
            assert_eq!((row.metric.as_str(), row.site), place, "{what}");
            let rule = &case.experiment.verdict;
            let percent = |share: f64| (share * 1e5).round() / 1e3;
            let (outer, inner) = (percent(1.0 - rule.alpha), percent(1.0 - 2.0 * rule.alpha));
            let (margin, least) = (it.margin, rule.min_seeds as f64);
            let said = match claim.test {
                _ if claim.symmetry.is_some() => vec![rule.alpha],
                ClaimKind::EqualLoss { .. } | ClaimKind::EquivalentToNull { .. } => {
                    vec![inner, margin, rule.alpha, least]
                }
                _ => vec![rule.alpha, outer, 0.0, margin, inner, margin, least],
            };
            assert_eq!(numbers_in(&row.rule), said, "{what}");
            *seen.entry((row.kind.clone(), row.verdict.to_string())).or_default() += 1;
        }
    }
    // Each kind of claim met each of its verdicts, often enough for a level or margin to matter.
    let equality = ["supported", "refuted", "inconclusive", "exploratory", "control"];
    let difference = ["supported", "opposite", "negligible", "inconclusive", "exploratory"];
    for (kind, verdicts) in [
        ("differs-from-null", &difference),
        ("arms-differ", &difference),
        ("equivalent-to-null", &equality),
        ("equal-loss", &equality),
    ] {
        for verdict in verdicts {
            let times = seen.get(&(kind.to_owned(), (*verdict).to_owned())).copied().unwrap_or(0);
            assert!(times >= 10, "{kind} {verdict}: {times} times in {seen:?}");
        }
    }
}

#[test]
fn every_cell_of_the_summary_is_of_its_arm_metric_basis_and_step() {
    for number in 0..12 {
        let case = case(number);
        let rows = summarise(&case.experiment, &case.tables);
        let mut at = rows.iter();
        for (place, arm) in case.experiment.arms.iter().enumerate() {
            let own = ["adam-rotated", "adam-identity"].contains(&arm.name.as_str());
            let metrics = ["loss", "loss_above_floor", "max_median_ratio", "dim_rms_kurtosis", "token_rms"];
            let expected = metrics.map(|metric| (metric, (!metric.starts_with("loss")).then_some(Basis::Standard)));
            for (metric, basis) in
                expected.into_iter().chain(own.then_some(("max_median_ratio", Some(Basis::Optimizer))))
            {
                check_summary(&case, at.next().unwrap(), (&arm.name, place), metric, basis);
            }
        }
        assert_eq!(at.next(), None);
    }
}

fn check_summary(case: &Case, row: &SummaryRow, (arm, place): (&str, usize), metric: &str, basis: Option<Basis>) {
    assert_eq!((row.arm.as_str(), row.metric.as_str(), row.basis), (arm, metric, basis));
    let values = of_seeds(case, arm, metric, basis.unwrap_or(Basis::Standard));
    assert_eq!((row.n_seeds, row.seeds_planned, row.step), (values.len(), values.len(), LAST), "{row:?}");
    assert!(near(row.mean, mean(&values)), "{row:?}");
    if values.len() > 1 {
        let (_, low, high) = interval(&values, 0.95);
        for (found, expected) in [(row.sd, sd(&values)), (row.ci_low, low), (row.ci_high, high)] {
            assert!(near(found, expected), "{expected}: {row:?}");
        }
    } else {
        assert_eq!((row.sd, row.ci_low, row.ci_high), (None, None, None));
    }
    assert_eq!((row.site, row.tokens), (basis.map(|_| SITE), basis.map(|_| Tokens::First)));
    assert_eq!(row.made_on, format!("flex: device {place}, driver {place}"));
    let (d, n) = (6.0, TOKENS_USED as f64);
    match metric {
        "max_median_ratio" => {
            let (null, spread) = null_by_hand(case, arm, LAST);
            assert!(near(row.null_mean, null) && near(row.null_sd, spread), "{null} {spread}: {row:?}");
            let basis = basis.unwrap();
            let seeds = case.seeds(arm);
            let at = |seed: &u64| case.at(arm, *seed, LAST, basis);
            let logs = seeds.iter().map(|seed| (at(seed) / mean(case.null(arm, *seed, LAST))).ln()).collect::<Vec<_>>();
            assert!(near(row.ratio, mean(&logs).exp()), "{row:?}");
            let above = |seed: &&u64| case.null(arm, **seed, LAST).iter().all(|draw| *draw < at(seed));
            let below = |seed: &&u64| case.null(arm, **seed, LAST).iter().all(|draw| *draw > at(seed));
            let outside = (seeds.iter().filter(above).count(), seeds.iter().filter(below).count());
            let bases = seeds.iter().map(|seed| case.null(arm, *seed, LAST).len()).min().unwrap();
            assert_eq!(((row.seeds_above, row.seeds_below), row.bases), (outside, bases), "{row:?}");
        }
        "dim_rms_kurtosis" => {
            assert!(near(row.null_mean, d * (n + 2.0) / (d * n + 2.0)), "{row:?}");
            assert_eq!((row.null_sd, row.bases), (None, 0));
            let null = row.null_mean.unwrap();
            assert!(near(row.ratio, mean(&values.iter().map(|value| (value / null).ln()).collect::<Vec<_>>()).exp()));
        }
        _ => assert_eq!((row.null_mean, row.null_sd, row.ratio, row.bases), (None, None, None, 0)),
    }
}
