//! How exactly a device multiplies, and products that are exact where it does not.
//!
//! Some devices multiply `f32` matrices from rounded inputs (TF32 keeps 11 significant bits of 24). A model may be trained
//! so; the basis of an optimizer may not move with it.

use basislab_stats::{Purpose, gaussian, stream};
use burn::tensor::{DType, Device, Tensor, TensorData};

/// Measured precision of a device's matrix products in one type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Precision {
    /// The type of the factors; where it is `f32`, what such an error belongs to: `f32`, `tf32` or `bf16`.
    pub name: &'static str,
    /// Relative error of the product in the Frobenius norm, against f64 on the host.
    pub error: f64,
}

/// The largest side of a product that is tried: what is larger takes the kernels of this size.
const MOST: usize = 4096;

/// Measures [`Precision`] on a product of Gaussian matrices `[m, k]` and `[k, n]`, of which eight rows are compared.
/// Devices choose a kernel by shape.
pub fn precision(device: &Device, dtype: DType, [m, k, n]: [usize; 3]) -> Precision {
    error_of(device, dtype, [m.min(MOST), k, n.min(MOST)], &|a, b| a.matmul(b))
}

fn error_of(
    device: &Device,
    dtype: DType,
    [m, k, n]: [usize; 3],
    product: &dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>,
) -> Precision {
    let rows = m.min(8);
    let mut rng = stream(0, Purpose::Simulation, k as u64);
    let mut matrix = |shape: [usize; 2]| {
        let values: Vec<f64> = (0..shape[0] * shape[1]).map(|_| gaussian(&mut rng)).collect();
        let tensor = Tensor::<2>::from_data(TensorData::new(values, shape), (device, dtype));
        // What the device holds: inputs are not to be blamed on the product.
        let held: Vec<f64> = tensor.clone().into_data().iter::<f64>().collect();
        (tensor, held)
    };
    let ((a, host_a), (b, host_b)) = (matrix([m, k]), matrix([k, n]));
    let found: Vec<f64> = product(a, b).slice([0..rows, 0..n]).into_data().iter::<f64>().collect();
    let (mut difference, mut size) = (0.0, 0.0);
    for row in 0..rows {
        let mut exact = vec![0.0; n];
        for (factor, column) in host_a[row * k..][..k].iter().zip(host_b.chunks(n)) {
            exact.iter_mut().zip(column).for_each(|(sum, b)| *sum += factor * b);
        }
        for (found, exact) in found[row * n..].iter().zip(exact) {
            difference += (found - exact).powi(2);
            size += exact.powi(2);
        }
    }
    let error = (difference / size).sqrt();
    let name = match (dtype, error) {
        (DType::F64, error) if error < 1e-12 => "f64",
        (DType::F16, _) => "f16",
        (DType::BF16, _) => "bf16",
        (_, error) if error < 1e-5 => "f32",
        (_, error) if error < 1e-3 => "tf32",
        _ => "bf16",
    };
    Precision { name, error }
}

/// `a b` in full `f32` on a device that rounds its inputs: each matrix is cut into three parts of 8 significant bits,
/// which TF32 and bf16 hold exactly, and the six products that reach 2^-24 are added, the smallest first.
///
/// A permutation of signs moves every bit: its lower parts are 0, and the parts of the other matrix add up to it.
pub(crate) fn matmul_full_f32<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    let ([a_1, a_2, a_3], [b_1, b_2, b_3]) = (parts(a), parts(b));
    let product = |a: &Tensor<D>, b: &Tensor<D>| a.clone().matmul(b.clone());
    let small = product(&a_2, &b_2) + (product(&a_1, &b_3) + product(&a_3, &b_1));
    product(&a_1, &b_1) + (product(&a_1, &b_2) + product(&a_2, &b_1)) + small
}

fn parts<const D: usize>(x: Tensor<D>) -> [Tensor<D>; 3] {
    let own = x.dtype();
    let top = |x: &Tensor<D>| x.clone().cast(DType::BF16).cast(own);
    let first = top(&x);
    let rest = x - first.clone();
    let second = top(&rest);
    let third = rest - second.clone();
    [first, second, third]
}

#[cfg(test)]
mod tests {
    use super::*;
    use basislab_stats::Rotation;

    /// What TF32 does to its inputs.
    fn in_tf32(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
        rounded(a).matmul(rounded(b))
    }

    fn rounded(x: Tensor<2>) -> Tensor<2> {
        let (device, shape) = (x.device(), x.dims());
        let short: Vec<f32> =
            x.into_data().iter::<f32>().map(|x| f32::from_bits((x.to_bits() + 0x1000) & !0x1fff)).collect();
        Tensor::from_data(TensorData::new(short, shape), (&device, DType::F32))
    }

    #[test]
    fn products_are_told_apart() {
        let device = Device::flex();
        for n in [16, 100] {
            let name = |dtype, product: &dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
                error_of(&device, dtype, [n, 16, n + 3], product).name
            };
            assert_eq!(name(DType::F64, &|a, b| a.matmul(b)), "f64");
            assert_eq!(name(DType::F32, &|a, b| a.matmul(b)), "f32");
            assert_eq!(name(DType::F32, &in_tf32), "tf32");
            assert_eq!(
                name(DType::F32, &|a, b| a.cast(DType::BF16).matmul(b.cast(DType::BF16)).cast(DType::F32)),
                "bf16"
            );
            assert_eq!(name(DType::F16, &|a, b| a.matmul(b)), "f16");
            assert_eq!(precision(&device, DType::F32, [n, 16, 40]).name, "f32");
        }
    }

    #[test]
    fn products_of_parts_are_full() {
        let device = Device::flex();
        assert_eq!(error_of(&device, DType::F32, [64; 3], &matmul_full_f32).name, "f32");
        // Every part survives TF32, so it does not matter that the device rounds.
        let x = Tensor::<2>::from_data(
            TensorData::new((1..65).map(|i| (i as f32).sqrt()).collect::<Vec<_>>(), [8, 8]),
            &device,
        );
        for part in parts(x.clone()) {
            assert_eq!(rounded(part.clone()).into_data(), part.into_data());
        }
        for q in [Rotation::identity(8), Rotation::signed_permutation(8, &mut stream(0, Purpose::Rotation, 0))] {
            let q = crate::upload(&q, &device, DType::F32);
            assert_eq!(matmul_full_f32(x.clone(), q.clone()).into_data(), x.clone().matmul(q).into_data());
        }
    }
}
