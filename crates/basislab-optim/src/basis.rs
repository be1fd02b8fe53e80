use crate::fused;
use crate::precision::{matmul_full_f32, precision};
use basislab_config::{BasisSpec, Parameter, RotatedAxes, RotationSpec, Sharing};
use basislab_stats::{Purpose, Rotation, stream};
use burn::tensor::{DType, Device, Tensor, TensorData};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Orthogonal maps for the two axes of one parameter; `None` leaves an axis alone.
///
/// `apply` takes a matrix `W` to `Q_0 W Q_1ᵀ`, `undo` back, both in full `f32` on every device.
#[derive(Debug, Clone, Default)]
pub struct ParameterBasis {
    axes: [Option<AxisMap>; 2],
    /// Whether the device rounds the factors of products of these shapes.
    rounds: bool,
}

/// The map of one axis.
#[derive(Debug, Clone)]
struct AxisMap {
    /// `[d, d]`
    q: Tensor<2>,
    /// The numbers of `q` and of its transpose, where the host multiplies.
    dense: Option<Arc<[Vec<f32>; 2]>>,
}

impl AxisMap {
    fn new(q: Tensor<2>) -> Self {
        let numbers = |q: Tensor<2>| q.into_data().try_into_vec::<f32>().expect("fused operations are in f32");
        let dense = fused::available(&q).then(|| Arc::new([q.clone(), q.clone().transpose()].map(numbers)));
        Self { q, dense }
    }
}

impl ParameterBasis {
    /// Whether any axis is rotated.
    pub fn is_rotated(&self) -> bool {
        self.axes.iter().any(Option::is_some)
    }

    /// The map of an axis, `[d, d]`.
    pub fn map(&self, axis: usize) -> Option<&Tensor<2>> {
        self.axes[axis].as_ref().map(|map| &map.q)
    }

    /// Into rotated coordinates.
    pub fn apply(&self, w: Tensor<2>) -> Tensor<2> {
        let w = self.rotate(0, w, false);
        self.rotate(1, w, true)
    }

    /// Back into standard coordinates.
    pub fn undo(&self, w: Tensor<2>) -> Tensor<2> {
        let w = self.rotate(0, w, true);
        self.rotate(1, w, false)
    }

    /// The maps that lead from this basis to another one.
    pub(crate) fn change_to(&self, other: &Self) -> Self {
        let rounds = self.rounds || other.rounds;
        let map = |axis: usize| match (self.map(axis), other.map(axis)) {
            (None, None) => None,
            (None, Some(to)) => Some(to.clone()),
            (Some(from), None) => Some(from.clone().transpose()),
            (Some(from), Some(to)) => Some(full(rounds, to.clone(), from.clone().transpose())),
        };
        Self { axes: [0, 1].map(|axis| map(axis).map(AxisMap::new)), rounds }
    }

    /// What becomes of second moments: `(Q_0 * Q_0) V (Q_1 * Q_1)ᵀ` with elementwise squares, as variances of uncorrelated
    /// coordinates rotate.
    pub(crate) fn apply_squared(&self, v: Tensor<2>) -> Tensor<2> {
        let square = |map: &AxisMap| AxisMap::new(map.q.clone().square());
        Self { axes: self.axes.each_ref().map(|map| map.as_ref().map(square)), rounds: self.rounds }.apply(v)
    }

    /// The product of `w` and the map of an axis or its transpose: from the left for axis 0, from the right for axis 1.
    fn rotate(&self, axis: usize, w: Tensor<2>, transposed: bool) -> Tensor<2> {
        let Some(AxisMap { q, dense }) = &self.axes[axis] else { return w };
        if let Some(dense) = dense.as_ref().filter(|_| fused::available(&w)) {
            return fused::rotate(w, axis, &dense[usize::from(transposed)]);
        }
        let q = if transposed { q.clone().transpose() } else { q.clone() };
        let (a, b) = if axis == 0 { (q, w) } else { (w, q) };
        full(self.rounds, a, b)
    }
}

/// The product in full precision, on a device that rounds its factors or does not.
fn full(rounds: bool, a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    if rounds { matmul_full_f32(a, b) } else { a.matmul(b) }
}

