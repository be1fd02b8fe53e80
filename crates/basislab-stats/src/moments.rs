use crate::metrics::is_narrow;
use crate::residuals::Residuals;
use pulp::{Arch, Simd, WithSimd};

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
    described(x, &columns(x))
}

/// [`dimensions`] after their first pass.
pub(crate) fn described(x: &Residuals, columns: &Columns) -> Vec<DimensionMoments> {
    let n = x.n_tokens() as f64;
    let Columns { sums, squares, smallest, largest, constant, .. } = columns;
    let energy = x.values().iter().map(|v| v * v).sum::<f64>();
    let first = x.rows().next().expect("residuals hold at least two tokens");
    // The mean of equal values may miss them by a bit, and a dead dimension would then show a kurtosis.
    let means: Vec<f64> = (0..x.d_model()).map(|dim| if constant[dim] { first[dim] } else { sums[dim] / n }).collect();
    let [second, third, fourth] = Arch::new().dispatch(Second { x, means: &means });
    let one = |dim: usize| {
        let mut mean = means[dim];
        let [mut m2, mut m3, mut m4] = [&second, &third, &fourth].map(|sums| sums[dim] / n);
        if is_narrow(m2.sqrt(), mean) && !constant[dim] {
            let differences = || x.rows().map(|row| row[dim] - first[dim]);
            let centre = differences().sum::<f64>() / n;
            mean = first[dim] + centre;
            [m2, m3, m4] = [2, 3, 4].map(|power| differences().map(|v| (v - centre).powi(power)).sum::<f64>() / n);
        }
        let (squares, min, max) = (squares[dim], smallest[dim], largest[dim]);
        let defined = |value: f64| ((m2 * m2).is_normal() && value.is_finite()).then_some(value);
        DimensionMoments {
            dim,
            mean,
            rms: (squares / n).sqrt(),
            variance: m2,
            skewness: defined(m3 / m2.powf(1.5)),
            kurtosis: defined(m4 / (m2 * m2)),
            min,
            max,
            max_abs: max.abs().max(min.abs()),
            share_of_energy: if energy > 0.0 { squares / energy } else { 0.0 },
        }
    };
    (0..x.d_model()).map(one).collect()
}

/// The first pass.
pub(crate) fn columns(x: &Residuals) -> Columns {
    Arch::new().dispatch(First(x))
}

/// What the first pass finds of every dimension, `[d_model]` each.
pub(crate) struct Columns {
    sums: Vec<f64>,
    squares: Vec<f64>,
    fourths: Vec<f64>,
    smallest: Vec<f64>,
    largest: Vec<f64>,
    /// Whether all tokens have one value.
    constant: Vec<bool>,
}

impl Columns {
    /// Root of the mean square over `n` tokens.
    pub(crate) fn rms(&self, n: usize) -> Vec<f64> {
        self.squares.iter().map(|squares| (squares / n as f64).sqrt()).collect()
    }

    /// Mean fourth power over `n` tokens.
    pub(crate) fn fourth_moments(&self, n: usize) -> Vec<f64> {
        self.fourths.iter().map(|fourths| fourths / n as f64).collect()
    }
}

struct First<'a>(&'a Residuals);

impl WithSimd for First<'_> {
    type Output = Columns;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Columns {
        let d = self.0.d_model();
        let [mut sums, mut squares, mut fourths] = [(); 3].map(|()| vec![0.0; d]);
        let [mut smallest, mut largest] = [f64::INFINITY, f64::NEG_INFINITY].map(|from| vec![from; d]);
        for row in self.0.rows() {
            let powers = sums.iter_mut().zip(squares.iter_mut().zip(&mut fourths));
            let values = row.iter().zip(powers.zip(smallest.iter_mut().zip(&mut largest)));
            for (&value, ((sum, (squares, fourths)), (smallest, largest))) in values {
                let square = value * value;
                *sum += value;
                *squares += square;
                *fourths += square * square;
                *smallest = smallest.min(value);
                *largest = largest.max(value);
            }
        }
        let constant = smallest.iter().zip(&largest).map(|(smallest, largest)| smallest == largest).collect();
        Columns { sums, squares, fourths, smallest, largest, constant }
    }
}

/// Sums over tokens of the second, third and fourth power of the differences to `means`, `[d_model]` each.
struct Second<'a> {
    x: &'a Residuals,
    means: &'a [f64],
}

impl WithSimd for Second<'_> {
    type Output = [Vec<f64>; 3];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [Vec<f64>; 3] {
        let [mut second, mut third, mut fourth] = [(); 3].map(|()| vec![0.0; self.means.len()]);
        for row in self.x.rows() {
            let sums = second.iter_mut().zip(third.iter_mut().zip(&mut fourth));
            for ((value, mean), (second, (third, fourth))) in row.iter().zip(self.means).zip(sums) {
                let difference = value - mean;
                let square = difference * difference;
                *second += square;
                *third += difference * square;
                *fourth += square * square;
            }
        }
        [second, third, fourth]
    }
}
