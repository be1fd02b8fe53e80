use burn::tensor::Tensor;

/// Global L2 norm over all tensors. Rows are summed on the device, then everything on the host in f64 in a fixed order,
/// so that no thread count changes a bit.
pub fn global_norm(tensors: &[Tensor<2>]) -> f64 {
    let squares = |tensor: &Tensor<2>| -> f64 {
        let rows = tensor.clone().square().sum_dim(1).into_data().convert::<f64>();
        rows.try_into_vec::<f64>().expect("just converted to f64").iter().sum()
    };
    tensors.iter().map(squares).sum::<f64>().sqrt()
}

/// PyTorch's `clip_grad_norm_`: scales all gradients by `max_norm / (norm + 1e-6)` where that is below 1.
pub fn clip(grads: Vec<Tensor<2>>, norm: f64, max_norm: f64) -> Vec<Tensor<2>> {
    let factor = max_norm / (norm + 1e-6);
    if factor >= 1.0 {
        return grads;
    }
    grads.into_iter().map(|grad| grad.mul_scalar(factor)).collect()
}
