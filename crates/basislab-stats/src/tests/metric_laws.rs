//! What single metrics must do: closed forms, bounds, invariances, and their documented failures.

use super::{changed, close, gaussian_residuals, mean_and_error, residuals, value};
use crate::{METRICS, Purpose, Residuals, Rotation, below, gaussian, metric, random_basis, stream};

// Var k = 24 d^2 (d-1) / ((d+2)^2 (d+4) (d+6)) for a random direction; centred, the same with d-1 for d in a subspace.
#[test]
fn kurtosis_of_random_directions_has_the_closed_form_mean_and_variance() {
    for d in [8usize, 64] {
        let f = d as f64;
        let uncentred = 24.0 * f * f * (f - 1.0) / ((f + 2.0).powi(2) * (f + 4.0) * (f + 6.0));
        let centred = 24.0 * f * (f - 2.0) * (f - 3.0) / ((f + 1.0).powi(2) * (f + 3.0) * (f + 5.0));
        for (name, variance) in [("token_kurtosis_uncentred", uncentred), ("token_kurtosis", centred)] {
            let null = metric(name).expect("known").null.expect("a closed form")(d, 2);
            let draws: Vec<f64> = each_token(name, &gaussian_residuals(600, 20_000, d));
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            assert!((mean - null).abs() < 5.0 * (variance / draws.len() as f64).sqrt(), "{name} at {d}: {mean}");
            let squares: Vec<f64> = draws.iter().map(|k| (k - null).powi(2)).collect();
            let (spread, error) = mean_and_error(&squares);
            assert!((spread - variance).abs() < 5.0 * error, "{name} at {d}: {spread}, not {variance}");
        }
    }
}

// The law behind every null: whatever the vector, its Haar rotations have mean kurtosis 3d/(d+2).
#[test]
fn rotations_of_any_fixed_vector_have_the_uncentred_null() {
    let (d, bases) = (32, 400);
    let mut lopsided = vec![0.0; 2 * d];
    lopsided[3] = 1.0;
    lopsided[d..].iter_mut().enumerate().for_each(|(i, v)| *v = (i as f64).exp2().min(1e3));
    let x = residuals(lopsided, d);
    let draws: Vec<Vec<f64>> =
        (0..bases).map(|k| each_token("token_kurtosis_uncentred", &x.rotated(&random_basis(1, k, d)))).collect();
    for token in 0..2 {
        let mean = draws.iter().map(|k| k[token]).sum::<f64>() / bases as f64;
        assert!((mean - 96.0 / 34.0).abs() < 5.0 * 0.694 / (bases as f64).sqrt(), "token {token}: {mean}");
    }
}

// Nulls that hold for any activations, not for Gaussian ones alone: a matrix with outliers, a mean and unequal norms.
#[test]
fn nulls_that_are_called_exact_are_means_over_bases_of_any_activations() {
    let d = 16;
    let x = changed(&gaussian_residuals(603, 30, d), |token, dim, v| {
        (if dim == 3 { 9.0 * v + 5.0 } else { v }) * if token % 7 == 0 { 4.0 } else { 1.0 }
    });
    let filled = value("participation_ratio", &x).expect("defined");
    let (closed, f) = (|name: &str| metric(name).expect("known").null.expect("closed")(d, 30), d as f64);
    let exact = METRICS.iter().filter(|metric| metric.null_is_exact).map(|metric| (metric.name, closed(metric.name)));
    let exact: Vec<(&str, f64)> = exact.collect();
    assert_eq!(exact.len(), 5);
    for (name, expected) in exact.into_iter().chain([("dim_rms_kurtosis", f / (f + 2.0) * (1.0 + 2.0 / filled))]) {
        let texts = metric(name).expect("known").null_text;
        assert!(texts.contains("exact") || name == "token_kurtosis", "{name}");
        let draws: Vec<f64> =
            (0..800).map(|k| value(name, &x.rotated(&random_basis(2, k, d))).expect("defined")).collect();
        let (mean, error) = mean_and_error(&draws);
        assert!((mean - expected).abs() < 4.0 * error, "{name}: {mean} ± {error}, not {expected}");
    }
    let gaussian = metric("dim_rms_kurtosis").expect("known").null.expect("closed")(d, 30);
    assert!(f / (f + 2.0) * (1.0 + 2.0 / filled) > 1.2 * gaussian, "these are not Gaussian tokens");
}

// tr(C)^2 / tr(C^2) of eigenvalues (9, 1, ..., 1) / n.
#[test]
fn the_participation_ratio_counts_directions() {
    let d = 8;
    let x = residuals(
        (0..d * d)
            .map(|at| {
                if at % (d + 1) > 0 {
                    0.0
                } else if at == 0 {
                    3.0
                } else {
                    1.0
                }
            })
            .collect(),
        d,
    );
    assert!(close(value("participation_ratio", &x).expect("defined"), 256.0 / 88.0, 1e-13));
}

