//! Residual branches of a transformer as fused CPU kernels: plain `f32` slices in, plain slices out.
//!
//! One function per branch and direction. Each splits its rows into chunks whose size depends on the sequence length
//! alone, processes the chunks on the current rayon pool, and computes every number in one fixed order: the number of
//! threads changes no bit. Element-wise work is compiled for AVX-512, AVX2 + FMA, NEON and a portable fallback,
//! and the best one is chosen at run time.
//!
//! All matrices are row-major; weights are stored `[in, out]`.

mod attention;
mod buffer;
mod chunks;
mod gemm;
mod head;
mod level;
mod microkernel;
mod mlp;
mod norm;
mod pairs;
mod simd;
mod update;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests;

pub use attention::{Attention, AttentionSaved, AttentionWeights};
pub use buffer::{Buffer, recycle, take};
pub use gemm::Precision;
pub use head::{Head, HeadSaved};
pub use mlp::{Mlp, MlpSaved};
pub use update::{Adam, descend, scale, sum_of_squares};
