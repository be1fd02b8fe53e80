//! Matrix products on one thread.

use crate::buffer::Buffer;
pub use crate::level::Precision;
use crate::level::{Level, width};
use crate::microkernel::{Layout, Product};
use crate::pairs::pair;
use pulp::{Simd, WithSimd};

/// A view of a matrix in a slice: its rows, or its columns, are contiguous.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mat<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    column_stride: usize,
}

impl<'a> Mat<'a> {
    /// `rows` rows of `columns` numbers, the rows `stride` numbers apart.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(
            columns <= stride && (rows == 0 || (rows - 1) * stride + columns <= data.len()),
            "a view outside its slice"
        );
        Self { data, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// A slice that is wholly a matrix of `columns` columns.
    pub(crate) fn dense(data: &'a [f32], columns: usize) -> Self {
        Self::new(data, data.len() / columns, columns, columns)
    }

    /// Columns `first..first + count` of a matrix whose columns lie together.
    pub(crate) fn columns(self, first: usize, count: usize) -> Self {
        assert!(self.column_stride == 1 && first + count <= self.columns);
        Self::new(&self.data[first..], self.rows, count, self.row_stride)
    }

    /// Rows `first..first + count` of a matrix whose columns lie together.
    pub(crate) fn rows(self, first: usize, count: usize) -> Self {
        assert!(self.column_stride == 1 && first + count <= self.rows);
        Self::new(&self.data[first * self.row_stride..], count, self.columns, self.row_stride)
    }

    /// The transpose, of the same numbers.
    pub(crate) fn transposed(self) -> Self {
        let Self { data, rows, columns, row_stride, column_stride } = self;
        Self { data, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }

    /// Numbers of row `i`, which are contiguous.
    #[inline(always)]
    fn row(&self, i: usize) -> &'a [f32] {
        &self.data[i * self.row_stride..][..self.columns]
    }
}

/// A copy of the transpose of `a` in `into`, rows close together.
pub(crate) fn transpose<'a>(a: Mat<'_>, into: &'a mut [f32]) -> Mat<'a> {
    assert_eq!(a.column_stride, 1, "a matrix with contiguous rows");
    let into = &mut into[..a.rows * a.columns];
    // Blocks of a cache line in both directions, staged so that lines are read and written whole.
    const BLOCK: usize = 16;
    let mut block = [[0.0; BLOCK]; BLOCK];
    for i in (0..a.rows).step_by(BLOCK) {
        let rows = BLOCK.min(a.rows - i);
        for j in (0..a.columns).step_by(BLOCK) {
            let columns = BLOCK.min(a.columns - j);
            for (r, staged) in block.iter_mut().enumerate().take(rows) {
                let from = &a.data[(i + r) * a.row_stride + j..];
                // A copy of known length is two instructions, of another length a call.
                match from.first_chunk::<BLOCK>() {
                    Some(from) if columns == BLOCK => *staged = *from,
                    _ => staged[..columns].copy_from_slice(&from[..columns]),
                }
            }
            for c in 0..columns {
                let to = &mut into[(j + c) * a.rows + i..];
                match to.first_chunk_mut::<BLOCK>() {
                    Some(to) if rows == BLOCK => *to = std::array::from_fn(|r| block[r][c]),
                    _ => to[..rows].iter_mut().zip(&block).for_each(|(to, staged)| *to = staged[c]),
                }
            }
        }
    }
    Mat::dense(into, a.rows)
}

/// `a` with contiguous rows: itself, or a copy in `space`.
fn straight<'a>(a: Mat<'a>, space: &'a mut Option<Buffer>) -> Mat<'a> {
    if a.column_stride == 1 {
        return a;
    }
    transpose(a.transposed(), space.insert(Buffer::new(a.rows * a.columns)))
}

/// Words of a matrix `[k, columns]` with contiguous rows, for sums over its rows.
pub(crate) struct Pack<'a> {
    pub(crate) level: Level,
    pub(crate) from: Mat<'a>,
    /// Panels `[steps, width]`, one after another; what a panel has beyond the last column is zero.
    pub(crate) to: &'a mut [f32],
}

