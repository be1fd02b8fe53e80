use basislab_config::Dtype;
use burn::tensor::{DType, Tensor};

/// burn's name of a type.
pub fn dtype(dtype: Dtype) -> DType {
    match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::Bf16 => DType::BF16,
        Dtype::F16 => DType::F16,
    }
}

/// `a b`, multiplied in `compute` and returned in the type of `a`.
pub(crate) fn product<const D: usize>(a: Tensor<D>, b: Tensor<D>, compute: DType) -> Tensor<D> {
    let own = a.dtype();
    if own == compute {
        return a.matmul(b);
    }
    a.cast(compute).matmul(b.cast(compute)).cast(own)
}

/// In at least `f32`, the type in which sums and exponentials are taken.
pub fn at_least_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::BF16 | DType::F16 => x.cast(DType::F32),
        _ => x,
    }
}
