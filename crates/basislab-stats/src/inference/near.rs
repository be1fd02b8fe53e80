//! Claims that a mean is near a published number.

use super::{Verdict, decide_equivalence, tost};

/// Half the width of the band around `value` that counts as near it: the share `tolerance` of its magnitude.
pub fn near_margin(value: f64, tolerance: f64) -> f64 {
    value.abs() * tolerance
}

/// The larger p of the two one-sided t tests (Schuirmann's TOST) that the mean lies within `tolerance`, a share of
/// `value`, around `value`. `None` for fewer than two values.
pub fn near_p(values: &[f64], value: f64, tolerance: f64, alpha: f64) -> Option<f64> {
    Some(tost(&differences(values, value), near_margin(value, tolerance), alpha)?.p)
}

/// A claim that a mean is near a published number, which is taken as exact: supported when the `1 - 2 alpha` t interval of
/// the mean lies inside `value` plus or minus `tolerance` times its magnitude, refuted when it lies wholly outside.
pub fn decide_near(values: &[f64], value: f64, tolerance: f64, alpha: f64, min_seeds: usize) -> Verdict {
    decide_equivalence(&differences(values, value), near_margin(value, tolerance), alpha, min_seeds)
}

fn differences(values: &[f64], value: f64) -> Vec<f64> {
    values.iter().map(|one| one - value).collect()
}
