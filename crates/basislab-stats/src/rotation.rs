use crate::random::{gaussian, shuffle};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

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
        let mut product = Mat::<f64>::zeros(d, d);
        matmul(&mut product, Accum::Replace, matrix.transpose(), matrix, 1.0, Par::Seq);
        let off = |i: usize, j: usize| (product[(i, j)] - f64::from(u8::from(i == j))).abs();
        let orthogonal = (0..d).all(|i| (0..d).all(|j| off(i, j) < 1e-12));
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
        let entry = |i: usize| if ((i / d) & (i % d)).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
        d.is_power_of_two().then(|| Self { d, q: (0..d * d).map(|i| entry(i) / (d as f64).sqrt()).collect() })
    }

    /// Uniform over the orthogonal group: QR of a Gaussian matrix, columns turned so that `diag(R) > 0`
    /// (Mezzadri 2007; without the signs the law is not Haar's).
    pub fn haar(d: usize, rng: &mut ChaCha8Rng) -> Self {
        let gaussians: Vec<f64> = (0..d * d).map(|_| gaussian(rng)).collect();
        let qr = MatRef::from_row_major_slice(&gaussians, d, d).to_owned().qr();
        let (q, r) = (qr.compute_thin_Q(), qr.thin_R());
        let entry = |i: usize, j: usize| if r[(j, j)] < 0.0 { -q[(i, j)] } else { q[(i, j)] };
        let q = (0..d * d).map(|at| entry(at / d, at % d)).collect();
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
        let n = rows.len() / self.d;
        assert_eq!(rows.len(), n * self.d, "not whole rows of {}", self.d);
        let mut out = vec![0.0; rows.len()];
        let x = MatRef::from_row_major_slice(rows, n, self.d);
        let q = MatRef::from_row_major_slice(&self.q, self.d, self.d);
        let y = faer::MatMut::from_row_major_slice_mut(&mut out, n, self.d);
        matmul(y, Accum::Replace, x, q.transpose(), 1.0, Par::Seq);
        out
    }
}