impl WithSimd for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { level, from, to } = self;
        let (steps, lanes) = (level.steps(from.rows), level.lanes());
        // All panels of some rows before the next ones: rows are read from end to end.
        const ROWS: usize = 8;
        for step in (0..steps).step_by(ROWS) {
            let steps_here = ROWS.min(steps - step);
            for first in (0..from.columns).step_by(2 * lanes) {
                let width = width(from.columns - first, lanes);
                let panel = &mut to[first * steps + step * width..][..steps_here * width];
                match width {
                    32 => pack::<32>(level.precision, from, first, step, panel),
                    16 => pack::<16>(level.precision, from, first, step, panel),
                    8 => pack::<8>(level.precision, from, first, step, panel),
                    4 => pack::<4>(level.precision, from, first, step, panel),
                    _ => unreachable!("vectors of {lanes} numbers"),
                }
            }
        }
    }
}

/// A panel's words of some steps, `W` columns wide. Loops, not closures: those would be compiled for any CPU.
#[inline(always)]
fn pack<const W: usize>(precision: Precision, from: Mat<'_>, first: usize, step: usize, to: &mut [f32]) {
    let row = |i: usize| &from.data[i * from.row_stride + first..];
    let count = W.min(from.columns - first);
    for (to, i) in to.as_chunks_mut::<W>().0.iter_mut().zip(step..) {
        match precision {
            Precision::F32 if count == W => to.copy_from_slice(&row(i)[..W]),
            Precision::F32 => {
                to[..count].copy_from_slice(&row(i)[..count]);
                to[count..].fill(0.0);
            }
            Precision::Bf16 if count == W => {
                let x = row(2 * i).first_chunk::<W>().expect("as many columns");
                let zero = [0.0; W];
                let second = if 2 * i + 1 < from.rows { row(2 * i + 1) } else { &zero };
                let y = second.first_chunk::<W>().expect("as many columns");
                for j in 0..W {
                    to[j] = pair(x[j], y[j]);
                }
            }
            Precision::Bf16 => {
                let last = 2 * i + 1 == from.rows;
                for (j, to) in to.iter_mut().enumerate() {
                    let y = if last || j >= count { 0.0 } else { row(2 * i + 1)[j] };
                    *to = if j < count { pair(row(2 * i)[j], y) } else { 0.0 };
                }
            }
        }
    }
}

/// Words of a matrix `[k, columns]` with contiguous rows, for sums over its rows, in rows of words `stride` apart.
pub(crate) struct Interleave<'a> {
    pub(crate) precision: Precision,
    pub(crate) from: Mat<'a>,
    pub(crate) to: &'a mut [f32],
    pub(crate) stride: usize,
}

impl WithSimd for Interleave<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { precision, from, to, stride } = self;
        for (i, to) in to.chunks_mut(stride).enumerate() {
            let to = &mut to[..from.columns];
            match precision {
                Precision::F32 if i < from.rows => to.copy_from_slice(from.row(i)),
                Precision::Bf16 if 2 * i + 1 < from.rows => {
                    for ((to, x), y) in to.iter_mut().zip(from.row(2 * i)).zip(from.row(2 * i + 1)) {
                        *to = pair(*x, *y);
                    }
                }
                Precision::Bf16 if 2 * i < from.rows => {
                    for (to, x) in to.iter_mut().zip(from.row(2 * i)) {
                        *to = pair(*x, 0.0);
                    }
                }
                _ => break,
            }
        }
    }
}

/// Words of a left factor, for sums over its columns: `[rows, steps]`.
struct Narrow<'a>(Mat<'a>, &'a mut [f32]);

impl WithSimd for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self(a, to) = self;
        for (i, to) in to.chunks_exact_mut(a.columns.div_ceil(2).max(1)).enumerate() {
            let (pairs, rest) = a.row(i).as_chunks::<2>();
            for (to, [x, y]) in to.iter_mut().zip(pairs) {
                *to = pair(*x, *y);
            }
            if let [last] = rest {
                to[pairs.len()] = pair(*last, 0.0);
            }
        }
    }
}

/// Columns of a transposed matrix that are rearranged at a time; a multiple of every panel's width.
const PANELS: usize = 512;

/// A right factor that many products share, rearranged (and rounded) once.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    level: Level,
    words: Buffer,
}

