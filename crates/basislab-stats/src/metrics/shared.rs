//! What several metrics read of every token or dimension, computed once for a matrix.

use super::arithmetic::{Mean, central_sums, fourth, median_near, median_of_bits, ratio, sum};
use pulp::{Arch, Simd, WithSimd};

/// Statistics over the coordinates of one token; NaN where undefined.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    /// Biased `m4 / m2^2`.
    kurtosis: f64,
    /// The same about zero.
    kurtosis_about_zero: f64,
    /// `max(0, m4 / sd^4 - 3)`, sd with ddof 1.
    excess: f64,
    /// The same with the fourth moment about zero.
    excess_about_zero: f64,
    /// Root mean square.
    rms: f64,
    /// Largest magnitude over the root mean square.
    peak: f64,
    /// Hoyer's sparsity.
    sparsity: f64,
    /// Share of the energy in the [`TOP`] largest coordinates.
    top_share: f64,
}

/// Coordinates that [`Token::top_share`] is about.
pub(crate) const TOP: usize = 4;

impl Token {
    #[inline(always)]
    fn new(x: &[f64]) -> Self {
        let n = x.len() as f64;
        let (s1, s2, s4) = (sum(x, f64::abs), sum(x, |v| v * v), sum(x, fourth));
        let top = largest_squares(x);
        let about_zero = Self {
            kurtosis: f64::NAN,
            kurtosis_about_zero: ratio(s4 * n, s2 * s2).unwrap_or(f64::NAN),
            excess: f64::NAN,
            excess_about_zero: f64::NAN,
            rms: (s2 / n).sqrt(),
            peak: ratio(top[0].sqrt(), (s2 / n).sqrt()).unwrap_or(f64::NAN),
            sparsity: ratio(s1, s2.sqrt()).map_or(f64::NAN, |flat| (n.sqrt() - flat) / (n.sqrt() - 1.0)),
            top_share: ratio(top.iter().sum(), s2).unwrap_or(f64::NAN),
        };
        let Some((m2, m4)) = central_sums(x) else { return about_zero };
        let variance = m2 / (n - 1.0);
        let excess = |fourth: f64| ratio(fourth / n, variance * variance).map(|kurtosis| (kurtosis - 3.0).max(0.0));
        Self {
            kurtosis: ratio(m4 * n, m2 * m2).unwrap_or(f64::NAN),
            excess: excess(m4).unwrap_or(f64::NAN),
            excess_about_zero: excess(s4).unwrap_or(f64::NAN),
            ..about_zero
        }
    }
}

/// The [`TOP`] largest squares, the largest first.
#[inline(always)]
fn largest_squares(x: &[f64]) -> [f64; TOP] {
    let mut top = [0.0; TOP];
    for value in x {
        let mut square = value * value;
        if square > top[TOP - 1] {
            for place in &mut top {
                if square > *place {
                    std::mem::swap(&mut square, place);
                }
            }
        }
    }
    top
}

/// Means over tokens, and a median; `None` where one token has no value.
#[derive(Debug, Clone)]
pub(crate) struct TokenMeans {
    pub(crate) kurtosis: Option<f64>,
    pub(crate) kurtosis_median: Option<f64>,
    pub(crate) kurtosis_about_zero: Option<f64>,
    pub(crate) excess: Option<f64>,
    pub(crate) excess_about_zero: Option<f64>,
    pub(crate) rms: Option<f64>,
    pub(crate) peak: Option<f64>,
    pub(crate) sparsity: Option<f64>,
    pub(crate) top_share: Option<f64>,
}

impl TokenMeans {
    /// Of the statistics of `n` tokens, which come block by block.
    pub(crate) fn of(n: usize, each_block: impl FnOnce(&mut dyn FnMut(&[Token]))) -> Self {
        let mut means = [(); 8].map(|()| Mean::of(n));
        let mut sizes = Vec::with_capacity(n);
        each_block(&mut |tokens| {
            for token in tokens {
                let Token { kurtosis, kurtosis_about_zero, excess, excess_about_zero, rms, peak, sparsity, top_share } =
                    *token;
                let values = [kurtosis, kurtosis_about_zero, excess, excess_about_zero, rms, peak, sparsity, top_share];
                means.iter_mut().zip(values).for_each(|(mean, value)| mean.add(value));
                sizes.push(kurtosis.to_bits());
            }
        });
        let [kurtosis, kurtosis_about_zero, excess, excess_about_zero, rms, peak, sparsity, top_share] =
            means.map(|mean| mean.value());
        let kurtosis_median = kurtosis.map(|_| median_of_bits(&mut sizes));
        Self {
            kurtosis,
            kurtosis_median,
            kurtosis_about_zero,
            excess,
            excess_about_zero,
            rms,
            peak,
            sparsity,
            top_share,
        }
    }
}

