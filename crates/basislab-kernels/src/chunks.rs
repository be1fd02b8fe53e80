use crate::gemm::{Mat, Precision, matmul};
use rayon::prelude::*;

/// Rows per chunk: enough for the matrix products, few enough for the second-level cache.
const ROWS: usize = 512;

/// Sequences per chunk. Depends on the sequence length alone, never on threads.
pub(crate) fn sequences(pos: usize) -> usize {
    ROWS.div_ceil(pos)
}

/// One weight's gradient to be computed: `xᵀ dy` into `into`, over all rows of the batch.
pub(crate) struct WeightGradient<'a> {
    /// `[rows, inputs]`
    pub(crate) x: Mat<'a>,
    /// `[rows, outputs]`
    pub(crate) dy: Mat<'a>,
    /// `[inputs, outputs]`
    pub(crate) into: &'a mut [f32],
    /// The result is multiplied by this.
    pub(crate) scale: f32,
    /// The type of the factors.
    pub(crate) precision: Precision,
}

/// Computes several weights' gradients. Every element is one sum over all rows, in one task: tasks share nothing.
pub(crate) fn weight_gradients(all: Vec<WeightGradient<'_>>) {
    let mut tasks = Vec::new();
    for WeightGradient { x, dy, into, scale, precision: _ } in all {
        // Several tasks per weight, so that two threads share a small one; measured at widths 64 to 512.
        let rows = if x.columns < 256 { 48 } else { 128 };
        tasks.extend(into.chunks_mut(rows * dy.columns).enumerate().map(|(i, panel)| {
            let first = i * rows;
            (x.columns(first, panel.len() / dy.columns).transposed(), dy, panel, scale)
        }));
    }
    tasks.into_par_iter().for_each(|(x, dy, into, scale)| matmul(x, dy, into, dy.columns, false, scale));
}
