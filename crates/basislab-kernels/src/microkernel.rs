//! The innermost loops of matrix products: the only unsafe code.
//!
//! A factor is an array of *words* of 32 bits, one per step of the sum. In `f32` a word is a number; in bf16 it is a pair of
//! neighbours along the sum, the first in the low half. Every element of a product is one chain of sums over the steps, from
//! the first to the last: neither the size of a tile nor that of a block of columns changes a bit.

#![allow(unsafe_code, reason = "loads and stores without a bounds check each; an instruction that pulp lacks")]

use crate::level::{Level, Precision, height, tallest, width};
use crate::pairs;
use pulp::bytemuck::{cast_slice, cast_slice_mut};
use pulp::{Arch, Simd, WithSimd};
use std::array::from_fn;
use std::hint::black_box;
use std::mem::transmute;
use std::slice::{from_mut, from_raw_parts_mut, from_ref};

/// Columns of the right factor are visited in blocks of about this many words, which stay in the second-level cache.
const BLOCK: usize = 1 << 16;

/// How the words of a right factor lie.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Layout {
    /// In panels of two vectors of columns, the last of one if that is enough, one after another: `[steps, width]` each.
    Panels,
    /// `[steps, columns]`, the rows so many words apart. The columns fill whole vectors.
    Rows(usize),
}

/// `out = scale a b`, or `out += scale a b` if `add`.
#[derive(Debug)]
pub(crate) struct Product<'a> {
    pub(crate) level: Level,
    /// Words of the left factor, and how far apart two rows' words of a step are, and two steps' words of a row.
    pub(crate) a: (&'a [f32], usize, usize),
    /// Words of the right factor, and how they lie.
    pub(crate) b: (&'a [f32], Layout),
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) steps: usize,
    /// Rows are `stride` numbers apart.
    pub(crate) out: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) add: bool,
    pub(crate) scale: f32,
}

impl Product<'_> {
    pub(crate) fn compute(self) {
        let Self { level, rows, columns, steps, stride, .. } = self;
        if rows == 0 || columns == 0 {
            return;
        }
        let end = |count: usize, stride: usize| count.checked_mul(stride).expect("sizes of slices");
        assert!(
            columns <= stride && end(rows - 1, stride) + columns <= self.out.len(),
            "the product does not fit its slice"
        );
        let lanes = level.lanes();
        if let Some(last) = steps.checked_sub(1) {
            let (a, a_across, a_along) = self.a;
            assert!(end(rows - 1, a_across) + end(last, a_along) < a.len(), "the left factor is longer than its slice");
            let (b, layout) = self.b;
            let words = match layout {
                Layout::Panels => end(columns.next_multiple_of(lanes), steps),
                Layout::Rows(stride) => end(last, stride) + columns.next_multiple_of(lanes),
            };
            assert!(words <= b.len(), "the right factor is longer than its slice");
        }
        #[cfg(target_arch = "x86_64")]
        if let (true, Arch::V4(simd)) = (level.paired, level.arch) {
            // SAFETY: `paired` is set on a CPU that has AVX512-BF16 only, and `simd` proves the rest.
            return unsafe { on_pairs(simd, self) };
        }
        level.dispatch(self);
    }
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (self.level.precision, matches!(self.level.arch, Arch::Scalar)) {
            (Precision::F32, false) => compute(simd, Fused, self),
            (Precision::F32, true) => compute(simd, Separate, self),
            (Precision::Bf16, false) => compute(simd, FusedPairs, self),
            (Precision::Bf16, true) => compute(simd, SeparatePairs, self),
        }
    }
}

/// How a word is multiplied and added.
trait Arithmetic<S: Simd>: Copy {
    fn multiply_add(self, simd: S, a: S::f32s, b: S::f32s, sum: S::f32s) -> S::f32s;

    /// In numbers, not words.
    #[inline(always)]
    fn scale_add(self, simd: S, scale: S::f32s, x: S::f32s, y: S::f32s) -> S::f32s {
        simd.mul_add_f32s(scale, x, y)
    }
}

/// Fused multiply-add.
#[derive(Clone, Copy)]
struct Fused;

impl<S: Simd> Arithmetic<S> for Fused {
    #[inline(always)]
    fn multiply_add(self, simd: S, a: S::f32s, b: S::f32s, sum: S::f32s) -> S::f32s {
        simd.mul_add_f32s(a, b, sum)
    }
}

/// Without fused multiply-add, which would be a library call.
#[derive(Clone, Copy)]
struct Separate;

impl<S: Simd> Arithmetic<S> for Separate {
    #[inline(always)]
    fn multiply_add(self, simd: S, a: S::f32s, b: S::f32s, sum: S::f32s) -> S::f32s {
        simd.add_f32s(simd.mul_f32s(a, b), sum)
    }

