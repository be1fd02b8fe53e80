use basislab_config::RopePairs;
use burn::tensor::{Tensor, TensorData};

/// Rotary position embedding: rotates the k-th of the pairs among the first `dims` coordinates of each head by
/// `t base^(-2k/dims)`.
///
/// # Shapes
/// `[B, H, T, K]` -> same
pub(crate) fn rope(x: Tensor<4>, base: f64, pairs: RopePairs, dims: usize) -> Tensor<4> {
    let [batch, heads, pos, d_head] = x.dims();
    let half = dims / 2;
    let table = |of: fn(f64) -> f64| {
        let values = table(base, dims, pos, of);
        Tensor::<4>::from_data(TensorData::new(values, [1, 1, pos, half]), (&x.device(), x.dtype()))
    };
    let (cos, sin) = (table(f64::cos), table(f64::sin));
    let rotated = |a: Tensor<4>, b: Tensor<4>| {
        (a.clone() * cos.clone() - b.clone() * sin.clone(), a * sin.clone() + b * cos.clone())
    };
    let turned = match pairs {
        RopePairs::Halves => {
            let (a, b) = rotated(x.clone().narrow(3, 0, half), x.clone().narrow(3, half, half));
            Tensor::cat(vec![a, b], 3)
        }
        RopePairs::Interleaved => {
            let pairs = x.clone().narrow(3, 0, dims).reshape([batch, heads, pos, half, 2]);
            let part = |i: usize| pairs.clone().narrow(4, i, 1).reshape([batch, heads, pos, half]);
            let (a, b) = rotated(part(0), part(1));
            let split = |x: Tensor<4>| x.reshape([batch, heads, pos, half, 1]);
            Tensor::cat(vec![split(a), split(b)], 4).reshape([batch, heads, pos, dims])
        }
    };
    match d_head - dims {
        0 => turned,
        rest => Tensor::cat(vec![turned, x.narrow(3, dims, rest)], 3),
    }
}

/// A function of the angle of each pair at each position, `[pos, dims / 2]`.
pub(crate) fn table(base: f64, dims: usize, pos: usize, of: fn(f64) -> f64) -> Vec<f64> {
    let half = dims / 2;
    let angle = |i: usize| (i / half) as f64 * base.powf(-2.0 * (i % half) as f64 / dims as f64);
    (0..pos * half).map(|i| of(angle(i))).collect()
}
