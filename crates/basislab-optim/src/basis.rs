use basislab_config::{RotatedAxes, RotationSpec, Sharing};
use basislab_stats::{Purpose, Rotation, stream};
use burn::tensor::{DType, Device, Tensor, TensorData};

/// Orthogonal maps for the two axes of one parameter; `None` leaves an axis alone.
///
/// `apply` takes a matrix `W` to `Q_0 W Q_1ᵀ`, `undo` back.
#[derive(Debug, Clone, Default)]
pub struct Basis {
    axes: [Option<Tensor<2>>; 2],
}

impl Basis {
    /// `q` on axis `index` (0 or 1).
    pub fn on_axis(index: usize, q: Tensor<2>) -> Self {
        let mut basis = Self::default();
        basis.axes[index] = Some(q);
        basis
    }

    /// Whether any axis is rotated.
    pub fn is_rotated(&self) -> bool {
        self.axes.iter().any(Option::is_some)
    }

    /// Into rotated coordinates.
    pub fn apply(&self, mut w: Tensor<2>) -> Tensor<2> {
        if let Some(q) = &self.axes[0] {
            w = q.clone().matmul(w);
        }
        if let Some(q) = &self.axes[1] {
            w = w.matmul(q.clone().transpose());
        }
        w
    }

    /// Back into standard coordinates.
    pub fn undo(&self, mut w: Tensor<2>) -> Tensor<2> {
        if let Some(q) = &self.axes[0] {
            w = q.clone().transpose().matmul(w);
        }
        if let Some(q) = &self.axes[1] {
            w = w.matmul(q.clone());
        }
        w
    }
}

/// The orthogonal map that `spec` gives run `seed`; `index` tells several maps of one run apart (0 is the shared one).
/// Drawn on the host in f64, hence the same on every backend.
pub fn rotation(spec: &RotationSpec, seed: u64, index: u64, d: usize) -> Rotation {
    let key = |own: u64| stream(own, Purpose::Rotation, (seed << 20) | index);
    match *spec {
        RotationSpec::Identity {} => Rotation::identity(d),
        RotationSpec::SignedPermutation { seed } => Rotation::signed_permutation(d, &mut key(seed)),
        RotationSpec::Hadamard {} => Rotation::hadamard(d).expect("configs are checked: a power of two"),
        RotationSpec::Haar { seed } => Rotation::haar(d, &mut key(seed)),
    }
}

/// One [`Basis`] per parameter. `parameters` gives each one's shape and the axis that faces the residual stream.
///
/// With [`RotatedAxes::Both`] the other axis of each matrix gets a map of its own (Kaul et al. 2024); vectors are
/// rotated on the residual axis only.
pub fn bases(
    spec: &RotationSpec,
    sharing: Sharing,
    axes: RotatedAxes,
    seed: u64,
    parameters: &[([usize; 2], Option<usize>)],
    (device, dtype): (&Device, DType),
) -> Vec<Basis> {
    let upload = |q: Rotation| upload(&q, device, dtype);
    let mut shared = None;
    let mut one = |(number, (shape, residual)): (usize, &([usize; 2], Option<usize>))| {
        let Some(axis) = *residual else { return Basis::default() };
        let d_model = shape[axis];
        let q = match sharing {
            Sharing::Shared => shared.get_or_insert_with(|| upload(rotation(spec, seed, 0, d_model))).clone(),
            Sharing::Independent => upload(rotation(spec, seed, 2 * number as u64 + 1, d_model)),
        };
        let mut basis = Basis::on_axis(axis, q);
        let other = 1 - axis;
        if axes == RotatedAxes::Both && shape[other] > 1 {
            basis.axes[other] = Some(upload(rotation(spec, seed, 2 * number as u64 + 2, shape[other])));
        }
        basis
    };
    parameters.iter().enumerate().map(&mut one).collect()
}

/// A host rotation as a device tensor `[d, d]`.
pub fn upload(q: &Rotation, device: &Device, dtype: DType) -> Tensor<2> {
    Tensor::from_data(TensorData::new(q.as_slice().to_vec(), [q.d(), q.d()]), (device, dtype))
}
