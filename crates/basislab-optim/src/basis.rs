use crate::precision::{in_full, precision};
use basislab_config::{RotatedAxes, RotationSpec, Sharing};
use basislab_stats::{Purpose, Rotation, stream};
use burn::tensor::{DType, Device, Tensor, TensorData};
use std::collections::BTreeMap;

/// Orthogonal maps for the two axes of one parameter; `None` leaves an axis alone.
///
/// `apply` takes a matrix `W` to `Q_0 W Q_1ᵀ`, `undo` back, both in full `f32` on every device.
#[derive(Debug, Clone)]
pub struct Basis {
    /// `[d, d]`; in a stack of seeds the maps of all seeds follow one another, `[S d, d]`.
    axes: [Option<Tensor<2>>; 2],
    /// Whether the device rounds what it multiplies, in products of the shapes that are made here.
    rounds: bool,
    /// Seeds that are trained as one model.
    stack: usize,
}

impl Default for Basis {
    /// The standard basis.
    fn default() -> Self {
        Self { axes: [None, None], rounds: false, stack: 1 }
    }
}

impl Basis {
    /// `q` on axis `index` (0 or 1) of a parameter whose other axis has length `other`.
    pub fn on_axis(index: usize, q: Tensor<2>, other: usize) -> Self {
        let mut basis = Self { rounds: rounds(&q, index, other, 1), ..Self::default() };
        basis.axes[index] = Some(q);
        basis
    }

    /// Whether any axis is rotated.
    pub fn is_rotated(&self) -> bool {
        self.axes.iter().any(Option::is_some)
    }

    /// Into rotated coordinates.
    pub fn apply(&self, w: Tensor<2>) -> Tensor<2> {
        let w = self.turn(0, w, |q, w| (q, w));
        self.turn(1, w, |q, w| (w, q.transpose()))
    }

    /// Back into standard coordinates.
    pub fn undo(&self, w: Tensor<2>) -> Tensor<2> {
        let w = self.turn(0, w, |q, w| (q.transpose(), w));
        self.turn(1, w, |q, w| (w, q))
    }

    /// The bases of several seeds as one.
    pub(crate) fn stacked(bases: &[&Self]) -> Self {
        let on = |axis: usize| {
            let maps: Vec<_> = bases.iter().filter_map(|basis| basis.axes[axis].clone()).collect();
            (!maps.is_empty()).then(|| Tensor::cat(maps, 0))
        };
        // A batch may be multiplied by another kernel than its parts.
        let batched = |q: &Tensor<2>| rounds(q, 0, q.dims()[1], bases.len());
        let rounds = bases.iter().any(|basis| basis.rounds)
            || bases.first().is_some_and(|basis| basis.axes.iter().flatten().any(batched));
        Self { axes: [on(0), on(1)], rounds, stack: bases.len() }
    }

    /// The basis of seed number `index` in the stack.
    pub(crate) fn one_of(&self, index: usize) -> Self {
        let own = |q: &Option<Tensor<2>>| q.clone().map(|q| rows_of(q, index, self.stack));
        Self { axes: [own(&self.axes[0]), own(&self.axes[1])], rounds: self.rounds, stack: 1 }
    }

    /// The product of the two that `sides` makes of the map of an axis and `w`, seed by seed.
    fn turn(&self, axis: usize, w: Tensor<2>, sides: fn(Tensor<3>, Tensor<3>) -> (Tensor<3>, Tensor<3>)) -> Tensor<2> {
        let Some(q) = &self.axes[axis] else { return w };
        let apart = |x: Tensor<2>| {
            let [rows, columns] = x.dims();
            x.reshape([self.stack, rows / self.stack, columns])
        };
        let (a, b) = sides(apart(q.clone()), apart(w));
        match (self.rounds, self.stack) {
            (true, _) => in_full(a, b).flatten(0, 1),
            (false, 1) => a.squeeze_dim::<2>(0).matmul(b.squeeze_dim(0)),
            (false, _) => a.matmul(b).flatten(0, 1),
        }
    }
}

/// The rows that seed number `index` has in a stack.
pub(crate) fn rows_of(x: Tensor<2>, index: usize, stack: usize) -> Tensor<2> {
    let rows = x.dims()[0] / stack;
    x.narrow(0, index * rows, rows)
}

/// Whether `q`'s device rounds the products that rotate axis `index` of a matrix whose other axis has length `other`.
fn rounds(q: &Tensor<2>, index: usize, other: usize, stack: usize) -> bool {
    let d = q.dims()[1];
    let size = if index == 0 { [d, d, other] } else { [other, d, d] };
    q.dtype() == DType::F32 && precision(&q.device(), DType::F32, size, stack).name != "f32"
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
    let (mut shared, mut known) = (None, BTreeMap::new());
    let mut one = |(number, (shape, residual)): (usize, &([usize; 2], Option<usize>))| {
        let Some(axis) = *residual else { return Basis::default() };
        let d_model = shape[axis];
        let q = match sharing {
            Sharing::Shared => shared.get_or_insert_with(|| upload(rotation(spec, seed, 0, d_model))).clone(),
            Sharing::Independent => upload(rotation(spec, seed, 2 * number as u64 + 1, d_model)),
        };
        let mut basis = Basis::default();
        let other = 1 - axis;
        if axes == RotatedAxes::Both && shape[other] > 1 {
            basis.axes[other] = Some(upload(rotation(spec, seed, 2 * number as u64 + 2, shape[other])));
        }
        basis.axes[axis] = Some(q);
        for (index, q) in basis.axes.iter().enumerate().filter_map(|(index, q)| Some((index, q.as_ref()?))) {
            basis.rounds |= *known.entry((index, *shape)).or_insert_with(|| rounds(q, index, shape[1 - index], 1));
        }
        basis
    };
    parameters.iter().enumerate().map(&mut one).collect()
}

/// A host rotation as a device tensor `[d, d]`.
pub fn upload(q: &Rotation, device: &Device, dtype: DType) -> Tensor<2> {
    Tensor::from_data(TensorData::new(q.as_slice().to_vec(), [q.d(), q.d()]), (device, dtype))
}
