use crate::product::product;
use crate::stack::{apart, together};
use burn::tensor::{DType, Int, Tensor};

/// How a parameter faces the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its input axis is `d_model`.
    Read,
    /// Its output axis is `d_model`.
    Write,
    /// Both at once: a tied embedding and head.
    Both,
    /// It is itself a vector of the stream: a bias that is written, or a per-dimension gain.
    Vector,
}

/// Which axis of a parameter is `d_model`, and in what role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// 0 or 1.
    pub index: usize,
    /// What the axis does.
    pub role: Role,
}

/// A parameter's relation to the residual stream; `None` for parameters that never meet it (a bias of a read, say).
pub type Facing = Option<Axis>;

/// A parameter, `[rows, columns]` (vectors are `[1, n]`), and the rotation that stands between it and the stream in a
/// rotated model. In a stack of seeds the parameters of all seeds follow one another, `[S rows, columns]`, and so do the
/// rows that they meet.
#[derive(Debug, Clone)]
pub struct Weight {
    /// What the optimizer updates.
    pub value: Tensor<2>,
    /// Orthogonal `Q`, `[d_model, d_model]`, in a rotated model: the parameter lives in the basis `Q`.
    pub rotation: Option<Tensor<2>>,
    /// Type in which it is multiplied with the stream or a branch.
    pub compute: DType,
    /// Seeds that are trained as one model.
    pub stack: usize,
}

impl Weight {
    /// A parameter of a plain model, multiplied in `compute`.
    pub fn new(value: Tensor<2>, compute: DType) -> Self {
        Self { value, rotation: None, compute, stack: 1 }
    }

    /// `x W`: from the stream into a branch. In a rotated model `x (Qᵀ W)`.
    ///
    /// # Shapes
    /// `x [n, d_model]`, `W [d_model, out]` -> `[n, out]`
    pub fn read(&self, x: Tensor<2>) -> Tensor<2> {
        self.multiply(x, self.out_of_stream(), false)
    }

    /// `x Wᵀ`: a read through a matrix stored as a write (the tied head). In a rotated model `(x Qᵀ) Wᵀ`.
    ///
    /// # Shapes
    /// `x [n, d_model]`, `W [out, d_model]` -> `[n, out]`
    pub fn read_transposed(&self, x: Tensor<2>) -> Tensor<2> {
        let x = match &self.rotation {
            Some(q) => x.matmul(q.clone().transpose()),
            None => x,
        };
        self.multiply(x, self.value.clone(), true)
    }

    /// `h W`: from a branch into the stream. In a rotated model `h (W Q)`.
    ///
    /// # Shapes
    /// `h [n, in]`, `W [in, d_model]` -> `[n, d_model]`
    pub fn write(&self, h: Tensor<2>) -> Tensor<2> {
        self.multiply(h, self.in_stream(), false)
    }

    /// Rows of the matrix, written to the stream: an embedding.
    ///
    /// # Shapes
    /// `rows [n]`, `W [vocabulary, d_model]` -> `[n, d_model]`
    pub fn write_rows(&self, rows: Tensor<1, Int>) -> Tensor<2> {
        let rows = if self.stack == 1 { rows } else { self.of_own_seed(rows) };
        self.rotated(self.value.clone().select(0, rows))
    }

    /// The matrix that takes the stream into a branch: `W`, in a rotated model `Qᵀ W`.
    pub fn out_of_stream(&self) -> Tensor<2> {
        match &self.rotation {
            Some(q) => q.clone().transpose().matmul(self.value.clone()),
            None => self.value.clone(),
        }
    }

    /// The parameter itself as a vector (or rows) of the stream: `W`, in a rotated model `W Q`.
    pub fn in_stream(&self) -> Tensor<2> {
        self.rotated(self.value.clone())
    }

    /// `x` scaled by the vector in the stream, `[n, d_model]` -> same.
    pub(crate) fn scale(&self, x: Tensor<2>) -> Tensor<2> {
        match self.stack {
            1 => x * self.in_stream(),
            stack => together(apart(x, stack) * apart(self.in_stream(), stack)),
        }
    }

    /// The vector `v` of this parameter added to every row of `x`, `[n, m]` -> same.
    pub(crate) fn shift(&self, x: Tensor<2>, v: Tensor<2>) -> Tensor<2> {
        match self.stack {
            1 => x + v,
            stack => together(apart(x, stack) + apart(v, stack)),
        }
    }

    /// `x w` (or `x wᵀ`), seed by seed.
    fn multiply(&self, x: Tensor<2>, w: Tensor<2>, transposed: bool) -> Tensor<2> {
        if self.stack == 1 {
            return product(x, if transposed { w.transpose() } else { w }, self.compute);
        }
        let w = apart(w, self.stack);
        together(product(apart(x, self.stack), if transposed { w.transpose() } else { w }, self.compute))
    }

    /// Row numbers within one seed's matrix -> within the stack's.
    fn of_own_seed(&self, rows: Tensor<1, Int>) -> Tensor<1, Int> {
        let (count, own) = (rows.dims()[0] / self.stack, self.value.dims()[0] / self.stack);
        let first = Tensor::<1, Int>::arange(0..self.stack as i64, (&rows.device(), rows.dtype()));
        let first = first.mul_scalar(own as i64).reshape([self.stack, 1]);
        (rows.reshape([self.stack, count]) + first).flatten(0, 1)
    }

    fn rotated(&self, rows: Tensor<2>) -> Tensor<2> {
        match &self.rotation {
            Some(q) => rows.matmul(q.clone()),
            None => rows,
        }
    }
}
