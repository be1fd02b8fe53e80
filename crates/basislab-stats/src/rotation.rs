use crate::hadamard::hadamard_block;
use crate::random::{gaussian, shuffle};
use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch as apply_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj as apply,
};
use faer::linalg::matmul::matmul;
use faer::linalg::qr::no_pivoting::factor::{qr_in_place, qr_in_place_scratch, recommended_block_size};
use faer::{Accum, Conj, Mat, MatMut, MatRef, Par};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use std::alloc::{Layout, handle_alloc_error};

/// Columns (and rows) of a block at least: enough to be multiplied at full speed.
const COLUMNS: usize = 256;

/// Values that are rotated in place at a time, where rows are short.
const BLOCK: usize = 1 << 19;

// Where memory is refused faer panics. Here that ends the process as any other allocation would.

/// Memory to work in.
fn memory(needed: StackReq) -> MemBuffer {
    MemBuffer::try_new(needed).unwrap_or_else(|_| refused(needed.layout().ok()))
}

/// A matrix of zeros. Where its memory is refused the process ends as any other allocation would end it.
pub(crate) fn zeros(rows: usize, columns: usize) -> Mat<f64> {
    let mut matrix = Mat::new();
    if matrix.try_reserve(rows, columns).is_err() {
        refused(Layout::array::<f64>(rows.saturating_mul(columns)).ok())
    }
    matrix.resize_with(rows, columns, |_, _| 0.0);
    matrix
}

fn refused(layout: Option<Layout>) -> ! {
    handle_alloc_error(layout.unwrap_or(Layout::new::<f64>()))
}

/// An orthogonal matrix in f64. The determinant may be -1: reflections are as good as rotations here.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    d: usize,
    q: Vec<f64>,
}

impl Rotation {
    /// From row-major values; `None` unless `max |QᵀQ - 1| < 1e-12`.
    pub fn new(q: Vec<f64>, d: usize) -> Option<Self> {
        if q.len() != d * d || d == 0 {
            return None;
        }
        let matrix = MatRef::from_row_major_slice(&q, d, d);
        // A few columns of the product at a time.
        let mut product = zeros(d, d.min(COLUMNS));
        let orthogonal = (0..d).step_by(COLUMNS).all(|first| {
            let width = COLUMNS.min(d - first);
            let mut block = product.subcols_mut(0, width);
            matmul(&mut block, Accum::Replace, matrix.transpose(), matrix.subcols(first, width), 1.0, Par::Seq);
            let off = |i: usize, j: usize| (block[(i, j)] - f64::from(u8::from(i == first + j))).abs();
            (0..width).all(|j| (0..d).all(|i| off(i, j) < 1e-12))
        });
        orthogonal.then_some(Self { d, q })
    }

    /// The identity.
    pub fn identity(d: usize) -> Self {
        let q = (0..d * d).map(|i| f64::from(u8::from(i / d == i % d))).collect();
        Self { d, q }
    }

    /// A uniform permutation with uniform signs.
    pub fn signed_permutation(d: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut to: Vec<usize> = (0..d).collect();
        shuffle(&mut to, rng);
        let mut q = vec![0.0; d * d];
        for (row, column) in to.into_iter().enumerate() {
            q[row * d + column] = if rng.next_u64() >> 63 == 0 { 1.0 } else { -1.0 };
        }
        Self { d, q }
    }

    /// Sylvester's Hadamard matrix over `sqrt(d)`; `None` unless `d` is a power of two.
    pub fn hadamard(d: usize) -> Option<Self> {
        d.is_power_of_two().then(|| Self::block_hadamard(&vec![1.0; d]))
    }

