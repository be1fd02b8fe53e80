//! Claims that a mean is at most, or at least, a threshold.

use super::{Verdict, mean_sd, standard_error, students, t_interval};
use statrs::distribution::ContinuousCDF;

/// On which side of its threshold a mean is claimed to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// At the threshold or below.
    AtMost,
    /// At the threshold or above.
    AtLeast,
}

impl Side {
    /// How far the mean is on the wrong side.
    fn beyond(self, mean: f64, threshold: f64) -> f64 {
        match self {
            Self::AtMost => mean - threshold,
            Self::AtLeast => threshold - mean,
        }
    }
}

/// One-sided p of "the mean is beyond the threshold" against the claimed side, by the t test. Without spread it is 0 where
/// the mean is on the claimed side and 1 elsewhere. `None` for fewer than two values.
pub fn bound_p(values: &[f64], threshold: f64, side: Side) -> Option<f64> {
    let beyond = side.beyond(mean_sd(values)?.0, threshold);
    let error = standard_error(values)?;
    if error > 0.0 {
        return Some(students(values.len()).sf(-beyond / error));
    }
    Some(f64::from(u8::from(beyond > 0.0)))
}

/// A claim that a mean is at most, or at least, a threshold, in the unit of the values. It is supported when the corrected
/// one-sided p is at most `alpha` and the one-sided `1 - alpha` confidence bound is on the claimed side, refuted when
/// the bound from the other side is beyond the threshold. The bounds are the ends of the `1 - 2 alpha` t interval.
pub fn decide_bound(values: &[f64], threshold: f64, side: Side, p_holm: f64, alpha: f64, min_seeds: usize) -> Verdict {
    let Some(interval) = t_interval(values, 1.0 - 2.0 * alpha) else { return Verdict::Exploratory };
    let (worst, best) = match side {
        Side::AtMost => (interval.high, interval.low),
        Side::AtLeast => (interval.low, interval.high),
    };
    if values.len() < min_seeds {
        Verdict::Exploratory
    } else if p_holm <= alpha && side.beyond(worst, threshold) <= 0.0 {
        Verdict::Supported
    } else if side.beyond(best, threshold) > 0.0 {
        Verdict::Refuted
    } else {
        Verdict::Inconclusive
    }
}
