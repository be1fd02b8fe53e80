//! Metrics of the mean vector, of what varies between tokens, and of how dimensions relate to each other.

use super::arithmetic::{central_sums, ratio, sum};
use crate::residuals::Residuals;
use crate::rotation::zeros;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use pulp::{Arch, Simd, WithSimd};

/// Values that are multiplied at a time, where rows are short.
const BLOCK: usize = 1 << 16;

/// The mean over tokens of every dimension less `origin`.
fn mean_from(x: &Residuals, origin: &[f64]) -> Vec<f64> {
    let mut total = vec![0.0; x.d_model()];
    for row in x.rows() {
        for (total, (value, origin)) in total.iter_mut().zip(row.iter().zip(origin)) {
            *total += value - origin;
        }
    }
    total.iter().map(|total| total / x.n_tokens() as f64).collect()
}

fn kurtosis(x: &[f64]) -> Option<f64> {
    let (m2, m4) = central_sums(x)?;
    ratio(m4 * x.len() as f64, m2 * m2)
}

pub(super) fn mean_vector_kurtosis(x: &Residuals) -> Option<f64> {
    kurtosis(&mean_from(x, &vec![0.0; x.d_model()]))
}

pub(super) fn varying_kurtosis(x: &Residuals) -> Option<f64> {
    struct Varying<'a>(&'a Residuals);
    impl WithSimd for Varying<'_> {
        type Output = Option<f64>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> Option<f64> {
            // Differences to the first token, so that equal tokens differ by exactly 0 and not by the dust of their mean.
            let origin = self.0.rows().next()?;
            let mean = mean_from(self.0, origin);
            let mut varying = vec![0.0; origin.len()];
            let mut total = 0.0;
            for row in self.0.rows() {
                for (varying, (value, (origin, mean))) in
                    varying.iter_mut().zip(row.iter().zip(origin.iter().zip(&mean)))
                {
                    *varying = value - origin - mean;
                }
                total += kurtosis(&varying)?;
            }
            Some(total / self.0.n_tokens() as f64)
        }
    }
    Arch::new().dispatch(Varying(x))
}

/// `sum over tokens of (x - centre)(x - centre)^T`.
fn gram(x: &Residuals, centre: &[f64]) -> Mat<f64> {
    let d = x.d_model();
    let mut gram = zeros(d, d);
    let mut block = Vec::new();
    for rows in x.values().chunks(d * (BLOCK / d).max(64)) {
        block.clear();
        block.extend(rows.chunks_exact(d).flat_map(|row| row.iter().zip(centre).map(|(value, centre)| value - centre)));
        let rows = MatRef::from_row_major_slice(&block, block.len() / d, d);
        matmul(&mut gram, Accum::Add, rows.transpose(), rows, 1.0, Par::Seq);
    }
    gram
}

pub(super) fn dim_correlation(x: &Residuals) -> Option<f64> {
    let d = x.d_model();
    let gram = gram(x, &mean_from(x, &vec![0.0; d]));
    let varies: Vec<bool> = (0..d).map(|j| x.rows().any(|row| row[j] != x.values()[j])).collect();
    let mut squares = 0.0;
    let mut defined = false;
    for k in 0..d {
        for j in (0..k).filter(|j| varies[*j] && varies[k]) {
            squares += ratio(gram[(j, k)] * gram[(j, k)], gram[(j, j)] * gram[(k, k)])?;
            defined = true;
        }
    }
    defined.then(|| squares / (d * (d - 1) / 2) as f64)
}

pub(super) fn participation_ratio(x: &Residuals) -> Option<f64> {
    let d = x.d_model();
    let gram = gram(x, &vec![0.0; d]);
    let trace: f64 = (0..d).map(|j| gram[(j, j)]).sum();
    let squares: f64 = (0..d).map(|k| sum(gram.col_as_slice(k), |value| value * value)).sum();
    ratio(trace * trace, squares)
}