    #[inline(always)]
    fn scale_add(self, simd: S, scale: S::f32s, x: S::f32s, y: S::f32s) -> S::f32s {
        self.multiply_add(simd, scale, x, y)
    }
}

/// The second numbers of two pairs, then the first ones.
#[inline(always)]
fn halves<S: Simd>(simd: S, pair: S::f32s) -> [S::f32s; 2] {
    let bits = simd.transmute_u32s_f32s(pair);
    let high = simd.and_u32s(bits, simd.splat_u32s(0xffff_0000));
    let low = simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(16));
    [high, low].map(|bits| simd.transmute_f32s_u32s(bits))
}

/// [`pairs::multiply_add`] in vectors.
#[derive(Clone, Copy)]
struct FusedPairs;

impl<S: Simd> Arithmetic<S> for FusedPairs {
    #[inline(always)]
    fn multiply_add(self, simd: S, a: S::f32s, b: S::f32s, sum: S::f32s) -> S::f32s {
        let (a, b, mut sum) = (halves(simd, a), halves(simd, b), sum);
        let up = simd.splat_f32s(pairs::UP);
        for (a, b) in a.into_iter().zip(b) {
            let far = simd.mul_add_f32s(simd.mul_f32s(a, up), b, simd.mul_f32s(sum, up));
            let tiny = simd.less_than_f32s(simd.abs_f32s(far), simd.splat_f32s(pairs::UP * f32::MIN_POSITIVE));
            let near = simd.mul_add_f32s(a, b, sum);
            let sign = simd.and_u32s(simd.transmute_u32s_f32s(near), simd.splat_u32s(0x8000_0000));
            sum = simd.select_f32s(tiny, simd.transmute_f32s_u32s(sign), near);
        }
        sum
    }
}

/// [`pairs::multiply_add`], one by one.
#[derive(Clone, Copy)]
struct SeparatePairs;

impl<S: Simd> Arithmetic<S> for SeparatePairs {
    #[inline(always)]
    fn multiply_add(self, _: S, a: S::f32s, b: S::f32s, sum: S::f32s) -> S::f32s {
        let mut sums = sum;
        let words = cast_slice::<_, u32>(from_ref(&a)).iter().zip(cast_slice::<_, u32>(from_ref(&b)));
        for (sum, (a, b)) in cast_slice_mut::<_, f32>(from_mut(&mut sums)).iter_mut().zip(words) {
            *sum = pairs::multiply_add(*a, *b, *sum);
        }
        sums
    }

    #[inline(always)]
    fn scale_add(self, simd: S, scale: S::f32s, x: S::f32s, y: S::f32s) -> S::f32s {
        Separate.multiply_add(simd, scale, x, y)
    }
}

/// The instruction of AVX512-BF16, see [`pairs`].
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Paired;

#[cfg(target_arch = "x86_64")]
impl Arithmetic<pulp::x86::V4> for Paired {
    #[inline(always)]
    fn multiply_add(self, _: pulp::x86::V4, a: pulp::f32x16, b: pulp::f32x16, sum: pulp::f32x16) -> pulp::f32x16 {
        use std::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps};
        // SAFETY: `Paired` is used in `on_pairs` alone, whose caller has made sure of the instruction. All types are plain
        // bits in one vector register.
        unsafe {
            let [a, b] = [a, b].map(|words| transmute::<pulp::f32x16, __m512bh>(words));
            transmute::<__m512, pulp::f32x16>(_mm512_dpbf16_ps(transmute::<pulp::f32x16, __m512>(sum), a, b))
        }
    }
}

/// [`compute`] with the instruction for pairs.
///
/// # Safety
/// The CPU has AVX512-BF16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
unsafe fn on_pairs(simd: pulp::x86::V4, product: Product<'_>) {
    compute(simd, Paired, product);
}

