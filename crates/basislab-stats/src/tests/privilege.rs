//! The test that does not let corners and axes cancel, on activations with a known basis.

use super::{changed, gaussian_residuals, residuals};
use crate::{
    Alignment, METRICS, MetricValue, PRIVILEGE_METRICS, Purpose, Residuals, Rotation, measure_in, metric, privilege,
    random_basis, stream,
};
use basislab_config::{Basis, Tokens};

const BASES: usize = 24;

/// The metrics of the test in the standard basis and in random ones.
fn values(x: &Residuals, seed: u64) -> Vec<MetricValue> {
    let wanted = |name: &str| PRIVILEGE_METRICS.iter().any(|(metric, _)| *metric == name);
    let mut all = measure_in(x, (Tokens::All, Basis::Standard), |metric| wanted(metric.name));
    for k in 0..BASES {
        let rotated = x.rotated(&random_basis(seed, k, x.d_model()));
        all.extend(measure_in(&rotated, (Tokens::All, Basis::Random(k as u32)), |metric| wanted(metric.name)));
    }
    all
}

#[test]
fn every_statistic_depends_on_the_basis_alone() {
    for (name, _) in PRIVILEGE_METRICS {
        let metric = metric(name).expect("in the table");
        assert!(metric.basis_dependent && metric.scale_invariant, "{name}");
    }
    assert!(PRIVILEGE_METRICS.len() < METRICS.len());
}

#[test]
fn an_outlier_dimension_is_an_axis() {
    let x = changed(&gaussian_residuals(960, 200, 16), |_, dim, v| if dim == 5 { 6.0 * v } else { v });
    let found = privilege(&values(&x, 1), Basis::Standard).expect("defined");
    assert_eq!((found.p, found.bases), (1.0 / 25.0, BASES));
    assert!(found.is_outside_all());
    assert_eq!(found.statistics.len(), PRIVILEGE_METRICS.len());
    assert_eq!(found.speaker().alignment, Alignment::Axis, "{found:?}");
    let token = &found.statistics[0];
    assert_eq!((token.metric, token.above, token.below), ("token_kurtosis", BASES, 0));
    // With its logs' mean and sd over all 25 bases, no basis can be farther than sqrt(24) of them.
    assert!(found.speaker().z.abs() <= 24f64.sqrt() + 1e-9);
    // The same activations seen in another basis have no special one.
    let turned = x.rotated(&random_basis(77, 0, 16));
    let found = privilege(&values(&turned, 1), Basis::Standard).expect("defined");
    assert!(found.p > 0.05, "{found:?}");
    assert!(!found.is_outside_all());
}

#[test]
fn a_mean_on_a_diagonal_is_a_corner() {
    let x = changed(&gaussian_residuals(961, 200, 16), |_, dim, v| v + if dim % 3 == 0 { 3.0 } else { -3.0 });
    let found = privilege(&values(&x, 2), Basis::Standard).expect("defined");
    assert!(found.is_outside_all(), "{found:?}");
    assert_eq!(found.speaker().alignment, Alignment::Corner);
    assert!(found.speaker().z < 0.0);
}

// Half of the tokens along axes, the mean of all along a diagonal: token kurtosis alone is near its null.
#[test]
fn what_cancels_in_one_statistic_is_seen_by_another() {
    let noise = gaussian_residuals(962, 400, 16);
    let x = changed(&noise, |_, dim, v| 1.3 * v * v * v / 3.87 + if dim % 2 == 0 { 1.15 } else { -1.15 });
    let found = privilege(&values(&x, 3), Basis::Standard).expect("defined");
    let token = &found.statistics[0];
    assert!((token.value / token.null_mean).ln().abs() < 0.15, "{token:?}");
    assert!(found.is_outside_all());
    assert_ne!(found.speaker().metric, "token_kurtosis");
}

// Principal components as axes: no coordinate is an outlier of its token's, and dimensions do not correlate at all.
#[test]
fn uncorrelated_dimensions_are_an_axis() {
    let spectrum = |dim: usize| 1.0 + 0.4 * dim as f64 / 15.0;
    let x = changed(&gaussian_residuals(963, 4000, 16), |_, dim, v| spectrum(dim) * v);
    let all = values(&x, 4);
    let found = privilege(&all, Basis::Standard).expect("defined");
    let correlation = found.statistics.iter().find(|s| s.metric == "dim_correlation").expect("defined");
    assert_eq!((correlation.above, correlation.alignment), (0, Alignment::Axis));
    assert!(found.is_outside_all());
}

// 400 matrices in a random basis: p <= 1/25 in 4 % of them.
#[test]
fn activations_in_a_random_basis_are_rarely_called_special() {
    let special = (0..400)
        .filter(|index| {
            let x =
                changed(&gaussian_residuals(2000 + index, 12, 8), |_, dim, v| if dim < 2 { 4.0 * v + 2.0 } else { v });
            let mut rng = stream(5, Purpose::Rotation, *index);
            let turned = x.rotated(&Rotation::haar(8, &mut rng));
            privilege(&values(&turned, *index), Basis::Standard).expect("defined").is_outside_all()
        })
        .count();
    assert!((5..=29).contains(&special), "{special} of 400, expected 16");
}

#[test]
fn what_is_undefined_in_a_basis_is_left_out() {
    let x = gaussian_residuals(964, 20, 8);
    let mut all = values(&x, 6);
    let at = all.iter().position(|v| v.metric == "incoherence" && v.basis == Basis::Random(3)).expect("there");
    all[at].value = None;
    let found = privilege(&all, Basis::Standard).expect("defined");
    assert_eq!(found.statistics.len(), PRIVILEGE_METRICS.len() - 1);
    assert!(found.statistics.iter().all(|statistic| statistic.metric != "incoherence"));
    // Of statistics in fewer bases than another, nothing can be said of the bases beyond.
    let few = |value: &&MetricValue| value.metric == "token_kurtosis" || !matches!(value.basis, Basis::Random(8..));
    let few: Vec<MetricValue> = values(&x, 6).iter().filter(few).cloned().collect();
    let found = privilege(&few, Basis::Standard).expect("defined");
    assert_eq!((found.statistics.len(), found.speaker().metric, found.bases), (1, "token_kurtosis", BASES));
    // Bases are known by their numbers, in whatever order they come.
    let mut mixed = values(&x, 6);
    let (some, rest): (Vec<_>, Vec<_>) = mixed.drain(..).partition(|value| value.metric == "token_kurtosis");
    mixed.extend(some.into_iter().rev().chain(rest));
    assert_eq!(privilege(&mixed, Basis::Standard), privilege(&values(&x, 6), Basis::Standard));
    assert_eq!(privilege(&[], Basis::Standard), None);
    let own: Vec<MetricValue> = all.iter().filter(|v| v.basis == Basis::Standard).cloned().collect();
    assert_eq!(privilege(&own, Basis::Standard), None, "no random basis");
    assert_eq!(privilege(&all, Basis::Optimizer), None, "not measured");
    // Equal tokens: nothing varies, and the bases differ in what is left.
    let equal = residuals((0..16).map(|at| [1.0, -2.0, 0.5, 3.0, 1.5, 0.1, 2.2, -0.7][at % 8]).collect(), 8);
    let found = privilege(&values(&equal, 7), Basis::Standard).expect("defined");
    assert!(found.statistics.iter().all(|s| s.metric != "varying_kurtosis" && s.metric != "dim_correlation"));
}
