//! A rotation that spreads every coordinate over many, in `d log d` steps.
//!
//! `H` is block-diagonal: Sylvester's Hadamard matrix over `sqrt(b)` on each block of `b` coordinates, where `b` is the
//! largest power of two that divides the dimension `d` (all 64 of 64; 64 of 576). An odd `d` has blocks of one: `H` is the
//! identity. `H` is symmetric and its own inverse. [`Rotation::block_hadamard`](crate::Rotation::block_hadamard) is its matrix.

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use rayon::prelude::*;

/// Width of the blocks of `H` in that many dimensions; `d` is not 0.
pub(crate) fn hadamard_block(d: usize) -> usize {
    1 << d.trailing_zeros()
}

/// `d` signs, 1 or -1 with equal odds.
pub fn random_signs(d: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..d).map(|_| if rng.next_u64() >> 63 == 0 { 1.0 } else { -1.0 }).collect()
}

/// Every row `x` becomes `H (s * x)`, in place: `s` are the signs, `[d]`. `rows` is row-major `[n, d]`. The rayon pool
/// shares the rows out. The inverse is the same with signs of 1, then multiplying by `s`.
///
/// # Panics
/// If `rows` is not a whole number of rows, or there are no signs.
pub fn hadamard_rows(rows: &mut [f32], signs: &[f32]) {
    let d = signs.len();
    assert!(d > 0 && rows.len().is_multiple_of(d), "not whole rows of {d}");
    let block = hadamard_block(d);
    let scale = 1.0 / (block as f32).sqrt();
    rows.par_chunks_mut(d).for_each(|row| {
        row.iter_mut().zip(signs).for_each(|(value, sign)| *value *= sign * scale);
        row.chunks_exact_mut(block).for_each(sums_and_differences);
    });
}

/// Sylvester's matrix of entries 1 and -1 times a vector whose length is a power of two.
fn sums_and_differences(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}
