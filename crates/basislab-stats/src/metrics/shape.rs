//! Metrics of the mean vector, of what varies between tokens, and of how dimensions relate to each other.

use super::arithmetic::{central_sums, finite, ratio, sum};
use crate::residuals::Residuals;
use crate::rotation::zeros;
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Par};
use pulp::{Arch, Simd, WithSimd};

/// Values that are multiplied at a time, where rows are short.
const BLOCK: usize = 1 << 16;

/// Products of up to so many multiplications have kernels of their own in faer.
const SMALL: usize = 16 * 16 * 16;

/// The mean over tokens of every dimension less `origin`.
#[inline(always)]
fn mean_from(x: &Residuals, origin: &[f64]) -> Vec<f64> {
    let mut total = vec![0.0; x.d_model()];
    for row in x.rows() {
        for (total, (value, origin)) in total.iter_mut().zip(row.iter().zip(origin)) {
            *total += value - origin;
        }
    }
    total.iter().map(|total| total / x.n_tokens() as f64).collect()
}

#[inline(always)]
fn kurtosis(x: &[f64]) -> Option<f64> {
    let (m2, m4) = central_sums(x)?;
    ratio(m4 * x.len() as f64, m2 * m2)
}

pub(super) fn mean_vector_kurtosis(x: &Residuals) -> Option<f64> {
    kurtosis(&x.columns().means(x.n_tokens()))
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

/// `sum over tokens of (x - centre)(x - centre)^T`: of the symmetric matrix `[d, d]` the upper triangle with its diagonal;
/// what lies below is not meant to be read.
pub(crate) fn gram(x: &Residuals, centre: Option<&[f64]>) -> Mat<f64> {
    let d = x.d_model();
    let mut gram = zeros(d, d);
    let length = d * (BLOCK / d).max(64);
    let mut block = vec![0.0; if centre.is_some() { length.min(x.values().len()) } else { 0 }];
    for rows in x.values().chunks(length) {
        let rows = match centre {
            Some(centre) => {
                let block = &mut block[..rows.len()];
                for (to, row) in block.chunks_exact_mut(d).zip(rows.chunks_exact(d)) {
                    to.iter_mut().zip(row.iter().zip(centre)).for_each(|(to, (value, centre))| *to = value - centre);
                }
                block
            }
            None => rows,
        };
        let rows = MatRef::from_row_major_slice(rows, rows.len() / d, d);
        // The kernels of faer add the products of one entry in the order of tokens, wherever the entry lies, so that half of
        // the product has the bits of the whole. Few tokens and narrow matrices have kernels of their own, and no half.
        if rows.nrows() == 1 || rows.nrows() * d * d <= SMALL {
            matmul(&mut gram, Accum::Add, rows.transpose(), rows, 1.0, Par::Seq);
        } else {
            let (half, all) = (BlockStructure::TriangularUpper, BlockStructure::Rectangular);
            triangular::matmul(&mut gram, half, Accum::Add, rows.transpose(), all, rows, all, 1.0, Par::Seq);
        }
    }
    gram
}

pub(super) fn dim_correlation(x: &Residuals) -> Option<f64> {
    struct Correlation<'a>(&'a Residuals);
    impl WithSimd for Correlation<'_> {
        type Output = Option<f64>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> Option<f64> {
            let Self(x) = self;
            let d = x.d_model();
            let gram = gram(x, Some(&x.columns().means(x.n_tokens())));
            let varies: Vec<bool> = (0..d).map(|j| x.rows().any(|row| row[j] != x.values()[j])).collect();
            let diagonal: Vec<f64> = (0..d).map(|j| gram[(j, j)]).collect();
            let mut shares = vec![0.0; d];
            let mut squares = 0.0;
            let mut defined = false;
            for k in (0..d).filter(|k| varies[*k]) {
                let pairs = gram.col_as_slice(k)[..k].iter().zip(&diagonal);
                for (share, (product, own)) in shares.iter_mut().zip(pairs) {
                    *share = ratio(product * product, own * diagonal[k]).unwrap_or(f64::NAN);
                }
                for (share, _) in shares.iter().zip(&varies[..k]).filter(|(_, varies)| **varies) {
                    squares += share;
                    defined = true;
                }
            }
            finite(squares / (d * (d - 1) / 2) as f64).filter(|_| defined)
        }
    }
    Arch::new().dispatch(Correlation(x))
}

pub(super) fn participation_ratio(x: &Residuals) -> Option<f64> {
    let d = x.d_model();
    let mut gram = gram(x, None);
    // Some columns at a time, so that what is written lies in few cache lines.
    for first in (0..d).step_by(32) {
        for k in first..d {
            for j in first..k.min(first + 32) {
                gram[(k, j)] = gram[(j, k)];
            }
        }
    }
    let trace: f64 = (0..d).map(|j| gram[(j, j)]).sum();
    let squares: f64 = (0..d).map(|k| sum(gram.col_as_slice(k), |value| value * value)).sum();
    ratio(trace * trace, squares)
}
