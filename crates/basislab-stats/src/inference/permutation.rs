//! What permutation tests share: when they enumerate, and how they draw.

/// Draws of a permutation test that does not enumerate. With them no p is below 1e-5, and the standard error of a p of
/// 0.05 is 0.0007.
pub const PERMUTATION_DRAWS: u32 = 99_999;

/// How a p is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Everything that is equally likely under the null is enumerated.
    Exact,
    /// It is sampled.
    MonteCarlo {
        /// The size of the sample.
        draws: u32,
    },
}

impl Method {
    /// That of `repeats` independent lists of `orders` values.
    pub(super) fn of(orders: usize, repeats: usize) -> Self {
        if enumerable(orders, repeats) { Self::Exact } else { Self::MonteCarlo { draws: PERMUTATION_DRAWS } }
    }

    /// That of so many equally likely choices.
    pub(super) fn of_choices(choices: f64) -> Self {
        if choices <= MOST_ENUMERATED { Self::Exact } else { Self::MonteCarlo { draws: PERMUTATION_DRAWS } }
    }
}

/// Up to this many permutations are enumerated, and p is exact.
const MOST_ENUMERATED: f64 = 1e6;

/// Relative tolerance for ties: sums of the same numbers in another order may differ in the last bits.
pub(super) const TIE: f64 = 1e-12;

/// Whether the `orders!` orders of each of `repeats` independent lists can be enumerated together.
pub(super) fn enumerable(orders: usize, repeats: usize) -> bool {
    let log: f64 = (2..=orders).map(|n| (n as f64).ln()).sum();
    // Half a permutation of slack, so that rounding decides nothing.
    repeats as f64 * log <= (MOST_ENUMERATED + 0.5).ln()
}

/// Calls `visit` with every order of the values, the given one first.
pub(super) fn every_order(values: &mut [f64], visit: &mut dyn FnMut(&[f64])) {
    fn from(at: usize, values: &mut [f64], visit: &mut dyn FnMut(&[f64])) {
        if at + 1 >= values.len() {
            return visit(values);
        }
        for other in at..values.len() {
            values.swap(at, other);
            from(at + 1, values, visit);
            values.swap(at, other);
        }
    }
    from(0, values, visit);
}

/// The p of `hits` among the draws, the observed order counted as one more draw and hit (Phipson and Smyth 2010): it is
/// never 0, and the test holds its level whatever the number of draws.
pub(super) fn drawn_p(hits: u32) -> f64 {
    f64::from(1 + hits) / f64::from(1 + PERMUTATION_DRAWS)
}
