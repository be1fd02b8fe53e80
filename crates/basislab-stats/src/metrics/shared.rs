//! What several metrics read of every token or dimension, computed once for a matrix.

use super::arithmetic::{fourth, is_constant, kurtosis, mean, median_size_in, ratio, sum};
use pulp::{Arch, Simd, WithSimd};

/// Statistics over the coordinates of one token; `None` where undefined.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    /// Biased `m4 / m2^2`.
    pub(crate) kurtosis: Option<f64>,
    /// The same about zero.
    pub(crate) kurtosis_about_zero: Option<f64>,
    /// `max(0, m4 / sd^4 - 3)`, sd with ddof 1.
    pub(crate) excess: Option<f64>,
    /// The same with the fourth moment about zero.
    pub(crate) excess_about_zero: Option<f64>,
    /// Root mean square.
    pub(crate) rms: Option<f64>,
}

impl Token {
    #[inline(always)]
    fn new(x: &[f64]) -> Self {
        let n = x.len() as f64;
        let (s2, s4) = (sum(x, |v| v * v), sum(x, fourth));
        let rms = (s2 / n).sqrt();
        let about_zero = Self {
            kurtosis: None,
            kurtosis_about_zero: ratio(s4 * n, s2 * s2),
            excess: None,
            excess_about_zero: None,
            rms: rms.is_finite().then_some(rms),
        };
        if is_constant(x) {
            return about_zero;
        }
        let centre = mean(x);
        let m2 = sum(x, |v| (v - centre) * (v - centre));
        let m4 = sum(x, |v| fourth(v - centre));
        let variance = m2 / (n - 1.0);
        let excess = |fourth: f64| ratio(fourth / n, variance * variance).map(|kurtosis| (kurtosis - 3.0).max(0.0));
        Self { kurtosis: ratio(m4 * n, m2 * m2), excess: excess(m4), excess_about_zero: excess(s4), ..about_zero }
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

/// `max_i |x_i| / median_i |x_i|` of every row: apart, because the median is the dearest of all.
pub(crate) fn peaks(values: &[f64], d_model: usize) -> Vec<Option<f64>> {
    let mut bits = Vec::with_capacity(d_model);
    let mut peak = |row: &[f64]| {
        let middle = median_size_in(row, &mut bits);
        ratio(row.iter().fold(0.0f64, |largest, v| largest.max(v.abs())), middle)
    };
    values.chunks_exact(d_model).map(&mut peak).collect()
}

/// Statistics over the tokens of every dimension.
#[derive(Debug, Clone)]
pub(crate) struct ColumnStats {
    /// Sum of squares.
    pub(crate) energy: Vec<f64>,
    /// Largest magnitude.
    pub(crate) largest: Vec<f64>,
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
        let (mut energy, mut largest) = (vec![0.0; self.d_model], vec![0.0f64; self.d_model]);
        for row in self.values.chunks_exact(self.d_model) {
            for ((energy, largest), value) in energy.iter_mut().zip(&mut largest).zip(row) {
                *energy += value * value;
                *largest = if value.abs() > *largest { value.abs() } else { *largest };
            }
        }
        ColumnStats { energy, largest }
    }
}

/// [`kurtosis`] of a long slice.
pub(crate) fn pooled_kurtosis(values: &[f64]) -> Option<f64> {
    struct Pooled<'a>(&'a [f64]);
    impl WithSimd for Pooled<'_> {
        type Output = Option<f64>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> Option<f64> {
            kurtosis(self.0)
        }
    }
    Arch::new().dispatch(Pooled(values))
}
