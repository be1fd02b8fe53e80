//! What a report must say, computed again from the rule as it is documented, with statistics of its own.

use super::cases::{Case, LAST, STEPS};
use basislab_config::{Basis, Claim, ClaimKind, Direction, Reading};
use basislab_stats::Verdict;
use std::collections::BTreeMap;
use std::f64::consts::PI;

/// Student's distribution with 4 or 5 degrees of freedom, in closed form.
fn t_cdf(t: f64, freedom: usize) -> f64 {
    let s = 1.0 + t * t / freedom as f64;
    match freedom {
        4 => 0.5 + 0.375 * t / s.sqrt() * (1.0 - t * t / s / 12.0),
        5 => 0.5 + (t / (5f64.sqrt() * s) * (1.0 + 2.0 / (3.0 * s)) + (t / 5f64.sqrt()).atan()) / PI,
        _ => unreachable!("cases have 5 or 6 seeds"),
    }
}

fn t_quantile(share: f64, freedom: usize) -> f64 {
    let (mut low, mut high) = (0.0, 1e3);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if t_cdf(middle, freedom) < share { low = middle } else { high = middle }
    }
    low
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

pub(super) fn sd(values: &[f64]) -> f64 {
    let centre = mean(values);
    (values.iter().map(|x| (x - centre).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

/// Mean and both ends of its interval.
pub(super) fn interval(values: &[f64], confidence: f64) -> (f64, f64, f64) {
    let centre = mean(values);
    let error = sd(values) / (values.len() as f64).sqrt();
    let half = error * t_quantile(0.5 * (1.0 + confidence), values.len() - 1);
    (centre, centre - half, centre + half)
}

/// What a claim compares, by hand.
pub(super) struct Compared {
    pub(super) comparison: String,
    pub(super) values: Vec<f64>,
    /// Level of the interval, and the margin or smallest effect.
    pub(super) confidence: f64,
    pub(super) margin: f64,
    pub(super) p: f64,
    /// Numbers in the note.
    pub(super) note: Vec<f64>,
}

/// Every choice of one basis per seed, the tested one first in each list of logs.
fn exchanges(lists: &[Vec<f64>]) -> f64 {
    let centred = |list: &Vec<f64>| list.iter().map(|x| x - mean(list)).collect::<Vec<f64>>();
    let lists: Vec<Vec<f64>> = lists.iter().map(centred).collect();
    let mut sums = vec![0.0];
    for list in &lists {
        sums = sums.iter().flat_map(|sum| list.iter().map(move |x| sum + x)).collect();
    }
    let observed = lists.iter().map(|list| list[0]).sum::<f64>().abs();
    sums.iter().filter(|sum: &&f64| sum.abs() >= observed - 1e-9).count() as f64 / sums.len() as f64
}

fn sign_flips(values: &[f64]) -> f64 {
    let observed = values.iter().sum::<f64>().abs();
    let all = 1u32 << values.len();
    let sum =
        |flips: u32| values.iter().enumerate().map(|(i, x)| if flips >> i & 1 == 0 { *x } else { -x }).sum::<f64>();
    (0..all).filter(|flips| sum(*flips).abs() >= observed - 1e-9).count() as f64 / f64::from(all)
}

fn one_sided(values: &[f64], margin: f64) -> f64 {
    let error = sd(values) / (values.len() as f64).sqrt();
    let beyond = |distance: f64| 1.0 - t_cdf(distance / error, values.len() - 1);
    f64::max(beyond(margin + mean(values)), beyond(margin - mean(values)))
}

/// The p of the one-sided t test that the mean is below `bound`, for 5 or 6 values.
pub(super) fn one_sided_t(values: &[f64], bound: f64) -> f64 {
    let error = sd(values) / (values.len() as f64).sqrt();
    t_cdf((mean(values) - bound) / error, values.len() - 1)
}

pub(super) fn compared(case: &Case, claim: &Claim) -> Option<Compared> {
    let rule = &case.experiment.verdict;
    let (mut note, mut lists) = (Vec::new(), Vec::new());
    let mut against_null = |arm: &str, basis: Basis| {
        let seeds = case.seeds(arm);
        let of = |seed: u64| (case.at(arm, seed, LAST, basis) / mean(case.null(arm, seed, LAST))).ln();
        let list = |seed: u64| {
            let null = case.null(arm, seed, LAST).iter().copied();
            std::iter::once(case.at(arm, seed, LAST, basis)).chain(null).map(f64::ln).collect::<Vec<f64>>()
        };
        lists = seeds.iter().map(|seed| list(*seed)).collect();
        let bases = lists.iter().map(|list| list.len() - 1).min().unwrap() as f64;
        let largest = |list: &&Vec<f64>| list[1..].iter().all(|draw| *draw < list[0]);
        let smallest = |list: &&Vec<f64>| list[1..].iter().all(|draw| *draw > list[0]);
        let (above, below) = (lists.iter().filter(largest).count(), lists.iter().filter(smallest).count());
        note.push(bases);
        match (above, below) {
            (0, one) | (one, 0) => note.push(one as f64),
            (above, below) => note.extend([above as f64, below as f64]),
        }
        note.push(seeds.len() as f64);
        seeds.into_iter().map(of).collect::<Vec<f64>>()
    };
    let (comparison, values, margin, difference) = match &claim.test {
        ClaimKind::DiffersFromNull { arm, .. } => {
            let basis = claim.cell.basis;
            (format!("{arm} / null({basis})"), against_null(arm, basis), rule.smallest_effect, true)
        }
        ClaimKind::EquivalentToNull { arm } => {
            let basis = claim.cell.basis;
            (format!("{arm} / null({basis})"), against_null(arm, basis), rule.equivalence_margin, false)
        }
        ClaimKind::ArmsDiffer { arm, other, reading, .. } => {
            let mut read_earlier = BTreeMap::<u64, Vec<f64>>::new();
            let mut of = |seed: u64| {
                let (mut step, mut other_step) = (LAST, LAST);
                if *reading == Reading::MatchedLoss {
                    let level = case.loss_of(arm, seed, LAST).0.max(case.loss_of(other, seed, LAST).0);
                    let first = |arm: &str| STEPS[1..].iter().find(|step| case.loss_of(arm, seed, **step).0 <= level);
                    (step, other_step) = (*first(arm).unwrap(), *first(other).unwrap());
                    if other_step < LAST {
                        read_earlier.entry(other_step).or_default().push(seed as f64);
                    }
                }
                (case.at(arm, seed, step, Basis::Standard) / case.at(other, seed, other_step, Basis::Standard)).ln()
            };
            let how = if *reading == Reading::Final { "final" } else { "matched loss" };
            let values: Vec<f64> = case.seeds(arm).into_iter().map(&mut of).collect();
            let same = values.iter().filter(|value| (**value > 0.0) == (mean(&values) > 0.0)).count();
            note = read_earlier.into_iter().flat_map(|(step, seeds)| [seeds, vec![step as f64]].concat()).collect();
            note.extend([same as f64, values.len() as f64]);
            (format!("{arm} / {other} ({how})"), values, rule.smallest_effect, true)
        }
        ClaimKind::EqualLoss { arm, other } => {
            let of = |seed: u64| case.loss_of(arm, seed, LAST).0 - case.loss_of(other, seed, LAST).0;
            let values = case.seeds(arm).into_iter().map(of).collect();
            (format!("{arm} - {other} (nats)"), values, rule.equal_loss_margin, false)
        }
        _ => return None,
    };
    let is_control = claim.symmetry.is_some();
    let p = match (difference || is_control, lists.is_empty()) {
        (true, false) => exchanges(&lists),
        (true, true) => {
            let smallest = 0.5f64.powi(values.len() as i32 - 1);
            if smallest > rule.alpha {
                note.extend([values.len() as f64, smallest]);
            }
            sign_flips(&values)
        }
        (false, _) => one_sided(&values, margin),
    };
    let confidence = 1.0 - if difference { rule.alpha } else { 2.0 * rule.alpha };
    Some(Compared { comparison, values, confidence, margin, p, note })
}

/// Holm's correction, from its definition: the smallest p times their number, the next times one less, never falling.
pub(super) fn holm(p_values: &[f64]) -> Vec<f64> {
    let larger = |p: f64| p_values.iter().filter(|other| **other >= p).count() as f64;
    let own = |p: f64| (p * larger(p)).min(1.0);
    let of = |p: &f64| p_values.iter().filter(|other| *other <= p).map(|other| own(*other)).fold(0.0, f64::max);
    p_values.iter().map(of).collect()
}

pub(super) fn verdict_by_hand(case: &Case, claim: &Claim, it: &Compared, p: f64) -> Verdict {
    let rule = &case.experiment.verdict;
    let (centre, low, high) = interval(&it.values, 1.0 - rule.alpha);
    let (_, inner_low, inner_high) = interval(&it.values, 1.0 - 2.0 * rule.alpha);
    let inside = inner_low > -it.margin && inner_high < it.margin;
    if claim.symmetry.is_some() {
        return Verdict::Control;
    }
    if it.values.len() < rule.min_seeds {
        return Verdict::Exploratory;
    }
    match claim.test {
        ClaimKind::DiffersFromNull { direction, .. } | ClaimKind::ArmsDiffer { direction, .. } => {
            let clear = low > 0.0 || high < 0.0;
            let is_claimed = match direction {
                Some(Direction::Above) => centre > 0.0,
                Some(Direction::Below) => centre < 0.0,
                Some(Direction::Either) | None => true,
            };
            match (p <= rule.alpha && clear && centre.abs() >= it.margin, inside) {
                (true, _) if is_claimed => Verdict::Supported,
                (true, _) => Verdict::Opposite,
                (_, true) => Verdict::Negligible,
                _ => Verdict::Inconclusive,
            }
        }
        _ if inside => Verdict::Supported,
        _ if inner_low >= it.margin || inner_high <= -it.margin => Verdict::Refuted,
        _ => Verdict::Inconclusive,
    }
}

/// The numbers in a text, in order; a sign counts where it is written.
pub(super) fn numbers_in(text: &str) -> Vec<f64> {
    let part = |c: char| !(c.is_ascii_digit() || c == '.' || c == '-' || c == '+');
    let number = |word: &str| word.trim_end_matches('.').trim_matches('-').parse::<f64>().ok();
    text.split(part).filter(|word| word.contains(|c: char| c.is_ascii_digit())).filter_map(number).collect()
}

pub(super) fn near(found: Option<f64>, expected: f64) -> bool {
    found.is_some_and(|found| (found - expected).abs() < 1e-8 * expected.abs().max(1e-2))
}

/// Mean over runs of the mean over bases, and the spread of one base around the mean of its run.
pub(super) fn null_by_hand(case: &Case, arm: &str, step: u64) -> (f64, f64) {
    let runs: Vec<&[f64]> = case.seeds(arm).into_iter().map(|seed| case.null(arm, seed, step)).collect();
    let squares: f64 = runs.iter().map(|draws| sd(draws).powi(2) * (draws.len() - 1) as f64).sum();
    let freedom: usize = runs.iter().map(|draws| draws.len() - 1).sum();
    (mean(&runs.iter().map(|draws| mean(draws)).collect::<Vec<_>>()), (squares / freedom as f64).sqrt())
}

pub(super) fn of_seeds(case: &Case, arm: &str, metric: &str, basis: Basis) -> Vec<f64> {
    let of = |seed: u64| match metric {
        "loss" => case.loss_of(arm, seed, LAST).0,
        "loss_above_floor" => case.loss_of(arm, seed, LAST).1,
        "max_median_ratio" => case.at(arm, seed, LAST, basis),
        other => case.others[&(other.to_owned(), arm.to_owned(), seed)],
    };
    case.seeds(arm).into_iter().map(of).collect()
}
