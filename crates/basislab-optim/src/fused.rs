//! Updates in one pass over memory, where they are available; elsewhere burn's operations do the same.

#[cfg(feature = "fused")]
pub(crate) use basislab_fused::{descend, scale, sum_of_squares};

use burn::tensor::Tensor;

#[cfg(feature = "fused")]
pub(crate) fn available(tensor: &Tensor<2>) -> bool {
    basislab_fused::available(&tensor.device(), tensor.dtype())
}

/// Adam's update and its two moments, as in `rules/adam.rs`.
#[cfg(feature = "fused")]
pub(crate) fn adam(
    [beta_1, beta_2, epsilon]: [f64; 3],
    grad: Tensor<2>,
    moments: [Option<Tensor<2>>; 2],
    count: u64,
) -> (Tensor<2>, [Tensor<2>; 2]) {
    let numbers = basislab_fused::Adam {
        beta_1: beta_1 as f32,
        new_1: (1.0 - beta_1) as f32,
        beta_2: beta_2 as f32,
        new_2: (1.0 - beta_2) as f32,
        scale_1: (1.0 / (1.0 - beta_1.powf(count as f64))) as f32,
        scale_2: (1.0 / (1.0 - beta_2.powf(count as f64)).sqrt()) as f32,
        epsilon: epsilon as f32,
    };
    basislab_fused::adam_change(numbers, grad, moments)
}

#[cfg(not(feature = "fused"))]
pub(crate) fn available(_: &Tensor<2>) -> bool {
    false
}

#[cfg(not(feature = "fused"))]
pub(crate) fn adam(_: [f64; 3], _: Tensor<2>, _: [Option<Tensor<2>>; 2], _: u64) -> (Tensor<2>, [Tensor<2>; 2]) {
    unreachable!("not available")
}

#[cfg(not(feature = "fused"))]
pub(crate) fn scale(_: Tensor<2>, _: f64) -> Tensor<2> {
    unreachable!("not available")
}

#[cfg(not(feature = "fused"))]
pub(crate) fn sum_of_squares(_: Tensor<2>) -> (Tensor<2>, f64) {
    unreachable!("not available")
}

#[cfg(not(feature = "fused"))]
pub(crate) fn descend(_: Tensor<2>, _: Tensor<2>, _: f64, _: f64) -> Tensor<2> {
    unreachable!("not available")
}
