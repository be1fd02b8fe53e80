use crate::buffer::Buffer;
use crate::gemm::{Interleave, Mat, Pack, Precision};
use crate::level::Level;
use crate::microkernel::{Layout, Product};
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

/// Words per block of a weight gradient's sum: what a tile needs of both factors stays in the caches.
const BLOCK: usize = 256;

/// Computes several weights' gradients. Every element is summed in one task, over blocks of rows from the first to the
/// last: tasks share nothing.
pub(crate) fn weight_gradients(all: Vec<WeightGradient<'_>>) {
    let mut tasks = Vec::new();
    for WeightGradient { x, dy, into, scale, precision } in all {
        assert!(
            x.rows == dy.rows && into.len() == x.columns * dy.columns,
            "rows of one batch, a gradient like the weight"
        );
        let level = Level::new(precision);
        let (inputs, outputs) = tile(x.columns, dy.columns);
        for (i, band) in into.chunks_mut(inputs * dy.columns).enumerate() {
            let x = x.columns(i * inputs, band.len() / dy.columns);
            let first = tasks.len();
            tasks.extend((0..dy.columns).step_by(outputs).map(|j| {
                let dy = dy.columns(j, outputs.min(dy.columns - j));
                Tile { level, x, dy, into: Vec::with_capacity(x.columns), scale }
            }));
            for row in band.chunks_mut(dy.columns) {
                tasks[first..].iter_mut().zip(row.chunks_mut(outputs)).for_each(|(tile, row)| tile.into.push(row));
            }
        }
    }
    tasks.into_par_iter().for_each(Tile::compute);
}

/// Inputs and outputs of a weight per task: large, so that the factors are rearranged for few of them, yet at least four
/// tasks per weight where that leaves 32 inputs to each.
fn tile(inputs: usize, outputs: usize) -> (usize, usize) {
    let (mut rows, columns) = (inputs.min(256), outputs.min(256));
    while rows > 32 && inputs.div_ceil(rows) * outputs.div_ceil(columns) < 4 {
        rows = rows.div_ceil(2);
    }
    (rows, columns)
}

/// Some inputs and outputs of a weight's gradient.
struct Tile<'a> {
    level: Level,
    x: Mat<'a>,
    dy: Mat<'a>,
    /// A row of outputs per input.
    into: Vec<&'a mut [f32]>,
    scale: f32,
}

impl Tile<'_> {
    fn compute(self) {
        let Self { level, x, dy, into, scale } = self;
        let (rows, columns) = (x.columns, dy.columns);
        let numbers = if level.precision == Precision::Bf16 { 2 } else { 1 }; // per word
        // Numbers are read where they are if that is no slower: x, if its rows are close together.
        let (x_stays, dy_stays) =
            (numbers == 1 && x.row_stride <= 128, numbers == 1 && columns.is_multiple_of(level.lanes()));
        // An odd number of cache lines, so that a column's words do not all compete for the same places in a cache.
        let stride = (rows.div_ceil(16) | 1) * 16;
        let mut sums = Buffer::new(rows * columns);
        let mut left = Buffer::new(if x_stays { 0 } else { stride * BLOCK });
        let mut right = Buffer::new(if dy_stays { 0 } else { columns.next_multiple_of(level.lanes()) * BLOCK });
        if x.rows == 0 {
            sums.fill(0.0);
        }
        for first in (0..x.rows).step_by(BLOCK * numbers) {
            let count = (x.rows - first).min(BLOCK * numbers);
            let [x, dy] = [x, dy].map(|side| side.rows(first, count));
            let a = if x_stays {
                (x.data, 1, x.row_stride)
            } else {
                level.dispatch(Interleave { precision: level.precision, from: x, to: &mut left, stride });
                (&*left, 1, stride)
            };
            let b = if dy_stays {
                (dy.data, Layout::Rows(dy.row_stride))
            } else {
                level.dispatch(Pack { level, from: dy, to: &mut right });
                (&*right, Layout::Panels)
            };
            let (out, add, steps) = (&mut *sums, first > 0, level.steps(count));
            Product { level, a, b, rows, columns, steps, out, stride: columns, add, scale }.compute();
        }
        for (to, from) in into.into_iter().zip(sums.chunks_exact(columns)) {
            to.copy_from_slice(from);
        }
    }
}