    /// The matrix of [`hadamard_rows`](crate::hadamard_rows) with these signs, each 1 or -1: block-diagonal, with the
    /// Hadamard matrix of the largest power of two that divides their number `d`.
    ///
    /// # Panics
    /// If there are no signs.
    pub fn block_hadamard(signs: &[f32]) -> Self {
        let d = signs.len();
        assert!(d > 0, "found no signs, expected as many as dimensions");
        let block = hadamard_block(d);
        let size = 1.0 / (block as f64).sqrt();
        let entry = |row: usize, column: usize| {
            let sign = if (row & column & (block - 1)).count_ones().is_multiple_of(2) { size } else { -size };
            if row / block == column / block { sign * f64::from(signs[column]) } else { 0.0 }
        };
        Self { d, q: (0..d * d).map(|at| entry(at / d, at % d)).collect() }
    }

    /// Uniform over the orthogonal group: QR of a Gaussian matrix, columns turned so that `diag(R) > 0`
    /// (Mezzadri 2007; without the signs the law is not Haar's).
    ///
    /// Never more than two `d` by `d` matrices are held at a time.
    pub fn haar(d: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut basis = zeros(d, d);
        for (row, column) in (0..d * d).map(|at| (at / d, at % d)) {
            basis[(row, column)] = gaussian(rng);
        }
        let block = recommended_block_size::<f64>(d, d);
        let mut coefficients = zeros(block, d);
        let mut scratch = memory(qr_in_place_scratch::<f64>(d, d, block, Par::Seq, Default::default()));
        let stack = MemStack::new(&mut scratch);
        qr_in_place(basis.as_mut(), coefficients.as_mut(), Par::Seq, stack, Default::default());
        let signs: Vec<f64> = (0..d).map(|j| if basis[(j, j)] < 0.0 { -1.0 } else { 1.0 }).collect();
        let mut q = zeros(d, d);
        (0..d).for_each(|j| q[(j, j)] = 1.0);
        let mut scratch = memory(apply_scratch::<f64>(d, block, d));
        let stack = MemStack::new(&mut scratch);
        apply(basis.as_ref(), coefficients.as_ref(), Conj::No, q.as_mut(), Par::Seq, stack);
        drop(basis);
        let q = (0..d * d).map(|at| signs[at % d] * q[(at / d, at % d)]).collect();
        Self::new(q, d).expect("Householder QR is orthogonal to rounding")
    }

    /// Row-major `[d, d]`.
    pub fn as_slice(&self) -> &[f64] {
        &self.q
    }

    /// The dimension.
    pub fn d(&self) -> usize {
        self.d
    }

    /// The inverse.
    pub fn transpose(&self) -> Self {
        let d = self.d;
        Self { d, q: (0..d * d).map(|at| self.q[(at % d) * d + at / d]).collect() }
    }

    /// Every row `x` becomes `Q x`. `rows` is row-major `[n, d]`.
    ///
    /// # Panics
    /// If `rows` is not a whole number of rows.
    pub fn apply_rows(&self, rows: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; rows.len()];
        self.apply_rows_to(rows, &mut out);
        out
    }

    /// [`Rotation::apply_rows`] in place, a block of rows at a time.
    ///
    /// # Panics
    /// If `rows` is not a whole number of rows.
    pub(crate) fn rotate_rows(&self, rows: &mut [f64]) {
        let block = self.d * (BLOCK / self.d).max(COLUMNS);
        let mut out = vec![0.0; block.min(rows.len())];
        for rows in rows.chunks_mut(block) {
            let out = &mut out[..rows.len()];
            self.apply_rows_to(rows, out);
            rows.copy_from_slice(out);
        }
    }

    fn apply_rows_to(&self, rows: &[f64], out: &mut [f64]) {
        let n = rows.len() / self.d;
        assert_eq!(rows.len(), n * self.d, "not whole rows of {}", self.d);
        let x = MatRef::from_row_major_slice(rows, n, self.d);
        let q = MatRef::from_row_major_slice(&self.q, self.d, self.d);
        let y = MatMut::from_row_major_slice_mut(out, n, self.d);
        matmul(y, Accum::Replace, x, q.transpose(), 1.0, Par::Seq);
    }
}