/// Whether `q`'s device rounds the products that rotate axis `index` of a matrix whose other axis has length `other`.
fn rounds(q: &Tensor<2>, index: usize, other: usize) -> bool {
    let d = q.dims()[1];
    let size = if index == 0 { [d, d, other] } else { [other, d, d] };
    q.dtype() == DType::F32 && precision(&q.device(), DType::F32, size).name != "f32"
}

/// Which of a run's maps is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Map {
    /// The one for the residual axes of all parameters; also the basis that measurements call `optimizer`.
    Shared,
    /// The own one of a parameter's residual axis, by the parameter's number.
    Residual(usize),
    /// The own one of a parameter's other axis.
    Other(usize),
}

/// The orthogonal map that `spec` gives run `seed`. Drawn on the host in f64, hence the same on every backend.
fn rotation(spec: &RotationSpec, seed: u64, map: Map, d: usize) -> Rotation {
    let index = match map {
        Map::Shared => 0,
        Map::Residual(number) => 2 * number as u64 + 1,
        Map::Other(number) => 2 * number as u64 + 2,
    };
    let key = |own: u64| stream(own, Purpose::Rotation, (seed << 20) | index);
    match *spec {
        RotationSpec::Identity {} => Rotation::identity(d),
        RotationSpec::SignedPermutation { seed } => Rotation::signed_permutation(d, &mut key(seed)),
        RotationSpec::Hadamard {} => Rotation::hadamard(d).expect("configs are checked: a power of two"),
        RotationSpec::Haar { seed } => Rotation::haar(d, &mut key(seed)),
    }
}

/// The basis that the optimizer works in, where it is one basis for all parameters.
pub fn optimizer_basis(basis: &BasisSpec, seed: u64, d_model: usize) -> Option<Rotation> {
    basis.shared_rotation().map(|spec| rotation(spec, seed, Map::Shared, d_model))
}

/// The maps of every parameter, whether it is the optimizer or the model that they rotate.
///
/// With [`RotatedAxes::Both`] the other axis of each matrix gets a map of its own (Kaul et al. 2024); vectors are
/// rotated on the residual axis only.
pub fn bases(
    basis: &BasisSpec,
    seed: u64,
    parameters: &[Parameter],
    device: &Device,
    dtype: DType,
) -> Vec<ParameterBasis> {
    let (spec, sharing, axes) = match basis {
        BasisSpec::Standard {} => return vec![ParameterBasis::default(); parameters.len()],
        BasisSpec::RotatedOptimizer { rotation, sharing, axes } => (rotation, *sharing, *axes),
        BasisSpec::RotatedModel { rotation, sharing } => (rotation, *sharing, RotatedAxes::Residual),
    };
    let draw = |map: Map, d: usize| AxisMap::new(upload(&rotation(spec, seed, map, d), device, dtype));
    let (mut shared, mut known) = (None, BTreeMap::new());
    let mut of_parameter = |(number, parameter): (usize, &Parameter)| {
        let Some(axis) = parameter.role.residual_axis() else { return ParameterBasis::default() };
        let (shape, other) = (parameter.shape, 1 - axis);
        let mut basis = ParameterBasis::default();
        basis.axes[axis] = Some(match sharing {
            Sharing::Shared => shared.get_or_insert_with(|| draw(Map::Shared, shape[axis])).clone(),
            Sharing::Independent => draw(Map::Residual(number), shape[axis]),
        });
        if axes == RotatedAxes::Both && shape[other] > 1 {
            basis.axes[other] = Some(draw(Map::Other(number), shape[other]));
        }
        for (index, map) in basis.axes.iter().enumerate().filter_map(|(index, map)| Some((index, map.as_ref()?))) {
            basis.rounds |= *known.entry((index, shape)).or_insert_with(|| rounds(&map.q, index, shape[1 - index]));
        }
        basis
    };
    parameters.iter().enumerate().map(&mut of_parameter).collect()
}

/// A host rotation as a device tensor `[d, d]`.
pub fn upload(q: &Rotation, device: &Device, dtype: DType) -> Tensor<2> {
    Tensor::from_data(TensorData::new(q.as_slice().to_vec(), [q.d(), q.d()]), (device, dtype))
}
