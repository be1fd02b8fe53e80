use burn::tensor::{DType, Device, Tensor, TensorData, activation};

/// How this backend computes the exact GELU. burn's own function is the faster one, but on backends without a fused
/// backward (burn-ndarray 0.22.1 among them) its gradient is that of the tanh approximation: 9e-4 off in the
/// parity test's embedding.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gelu {
    /// burn's function, where its gradient is exact.
    Burn,
    /// `x (1 + erf(x / sqrt 2)) / 2` from elementary operations.
    Composed,
}

impl Gelu {
    /// Tests burn's gradient where the approximation is furthest off.
    pub(crate) fn of(device: &Device, dtype: DType) -> Self {
        if !device.is_autodiff() {
            return Self::Composed;
        }
        let points = Tensor::<1>::from_data(TensorData::from([-2.7, -0.7, 0.7, 2.7]), (device, dtype)).require_grad();
        let gradient = |gelu: &dyn Fn(Tensor<1>) -> Tensor<1>| {
            let mut grads = gelu(points.clone()).sum().backward();
            points.grad_remove(&mut grads).expect("the points are used")
        };
        let difference = gradient(&activation::gelu) - gradient(&composed_gelu);
        if difference.abs().max().into_scalar::<f64>() < 1e-5 { Self::Burn } else { Self::Composed }
    }

    pub(crate) fn apply(self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Burn => activation::gelu(x),
            Self::Composed => composed_gelu(x),
        }
    }
}

fn composed_gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let phi = x.clone().mul_scalar(std::f64::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5);
    x * phi
}

/// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`
pub(crate) fn gelu_tanh(x: Tensor<2>) -> Tensor<2> {
    let inner =
        (x.clone() + x.clone().powi_scalar(3).mul_scalar(0.044715)).mul_scalar((2.0 / std::f64::consts::PI).sqrt());
    x * inner.tanh().add_scalar(1.0).mul_scalar(0.5)
}

/// `x sigmoid(x)`, by tanh: burn-ndarray 0.22.1 takes the sigmoid of f64 in f32.
pub(crate) fn silu(x: Tensor<2>) -> Tensor<2> {
    let sigmoid = x.clone().mul_scalar(0.5).tanh().add_scalar(1.0).mul_scalar(0.5);
    x * sigmoid
}