impl Packed {
    /// Matrices of as many rows, their columns side by side.
    pub(crate) fn new(parts: &[Mat<'_>], precision: Precision) -> Self {
        Self::at(Level::new(precision), parts)
    }

    pub(crate) fn at(level: Level, parts: &[Mat<'_>]) -> Self {
        let (rows, columns) = (parts[0].rows, parts.iter().map(|part| part.columns).sum());
        assert!(parts.iter().all(|part| part.rows == rows), "matrices of as many rows");
        let steps = level.steps(rows);
        let mut words = Buffer::new(steps * usize::next_multiple_of(columns, level.lanes()));
        if let [one] = parts
            && one.column_stride != 1
        {
            // Some panels at a time: the matrix of a head may be as large as the rest of a model.
            for (first, to) in (0..columns).step_by(PANELS).zip(words.chunks_mut(steps.max(1) * PANELS)) {
                let some = one.transposed().rows(first, PANELS.min(columns - first)).transposed();
                let mut space = None;
                level.dispatch(Pack { level, from: straight(some, &mut space), to });
            }
            return Self { rows, columns, level, words };
        }
        let (mut spaces, mut side) = (parts.iter().map(|_| None).collect::<Vec<_>>(), None);
        let parts: Vec<Mat<'_>> = parts.iter().zip(&mut spaces).map(|(part, space)| straight(*part, space)).collect();
        let from = match &parts[..] {
            [one] => *one,
            _ => beside(&parts, side.insert(Buffer::new(rows * columns))),
        };
        level.dispatch(Pack { level, from, to: &mut words });
        Self { rows, columns, level, words }
    }
}

/// Matrices of as many rows, their columns side by side in `into`.
fn beside<'a>(parts: &[Mat<'_>], into: &'a mut [f32]) -> Mat<'a> {
    let columns = parts.iter().map(|part| part.columns).sum();
    for (i, row) in into.chunks_exact_mut(columns).enumerate() {
        let mut row = row;
        for part in parts {
            let (to, rest) = row.split_at_mut(part.columns);
            to.copy_from_slice(part.row(i));
            row = rest;
        }
    }
    Mat::dense(into, columns)
}

/// `out = scale a b`, or `out += scale a b` if `add`. `out` has rows `stride` numbers apart.
pub(crate) fn multiply(a: Mat<'_>, b: &Packed, out: &mut [f32], stride: usize, add: bool, scale: f32) {
    assert_eq!(a.columns, b.rows, "inner sizes");
    let (level, rows, columns, steps) = (b.level, a.rows, b.columns, b.level.steps(b.rows));
    let (mut space, mut turned) = (None, None);
    let a = match level.precision {
        Precision::F32 => (a.data, a.row_stride, a.column_stride),
        Precision::Bf16 => {
            let words: &mut Buffer = space.insert(Buffer::new(rows * steps));
            level.dispatch(Narrow(straight(a, &mut turned), words));
            (&**words, steps, 1)
        }
    };
    let b = (&*b.words, Layout::Panels);
    Product { level, a, b, rows, columns, steps, out, stride, add, scale }.compute();
}

/// With more rows than this in the left factor, rearranging the right one pays.
const REPEATS: usize = 96;

/// `out = scale a b`, or `out += scale a b` if `add`, on this thread. `out` has rows `stride` numbers apart.
pub(crate) fn matmul(a: Mat<'_>, b: Mat<'_>, out: &mut [f32], stride: usize, add: bool, scale: f32) {
    assert_eq!(a.columns, b.rows, "inner sizes");
    let level = Level::new(Precision::F32);
    // A right factor that is read often is rearranged first.
    if a.rows > REPEATS || b.column_stride != 1 {
        return multiply(a, &Packed::new(&[b], Precision::F32), out, stride, add, scale);
    }
    let (rows, steps) = (a.rows, a.columns);
    let a = (a.data, a.row_stride, a.column_stride);
    let whole = b.columns / level.lanes() * level.lanes();
    let columns = (b.data, Layout::Rows(b.row_stride));
    Product { level, a, b: columns, rows, columns: whole, steps, out, stride, add, scale }.compute();
    if whole < b.columns && rows > 0 {
        let rest = Packed::new(&[b.columns(whole, b.columns - whole)], Precision::F32);
        let (b, columns) = ((&*rest.words, Layout::Panels), rest.columns);
        Product { level, a, b, rows, columns, steps, out: &mut out[whole..], stride, add, scale }.compute();
    }
}

#[cfg(test)]
mod tests;
