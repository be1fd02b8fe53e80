//! Matrix products on one thread. The boundary to the GEMM library: the only unsafe code.

#![allow(unsafe_code, reason = "the gemm crate takes raw pointers")]

use crate::buffer::Buffer;

/// A view of a matrix in a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mat<'a> {
    data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    row_stride: usize,
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

    /// Rows `first..first + count`.
    pub(crate) fn rows(self, first: usize, count: usize) -> Self {
        assert!(self.column_stride == 1 && first + count <= self.rows);
        Self::new(&self.data[first * self.row_stride..], count, self.columns, self.row_stride)
    }

    /// The transpose, of the same numbers.
    pub(crate) fn transposed(self) -> Self {
        let Self { data, rows, columns, row_stride, column_stride } = self;
        Self { data, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }
}

/// A copy of the transpose of `a` in `into`, rows close together: the GEMM library multiplies by a matrix whose rows are
/// contiguous up to four times as fast as by a transposed view.
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
                let at = (i + r) * a.row_stride + j;
                staged[..columns].copy_from_slice(&a.data[at..at + columns]);
            }
            for c in 0..columns {
                let at = (j + c) * a.rows + i;
                for (to, staged) in into[at..at + rows].iter_mut().zip(&block) {
                    *to = staged[c];
                }
            }
        }
    }
    Mat::dense(into, a.rows)
}

/// The type in which weights are multiplied; sums are in `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    F32,
    /// Both factors rounded to bf16.
    Bf16,
}

/// A right factor that many products share, rearranged once.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    numbers: Buffer,
}

impl Packed {
    /// Matrices of as many rows, their columns side by side.
    pub(crate) fn new(parts: &[Mat<'_>], _precision: Precision) -> Self {
        let (rows, columns) = (parts[0].rows, parts.iter().map(|part| part.columns).sum());
        let mut numbers = Buffer::new(rows * columns);
        let mut first = 0;
        for part in parts {
            for i in 0..rows {
                for j in 0..part.columns {
                    numbers[i * columns + first + j] = part.data[i * part.row_stride + j * part.column_stride];
                }
            }
            first += part.columns;
        }
        Self { rows, columns, numbers }
    }
}

/// `out = scale a b`, or `out += scale a b` if `add`. `out` has rows `stride` numbers apart.
pub(crate) fn multiply(a: Mat<'_>, b: &Packed, out: &mut [f32], stride: usize, add: bool, scale: f32) {
    matmul(a, Mat::dense(&b.numbers, b.columns), out, stride, add, scale);
}

/// `out = scale a b`, or `out += scale a b` if `add`, on this thread. `out` has rows `stride` numbers apart.
pub(crate) fn matmul(a: Mat<'_>, b: Mat<'_>, out: &mut [f32], stride: usize, add: bool, scale: f32) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "inner sizes");
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= stride && (m - 1) * stride + n <= out.len(), "the product does not fit its slice");
    // SAFETY: `Mat::new` checked that (rows - 1) row_stride + columns lies within `data`, and `transposed` only swaps the
    // two axes, so every (i, p) of `a` and (p, j) of `b` is inside its slice; the assertion above says the same of `out`.
    // `out` is borrowed mutably, hence overlaps neither input. f32 has no invalid bit pattern and all slices are
    // initialised.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
