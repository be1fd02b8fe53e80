//! Products, rotations and the orthogonalisation of Muon, in plain loops over f64.

use basislab_config::{BasisSpec, RotatedAxes, RotationSpec, RuleSpec, Sharing};
use basislab_stats::{Purpose, Rotation, stream};

/// Row-major numbers with their shape.
#[derive(Clone)]
pub(crate) struct Matrix {
    pub(crate) shape: [usize; 2],
    pub(crate) values: Vec<f64>,
}

/// `a b`, row-major.
fn product(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    let at = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum::<f64>();
    (0..m * n).map(|at_| at(at_ / n, at_ % n)).collect()
}

fn transposed(a: &[f64], [rows, columns]: [usize; 2]) -> Vec<f64> {
    (0..rows * columns).map(|at| a[at % rows * columns + at / rows]).collect()
}

/// Newton-Schulz as Jordan's post states it: `X = G / (|G| + e)`, then `X = a X + (b A + c A A) X` with `A = X X'`, on the
/// side on which `A` is small; times the root of outputs over inputs where that is above 1.
pub(super) fn newton_schulz(grad: &[f64], [rows, columns]: [usize; 2], rule: &RuleSpec) -> Vec<f64> {
    let [a, b, c, epsilon] = ["ns_a", "ns_b", "ns_c", "epsilon"].map(|key| rule.number(key));
    let norm = grad.iter().map(|g| g * g).sum::<f64>().sqrt() + epsilon;
    let tall = rows > columns;
    let (m, n) = if tall { (columns, rows) } else { (rows, columns) };
    let mut x = if tall { transposed(grad, [rows, columns]) } else { grad.to_vec() };
    x.iter_mut().for_each(|x| *x /= norm);
    for _ in 0..rule.integer("ns_steps") {
        let gram = product(&x, &transposed(&x, [m, n]), [m, n, m]);
        let square = product(&gram, &gram, [m, m, m]);
        let both: Vec<f64> = gram.iter().zip(&square).map(|(g, s)| b * g + c * s).collect();
        let change = product(&both, &x, [m, m, n]);
        x.iter_mut().zip(change).for_each(|(x, change)| *x = a * *x + change);
    }
    let x = if tall { transposed(&x, [m, n]) } else { x };
    let scale = (columns as f64 / rows as f64).max(1.0).sqrt();
    x.into_iter().map(|x| scale * x).collect()
}

pub(crate) fn map_of(spec: &RotationSpec, seed: u64, index: u64, d: usize) -> Rotation {
    let key = |own: u64| stream(own, Purpose::Rotation, seed * (1 << 20) + index);
    match spec {
        RotationSpec::Identity {} => Rotation::identity(d),
        RotationSpec::SignedPermutation { seed } => Rotation::signed_permutation(d, &mut key(*seed)),
        RotationSpec::Hadamard {} => Rotation::hadamard(d).unwrap(),
        RotationSpec::Haar { seed } => Rotation::haar(d, &mut key(*seed)),
    }
}

/// `q` (or its inverse) on one axis of a matrix.
fn turned(w: &Matrix, axis: usize, q: &Rotation, inverse: bool) -> Matrix {
    let ([rows, columns], d) = (w.shape, q.d());
    assert_eq!(w.shape[axis], d);
    let entry = |i: usize, j: usize| if inverse { q.as_slice()[j * d + i] } else { q.as_slice()[i * d + j] };
    let at = |r: usize, c: usize| match axis {
        0 => (0..d).map(|k| entry(r, k) * w.values[k * columns + c]).sum::<f64>(),
        _ => (0..d).map(|k| entry(c, k) * w.values[r * columns + k]).sum::<f64>(),
    };
    Matrix { shape: w.shape, values: (0..rows * columns).map(|n| at(n / columns, n % columns)).collect() }
}

pub(crate) fn in_basis(w: &Matrix, maps: &[Option<Rotation>; 2], inverse: bool) -> Matrix {
    let mut w = w.clone();
    for (axis, q) in maps.iter().enumerate() {
        if let Some(q) = q {
            w = turned(&w, axis, q, inverse);
        }
    }
    w
}

pub(crate) fn maps_of(
    basis: &BasisSpec,
    seed: u64,
    number: u64,
    shape: [usize; 2],
    facing: Option<usize>,
) -> [Option<Rotation>; 2] {
    let (rotation, sharing, both) = match basis {
        BasisSpec::Standard {} => return [None, None],
        BasisSpec::RotatedOptimizer { rotation, sharing, axes } => (rotation, *sharing, *axes == RotatedAxes::Both),
        BasisSpec::RotatedModel { rotation, sharing } => (rotation, *sharing, false),
    };
    let Some(axis) = facing else { return [None, None] };
    let index = if sharing == Sharing::Shared { 0 } else { 2 * number + 1 };
    let mut maps = [None, None];
    maps[axis] = Some(map_of(rotation, seed, index, shape[axis]));
    if both && shape[1 - axis] > 1 {
        maps[1 - axis] = Some(map_of(rotation, seed, 2 * number + 2, shape[1 - axis]));
    }
    maps
}

/// Second moments from one basis into another: along each axis every new one is the mean of the old ones, weighted by the
/// squares of the new coordinate's components.
pub(crate) fn squared_in_basis(
    v: &[f64],
    shape: [usize; 2],
    from: &[Option<Rotation>; 2],
    to: &[Option<Rotation>; 2],
) -> Vec<f64> {
    let squares = |axis: usize| -> Vec<f64> {
        let d = shape[axis];
        let entry = |q: &Option<Rotation>, i: usize, j: usize| match q {
            Some(q) => q.as_slice()[i * d + j],
            None => f64::from(u8::from(i == j)),
        };
        let change =
            |i: usize, j: usize| (0..d).map(|k| entry(&to[axis], i, k) * entry(&from[axis], j, k)).sum::<f64>();
        (0..d * d).map(|at| change(at / d, at % d).powi(2)).collect()
    };
    let [rows, columns] = shape;
    let v = product(&squares(0), v, [rows, rows, columns]);
    product(&v, &transposed(&squares(1), [columns, columns]), [rows, columns, columns])
}

pub(crate) fn rotated(x: &[f64], q: &Rotation) -> Vec<f64> {
    let d = q.d();
    let row =
        |x: &[f64]| q.as_slice().chunks(d).map(|q| q.iter().zip(x).map(|(q, x)| q * x).sum()).collect::<Vec<f64>>();
    x.chunks(d).flat_map(row).collect()
}
