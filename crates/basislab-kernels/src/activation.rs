use crate::simd::{LANES, dispatch, dot, erf_and_gauss, exp, fma, max, sum};
use pulp::{Simd, WithSimd};
use std::array::from_mut;
use std::f32::consts::FRAC_1_SQRT_2;

/// The non-linearity of an MLP, `[n, F]` -> `[n, F]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x Phi(x)`, exact.
    Gelu,
    /// The tanh approximation of `x Phi(x)`.
    GeluTanh,
    /// `max(0, x)`
    Relu,
    /// `x softmax(x)`
    Solu,
    /// `silu(g) h` of rows `g h`, `[n, 2 F]` -> `[n, F]`
    Swiglu,
}

impl Activation {
    /// Numbers per row of what it writes.
    pub(crate) fn width(self, read: usize) -> usize {
        if self == Self::Swiglu { read / 2 } else { read }
    }

    /// `h` -> `active`; in `h` stays what [`Activation::backward`] needs: the slope at each value (of SoLU the softmax).
    pub(crate) fn forward(self, h: &mut [f32], active: &mut [f32], width: usize) {
        dispatch(Forward { kind: self, h, active, width });
    }

    /// The gradient `dy` of `active` -> `dh`, where `left` is what the forward pass left in `h`.
    pub(crate) fn backward(self, dy: &[f32], left: &[f32], active: &[f32], width: usize, dh: &mut [f32]) {
        dispatch(Backward { kind: self, dy, left, active, width, dh });
    }
}

struct Forward<'a> {
    kind: Activation,
    h: &'a mut [f32],
    active: &'a mut [f32],
    width: usize,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { kind, h, active, width } = self;
        match kind {
            Activation::Gelu => each(h, active, gelu::<S>),
            Activation::GeluTanh => each(h, active, gelu_tanh::<S>),
            Activation::Relu => each(h, active, |h| if h < 0.0 { (0.0, 0.0) } else { (h, f32::from(h > 0.0)) }),
            Activation::Solu => {
                for (h, active) in h.chunks_exact_mut(width).zip(active.chunks_exact_mut(width)) {
                    let most = max(h);
                    for (h, active) in h.iter_mut().zip(&mut *active) {
                        *active = *h;
                        *h = exp::<S>(*h - most);
                    }
                    let share = 1.0 / sum(h);
                    for (h, active) in h.iter_mut().zip(active) {
                        *h *= share;
                        *active *= *h;
                    }
                }
            }
            Activation::Swiglu => {
                let half = width / 2;
                for (row, active) in h.chunks_exact_mut(width).zip(active.chunks_exact_mut(half)) {
                    let (gate, h) = row.split_at_mut(half);
                    // By vectors: with three arrays that are written the compiler would not find them.
                    let ((gates, g), (hs, h)) = (gate.as_chunks_mut::<LANES>(), h.as_chunks_mut::<LANES>());
                    let (actives, active) = active.as_chunks_mut::<LANES>();
                    for ((g, h), active) in gates.iter_mut().zip(hs).zip(actives) {
                        gated::<S, LANES>(g, h, active);
                    }
                    for ((g, h), active) in g.iter_mut().zip(h).zip(active) {
                        gated::<S, 1>(from_mut(g), from_mut(h), from_mut(active));
                    }
                }
            }
        }
    }
}

struct Backward<'a> {
    kind: Activation,
    dy: &'a [f32],
    left: &'a [f32],
    active: &'a [f32],
    width: usize,
    dh: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { kind, dy, left, active, width, dh } = self;
        match kind {
            Activation::Gelu | Activation::GeluTanh | Activation::Relu => {
                for ((dh, dy), slope) in dh.iter_mut().zip(dy).zip(left) {
                    *dh = dy * slope;
                }
            }
            Activation::Solu => {
                // y = h p, p = softmax(h): dh = p dy + y dy - p (sum of y dy).
                let rows = dy.chunks_exact(width).zip(left.chunks_exact(width)).zip(active.chunks_exact(width));
                for (((dy, p), y), dh) in rows.zip(dh.chunks_exact_mut(width)) {
                    let along = dot::<S>(dy, y);
                    for (((dh, dy), p), y) in dh.iter_mut().zip(dy).zip(p).zip(y) {
                        *dh = fma::<S>(*y, *dy, *p * (*dy - along));
                    }
                }
            }
            Activation::Swiglu => {
                let half = width / 2;
                for ((dh, dy), left) in
                    dh.chunks_exact_mut(width).zip(dy.chunks_exact(half)).zip(left.chunks_exact(width))
                {
                    let (gate, linear) = dh.split_at_mut(half);
                    for (((dh, dy), left), _) in gate.iter_mut().zip(dy).zip(left).zip(0..half) {
                        *dh = dy * left;
                    }
                    for ((dh, dy), left) in linear.iter_mut().zip(dy).zip(&left[half..]) {
                        *dh = dy * left;
                    }
                }
            }
        }
    }
}

/// `silu(g) h` of some numbers. Leaves the slopes of both factors in their places.
#[inline(always)]
fn gated<S: Simd, const N: usize>(g: &mut [f32; N], h: &mut [f32; N], active: &mut [f32; N]) {
    let (gate, linear) = (*g, *h);
    for i in 0..N {
        let (silu, slope) = silu::<S>(gate[i]);
        active[i] = silu * linear[i];
        g[i] = linear[i] * slope;
        h[i] = silu;
    }
}

/// Replaces each `h` by the slope there.
#[inline(always)]
fn each(h: &mut [f32], active: &mut [f32], value_and_slope: impl Fn(f32) -> (f32, f32)) {
    for (h, active) in h.iter_mut().zip(active) {
        (*active, *h) = value_and_slope(*h);
    }
}

#[inline(always)]
fn gelu<S: Simd>(h: f32) -> (f32, f32) {
    const DENSITY_AT_0: f32 = 0.398_942_3; // 1 / sqrt(2 pi)
    let (erf, gauss) = erf_and_gauss::<S>(h * FRAC_1_SQRT_2);
    let share = fma::<S>(0.5, erf, 0.5);
    (h * share, fma::<S>(h * DENSITY_AT_0, gauss, share))
}

/// `h (1 + tanh u) / 2` with `u = sqrt(2 / pi) (h + 0.044715 h^3)`
#[inline(always)]
fn gelu_tanh<S: Simd>(h: f32) -> (f32, f32) {
    const ROOT: f32 = 0.797_884_6; // sqrt(2 / pi)
    const CUBE: f32 = 0.044_715;
    // Beyond this `tanh u` is 1 or -1, and cubes would overflow.
    let near = h.clamp(-1e3, 1e3);
    let square = near * near;
    let u = ROOT * near * fma::<S>(CUBE, square, 1.0);
    // (1 + tanh u) / 2 = 1 / (1 + exp(-2 u))
    let share = sigmoid::<S>(2.0 * u);
    let slope_of_u = ROOT * fma::<S>(3.0 * CUBE, square, 1.0);
    (h * share, fma::<S>(2.0 * near * share * (1.0 - share), slope_of_u, share))
}

#[inline(always)]
fn silu<S: Simd>(g: f32) -> (f32, f32) {
    let share = sigmoid::<S>(g);
    (g * share, share * fma::<S>(g, 1.0 - share, 1.0))
}

#[inline(always)]
fn sigmoid<S: Simd>(x: f32) -> f32 {
    let e = exp::<S>(if x > 87.0 { 87.0 } else { x });
    e / (1.0 + e)
}
