//! One loop over the table: every entry against what it declares about itself. A new entry is tested by being there.

use super::{changed, close, gaussian_residuals, mean_and_error, residuals};
use crate::{METRICS, Metric, MetricFn, Purpose, Residuals, Rotation, metric, stream};

#[test]
fn every_entry_explains_itself() {
    for m in METRICS {
        let texts = [m.title, m.formula, m.estimator, m.axis, m.null_text, m.ceiling_text, m.source, m.known_failure];
        assert!(texts.iter().all(|text| !text.is_empty()), "{}", m.name);
        assert!(m.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{}", m.name);
        assert!(std::ptr::eq(metric(m.name).expect("found by its name"), m), "{} is there twice", m.name);
    }
    assert!(metric("kurtosis").is_none(), "a bare kurtosis means nothing");
    assert_eq!(METRICS[0].name, "token_kurtosis");
}

// `token_kurtosis` and its kin, pooled, and per-dimension nulls all hold for any width and number of tokens.
#[test]
fn every_null_is_its_mean_under_gaussian_noise() {
    for m in METRICS {
        let Some(null) = m.null else { continue };
        for (d, n, draws) in [(8, 6, 600), (64, 20, 100)] {
            let draw = |i: usize| on(m, &gaussian_residuals(500 + i as u64, n, d)).expect("defined");
            let values: Vec<f64> = (0..draws).map(draw).collect();
            let ((mean, error), expected) = (mean_and_error(&values), null(d, n));
            // Counts that are almost surely 0 have no spread, hence the second term.
            assert!(
                (mean - expected).abs() <= 5.0 * error + 1e-12,
                "{} at {d}: {mean} +- {error}, not {expected}",
                m.name
            );
        }
    }
}

#[test]
fn every_ceiling_is_reached_and_never_passed() {
    for m in METRICS {
        let Some(ceiling) = m.ceiling else { continue };
        for d in [4, 7, 16] {
            let all = witnesses(d).into_iter().chain(extremes(d));
            let largest = all.filter_map(|x| on(m, &x)).fold(f64::NEG_INFINITY, f64::max);
            let ceiling = ceiling(d, 12);
            assert!(close(largest, ceiling, 1e-9), "{} at {d}: {largest}, not {ceiling}", m.name);
        }
    }
}

#[test]
fn rotations_change_what_depends_on_the_basis_and_nothing_else() {
    for m in METRICS {
        let mut moved = false;
        for (i, x) in witnesses(16).iter().enumerate() {
            let q = Rotation::haar(16, &mut stream(9, Purpose::Rotation, i as u64));
            let pair = (on(m, x), on(m, &x.rotated(&q)));
            let same = pair.0.zip(pair.1).is_some_and(|(a, b)| close(a, b, 1e-12));
            assert!(m.basis_dependent || same, "{}: {pair:?}", m.name);
            moved |= pair.0.zip(pair.1).is_some_and(|(a, b)| !close(a, b, 1e-3));
        }
        assert_eq!(moved, m.basis_dependent, "{}", m.name);
    }
}

#[test]
fn scaling_changes_what_depends_on_the_scale_and_nothing_else() {
    for m in METRICS {
        let mut moved = false;
        for x in witnesses(16) {
            let before = on(m, &x);
            for factor in [64.0, -0.015625] {
                let after = on(m, &changed(&x, |_, _, v| factor * v));
                // A power of two changes exponents only: not one bit of a ratio may move.
                let same = before.map(f64::to_bits) == after.map(f64::to_bits);
                assert!(!m.scale_invariant || same, "{} times {factor}: {before:?}, {after:?}", m.name);
                moved |= !same;
            }
            let third = on(m, &changed(&x, |_, _, v| v / 3.0));
            let same = before.zip(third).is_none_or(|(a, b)| close(a, b, 1e-12));
            assert!(!m.scale_invariant || same, "{} over 3: {before:?}, {third:?}", m.name);
        }
        assert_eq!(!moved, m.scale_invariant, "{}", m.name);
    }
}

#[test]
fn order_of_tokens_and_dimensions_does_not_matter() {
    for m in METRICS {
        for x in witnesses(16) {
            let rows: Vec<&[f64]> = x.rows().rev().collect();
            let reversed = residuals(rows.concat(), 16);
            let mirrored = residuals(x.rows().flat_map(|row| row.iter().rev().copied()).collect(), 16);
            for other in [reversed, mirrored] {
                let pair = (on(m, &x), on(m, &other));
                assert_eq!(pair.0.is_some(), pair.1.is_some(), "{}", m.name);
                assert!(pair.0.zip(pair.1).is_none_or(|(a, b)| close(a, b, 1e-13)), "{}: {pair:?}", m.name);
            }
        }
    }
}

#[test]
fn no_input_makes_a_nan() {
    let noise = gaussian_residuals(510, 6, 5);
    let nasty = [
        changed(&noise, |_, _, _| 0.0),
        changed(&noise, |_, _, _| 0.1),
        changed(&noise, |token, _, v| if token == 2 { 0.0 } else { v }),
        changed(&noise, |token, _, v| if token == 2 { 0.1 } else { v }),
        changed(&noise, |_, dim, v| if dim < 3 { 0.0 } else { v }),
        changed(&noise, |_, dim, _| f64::from(u8::from(dim == 0)) * f64::MAX),
        changed(&noise, |_, _, v| v * 1e160),
        changed(&noise, |_, _, v| v * 1e307),
        changed(&noise, |_, _, v| v * 1e-80),
        changed(&noise, |_, _, v| v * 1e-170),
        changed(&noise, |_, _, v| v * 1e-310),
    ];
    for m in METRICS {
        for (i, x) in nasty.iter().enumerate() {
            let value = on(m, x);
            assert!(value.is_none_or(f64::is_finite), "{} on {i}: {value:?}", m.name);
        }
        assert!(on(m, &noise).is_some(), "{}", m.name);
    }
    for name in ["token_kurtosis", "token_kurtosis_median", "osp_excess_kurtosis", "lesswrong_excess_kurtosis"] {
        let m = metric(name).expect("in the table");
        assert_eq!(on(m, &nasty[3]), None, "{name} of a token without variance");
        // Half of the digits would be lost to underflow.
        assert_eq!(on(m, &nasty[8]), None, "{name} at 1e-80");
    }
}

/// A matrix metric of `x`; a metric of layers of four that are all `x`.
fn on(m: &Metric, x: &Residuals) -> Option<f64> {
    match m.of {
        MetricFn::Matrix(of) => of(x),
        of @ MetricFn::Layers { .. } => of.of(&[x.clone(), x.clone(), x.clone(), x.clone()]),
    }
}

/// Matrices of zeros in which few values are not: one, almost half of them, one of each dimension as far as tokens go, one
/// dimension, tokens that are multiples of one, and equal tokens of which one is much larger.
fn extremes(d: usize) -> [Residuals; 6] {
    let with = |large: usize| residuals((0..12 * d).map(|at| if at < large { 200.0 } else { 0.0 }).collect(), d);
    let each = |of: &dyn Fn(usize, usize) -> f64| residuals((0..12 * d).map(|at| of(at / d, at % d)).collect(), d);
    let token = |token: usize| 1.0 + (token * token) as f64;
    [
        with(1),
        with((12 * d - 1) / 2),
        each(&|row, dim| f64::from(u8::from(row == dim))),
        each(&|row, dim| if dim == 1 { token(row) } else { 0.0 }),
        each(&|row, dim| token(row) * (1.0 + dim as f64)),
        each(&|row, _| if row == 0 { 200.0 } else { 1.0 }),
    ]
}

/// Matrices at the edges of what metrics can see.
fn witnesses(d: usize) -> Vec<Residuals> {
    let noise = gaussian_residuals(520, 12, d);
    vec![
        changed(&noise, |_, dim, _| if dim == 1 { 5.0 } else { 0.0 }),
        changed(&noise, |_, dim, v| if dim == 1 { 40.0 + v } else { v }),
        changed(&noise, |token, dim, v| if (token, dim) == (3, 1) { 4000.0 } else { v }),
        changed(&noise, |_, dim, v| if dim < (d - 1) / 2 { 50.0 * v } else { v.signum() }),
        changed(&noise, |_, _, v| 7.0 * v.signum()),
        noise,
    ]
}
