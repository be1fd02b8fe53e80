//! Parts of a transformer as CPU kernels that run together: plain `f32` slices in, plain slices out.
//!
//! A [`Chain`] of [`Part`]s (norm, projections, attention, non-linearity, residual connection, loss) takes chunks of rows through
//! all its parts, forward and backward. Each part is a file with its value and its gradient. Rows are cut into
//! chunks whose size depends on the sequence length alone, chunks run on the current rayon pool, and every number is computed
//! in one fixed order: the number of threads changes no bit. Element-wise work is compiled for AVX-512, AVX2 + FMA, NEON and
//! a portable fallback, and the best one is chosen at run time.
//!
//! All matrices are row-major; weights are stored `[in, out]`.

mod activation;
mod attention;
mod buffer;
mod chain;
mod chunks;
mod gemm;
mod level;
mod linear;
mod loss;
mod microkernel;
mod norm;
mod pairs;
mod part;
mod rope;
mod rotate;
mod rows;
mod simd;
mod update;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests;

pub use activation::Activation;
pub use attention::Attention;
pub use buffer::{Buffer, recycle, take};
pub use chain::{Chain, Saved};
pub use gemm::Precision;
pub use linear::{Linear, Map};
pub use loss::Loss;
pub use norm::{HeadNorms, Norm};
pub use part::{Heads, Input, Part};
pub use pulp::Simd;
pub use rope::Rope;
pub use rotate::product;
pub use simd::fma;
pub use update::{Descent, Formula, Pass, Unchanged, scale, sum_of_squares};