// Beyond 65,536 values matrices are multiplied block by block.
#[test]
fn long_matrices_have_the_correlations_of_their_parts() {
    let part = gaussian_residuals(604, 300, 6);
    let long = residuals(part.values().repeat(400), 6);
    for name in ["dim_correlation", "participation_ratio", "varying_kurtosis", "mean_vector_kurtosis"] {
        let of = |x| value(name, x).expect("defined");
        assert!(close(of(&long), of(&part), 1e-11), "{name}: {} and {}", of(&long), of(&part));
    }
}

#[test]
fn a_one_hot_token_reaches_the_ceiling() {
    for d in [4usize, 64, 513] {
        let one_hot = residuals((0..2 * d).map(|i| f64::from(u8::from(i % d == 2))).collect(), d);
        let f = d as f64;
        assert!(close(value("token_kurtosis", &one_hot).expect("defined"), f - 2.0 + 1.0 / (f - 1.0), 1e-13));
        assert_eq!(value("token_kurtosis_uncentred", &one_hot), Some(f));
        assert_eq!(value("dim_rms_kurtosis", &one_hot), Some(f));
        assert_eq!(value("max_dim_energy_share", &one_hot), Some(1.0));
        assert_eq!(value("max_median_ratio", &one_hot), None, "the median is 0");
    }
    let flat = residuals((0..32).map(|i| if i % 3 == 0 { -2.0 } else { 2.0 }).collect(), 16);
    assert_eq!(value("token_kurtosis_uncentred", &flat), Some(1.0));
    assert_eq!(value("max_median_ratio", &flat), Some(1.0));
}

#[test]
fn kurtosis_stays_between_one_and_d() {
    for i in 0..300 {
        let mut rng = stream(0, Purpose::Simulation, 700 + i);
        let d = 4 + (i as usize % 13);
        let power = [0.1, 1.0, 3.0, 9.0][i as usize % 4];
        let heavy = |_| {
            let v = gaussian(&mut rng);
            v.signum() * v.abs().powf(power)
        };
        let x = residuals((0..3 * d).map(heavy).collect(), d);
        for (name, ceiling) in
            [("token_kurtosis", d as f64 - 2.0 + 1.0 / (d as f64 - 1.0)), ("token_kurtosis_uncentred", d as f64)]
        {
            for k in each_token(name, &x) {
                assert!((1.0 - 1e-13..=ceiling * (1.0 + 1e-13)).contains(&k), "{name} {d} {k}");
            }
        }
    }
}

#[test]
fn signs_are_invisible_about_zero_and_visible_about_the_mean() {
    let x = changed(&gaussian_residuals(601, 20, 16), |_, dim, v| if dim == 3 { v + 9.0 } else { v + 1.0 });
    let flipped = changed(&x, |_, dim, v| if dim % 3 == 0 { -v } else { v });
    for name in ["token_kurtosis_uncentred", "dim_rms_kurtosis", "max_median_ratio", "max_dim_energy_share"] {
        let bits = |x| value(name, x).map(f64::to_bits);
        assert_eq!(bits(&x), bits(&flipped), "{name}");
    }
    let [before, after] = [&x, &flipped].map(|x| value("token_kurtosis", x).expect("defined"));
    assert!(!close(before, after, 1e-3));
}

#[test]
fn permuted_dimensions_give_the_same_kurtosis() {
    let x = gaussian_residuals(602, 30, 33);
    let q = Rotation::signed_permutation(33, &mut stream(2, Purpose::Rotation, 0));
    let [a, b] = [&x, &x.rotated(&q)].map(|x| value("token_kurtosis_uncentred", x).expect("defined"));
    assert!(close(a, b, 1e-14), "{a} {b}");
}

#[test]
fn a_rotation_hides_a_planted_outlier_and_its_inverse_brings_it_back() {
    let d = 64;
    let x = changed(&gaussian_residuals(603, 40, d), |_, dim, v| if dim == 11 { 40.0 } else { v });
    let k = |x: &Residuals| value("token_kurtosis", x).expect("defined");
    let bases: Vec<Rotation> = (0..16).map(|i| random_basis(4, i, d)).collect();
    let hidden: f64 = bases.iter().map(|q| k(&x.rotated(q))).sum::<f64>() / 16.0;
    assert!(k(&x) > 50.0 && (2.0..4.5).contains(&hidden), "{} {hidden}", k(&x));
    assert!(close(k(&x), k(&x.rotated(&bases[0]).rotated(&bases[0].transpose())), 1e-9));
    assert_eq!(value("outlier_dims_6x_rms", &x), Some(1.0));
    assert_eq!(value("outlier_dims_6x_rms", &x.rotated(&bases[0])), Some(0.0));
}

