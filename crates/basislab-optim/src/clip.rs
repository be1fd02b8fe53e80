use crate::fused;
use burn::tensor::Tensor;

/// PyTorch's `clip_grad_norm_`: scales all gradients by `max_norm / (norm + 1e-6)` where that is below 1, and returns the
/// global L2 norm from before. A norm that is not finite scales nothing; `max_norm` 0 never does.
pub fn clip(grads: Vec<Tensor<2>>, max_norm: f64) -> (Vec<Tensor<2>>, f64) {
    let (grads, norm) = with_norm(grads);
    let factor = max_norm / (norm + 1e-6);
    if max_norm == 0.0 || !norm.is_finite() || factor >= 1.0 {
        return (grads, norm);
    }
    let scaled = grads
        .into_iter()
        .map(|grad| if fused::available(&grad) { fused::scale(grad, factor) } else { grad.mul_scalar(factor) });
    (scaled.collect(), norm)
}

/// [`clip`] without waiting for the device: the norm stays there, `[1]`. A norm that is not finite scales by what is not
/// finite either.
pub fn clip_on_device(grads: Vec<Tensor<2>>, max_norm: f64) -> (Vec<Tensor<2>>, Tensor<1>) {
    let squares = grads.iter().map(|grad| grad.clone().square().sum()).collect();
    let norm = Tensor::cat(squares, 0).sum().sqrt();
    if max_norm == 0.0 {
        return (grads, norm);
    }
    let factor = norm.clone().add_scalar(1e-6).recip().mul_scalar(max_norm).clamp_max(1.0).reshape([1, 1]);
    (grads.into_iter().map(|grad| grad * factor.clone()).collect(), norm)
}

/// Global L2 norm over all tensors. Rows (on flex: runs of a fixed length) are summed on the device, then everything on
/// the host in f64 in a fixed order, so that no thread count changes a bit.
fn with_norm(grads: Vec<Tensor<2>>) -> (Vec<Tensor<2>>, f64) {
    let mut sum = 0.0;
    let grads = grads.into_iter().map(|grad| {
        if fused::available(&grad) {
            let (grad, squares) = fused::sum_of_squares(grad);
            sum += squares;
            return grad;
        }
        let rows = grad.clone().square().sum_dim(1).into_data().convert::<f64>();
        sum += rows.try_into_vec::<f64>().expect("just converted to f64").iter().sum::<f64>();
        grad
    });
    (grads.collect(), sum.sqrt())
}
