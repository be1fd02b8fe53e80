//! Exact tests that a basis is one of many: if no basis is special, the tested basis and random bases of the same
//! activations are exchangeable, whatever the activations.

use super::permutation::{Method, PERMUTATION_DRAWS, TIE, drawn_p};
use crate::random::{Purpose, below, stream};

/// Two-sided p of "in every seed, the first value is exchangeable with the others". `seeds` holds one list per seed: a
/// statistic, usually a logarithm, in the tested basis and then in each random basis.
///
/// The statistic is the sum over seeds of the first value less the mean of its list. Under the null each place of a list
/// is equally likely to be the tested one, in each seed independently, so its distribution follows from the lists alone:
/// the test is exact for any activations, even of a single seed, where p is the share of bases as far from the mean as the
/// tested one. It needs random bases that were drawn independently in each seed. What it rejects is that *these* models
/// have no special basis; how a new seed would behave is what the interval over seeds tells.
///
/// All choices of one place per seed are enumerated up to a million of them; else p is `(1 + extreme draws) / (1 + draws)`
/// with [`PERMUTATION_DRAWS`] draws of a fixed stream, so that the same values give the same p. `None` without a seed, for
/// a list of fewer than two values, or for a value that is not finite.
pub fn exchange_p(seeds: &[Vec<f64>]) -> Option<f64> {
    let usable = |list: &Vec<f64>| list.len() >= 2 && list.iter().all(|value| value.is_finite());
    if seeds.is_empty() || !seeds.iter().all(usable) {
        return None;
    }
    let centred: Vec<Vec<f64>> = seeds.iter().map(|list| centred(list)).collect();
    let observed = centred.iter().map(|list| list[0]).sum::<f64>().abs();
    let size: f64 = seeds.iter().map(|list| list.iter().fold(0.0f64, |most, value| most.max(value.abs()))).sum();
    let extreme = observed - TIE * size;
    let lengths = centred.iter().map(Vec::len);
    if exchange_method(lengths.clone()) == Method::Exact {
        let all: f64 = lengths.map(|length| length as f64).product();
        return Some(count_extreme(&centred, 0.0, extreme) as f64 / all);
    }
    let mut rng = stream(seeds.len() as u64, Purpose::Permutation, 1 << 32);
    let mut is_extreme = || {
        let sum: f64 = centred.iter().map(|list| list[below(&mut rng, list.len() as u64) as usize]).sum();
        sum.abs() >= extreme
    };
    Some(drawn_p((0..PERMUTATION_DRAWS).filter(|_| is_extreme()).count() as u32))
}

/// How [`exchange_p`] makes its p from lists of these lengths.
pub fn exchange_method(lengths: impl Iterator<Item = usize>) -> Method {
    Method::of_choices(lengths.map(|length| length as f64).product())
}

/// How many sums of one value per list are extreme.
fn count_extreme(lists: &[Vec<f64>], sum: f64, extreme: f64) -> u64 {
    match lists.split_first() {
        Some((first, rest)) => first.iter().map(|value| count_extreme(rest, sum + value, extreme)).sum(),
        None => u64::from(sum.abs() >= extreme),
    }
}

fn centred(list: &[f64]) -> Vec<f64> {
    let mean = list.iter().sum::<f64>() / list.len() as f64;
    list.iter().map(|value| value - mean).collect()
}

/// Several statistics of one model in one test: see [`max_t`].
#[derive(Debug, Clone, PartialEq)]
pub struct MaxT {
    /// Two-sided p of "the tested basis is exchangeable with the random ones", over all statistics together.
    pub p: f64,
    /// Distance of each statistic in the tested basis from its mean over all bases, in standard deviations over all bases.
    /// 0 where the bases do not differ.
    pub z: Vec<f64>,
    /// The statistic of the largest distance.
    pub largest: usize,
}

/// Tests several statistics together, each a list with its value in the tested basis and then in each random basis, all in
/// the same order of bases: the largest `|z|` of a basis over the statistics is the test statistic, and p is the share of
/// bases, the tested one counted, whose largest `|z|` is at least that of the tested basis (Westfall and Young 1993).
///
/// Exact, since mean and standard deviation are taken over all bases and so do not tell the tested one from the others.
/// Standardised by the random bases alone it would not be: the tested basis would be compared with a spread that it had no
/// part in. The smallest p of `k` random bases is `1 / (k + 1)`. `None` without a statistic, for fewer than two bases, for
/// lists of different lengths, or for a value that is not finite.
pub fn max_t(statistics: &[Vec<f64>]) -> Option<MaxT> {
    let bases = statistics.first()?.len();
    let usable = |list: &Vec<f64>| list.len() == bases && list.iter().all(|value| value.is_finite());
    if bases < 2 || !statistics.iter().all(usable) {
        return None;
    }
    let scores: Vec<Vec<f64>> = statistics.iter().map(|list| scores(list)).collect();
    let largest_of = |basis: usize| scores.iter().map(|z| z[basis].abs()).fold(0.0, f64::max);
    let observed = largest_of(0) * (1.0 - TIE);
    let extreme = (0..bases).filter(|basis| largest_of(*basis) >= observed).count();
    let z: Vec<f64> = scores.iter().map(|z| z[0]).collect();
    let largest = (0..z.len()).max_by(|a, b| z[*a].abs().total_cmp(&z[*b].abs()))?;
    Some(MaxT { p: extreme as f64 / bases as f64, z, largest })
}

/// Distances from the mean in standard deviations; all 0 for values that differ by rounding at most.
fn scores(list: &[f64]) -> Vec<f64> {
    let size = list.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    let centred = centred(list);
    let sd = (centred.iter().map(|c| c * c).sum::<f64>() / list.len() as f64).sqrt();
    let spread = sd > TIE * size;
    centred.into_iter().map(|c| if spread { c / sd } else { 0.0 }).collect()
}