// One coordinate at 20 sigma among 1280: ((d-1) 3 + 20^4) / d / ((d-1 + 20^2) / d)^2 = 74.4.
#[test]
fn an_outlier_of_twenty_sigma_has_its_textbook_value() {
    let x = changed(&gaussian_residuals(604, 60, 1280), |_, dim, v| if dim == 7 { 20.0 } else { v });
    let k = value("token_kurtosis", &x).expect("defined");
    assert!((k - 74.4).abs() < 1.0, "{k}");
}

#[test]
fn clamped_metrics_have_the_floors_they_document() {
    for (d, osp, lesswrong) in [(64, 0.178, 0.132), (128, 0.139, 0.117)] {
        let x = gaussian_residuals(605, 20_000, d);
        for (name, expected) in [("osp_excess_kurtosis", osp), ("lesswrong_excess_kurtosis", lesswrong)] {
            let (mean, error) = mean_and_error(&each_token(name, &x));
            assert!((mean - expected).abs() < 4.0 * error, "{name} at {d}: {mean} +- {error}");
            assert!(metric(name).expect("known").null_text.contains(&format!("{expected}")), "{name}");
        }
    }
}

#[test]
fn token_norms_move_pooled_kurtosis_only() {
    let x = gaussian_residuals(606, 128, 64);
    let loud = changed(&x, |token, _, v| if token == 5 { 50.0 * v } else { v });
    let [before, after] = [&x, &loud].map(|x| value("token_kurtosis", x).expect("defined"));
    assert!(close(before, after, 1e-13));
    assert!(value("pooled_kurtosis", &loud).expect("defined") > 200.0);
}

#[test]
fn a_common_offset_moves_the_osp_metric_without_any_outlier() {
    let x = gaussian_residuals(607, 50, 64);
    let raised = changed(&x, |_, _, v| v + 3.0);
    let [before, after] = [&x, &raised].map(|x| value("token_kurtosis", x).expect("defined"));
    assert!(close(before, after, 1e-12));
    assert!(value("osp_excess_kurtosis", &raised).expect("defined") > 100.0);
}

#[test]
fn the_median_tells_a_large_dimension_from_a_large_token() {
    let x = gaussian_residuals(608, 50, 64);
    let dimension = changed(&x, |_, dim, v| if dim == 4 { v + 12.0 } else { v });
    let token = changed(&x, |token, dim, v| if (token, dim) == (0, 4) { 4000.0 } else { v });
    let median = |x| value("token_kurtosis_median", x).expect("defined");
    assert!(median(&dimension) > 20.0 && median(&token) < 3.2);
    assert!(value("token_kurtosis", &token) > Some(3.8), "the mean cannot");
    assert_eq!(value("massive_activations", &token), Some(1.0));
    assert_eq!(value("massive_activations", &dimension), Some(0.0));
}

// Rounding gives many constant tokens a mean beside their value, and a "variance" of 1e-34 with it.
#[test]
fn a_constant_token_has_no_kurtosis() {
    for (d, tenths) in (4..40).flat_map(|d| (1..30).map(move |tenths| (d, tenths))) {
        let flat = residuals(vec![f64::from(tenths) / 10.0; 2 * d], d);
        for name in ["token_kurtosis", "token_kurtosis_median", "osp_excess_kurtosis", "lesswrong_excess_kurtosis"] {
            assert_eq!(value(name, &flat), None, "{name} of {d} times {tenths}/10");
        }
        assert_eq!(value("pooled_kurtosis", &flat), None);
    }
}

#[test]
fn thresholds_are_read_as_documented() {
    let at = |size: f64| residuals([vec![size, -size, 1.0, 1.0, 1.0], vec![1.0; 5]].concat(), 5);
    assert_eq!(value("outlier_dims_abs6", &at(6.0)), Some(0.0), "more than 6");
    assert_eq!(value("outlier_dims_abs6", &at(6.0001)), Some(2.0), "either sign");
    assert_eq!(value("massive_activations", &at(1000.0)), Some(2.0), "at least a thousand medians");
    assert_eq!(value("massive_activations", &at(999.0)), Some(0.0));
    let quiet = changed(&at(100.0), |_, _, v| if v.abs() == 1.0 { 0.01 } else { v });
    assert_eq!(value("massive_activations", &quiet), Some(0.0), "more than 100");
}