/// Cuts a product into tiles. The caller has checked all sizes.
#[inline(always)]
fn compute<S: Simd, A: Arithmetic<S>>(simd: S, arithmetic: A, product: Product<'_>) {
    let Product { a: (a, a_across, a_along), b: (b, b_layout), rows, columns, steps, out, stride, add, scale, .. } =
        product;
    let lanes = S::F32_LANES;
    let block = (BLOCK / steps.max(1)).max(1).next_multiple_of(2 * lanes);
    for block_first in (0..columns).step_by(block) {
        let block_end = columns.min(block_first + block);
        let mut i = 0;
        while i < rows {
            let height = height(rows - i, tallest::<S>());
            for j in (block_first..block_end).step_by(2 * lanes) {
                let width = width(columns - j, lanes);
                let (b_at, b_along) = match b_layout {
                    Layout::Rows(stride) => (j, stride),
                    Layout::Panels => (j * steps, width),
                };
                // SAFETY: `Product::compute` checked that all rows and columns of both factors over all steps, columns
                // rounded up to whole vectors, lie within their slices, and all rows and columns of `out`; rows
                // `i..i + height` and columns `j..` are among these. With no steps, neither factor is read.
                unsafe {
                    let tile = Tile {
                        steps,
                        a: a.as_ptr().wrapping_add(i * a_across),
                        a_across,
                        a_along,
                        b: b.as_ptr().wrapping_add(b_at),
                        b_along,
                        out: out.as_mut_ptr().add(i * stride + j),
                        stride,
                        columns: columns - j,
                        add,
                        scale,
                    };
                    match (height, width > lanes) {
                        (12, true) => tile.compute::<S, A, 12, 2>(simd, arithmetic),
                        (8, true) => tile.compute::<S, A, 8, 2>(simd, arithmetic),
                        (6, true) => tile.compute::<S, A, 6, 2>(simd, arithmetic),
                        (4, true) => tile.compute::<S, A, 4, 2>(simd, arithmetic),
                        (2, true) => tile.compute::<S, A, 2, 2>(simd, arithmetic),
                        (_, true) => tile.compute::<S, A, 1, 2>(simd, arithmetic),
                        (12, false) => tile.compute::<S, A, 12, 1>(simd, arithmetic),
                        (8, false) => tile.compute::<S, A, 8, 1>(simd, arithmetic),
                        (6, false) => tile.compute::<S, A, 6, 1>(simd, arithmetic),
                        (4, false) => tile.compute::<S, A, 4, 1>(simd, arithmetic),
                        (2, false) => tile.compute::<S, A, 2, 1>(simd, arithmetic),
                        (_, false) => tile.compute::<S, A, 1, 1>(simd, arithmetic),
                    }
                }
            }
            i += height;
        }
    }
}

/// Some rows of a product and the columns of one panel.
struct Tile {
    steps: usize,
    a: *const f32,
    a_across: usize,
    a_along: usize,
    b: *const f32,
    b_along: usize,
    out: *mut f32,
    stride: usize,
    /// Columns of `out` from here on, possibly more than the panel has.
    columns: usize,
    add: bool,
    scale: f32,
}

impl Tile {
    /// `M` rows, `N` vectors of columns.
    ///
    /// # Safety
    /// For every step, `M` words of `a` and `N` whole vectors of `b` can be read; `M` rows of `columns` numbers, or of `N`
    /// vectors where that is less, can be read and written at `out`.
    #[inline(always)]
    unsafe fn compute<S: Simd, A: Arithmetic<S>, const M: usize, const N: usize>(self, simd: S, arithmetic: A) {
        let lanes = S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); N]; M];
        // A pointer to every third row: found one after another, the addresses of all rows would take longer than the
        // arithmetic. The compiler may not see how they are related.
        let mut a: [*const f32; 4] = black_box(from_fn(|third| self.a.wrapping_add(3 * third * self.a_across)));
        let mut b = self.b;
        for _ in 0..self.steps {
            let mut right = [simd.splat_f32s(0.0); N];
            for (v, right) in right.iter_mut().enumerate() {
                // SAFETY: a whole vector of this step, as the caller promises. It need not be aligned.
                *right = unsafe { b.add(v * lanes).cast::<S::f32s>().read_unaligned() };
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: row `i < M` of this step.
                let left = simd.splat_f32s(unsafe { *a[i / 3].add(i % 3 * self.a_across) });
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = arithmetic.multiply_add(simd, left, right, *sum);
                }
            }
            // After the last step these may point beyond the slice, and are not read.
            a = a.map(|row| row.wrapping_add(self.a_along));
            b = b.wrapping_add(self.b_along);
        }
        let scale = simd.splat_f32s(self.scale);
        if self.columns >= N * lanes {
            for (i, sums) in sums.into_iter().enumerate() {
                for (v, sum) in sums.into_iter().enumerate() {
                    // SAFETY: a whole vector of row `i < M` of `out`. It need not be aligned.
                    unsafe {
                        let at = self.out.add(i * self.stride + v * lanes).cast::<S::f32s>();
                        at.write_unaligned(if self.add {
                            arithmetic.scale_add(simd, scale, sum, at.read_unaligned())
                        } else {
                            simd.mul_f32s(scale, sum)
                        });
                    }
                }
            }
            return;
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let count = (self.columns - v * lanes).min(lanes);
                // SAFETY: `count` numbers of row `i < M` from column `v lanes` on, which is below `columns`: a panel of two
                // vectors has more than `lanes` columns. Nothing else refers to them: `Product` borrows `out` mutably.
                let out = unsafe { from_raw_parts_mut(self.out.add(i * self.stride + v * lanes), count) };
                let sum = if self.add {
                    arithmetic.scale_add(simd, scale, sum, simd.partial_load_f32s(out))
                } else {
                    simd.mul_f32s(scale, sum)
                };
                simd.partial_store_f32s(out, sum);
            }
        }
    }
}
