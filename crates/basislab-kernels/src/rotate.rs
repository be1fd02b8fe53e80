//! Products that turn one axis of a matrix.

use crate::buffer::take;
use crate::gemm::{Mat, matmul};
use rayon::prelude::*;

/// Multiplications of one task, at least.
const WORK: usize = 1 << 21;

/// `a b` in a recycled buffer, for dense `a [m, k]` and `b [k, n]`. Rows are divided by the sizes alone.
pub fn product(a: &[f32], b: &[f32], k: usize) -> Vec<f32> {
    let (m, n) = (a.len() / k, b.len() / k);
    assert!(a.len() == m * k && b.len() == k * n && n > 0, "two matrices");
    let mut out = take(m * n);
    // At most 8 tasks, as each reads all of `b`; a multiple of the rows that the innermost loops compute together.
    let rows = WORK.div_ceil(k * n).max(m.div_ceil(8)).next_multiple_of(24);
    out.par_chunks_mut(rows * n)
        .zip(a.par_chunks(rows * k))
        .for_each(|(out, a)| matmul(Mat::dense(a, k), Mat::dense(b, n), out, n, false, 1.0));
    out
}
