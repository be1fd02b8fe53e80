//! In how many seeds the same dimension stands out, and in how many by chance.

use basislab_config::{Basis, count};
use std::collections::BTreeMap;

/// The dimensions of an arm that stand out in one basis, over its seeds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Agreement {
    pub(crate) arm: String,
    pub(crate) basis: Basis,
    d_model: usize,
    n_seeds: usize,
    /// The seeds of each dimension that stands out in any.
    seeds: BTreeMap<usize, Vec<u64>>,
}

impl Agreement {
    /// `found` has a seed and a dimension for each that stands out anywhere; a pair may be there more than once.
    pub(crate) fn of(
        (arm, basis): (&str, Basis),
        d_model: usize,
        n_seeds: usize,
        found: impl IntoIterator<Item = (u64, usize)>,
    ) -> Self {
        let mut seeds: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        for (seed, dim) in found {
            let seeds = seeds.entry(dim).or_default();
            if !seeds.contains(&seed) {
                seeds.push(seed);
            }
        }
        Self { arm: arm.to_owned(), basis, d_model, n_seeds, seeds }
    }

    /// How many dimensions stand out in exactly 0, 1, 2, ... seeds.
    fn found(&self) -> Vec<usize> {
        let mut found = vec![0; self.n_seeds + 1];
        found[0] = self.d_model.saturating_sub(self.seeds.len());
        self.seeds.values().for_each(|seeds| found[seeds.len().min(self.n_seeds)] += 1);
        found
    }

    /// How many dimensions stand out in each seed that has any.
    fn of_seeds(&self) -> Vec<usize> {
        let mut of: BTreeMap<u64, usize> = BTreeMap::new();
        self.seeds.values().flatten().for_each(|seed| *of.entry(*seed).or_default() += 1);
        of.into_values().collect()
    }

    /// `(seeds, dimensions that stand out in exactly so many, the number expected by chance)`, as far as there are any of
    /// either; none where there is nothing to compare.
    pub(crate) fn rows(&self) -> Vec<(usize, usize, f64)> {
        if self.seeds.is_empty() || self.n_seeds < 2 {
            return Vec::new();
        }
        let (found, expected) = (self.found(), expected_in(self.d_model, &self.of_seeds()));
        let rows = found.into_iter().enumerate().skip(1);
        let rows = rows.map(|(seeds, found)| (seeds, found, expected.get(seeds).copied().unwrap_or(0.0)));
        rows.filter(|(seeds, found, expected)| *seeds <= 2 || *found > 0 || *expected >= 0.005).collect()
    }

    /// The dimensions that stand out in more than one seed, those of most seeds first, each with their number.
    pub(crate) fn shared(&self) -> Vec<(usize, usize)> {
        let all = self.seeds.iter().map(|(dim, seeds)| (*dim, seeds.len()));
        let mut shared: Vec<(usize, usize)> = all.filter(|(_, seeds)| *seeds > 1).collect();
        shared.sort_by_key(|(dim, seeds)| (std::cmp::Reverse(*seeds), *dim));
        shared
    }

    /// What was found and what chance would give.
    pub(crate) fn sentence(&self) -> String {
        if self.n_seeds < 2 {
            return "There is one seed, so that there is nothing to compare.".to_owned();
        }
        if self.seeds.is_empty() {
            return format!("No dimension stands out in any of {} seeds.", self.n_seeds);
        }
        let of = self.of_seeds();
        let k = of.iter().sum::<usize>() as f64 / self.n_seeds as f64;
        let expected: f64 = expected_in(self.d_model, &of).iter().skip(2).sum();
        let shared = self.shared().len();
        format!(
            "{} out in two or more of {} seeds; if the dimensions of each seed ({k:.1} of {} on average) were drawn at random, \
             {expected:.2} would be expected.",
            match shared {
                0 => "No dimension stands".to_owned(),
                1 => "1 dimension stands".to_owned(),
                _ => format!("{} stand", count(shared, "dimension")),
            },
            self.n_seeds,
            self.d_model,
        )
    }
}

/// The number of dimensions that stand out in exactly 0, 1, 2, ... seeds where in each seed so many of `d` were drawn at
/// random, independently of the other seeds: `d` times the law of a sum of independent trials with probabilities `k / d`.
pub(super) fn expected_in(d: usize, standing_out: &[usize]) -> Vec<f64> {
    let mut law = vec![1.0];
    for &k in standing_out {
        let p = k as f64 / d as f64;
        let mut next = vec![0.0; law.len() + 1];
        for (seeds, share) in law.iter().enumerate() {
            next[seeds] += share * (1.0 - p);
            next[seeds + 1] += share * p;
        }
        law = next;
    }
    law.into_iter().map(|share| share * d as f64).collect()
}
