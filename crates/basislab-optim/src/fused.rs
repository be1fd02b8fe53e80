//! Updates in one pass over memory, where they are available; elsewhere burn's operations do the same.

use crate::rule::Step;
use basislab_kernels::{Descent, Pass, product, recycle};
use burn::tensor::{Tensor, TensorData};

/// Gives an element-wise rule's formula to the arrays of a pass.
pub(crate) type OnePass = fn(&Step<'_>, Pass<'_>);

/// Whether passes are made on the tensor's device with its type.
#[cfg(feature = "fused")]
pub(crate) fn available(tensor: &Tensor<2>) -> bool {
    basislab_fused::available(&tensor.device(), tensor.dtype())
}

#[cfg(not(feature = "fused"))]
pub(crate) fn available(_: &Tensor<2>) -> bool {
    false
}

/// One pass over a gradient, what is remembered in `slots` (zeros at first) and, where there is one, the weight; each in
/// place where its tensor has no other owner. Returns the updated weight, or without one the update.
///
/// # Shapes
/// All the same.
pub(crate) fn run(
    one_pass: OnePass,
    slots: &[&'static str],
    step: &mut Step<'_>,
    weight: Option<(Tensor<2>, Descent)>,
    grad: Tensor<2>,
) -> Tensor<2> {
    let (shape, device) = (grad.dims(), grad.device());
    let tensor = |values| Tensor::from_data(TensorData::new(values, shape), &device);
    let mut grad = values(grad);
    let mut weight = weight.map(|(weight, descent)| (values(weight), descent));
    let remembered = |slot: &&str| step.state.take(slot).map_or_else(|| vec![0.0; grad.len()], values);
    let mut state: Vec<Vec<f32>> = slots.iter().map(remembered).collect();
    let arrays = Pass {
        weight: weight.as_mut().map(|(weight, descent)| (weight.as_mut_slice(), *descent)),
        grad: &mut grad,
        state: &mut state,
    };
    one_pass(step, arrays);
    slots.iter().zip(state).for_each(|(slot, values)| step.state.put(slot, tensor(values)));
    let Some((weight, _)) = weight else { return tensor(grad) };
    // A gradient's memory, kept for the next step's gradient.
    recycle(grad);
    tensor(weight)
}

/// `factor x` for axis 0, `x factor` for axis 1; `factor [d, d]` is dense.
pub(crate) fn rotate(x: Tensor<2>, axis: usize, factor: &[f32]) -> Tensor<2> {
    let ([rows, columns], device) = (x.dims(), x.device());
    let x = values(x);
    let turned = if axis == 0 { product(factor, &x, rows) } else { product(&x, factor, columns) };
    recycle(x);
    Tensor::from_data(TensorData::new(turned, [rows, columns]), &device)
}

/// `x factor`
pub(crate) fn scale(x: Tensor<2>, factor: f64) -> Tensor<2> {
    let (shape, device) = (x.dims(), x.device());
    let mut x = values(x);
    basislab_kernels::scale(&mut x, factor as f32);
    Tensor::from_data(TensorData::new(x, shape), &device)
}

/// The tensor, and the sum of its squares.
pub(crate) fn sum_of_squares(x: Tensor<2>) -> (Tensor<2>, f64) {
    let (shape, device) = (x.dims(), x.device());
    let x = values(x);
    let sum = basislab_kernels::sum_of_squares(&x);
    (Tensor::from_data(TensorData::new(x, shape), &device), sum)
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("callers ask `available` first")
}
