use super::{changed, close, gaussian_residuals};
use crate::{DimensionMoments, dimensions};

#[test]
fn a_constant_dimension_has_no_shape() {
    // Twelve times 0.1 does not average to 0.1 in floating point.
    let x = changed(&gaussian_residuals(400, 12, 4), |_, dim, v| if dim == 2 { 0.1 } else { v });
    let all = dimensions(&x);
    let DimensionMoments { mean, variance, skewness, kurtosis, min, max, .. } = all[2];
    assert_eq!((mean, variance, skewness, kurtosis, min, max), (0.1, 0.0, None, None, 0.1, 0.1));
    assert!(all[1].kurtosis.is_some() && all[1].skewness.is_some());
}

#[test]
fn a_large_mean_costs_no_digits() {
    // Steps of 2^-20 survive an offset of 2^20 exactly: any difference would come from the estimator.
    let x = changed(&gaussian_residuals(401, 500, 4), |_, _, v| (v * 1048576.0).round() / 1048576.0);
    let far = changed(&x, |_, _, v| v + 1048576.0);
    for (near, far) in dimensions(&x).iter().zip(dimensions(&far)) {
        let same = |a: Option<f64>, b: Option<f64>| (a.expect("spread") - b.expect("spread")).abs() < 1e-8;
        assert!(close(near.variance, far.variance, 1e-9), "{} {}", near.variance, far.variance);
        assert!(same(near.kurtosis, far.kurtosis) && same(near.skewness, far.skewness), "{near:?} {far:?}");
    }
}

#[test]
fn energy_shares_add_to_one_and_follow_the_dimension() {
    let x = changed(&gaussian_residuals(402, 50, 8), |_, dim, v| if dim == 5 { 30.0 * v } else { v });
    let all = dimensions(&x);
    assert!((all.iter().map(|m| m.share_of_energy).sum::<f64>() - 1.0).abs() < 1e-14);
    assert!(all.iter().enumerate().all(|(at, m)| m.dim == at));
    let largest = |all: &[DimensionMoments]| all.iter().max_by(|a, b| a.rms.total_cmp(&b.rms)).expect("some").dim;
    assert_eq!(largest(&all), 5);
    let reversed = crate::Residuals::new(x.rows().flat_map(|row| row.iter().rev().copied()).collect(), 8);
    assert_eq!(largest(&dimensions(&reversed.expect("the same values"))), 2);
}

#[test]
fn silence_has_moments_too() {
    let zero = changed(&gaussian_residuals(403, 3, 4), |_, _, _| 0.0);
    for m in dimensions(&zero) {
        assert_eq!((m.rms, m.variance, m.kurtosis, m.share_of_energy, m.max_abs), (0.0, 0.0, None, 0.0, 0.0));
    }
}
