//! Claims that a quantity rises along arms in a given order: a dose and its response.

use super::permutation::{Method, PERMUTATION_DRAWS, TIE, drawn_p, enumerable, every_order};
use crate::random::{Purpose, shuffle, stream};

/// Least-squares slope of the values over their ranks, in units of the values per rank. `None` for fewer than two.
pub fn rank_slope(values: &[f64]) -> Option<f64> {
    let squares: f64 = ranks(values.len()).map(|rank| rank * rank).sum();
    (values.len() >= 2).then(|| trend(values) / squares)
}

/// Two-sided p of "the arms of each seed are exchangeable", against a trend along the arms in the given order. `rows` holds
/// one list per seed with one value per arm, usually a logarithm, in that order.
///
/// The statistic is the sum over seeds of rank times value, ranks from 1: Page's L (1963) with values in place of their
/// ranks within the seed. Its null distribution comes from permuting the arms within each seed, seeds independently. That
/// is exact whatever the distribution of the values and whatever differs between seeds. A statistic as far from the mean of
/// the null on either side counts as extreme, so that a claim in one direction is tested at half the level, as ICH E9
/// asks of one-sided tests.
///
/// All `(k!)^n` permutations of `k` arms and `n` seeds are enumerated up to a million of them. Else p is
/// `(1 + extreme draws) / (1 + draws)` with [`PERMUTATION_DRAWS`] draws of a fixed stream, so that the same values give
/// the same p. `None` without a seed, for fewer than two arms, for seeds with different numbers of arms, or for a value
/// that is not finite.
pub fn ordered_p(rows: &[Vec<f64>]) -> Option<f64> {
    let arms = rows.first()?.len();
    if arms < 2 || rows.iter().any(|row| row.len() != arms || row.iter().any(|value| !value.is_finite())) {
        return None;
    }
    let centred: Vec<Vec<f64>> = rows.iter().map(|row| centred(row)).collect();
    let observed = centred.iter().map(|row| trend(row)).sum::<f64>().abs();
    let largest = |row: &Vec<f64>| row.iter().zip(ranks(arms)).map(|(value, rank)| (value * rank).abs()).sum::<f64>();
    let extreme = observed - TIE * centred.iter().map(largest).sum::<f64>();
    if enumerable(arms, rows.len()) {
        let trends: Vec<Vec<f64>> = centred.into_iter().map(trends_of_orders).collect();
        let all: f64 = trends.iter().map(|trends| trends.len() as f64).product();
        return Some(count_extreme(&trends, 0.0, extreme) as f64 / all);
    }
    let mut rng = stream(rows.len() as u64, Purpose::Permutation, arms as u64);
    let mut rows = centred;
    let mut is_extreme = || {
        let mut sum = 0.0;
        for row in &mut rows {
            shuffle(row, &mut rng);
            sum += trend(row);
        }
        sum.abs() >= extreme
    };
    Some(drawn_p((0..PERMUTATION_DRAWS).filter(|_| is_extreme()).count() as u32))
}

/// How [`ordered_p`] makes its p.
pub fn ordered_method(arms: usize, seeds: usize) -> Method {
    Method::of(arms, seeds)
}

/// The ranks of `arms` arms less their mean, in order: -1, 0, 1 for three.
fn ranks(arms: usize) -> impl Iterator<Item = f64> {
    let middle = 0.5 * (arms as f64 - 1.0);
    (0..arms).map(move |rank| rank as f64 - middle)
}

/// Sum of rank times value, ranks around 0.
fn trend(values: &[f64]) -> f64 {
    values.iter().zip(ranks(values.len())).map(|(value, rank)| value * rank).sum()
}

fn centred(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| value - mean).collect()
}

fn trends_of_orders(mut values: Vec<f64>) -> Vec<f64> {
    let mut trends = Vec::new();
    every_order(&mut values, &mut |values| trends.push(trend(values)));
    trends
}

/// How many sums of one trend per seed are extreme.
fn count_extreme(trends: &[Vec<f64>], sum: f64, extreme: f64) -> u64 {
    match trends.split_first() {
        Some((first, rest)) => first.iter().map(|trend| count_extreme(rest, sum + trend, extreme)).sum(),
        None => u64::from(sum.abs() >= extreme),
    }
}
