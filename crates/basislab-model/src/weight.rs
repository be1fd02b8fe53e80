use burn::tensor::Tensor;

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
/// rotated model.
#[derive(Debug, Clone)]
pub struct Weight {
    /// What the optimizer updates.
    pub value: Tensor<2>,
    /// Orthogonal `Q`, `[d_model, d_model]`, in a rotated model: the parameter lives in the basis `Q`.
    pub rotation: Option<Tensor<2>>,
}

impl Weight {
    /// A parameter of a plain model.
    pub fn new(value: Tensor<2>) -> Self {
        Self { value, rotation: None }
    }

    /// `x W`: from the stream into a branch. In a rotated model `x (Qᵀ W)`.
    ///
    /// # Shapes
    /// `x [n, d_model]`, `W [d_model, out]` -> `[n, out]`
    pub fn read(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.out_of_stream())
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
        x.matmul(self.value.clone().transpose())
    }

    /// `h W`: from a branch into the stream. In a rotated model `h (W Q)`.
    ///
    /// # Shapes
    /// `h [n, in]`, `W [in, d_model]` -> `[n, d_model]`
    pub fn write(&self, h: Tensor<2>) -> Tensor<2> {
        h.matmul(self.in_stream())
    }

    /// Rows of the matrix, written to the stream: an embedding.
    ///
    /// # Shapes
    /// `rows [n]`, `W [vocabulary, d_model]` -> `[n, d_model]`
    pub fn write_rows(&self, rows: Tensor<1, burn::tensor::Int>) -> Tensor<2> {
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
