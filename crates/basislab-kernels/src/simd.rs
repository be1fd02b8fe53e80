//! Element-wise arithmetic that the compiler vectorises for the instruction set in use.
//!
//! Loops over arrays of [`LANES`] partial sums fix the order of every sum, so that only the instruction set (which has
//! fused multiply-add or not) can change a bit.

use pulp::{Arch, Simd, WithSimd};

/// Partial sums per loop: the widest vector's lanes.
pub(crate) const LANES: usize = 16;

/// The best instruction set of this machine.
pub(crate) fn level() -> Arch {
    #[cfg(test)]
    if tests::FALLBACK.get() {
        return Arch::Scalar;
    }
    Arch::new()
}

/// Runs `op` compiled for the best instruction set of this machine.
pub(crate) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    level().dispatch(op)
}

/// `a b + c`, in one rounding where the instruction set has it (elsewhere `mul_add` would be a slow library call).
#[inline(always)]
pub fn fma<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if size_of::<S::f32s>() > size_of::<f32>() { a.mul_add(b, c) } else { a * b + c }
}

/// Adds the partial sums in a fixed tree.
#[inline(always)]
pub(crate) fn total(sums: [f32; LANES]) -> f32 {
    let mut sums = sums;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

/// `sum x`
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for i in 0..LANES {
            sums[i] += x[i];
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += x;
    }
    total(sums)
}

/// `sum x y`
#[inline(always)]
pub(crate) fn dot<S: Simd>(x: &[f32], y: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let ((x, rest_x), (y, rest_y)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x.iter().zip(y) {
        for i in 0..LANES {
            sums[i] = fma::<S>(x[i], y[i], sums[i]);
        }
    }
    for (i, (x, y)) in rest_x.iter().zip(rest_y).enumerate() {
        sums[i] = fma::<S>(*x, *y, sums[i]);
    }
    total(sums)
}

/// `max x`. A NaN may be missed here; subtracting the maximum from `x` brings it up again.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for i in 0..LANES {
            most[i] = if most[i] > x[i] { most[i] } else { x[i] };
        }
    }
    for (most, x) in most.iter_mut().zip(rest) {
        *most = if *most > *x { *most } else { *x };
    }
    most.into_iter().fold(f32::NEG_INFINITY, |a, b| if a > b { a } else { b })
}

/// `exp x` for `x <= 88`, to about 1e-7 relative: `2^n exp(r)` with `n = round(x / ln 2)`, `r` by subtracting `n ln 2` in two
/// parts, `exp(r)` by the degree-7 Taylor polynomial (`|r| <= 0.347`: remainder 5e-9). Below -87, where it is under 1e-37, it is 0.
#[inline(always)]
pub(crate) fn exp<S: Simd>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: after adding it, the low bits of the number hold an integer
    const LN_2_HIGH: f32 = 355.0 / 512.0; // few bits: n times this is exact
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let is_0 = x < -87.0;
    let x = if is_0 { -87.0 } else { x };
    let shifted = fma::<S>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<S>(-n, LN_2_LOW, fma::<S>(-n, LN_2_HIGH, x));
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        p = fma::<S>(p, r, c);
    }
    let exp_r = fma::<S>(p, r * r, r) + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    if is_0 { 0.0 } else { exp_r * f32::from_bits(exponent << 23) }
}

/// `(erf x, exp(-x^2))`. Error function by Abramowitz and Stegun 7.1.26: absolute error below 2e-7.
#[inline(always)]
pub(crate) fn erf_and_gauss<S: Simd>(x: f32) -> (f32, f32) {
    let t = 1.0 / fma::<S>(0.327_591_1, x.abs(), 1.0);
    let gauss = exp::<S>(-x * x);
    let mut p = 1.061_405_4;
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = fma::<S>(p, t, c);
    }
    (fma::<S>(-p * t, gauss, 1.0).copysign(x), gauss)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// Makes this thread use the portable fallback, so that tests can compare the levels.
        pub(crate) static FALLBACK: Cell<bool> = const { Cell::new(false) };
    }

    struct Functions<'a>(&'a [f32], &'a mut Vec<(f32, f32)>);
    impl WithSimd for Functions<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for &x in self.0 {
                self.1.push((exp::<S>(x), erf_and_gauss::<S>(x).0));
            }
        }
    }

    #[test]
    fn exponentials_and_error_functions_are_those_of_the_standard_library() {
        for fallback in [false, true] {
            FALLBACK.set(fallback);
            let points: Vec<f32> = (-8700..=8800).map(|i| i as f32 / 100.0).collect();
            let mut values = Vec::new();
            dispatch(Functions(&points, &mut values));
            for (&x, (exp, _)) in points.iter().zip(&values) {
                let exact = f64::from(x).exp();
                assert!((f64::from(*exp) / exact - 1.0).abs() < 3e-7, "exp({x}) is {exp}, not {exact}");
            }
            // erf by its series, in f64.
            let erf = |x: f64| {
                let (mut term, mut sum) = (x, x);
                for n in 1..80 {
                    term *= -x * x / f64::from(n);
                    sum += term / f64::from(2 * n + 1);
                }
                sum * std::f64::consts::FRAC_2_SQRT_PI
            };
            for (&x, (_, value)) in points.iter().zip(&values).filter(|(x, _)| x.abs() < 3.0) {
                assert!((f64::from(*value) - erf(f64::from(x))).abs() < 3e-7, "erf({x}) is {value}");
            }
        }
        FALLBACK.set(false);
    }

    #[test]
    fn an_emulated_cpu_is_taken_for_what_it_is() {
        // `.ci/run` says which instruction set it emulates; elsewhere there is nothing to compare with.
        let level = format!("{:?}", Arch::new());
        if let Ok(expected) = std::env::var("BASISLAB_EXPECTED_SIMD") {
            assert!(level.starts_with(&expected), "{level} was chosen, not {expected}");
        }
    }

    #[test]
    fn nan_stays_nan() {
        let mut values = Vec::new();
        dispatch(Functions(&[f32::NAN], &mut values));
        assert!(values[0].0.is_nan() && values[0].1.is_nan());
    }
}