/// Every row of `values`.
pub(crate) fn tokens(values: &[f64], d_model: usize) -> Vec<Token> {
    Arch::new().dispatch(Tokens { values, d_model })
}

struct Tokens<'a> {
    values: &'a [f64],
    d_model: usize,
}

impl WithSimd for Tokens<'_> {
    type Output = Vec<Token>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<Token> {
        let rows = self.values.chunks_exact(self.d_model);
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            all.push(Token::new(row));
        }
        all
    }
}

/// The median over rows of their root mean square.
pub(crate) fn median_rms(values: &[f64], d_model: usize) -> f64 {
    let rms = |row: &[f64]| (sum(row, |v| v * v) / d_model as f64).sqrt().to_bits();
    median_of_bits(&mut values.chunks_exact(d_model).map(rms).collect::<Vec<_>>())
}

/// `max_i |x_i| / median_i |x_i|` of every row, NaN where undefined: apart from [`Token`], because of the median.
pub(crate) fn peaks(values: &[f64], d_model: usize) -> Vec<f64> {
    Arch::new().dispatch(Peaks { values, d_model })
}

struct Peaks<'a> {
    values: &'a [f64],
    d_model: usize,
}

impl WithSimd for Peaks<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<f64> {
        let rows = self.values.chunks_exact(self.d_model);
        let (mut bits, mut between) = (vec![0; self.d_model], vec![0; self.d_model]);
        let mut middle = 1.0;
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            bits.iter_mut().zip(row).for_each(|(bits, value)| *bits = value.abs().to_bits() as i64);
            let largest = bits.iter().copied().fold(0, i64::max);
            middle = median_near(&bits, middle, &mut between);
            all.push(ratio(f64::from_bits(largest as u64), middle).unwrap_or(f64::NAN));
        }
        all
    }
}

/// Statistics over the tokens of every dimension.
#[derive(Debug, Clone)]
pub(crate) struct ColumnStats {
    sum: Vec<f64>,
    /// Sum of squares.
    pub(crate) energy: Vec<f64>,
    /// Largest magnitude.
    pub(crate) largest: Vec<f64>,
}

impl ColumnStats {
    /// The mean of every column of so many tokens.
    pub(crate) fn means(&self, n_tokens: usize) -> Vec<f64> {
        self.sum.iter().map(|sum| sum / n_tokens as f64).collect()
    }
}

/// Every column of `values`.
pub(crate) fn columns(values: &[f64], d_model: usize) -> ColumnStats {
    Arch::new().dispatch(Columns { values, d_model })
}

struct Columns<'a> {
    values: &'a [f64],
    d_model: usize,
}

impl WithSimd for Columns<'_> {
    type Output = ColumnStats;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> ColumnStats {
        let [mut sum, mut energy, mut largest] = [(); 3].map(|()| vec![0.0f64; self.d_model]);
        for row in self.values.chunks_exact(self.d_model) {
            let columns = sum.iter_mut().zip(energy.iter_mut().zip(&mut largest));
            for ((sum, (energy, largest)), value) in columns.zip(row) {
                *sum += value;
                *energy += value * value;
                *largest = if value.abs() > *largest { value.abs() } else { *largest };
            }
        }
        ColumnStats { sum, energy, largest }
    }
}

/// Biased `m4 / m2^2` of all values; `None` without variance.
pub(crate) fn pooled_kurtosis(values: &[f64]) -> Option<f64> {
    struct Pooled<'a>(&'a [f64]);
    impl WithSimd for Pooled<'_> {
        type Output = Option<f64>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> Option<f64> {
            let (m2, m4) = central_sums(self.0)?;
            ratio(m4 * self.0.len() as f64, m2 * m2)
        }
    }
    Arch::new().dispatch(Pooled(values))
}
