use crate::chunks::WeightGradient;
use crate::gemm::{Mat, Packed, Precision, multiply};
use crate::part::{Input, Summed};
use rayon::prelude::*;

/// From more rows than these on a chunk is divided among threads, so many rows to each.
const LONG: usize = 1024;
const PIECE: usize = 128;

/// Weights that multiply the same rows, their results side by side: `[n, in]` -> `[n, out_1 + out_2 + ...]`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// The weights.
    pub maps: Vec<Map>,
    /// The type in which they are multiplied.
    pub precision: Precision,
}

/// One weight of a [`Linear`].
#[derive(Debug, Clone, Copy)]
pub struct Map {
    /// `[in, out]`
    pub weight: Input,
    /// Whether the weight is stored as `[out, in]`.
    pub is_transposed: bool,
    /// `[out]`
    pub bias: Option<Input>,
    /// Length of the output axis.
    pub out: usize,
}

impl Map {
    /// `[in, out]`
    fn matrix<'a>(&self, inputs: &[&'a [f32]]) -> Mat<'a> {
        let weight = inputs[self.weight];
        if self.is_transposed {
            Mat::dense(weight, weight.len() / self.out).transposed()
        } else {
            Mat::dense(weight, self.out)
        }
    }
}

impl Linear {
    pub(crate) fn width(&self) -> usize {
        self.maps.iter().map(|map| map.out).sum()
    }

    /// The weights side by side, for all chunks of a forward pass.
    pub(crate) fn pack(&self, inputs: &[&[f32]]) -> Packed {
        let all: Vec<Mat<'_>> = self.maps.iter().map(|map| map.matrix(inputs)).collect();
        Packed::new(&all, self.precision)
    }

    /// The transposed weights, for all chunks of a backward pass.
    pub(crate) fn pack_transposed(&self, inputs: &[&[f32]]) -> Vec<Packed> {
        self.maps.iter().map(|map| Packed::new(&[map.matrix(inputs).transposed()], self.precision)).collect()
    }

    /// `x [n, in]` -> `y [n, out]`
    pub(crate) fn forward(&self, x: &[f32], inputs: &[&[f32]], packed: &Packed, y: &mut [f32]) {
        let width = self.width();
        let biases = self.summed();
        if !biases.is_empty() {
            for y in y.chunks_exact_mut(width) {
                y.fill(0.0);
                for Summed { input, first, count } in &biases {
                    y[*first..first + count].copy_from_slice(inputs[*input]);
                }
            }
        }
        let add = !biases.is_empty();
        if y.len() <= LONG * width {
            return multiply(Mat::dense(x, packed.rows), packed, y, width, add, 1.0);
        }
        // A long sequence is one chunk, and there may be no other.
        let pieces = x.par_chunks(PIECE * packed.rows).zip(y.par_chunks_mut(PIECE * width));
        pieces.for_each(|(x, y)| multiply(Mat::dense(x, packed.rows), packed, y, width, add, 1.0));
    }

    /// `dy [n, out]` times `scale` -> `dx [n, in]`, added to it if `add`; the sums of `dy` over rows are added to `sums`.
    pub(crate) fn backward(
        &self,
        dy: &[f32],
        packed: &[Packed],
        scale: f32,
        add: bool,
        dx: &mut [f32],
        sums: &mut [f32],
    ) {
        let mut first = 0;
        for (number, (map, weight)) in self.maps.iter().zip(packed).enumerate() {
            let dy = Mat::dense(dy, self.width()).columns(first, map.out);
            multiply(dy, weight, dx, weight.columns, add || number > 0, scale);
            first += map.out;
        }
        if !sums.is_empty() {
            for dy in dy.chunks_exact(self.width()) {
                for (sum, dy) in sums.iter_mut().zip(dy) {
                    *sum += dy * scale;
                }
            }
        }
    }

    /// What is to be computed for the gradients of the weights: `scale xᵀ dy` over all rows.
    pub(crate) fn gradients<'a>(
        &self,
        x: &'a [f32],
        dy: &'a [f32],
        scale: f32,
        rows: usize,
        free: &mut [Option<&'a mut Vec<f32>>],
    ) -> Vec<WeightGradient<'a>> {
        let mut first = 0;
        let mut gradient = |map: &Map| {
            let (x, dy) = (Mat::dense(x, x.len() / rows), Mat::dense(dy, self.width()).columns(first, map.out));
            first += map.out;
            let into = free[map.weight].take().expect("a weight is used once");
            let (x, dy) = if map.is_transposed { (dy, x) } else { (x, dy) };
            WeightGradient { x, dy, into, scale, precision: self.precision }
        };
        self.maps.iter().map(&mut gradient).collect()
    }

    pub(crate) fn sums(&self) -> usize {
        if self.summed().is_empty() { 0 } else { self.width() }
    }

    /// The biases, and their columns.
    pub(crate) fn summed(&self) -> Vec<Summed> {
        let mut first = 0;
        let mut all = Vec::new();
        for map in &self.maps {
            all.extend(map.bias.map(|input| Summed { input, first, count: map.out }));
            first += map.out;
        }
        all
    }
}