#[test]
fn medians_of_even_counts_are_the_middle_of_two() {
    let x = residuals([[1.0, 2.0, 4.0, -9.0], [0.0, -1.0, 1.0, 3.0]].concat(), 4);
    assert_eq!(value("max_median_ratio", &x), Some((9.0 / 3.0 + 3.0 / 1.0) / 2.0));
    let odd = residuals([[1.0, 2.0, 4.0, -9.0, 0.0], [0.0, -1.0, 1.0, 3.0, 0.5]].concat(), 5);
    assert_eq!(value("max_median_ratio", &odd), Some((9.0 / 2.0 + 3.0 / 1.0) / 2.0));
}

#[test]
fn dettmers_needs_a_quarter_of_layers_and_six_percent_of_positions() {
    let of = |layers: &[Residuals]| metric("dettmers_outlier_features").expect("known").of.of(layers);
    // 50 positions a layer; dimension 1 is at 6 in the first `hits` positions of the first `layers` layers.
    let stack = |n_layers: usize, layers: usize, hits: usize| -> Vec<Residuals> {
        let layer = |l: usize| {
            let large = |i: usize| i % 4 == 1 && i / 4 < hits && l < layers;
            residuals((0..200).map(|i| if large(i) { -6.0 } else { 5.99 }).collect(), 4)
        };
        (0..n_layers).map(layer).collect()
    };
    assert_eq!(of(&stack(4, 1, 12)), Some(1.0), "one layer of four, 12 of 200 positions");
    assert_eq!(of(&stack(4, 1, 11)), Some(0.0), "11 of 200 are 5.5 %");
    assert_eq!(of(&stack(5, 1, 50)), Some(0.0), "one layer of five");
    assert_eq!(of(&stack(5, 2, 8)), Some(1.0), "positions are pooled: 16 of 250");
    assert_eq!(of(&[]), None);
    let mut ragged = stack(2, 1, 5);
    ragged.push(gaussian_residuals(609, 50, 5));
    assert_eq!(of(&ragged), None, "layers of different width");
}

// Values and thresholds that meet exactly: a median that is wrong by one rank changes the count.
#[test]
fn massive_activations_agree_with_sorting() {
    for i in 0..200 {
        let mut rng = stream(0, Purpose::Simulation, 900 + i);
        let (n, d) = (2 + (i as usize % 9), 4 + (i as usize % 5));
        let tail = [1, 3, 40, 2000][i as usize % 4];
        // Large values are thousands of halves of the small ones' steps, as medians of even counts are.
        let mut draw = || {
            let mut k = |most: u64| 1.0 + below(&mut rng, most) as f64;
            let large = k(10) < 4.0;
            f64::from(tail) / 8.0 * if large { -500.0 * k(2 + 2 * (i % 7)) } else { k(1 + i % 7) }
        };
        let x = residuals((0..n * d).map(|_| draw()).collect(), d);
        let mut sorted: Vec<f64> = x.values().iter().map(|v| v.abs()).collect();
        sorted.sort_by(f64::total_cmp);
        let middle = (sorted[(n * d - 1) / 2] + sorted[n * d / 2]) / 2.0;
        let count = sorted.iter().filter(|v| **v > 100.0 && **v >= 1000.0 * middle).count();
        assert_eq!(value("massive_activations", &x), Some(count as f64), "{n} x {d}: median {middle}");
    }
}

// Of so many tokens no statistics are kept.
#[test]
fn a_long_matrix_has_the_means_of_its_tokens() {
    let x = gaussian_residuals(610, 70_003, 5);
    let mut kurtosis: Vec<f64> = Vec::new();
    let mut ratio = 0.0;
    for row in x.rows() {
        let mean = row.iter().sum::<f64>() / 5.0;
        let central = |power: i32| row.iter().map(|v| (v - mean).powi(power)).sum::<f64>() / 5.0;
        kurtosis.push(central(4) / central(2).powi(2));
        let mut sizes: Vec<f64> = row.iter().map(|v| v.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        ratio += sizes[4] / sizes[2] / 70_003.0;
    }
    let mean = kurtosis.iter().sum::<f64>() / 70_003.0;
    kurtosis.sort_by(f64::total_cmp);
    for (name, expected) in
        [("token_kurtosis", mean), ("token_kurtosis_median", kurtosis[35_001]), ("max_median_ratio", ratio)]
    {
        assert!(close(value(name, &x).expect("defined"), expected, 1e-10), "{name}");
    }
    let silent = changed(&x, |token, _, v| if token == 70_000 { 0.0 } else { v });
    for name in ["token_kurtosis", "token_kurtosis_median", "max_median_ratio", "token_kurtosis_uncentred"] {
        assert_eq!(value(name, &silent), None, "{name}");
    }
}

/// The metric token by token (each doubled, since residuals hold at least two).
fn each_token(name: &str, x: &Residuals) -> Vec<f64> {
    (0..x.n_tokens()).map(|t| value(name, &x.subset(&[t, t])).expect("defined")).collect()
}
