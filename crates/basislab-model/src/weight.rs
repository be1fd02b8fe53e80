use crate::product::product;
use basislab_stats::{Granularity, Kept, Levels, quantize};
use burn::tensor::{DType, Int, Tensor, TensorData};

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
    /// How its input is rounded before it is multiplied; `None` in training.
    pub rounding: Option<Rounding>,
}

/// Inputs of matrices as integers with scales: rounded and computed back on the host, over the rows that come together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rounding {
    /// The integers.
    pub levels: Levels,
    /// Which values `[tokens, d]` share a scale.
    pub granularity: Granularity,
    /// Dimensions of the stream that are rounded to 16 bits instead. They are left out where a matrix reads no stream.
    pub kept: Vec<usize>,
}

impl Rounding {
    /// # Shapes
    /// `[n, d]` -> same
    fn apply(&self, x: Tensor<2>) -> Tensor<2> {
        let (shape, device, dtype) = (x.dims(), x.device(), x.dtype());
        let mut values = x.into_data().convert::<f32>().try_into_vec::<f32>().expect("just converted to f32");
        quantize(&mut values, shape[1], self.levels, self.granularity, Kept::Columns(&self.kept));
        Tensor::from_data(TensorData::new(values, shape), (&device, dtype))
    }
}

impl Weight {
    /// A parameter of a plain model, multiplied in `compute`.
    pub fn new(value: Tensor<2>, compute: DType) -> Self {
        Self { value, rotation: None, compute, rounding: None }
    }

    /// `x W`: from the stream into a branch. In a rotated model `x (Qᵀ W)`.
    ///
    /// # Shapes
    /// `x [n, d_model]`, `W [d_model, out]` -> `[n, out]`
    pub fn read(&self, x: Tensor<2>) -> Tensor<2> {
        product(self.rounded(x), self.out_of_stream(), self.compute)
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
        product(self.rounded(h), self.in_stream(), self.compute)
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

    fn rounded(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.rounding {
            Some(rounding) => rounding.apply(x),
            None => x,
        }
    }

    fn rotated(&self, rows: Tensor<2>) -> Tensor<2> {
        match &self.rotation {
            Some(q) => rows.matmul(q.clone()),
            None => rows,
        }
    }
}
