//! Optimizer updates, in place where a tensor has no other owner.

use basislab_kernels::{Adam, recycle};
use burn::tensor::{Tensor, TensorData};

/// Updates Adam's moments (`None`: zeros) and returns the update, to be scaled by the learning rate, and the moments.
///
/// # Shapes
/// All the same.
pub fn adam_change(adam: Adam, grad: Tensor<2>, moments: [Option<Tensor<2>>; 2]) -> (Tensor<2>, [Tensor<2>; 2]) {
    let (shape, device) = (grad.dims(), grad.device());
    let mut grad = values(grad);
    let [mut first, mut second] = moments.map(|moment| moment.map_or_else(|| vec![0.0; grad.len()], values));
    adam.change(&mut grad, &mut first, &mut second);
    let tensor = |values| Tensor::from_data(TensorData::new(values, shape), &device);
    (tensor(grad), [tensor(first), tensor(second)])
}

/// `keep w - lr change`
pub fn descend(weight: Tensor<2>, change: Tensor<2>, keep: f64, lr: f64) -> Tensor<2> {
    let (shape, device) = (weight.dims(), weight.device());
    let mut weight = values(weight);
    let change = values(change);
    basislab_kernels::descend(&mut weight, &change, keep as f32, lr as f32);
    // A gradient's memory, kept for the next step's gradient.
    recycle(change);
    Tensor::from_data(TensorData::new(weight, shape), &device)
}

/// `x factor`
pub fn scale(x: Tensor<2>, factor: f64) -> Tensor<2> {
    let (shape, device) = (x.dims(), x.device());
    let mut x = values(x);
    basislab_kernels::scale(&mut x, factor as f32);
    Tensor::from_data(TensorData::new(x, shape), &device)
}

/// The tensor, and the sum of its squares.
pub fn sum_of_squares(x: Tensor<2>) -> (Tensor<2>, f64) {
    let (shape, device) = (x.dims(), x.device());
    let x = values(x);
    let sum = basislab_kernels::sum_of_squares(&x);
    (Tensor::from_data(TensorData::new(x, shape), &device), sum)
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("callers ask `available` first")
}
