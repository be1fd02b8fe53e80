//! What computes matrix products on this machine.

use crate::simd::level;
use pulp::{Arch, Scalar128b, Simd, WithSimd};

/// The type in which weights are multiplied; sums are in `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    F32,
    /// Both factors rounded to bf16.
    Bf16,
}

/// What computes products: the instruction set, and what a word is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level {
    pub(crate) arch: Arch,
    pub(crate) precision: Precision,
    /// Products of pairs are one instruction.
    pub(crate) paired: bool,
}

impl Level {
    /// The best one of this machine.
    pub(crate) fn new(precision: Precision) -> Self {
        let arch = level();
        Self { arch, precision, paired: precision == Precision::Bf16 && multiplies_pairs(arch) }
    }

    /// Every one that this machine can run.
    #[cfg(test)]
    pub(crate) fn all(precision: Precision) -> Vec<Self> {
        let best = Self::new(precision);
        let mut all = vec![best, Self { paired: false, arch: Arch::Scalar, ..best }];
        if best.paired {
            all.push(Self { paired: false, ..best });
        }
        #[cfg(target_arch = "x86_64")]
        if let (Arch::V4(_), Some(simd)) = (best.arch, pulp::x86::V3::try_new()) {
            all.push(Self { paired: false, arch: Arch::V3(simd), ..best });
        }
        all
    }

    /// Whether products are added without being rounded.
    #[cfg(test)]
    pub(crate) fn fuses(self) -> bool {
        !matches!(self.arch, Arch::Scalar)
    }

    /// Words for a sum over `k` numbers.
    pub(crate) fn steps(self, k: usize) -> usize {
        match self.precision {
            Precision::F32 => k,
            Precision::Bf16 => k.div_ceil(2),
        }
    }

    /// Numbers in a vector.
    pub(crate) fn lanes(self) -> usize {
        struct Lanes;
        impl WithSimd for Lanes {
            type Output = usize;
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> usize {
                S::F32_LANES
            }
        }
        self.dispatch(Lanes)
    }

    /// Runs `op` compiled for this instruction set. The fallback computes in vectors of the size that the compiler always has.
    pub(crate) fn dispatch<Op: WithSimd>(self, op: Op) -> Op::Output {
        if matches!(self.arch, Arch::Scalar) { op.with_simd(Scalar128b) } else { self.arch.dispatch(op) }
    }
}

/// Two vectors, or one if the `left` columns need no more.
#[inline(always)]
pub(crate) fn width(left: usize, lanes: usize) -> usize {
    if left > lanes { 2 * lanes } else { lanes }
}

/// The tallest tile for `left` rows.
#[inline(always)]
pub(crate) fn height(left: usize, most: usize) -> usize {
    let fits = |height: &usize| *height <= left && *height <= most;
    [12, 8, 6, 4, 2, 1].into_iter().find(fits).unwrap_or(1)
}

/// Two vectors of sums per row, two of the right factor and one of the left have to fit the registers.
#[inline(always)]
pub(crate) fn tallest<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 12 } else { 6 }
}

fn multiplies_pairs(arch: Arch) -> bool {
    #[cfg(target_arch = "x86_64")]
    if let Arch::V4(_) = arch {
        return is_x86_feature_detected!("avx512bf16");
    }
    let _ = arch;
    false
}
