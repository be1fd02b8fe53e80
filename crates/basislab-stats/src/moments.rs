use crate::metrics::is_narrow;
use crate::residuals::Residuals;

/// Moments of one dimension over tokens. Estimators are biased (divided by the number of tokens).
#[derive(Debug, Clone, PartialEq)]
pub struct DimensionMoments {
    /// 0-based.
    pub dim: usize,
    /// Mean.
    pub mean: f64,
    /// Root mean square.
    pub rms: f64,
    /// Variance.
    pub variance: f64,
    /// `m3 / m2^1.5`; `None` without variance.
    pub skewness: Option<f64>,
    /// `m4 / m2^2` over tokens (not over dimensions); `None` without variance.
    pub kurtosis: Option<f64>,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Largest magnitude.
    pub max_abs: f64,
    /// Its share of the sum of squares of all dimensions.
    pub share_of_energy: f64,
}

/// Moments of every dimension: two passes, so that large means cost no digits, and a third from an exact difference where
/// the standard deviation is below 1e-6 of the mean.
pub fn dimensions(x: &Residuals) -> Vec<DimensionMoments> {
    let n = x.n_tokens() as f64;
    let energy: f64 = x.values().iter().map(|v| v * v).sum();
    let one = |dim: usize| {
        let column = || x.rows().map(move |row| row[dim]);
        let mut column_values = column();
        let first = column_values.next().expect("residuals hold at least two tokens");
        // The mean of equal values may miss them by a bit, and a dead dimension would then show a kurtosis.
        let constant = column_values.all(|v| v == first);
        let mut mean = if constant { first } else { column().sum::<f64>() / n };
        let about =
            |origin: f64, centre: f64, power: i32| column().map(|v| (v - origin - centre).powi(power)).sum::<f64>() / n;
        let (mut origin, mut centre) = (0.0, mean);
        if is_narrow(about(0.0, mean, 2).sqrt(), mean) && !constant {
            (origin, centre) = (first, column().map(|v| v - first).sum::<f64>() / n);
            mean = origin + centre;
        }
        let central = |power: i32| about(origin, centre, power);
        let (m2, squares) = (central(2), column().map(|v| v * v).sum::<f64>());
        let min = column().fold(f64::INFINITY, f64::min);
        let max = column().fold(f64::NEG_INFINITY, f64::max);
        let defined = |value: f64| ((m2 * m2).is_normal() && value.is_finite()).then_some(value);
        DimensionMoments {
            dim,
            mean,
            rms: (squares / n).sqrt(),
            variance: m2,
            skewness: defined(central(3) / m2.powf(1.5)),
            kurtosis: defined(central(4) / (m2 * m2)),
            min,
            max,
            max_abs: max.abs().max(min.abs()),
            share_of_energy: if energy > 0.0 { squares / energy } else { 0.0 },
        }
    };
    (0..x.d_model()).map(one).collect()
}
