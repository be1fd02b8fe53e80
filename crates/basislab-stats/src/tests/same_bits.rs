//! Fast algorithms against their definitions in the plainest form, bit for bit.

use super::{changed, gaussian_residuals, residuals, value};
use crate::metrics::median_size_in_place;
use crate::metrics::shape;
use crate::metrics::shared::peaks;
use crate::{DimensionMoments, Purpose, Residuals, Wanted, below, dimensions, gaussian, measure, random_basis, stream};
use basislab_config::Tokens;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

/// The two middle magnitudes by sorting; for an odd count the middle one twice.
fn middle_two(values: &[f64]) -> [f64; 2] {
    let mut sizes: Vec<f64> = values.iter().map(|value| value.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    [sizes[(sizes.len() - 1) / 2], sizes[sizes.len() / 2]]
}

/// `n` values of each of several kinds.
fn kinds(n: usize, index: u64) -> Vec<Vec<f64>> {
    let mut rng = stream(index, Purpose::Simulation, 600);
    let normal: Vec<f64> = (0..n).map(|_| gaussian(&mut rng)).collect();
    let each = |of: &dyn Fn(usize, f64) -> f64| normal.iter().enumerate().map(|(at, v)| of(at, *v)).collect();
    vec![
        each(&|_, v| (3.0 * v).exp() * v.signum()),
        each(&|_, v| v.round()),
        each(&|_, v| if v > 0.3 { 0.0 } else { -0.0 }),
        each(&|at, _| if at < n / 2 { 1.0 } else { 2.0 }),
        each(&|at, _| if at < n / 2 + 1 { 1e-300 } else { f64::MAX }),
        // What a sample at any regular distance would see is unlike the rest.
        each(&|at, v| if at % 251 == 0 { 1e9 * v } else { v }),
        each(&|at, v| if at < n / 4 { 1e-9 * v } else { v }),
        // What a sample of every 251st sees is the upper one of the two middle values alone, and the lower one alone.
        each(&|at, _| match at % 251 {
            0 => 2.0,
            _ => f64::from(1 + 2 * u8::from(at - at / 251 > n / 2)),
        }),
        each(&|at, _| match at % 251 {
            0 => 2.0,
            _ => f64::from(1 + 2 * u8::from(at - at / 251 + n.div_ceil(251) > n / 2)),
        }),
        each(&|at, v| at as f64 + 0.1 * v),
        vec![f64::MAX; n],
        vec![5e-324; n],
        normal,
    ]
}

#[test]
fn the_median_of_a_matrix_is_the_middle_of_its_sorted_magnitudes() {
    let lengths = [1, 2, 3, 251, 252, 1000, 4096, 5023, 5024, 20_000, 99_999, 100_000];
    for (n, index) in lengths.into_iter().zip(0..) {
        for (kind, values) in kinds(n, index).iter().enumerate() {
            let [lower, upper] = middle_two(values);
            // The sum of two equal values could overflow.
            let expected = if lower < upper { 0.5 * (lower + upper) } else { upper };
            let found = median_size_in_place(values);
            assert_eq!(found.to_bits(), expected.to_bits(), "kind {kind} of {n} values: {found}, not {expected}");
        }
    }
}

#[test]
fn the_peak_of_a_token_is_its_largest_magnitude_over_its_median() {
    for (d, index) in [4, 5, 8, 31, 64, 65, 255, 576, 1500].into_iter().zip(100..) {
        // Scales far from the token before.
        let scales = [1.0, 1.2, 1e-3, 1e250, 1e-250, 1.0, 0.0, 1.0, 1e300, 5e-324, 1e9];
        let rows = (0..20).flat_map(|row| kinds(d, index + 20 * row));
        let rows = rows.enumerate().map(|(at, row)| row.iter().map(|v| v.clamp(-1e8, 1e8) * scales[at % 11]).collect());
        let rows: Vec<Vec<f64>> = rows.chain(kinds(d, index)).collect();
        for (at, (found, row)) in peaks(&rows.concat(), d).into_iter().zip(&rows).enumerate() {
            let [lower, upper] = middle_two(row);
            let middle = if d.is_multiple_of(2) { 0.5 * (lower + upper) } else { upper };
            let largest = row.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
            let expected = if middle.is_normal() { largest / middle } else { f64::NAN };
            let expected = if expected.is_finite() { expected } else { f64::NAN };
            assert_eq!(found.to_bits(), expected.to_bits(), "token {at} of width {d}: {found}, not {expected}");
        }
    }
}

/// Activations with large dimensions and tokens, and a dimension that does not vary.
fn uneven(n_tokens: usize, d: usize) -> Residuals {
    changed(&gaussian_residuals(610 + d as u64, n_tokens, d), |token, dim, value| match (token % 50, dim % 13) {
        (_, 3) => 0.1,
        (0, _) => 300.0 * value,
        (_, 5) => 60.0 * value + 7.0,
        _ => value + 0.2,
    })
}

/// Shapes whose products of matrices are small, end with a single token, or are cut into blocks.
const SHAPES: [[usize; 2]; 13] = [
    [2, 16],
    [2, 4],
    [300, 4],
    [9, 16],
    [64, 16],
    [33, 63],
    [1025, 64],
    [1029, 64],
    [700, 100],
    [256, 257],
    [227, 576],
    [230, 576],
    [129, 700],
];

/// `sum over tokens of (x - centre)(x - centre)^T`, all of it, in the blocks that results have always had.
fn gram(x: &Residuals, centre: &[f64]) -> Mat<f64> {
    let d = x.d_model();
    let mut gram = Mat::zeros(d, d);
    for rows in x.values().chunks(d * (65536 / d).max(64)) {
        let rows: Vec<f64> = rows.iter().enumerate().map(|(at, value)| value - centre[at % d]).collect();
        let rows = MatRef::from_row_major_slice(&rows, rows.len() / d, d);
        matmul(&mut gram, Accum::Add, rows.transpose(), rows, 1.0, Par::Seq);
    }
    gram
}

fn mean(x: &Residuals) -> Vec<f64> {
    let sum = |dim| x.rows().fold(0.0, |sum, row| sum + row[dim]);
    (0..x.d_model()).map(|dim| sum(dim) / x.n_tokens() as f64).collect()
}

#[test]
fn half_of_a_product_has_the_bits_of_the_whole() {
    for [n, d] in SHAPES {
        let x = uneven(n, d);
        let (mean, zeros) = (mean(&x), vec![0.0; d]);
        for (half, whole) in
            [(shape::gram(&x, Some(&mean)), gram(&x, &mean)), (shape::gram(&x, None), gram(&x, &zeros))]
        {
            for (k, j) in (0..d).flat_map(|k| (0..=k).map(move |j| (k, j))) {
                let [found, above, below] = [half[(j, k)], whole[(j, k)], whole[(k, j)]].map(f64::to_bits);
                assert!(found == above && found == below, "{j}, {k} of {n} x {d}");
            }
        }
    }
}

#[test]
fn the_correlation_of_dimensions_is_that_of_the_whole_product() {
    for [n, d] in SHAPES {
        let x = uneven(n, d);
        let gram = gram(&x, &mean(&x));
        let varies = |j: usize| x.rows().any(|row| row[j] != x.values()[j]);
        let mut squares = 0.0;
        for k in (0..d).filter(|k| varies(*k)) {
            for j in (0..k).filter(|j| varies(*j)) {
                squares += gram[(j, k)] * gram[(j, k)] / (gram[(j, j)] * gram[(k, k)]);
            }
        }
        let expected = squares / (d * (d - 1) / 2) as f64;
        let found = value("dim_correlation", &x).expect("dimensions vary");
        assert_eq!(found.to_bits(), expected.to_bits(), "{n} x {d}: {found}, not {expected}");
    }
}

#[test]
fn the_participation_ratio_is_that_of_the_whole_product() {
    for [n, d] in SHAPES {
        let x = uneven(n, d);
        let gram = gram(&x, &vec![0.0; d]);
        let trace = (0..d).fold(0.0, |sum, j| sum + gram[(j, j)]);
        // Eight running sums of each column, then what is left of it.
        let column = |k: usize| {
            let mut lanes = [0.0; 8];
            (0..d - d % 8).for_each(|j| lanes[j % 8] += gram[(j, k)] * gram[(j, k)]);
            let rest = (d - d % 8..d).fold(0.0, |sum, j| sum + gram[(j, k)] * gram[(j, k)]);
            lanes.iter().sum::<f64>() + rest
        };
        let expected = trace * trace / (0..d).map(column).sum::<f64>();
        let found = value("participation_ratio", &x).expect("not 0");
        assert_eq!(found.to_bits(), expected.to_bits(), "{n} x {d}: {found}, not {expected}");
    }
}

#[test]
fn the_mean_vector_is_the_sum_in_the_order_of_tokens() {
    for [n, d] in SHAPES {
        let x = uneven(n, d);
        let bits = |mean: Vec<f64>| mean.into_iter().map(f64::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(x.columns().means(n)), bits(mean(&x)), "{n} x {d}");
    }
}

/// The moments of one dimension, pass by pass over its column.
fn by_column(x: &Residuals, dim: usize, energy: f64) -> DimensionMoments {
    let n = x.n_tokens() as f64;
    let column: Vec<f64> = x.rows().map(|row| row[dim]).collect();
    let constant = column.iter().all(|value| *value == column[0]);
    let mut mean = if constant { column[0] } else { column.iter().sum::<f64>() / n };
    let about = |origin: f64, centre: f64, power: i32| {
        column.iter().map(|value| (value - origin - centre).powi(power)).sum::<f64>() / n
    };
    let (mut origin, mut centre) = (0.0, mean);
    if about(0.0, mean, 2).sqrt() < 1e-6 * mean.abs() && !constant {
        (origin, centre) = (column[0], column.iter().map(|value| value - column[0]).sum::<f64>() / n);
        mean = origin + centre;
    }
    let [m2, m3, m4] = [2, 3, 4].map(|power| about(origin, centre, power));
    let squares = column.iter().map(|value| value * value).sum::<f64>();
    let [min, max] =
        [column.iter().copied().fold(f64::INFINITY, f64::min), column.iter().copied().fold(-1e308, f64::max)];
    let defined = |value: f64| ((m2 * m2).is_normal() && value.is_finite()).then_some(value);
    DimensionMoments {
        dim,
        mean,
        rms: (squares / n).sqrt(),
        variance: m2,
        skewness: defined(m3 / m2.powf(1.5)),
        kurtosis: defined(m4 / (m2 * m2)),
        min,
        max,
        max_abs: max.abs().max(min.abs()),
        share_of_energy: squares / energy,
    }
}

#[test]
fn moments_of_a_dimension_are_those_of_its_column() {
    let mut rng = stream(0, Purpose::Simulation, 601);
    for [n, d] in SHAPES {
        // Dimensions of zeros of both signs, and within some units in the last place of a number.
        let mut values = uneven(n, d).values().to_vec();
        for (at, value) in values.iter_mut().enumerate() {
            match at % d % 17 {
                1 => *value = if below(&mut rng, 2) == 0 { 0.0 } else { -0.0 },
                2 => *value = f64::from_bits(7.3f64.to_bits() + below(&mut rng, 4)),
                _ => {}
            }
        }
        let x = residuals(values, d);
        let energy = x.values().iter().map(|value| value * value).sum();
        for found in dimensions(&x) {
            // What is printed of a number reads back as the same bits.
            assert_eq!(format!("{found:?}"), format!("{:?}", by_column(&x, found.dim, energy)), "{n} x {d}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let x = uneven(400, 64);
    let (own, random) = (random_basis(1, 0, 64), [random_basis(2, 0, 64), random_basis(2, 1, 64)]);
    let wanted = Wanted {
        n_ctx: Some(50),
        optimizer: Some(&own),
        detailed: Tokens::All,
        random: &random,
        further: None,
        dimensions: true,
        sizes: None,
    };
    let of = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        format!("{:?}", pool.install(|| measure(&x.clone(), &wanted)))
    };
    let alone = of(1);
    (2..5).for_each(|threads| assert!(of(threads) == alone, "{threads} threads"));
    assert!(alone.contains("Random(1)"));
}
