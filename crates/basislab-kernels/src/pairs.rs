//! bf16: pairs of numbers in words of 32 bits, and what AVX512-BF16 computes from them, for CPUs that lack it.
//!
//! Found on an AMD Zen 5 with millions of random and chosen operands, and held by a test: `_mm512_dpbf16_ps` adds the product
//! of the second numbers of two pairs first, then that of the first ones, each by a fused multiply-add (one rounding, to
//! the nearest, ties to even). Operands below the smallest normal number count as zero of their sign. A result is zero of
//! its sign if, rounded as though exponents had no end, it is below the smallest normal number.

/// Results near the end of the exponents are computed again, this much larger, where they are not rounded to fewer digits.
pub(crate) const UP: f32 = (1u64 << 48) as f32;

/// The nearest bf16, ties to even, in the low half. NaN stays NaN; what is below the smallest normal number becomes zero.
#[inline(always)]
pub(crate) fn narrow(x: f32) -> u32 {
    let bits = x.to_bits();
    let size = bits & 0x7fff_ffff;
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let kept = if size < 0x0080_0000 { bits & 0x8000_0000 } else { rounded };
    (if size > 0x7f80_0000 { bits | 0x0040_0000 } else { kept }) >> 16
}

/// Two neighbours along a sum as a word, whose bits are kept as a number's.
#[inline(always)]
pub(crate) fn pair(first: f32, second: f32) -> f32 {
    f32::from_bits(narrow(first) | narrow(second) << 16)
}

/// `sum` and the products of two pairs, as AVX512-BF16 computes it.
#[inline(always)]
pub(crate) fn multiply_add(a: u32, b: u32, sum: f32) -> f32 {
    let halves = |pair: u32| [pair & 0xffff_0000, pair << 16].map(f32::from_bits);
    halves(a).into_iter().zip(halves(b)).fold(sum, |sum, (a, b)| one(a, b, sum))
}

/// `a b + sum` for factors of 8 digits that are normal or zero, and such a sum.
#[inline(always)]
fn one(a: f32, b: f32, sum: f32) -> f32 {
    let product = a * b; // has 16 digits: it is exact, and so is nothing but the sum rounded, unless exponents end
    if a == 0.0 || b == 0.0 || (1e-30..=f32::MAX).contains(&product.abs()) {
        return product + sum;
    }
    let near = a.mul_add(b, sum);
    let far = (a * UP).mul_add(b, sum * UP);
    if far.abs() < UP * f32::MIN_POSITIVE { 0f32.copysign(near) } else { near }
}
