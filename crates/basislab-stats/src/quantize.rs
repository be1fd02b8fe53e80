//! Round-to-nearest quantization of matrices, symmetric about 0: what a value becomes that is stored as an integer.

use basislab_config::choice;
use rayon::prelude::*;

choice! {
    /// The integers that values are rounded to.
    pub enum Levels {
        /// -127 to 127.
        Int8 = "int8",
        /// -7 to 7.
        Int4 = "int4",
    }
}

choice! {
    /// Which values of a matrix share a scale. Weights are `[in, out]`, activations `[tokens, d]`.
    pub enum Granularity {
        /// All.
        Tensor = "tensor",
        /// Those of a column: of an output of weights, of a dimension of activations.
        Channel = "channel",
        /// Those of a row: of a token.
        Token = "token",
        /// 32 successive values of a column, the last group perhaps fewer: of the inputs of an output.
        Group32 = "group-32",
        /// 128 successive values of a column, the last group perhaps fewer.
        Group128 = "group-128",
    }
}

/// Dimensions that are not quantized but rounded to the nearest `f16`, where larger values become 65504. They have no share
/// in any scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept<'a> {
    /// None.
    Nothing,
    /// Rows with these indices.
    Rows(&'a [usize]),
    /// Columns with these indices.
    Columns(&'a [usize]),
}

/// Quantizes a matrix and computes it back, in place. `values` is row-major `[rows, columns]`, finite.
///
/// Values that share a scale become `scale * round(value / scale)` with `scale = max |value| / levels`, ties to even, all in
/// `f32`. Where the scale is 0 or subnormal they stay as they are. The rayon pool shares groups and tokens out.
///
/// # Panics
/// If `values` is not a whole number of rows, or a kept dimension does not exist.
pub fn quantize(values: &mut [f32], columns: usize, levels: Levels, granularity: Granularity, kept: Kept<'_>) {
    assert!(columns > 0 && values.len().is_multiple_of(columns), "not whole rows of {columns}");
    if values.is_empty() {
        return;
    }
    let rows = values.len() / columns;
    let places: Vec<usize> = match kept {
        Kept::Nothing => Vec::new(),
        Kept::Rows(kept) => kept.iter().flat_map(|row| row * columns..(row + 1) * columns).collect(),
        Kept::Columns(kept) => {
            assert!(kept.iter().all(|column| *column < columns), "a kept column does not exist");
            (0..rows).flat_map(|row| kept.iter().map(move |column| row * columns + column)).collect()
        }
    };
    // A value of 0 neither changes a scale nor is changed by one.
    let exact: Vec<f32> = places.iter().map(|at| round_to_f16(values[*at])).collect();
    places.iter().for_each(|at| values[*at] = 0.0);
    let (rows_of_block, round): (_, fn(&mut [f32], usize, f32)) = match granularity {
        Granularity::Tensor => (rows, round_together),
        Granularity::Token => (1, round_together),
        Granularity::Channel => (rows, round_columns),
        Granularity::Group32 => (32, round_columns),
        Granularity::Group128 => (128, round_columns),
    };
    let largest = match levels {
        Levels::Int8 => 127.0,
        Levels::Int4 => 7.0,
    };
    values.par_chunks_mut(rows_of_block * columns).for_each(|block| round(block, columns, largest));
    places.iter().zip(exact).for_each(|(at, value)| values[*at] = value);
}

/// With one scale for all values.
fn round_together(values: &mut [f32], _: usize, largest: f32) {
    let scale = values.iter().fold(0.0f32, |max, value| max.max(value.abs())) / largest;
    values.iter_mut().for_each(|value| *value = rounded(*value, scale));
}

/// With one scale for each column. `values` is `[rows, columns]`.
fn round_columns(values: &mut [f32], columns: usize, largest: f32) {
    let mut scales = vec![0.0f32; columns];
    for row in values.chunks_exact(columns) {
        scales.iter_mut().zip(row).for_each(|(max, value)| *max = max.max(value.abs()));
    }
    scales.iter_mut().for_each(|max| *max /= largest);
    for row in values.chunks_exact_mut(columns) {
        row.iter_mut().zip(&scales).for_each(|(value, scale)| *value = rounded(*value, *scale));
    }
}

/// The nearest multiple of a scale. The largest of the values that share it is a level, so that no level is exceeded.
fn rounded(value: f32, scale: f32) -> f32 {
    if scale.is_normal() { (value / scale).round_ties_even() * scale } else { value }
}

/// The nearest number of `f16`, ties to even: 11 significant bits, below 2^-14 multiples of 2^-24, at most 65504.
fn round_to_f16(value: f32) -> f32 {
    let power_of_two = f32::from_bits(value.to_bits() & 0x7f80_0000);
    let spacing = (power_of_two * 2f32.powi(-10)).max(2f32.powi(-24));
    ((value / spacing).round_ties_even() * spacing).clamp(-65504.0, 65504.0)
}

/// `|found - expected| / |expected|` in the Frobenius norm, computed in `f64`; `None` where `expected` is 0.
///
/// # Panics
/// If their lengths differ.
pub fn relative_error(found: &[f32], expected: &[f32]) -> Option<f64> {
    assert_eq!(found.len(), expected.len(), "as many values");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let size = norm(&mut expected.iter().map(|value| f64::from(*value)));
    let error = norm(&mut found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    (size > 0.0).then(|| error / size)
}
