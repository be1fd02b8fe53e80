use crate::product::product;
use burn::tensor::{DType, Int, Tensor};

/// A parameter, `[rows, columns]` (vectors are `[1, n]`), and the rotation between it and the stream in a rotated
/// model.
#[derive(Debug, Clone)]
pub struct Weight {
    /// What the optimizer updates.
    pub value: Tensor<2>,
    /// Orthogonal `Q`, `[d_model, d_model]`, in a rotated model: the parameter lives in the basis `Q`.
    pub rotation: Option<Tensor<2>>,
    /// Type in which it is multiplied with the stream or a branch.
    pub compute: DType,
}

impl Weight {
    /// A parameter of a plain model, multiplied in `compute`.
    pub fn new(value: Tensor<2>, compute: DType) -> Self {
        Self { value, rotation: None, compute }
    }

    /// `x W`: from the stream into a branch. In a rotated model `x (Qᵀ W)`.
    ///
    /// # Shapes
    /// `x [n, d_model]`, `W [d_model, out]` -> `[n, out]`
    pub fn read(&self, x: Tensor<2>) -> Tensor<2> {
        product(x, self.out_of_stream(), self.compute)
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
        product(x, self.value.clone().transpose(), self.compute)
    }

    /// `h W`: from a branch into the stream. In a rotated model `h (W Q)`.
    ///
    /// # Shapes
    /// `h [n, in]`, `W [in, d_model]` -> `[n, d_model]`
    pub fn write(&self, h: Tensor<2>) -> Tensor<2> {
        product(h, self.in_stream(), self.compute)
    }

    /// Rows of the matrix, written to the stream: an embedding.
    ///
    /// # Shapes
    /// `rows [n]`, `W [vocabulary, d_model]` -> `[n, d_model]`
    pub fn write_rows(&self, rows: Tensor<1, Int>) -> Tensor<2> {
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

    fn rotated(&self, rows: Tensor<2>) -> Tensor<2> {
        match &self.rotation {
            Some(q) => rows.matmul(q.clone()),
            None => rows,
        }
    }
}
