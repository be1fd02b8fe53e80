//! Values within some units in the last place of each other, against exact integers.

use super::{residuals, value};
use crate::{Purpose, below, dimensions, stream};
use rand_chacha::ChaCha8Rng;

/// `n` whole numbers from 0 to 3, not all equal.
fn pattern(n: usize, rng: &mut ChaCha8Rng) -> Vec<i128> {
    loop {
        let k: Vec<i128> = (0..n).map(|_| i128::from(below(rng, 4))).collect();
        if k.iter().any(|other| *other != k[0]) {
            return k;
        }
    }
}

/// `n^power` times the sum of that power of the deviations: exact.
fn central(k: &[i128], power: u32) -> f64 {
    let (n, sum) = (k.len() as i128, k.iter().sum::<i128>());
    k.iter().map(|k| (n * k - sum).pow(power)).sum::<i128>() as f64
}

fn kurtosis(k: &[i128]) -> f64 {
    k.len() as f64 * central(k, 4) / central(k, 2).powi(2)
}

/// The number `steps` units in the last place above a positive number.
fn above(base: f64, steps: i128) -> f64 {
    f64::from_bits(base.to_bits() + steps as u64)
}

fn same(found: Option<f64>, expected: f64, what: &str) {
    let found = found.unwrap_or_else(|| panic!("{what}: no value, expected {expected}"));
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{what}: {found}, expected {expected}");
}

#[test]
fn kurtosis_of_a_token_within_some_ulps_is_that_of_its_pattern() {
    let mut rng = stream(0, Purpose::Simulation, 410);
    for round in 0..400 {
        let base = [1.0, 0.1, -7.3, 1e6, 1e-9, -3e12, 123.456, 2.5e-20][round % 8];
        let d = 4 + below(&mut rng, 60) as usize;
        let k = [pattern(d, &mut rng), pattern(d, &mut rng)];
        let values: Vec<f64> = k.concat().iter().map(|k| above(base, *k)).collect();
        let x = residuals(values, d);
        let what = |name: &str| format!("{name} of {d} values at {base}");
        let exact = k.each_ref().map(|k| kurtosis(k));
        let mean = |of: &dyn Fn(f64) -> f64| (of(exact[0]) + of(exact[1])) / 2.0;
        for name in ["token_kurtosis", "token_kurtosis_median"] {
            same(value(name, &x), mean(&|k| k), &what(name));
        }
        let shrunk = ((d - 1) as f64 / d as f64).powi(2);
        let excess = mean(&|k| (k * shrunk - 3.0).max(0.0));
        same(value("lesswrong_excess_kurtosis", &x), excess, &what("lesswrong"));
        // The fourth moment about zero is that of a constant; the spread is that of the pattern.
        let ulp = above(base, 1) - base;
        let variance = |k: &[i128]| central(k, 2) / (d * d * (d - 1)) as f64 * ulp * ulp;
        let osp = k.iter().map(|k| base.powi(4) / variance(k).powi(2)).sum::<f64>() / 2.0;
        let found = value("osp_excess_kurtosis", &x).expect("a spread");
        assert!((found / osp - 1.0).abs() < 1e-9, "{found}, not {osp}");
        same(value("pooled_kurtosis", &x), kurtosis(&k.concat()), &what("pooled"));
    }
}

#[test]
fn moments_of_a_dimension_within_some_ulps_are_those_of_its_pattern() {
    let mut rng = stream(0, Purpose::Simulation, 411);
    for round in 0..200 {
        let base = [1.0, 0.3, 5e5, 1e-8, 77.7][round % 5];
        let n = 3 + below(&mut rng, 80) as usize;
        let columns: Vec<Vec<i128>> = (0..4).map(|_| pattern(n, &mut rng)).collect();
        let values = (0..n * 4).map(|at| above(base, columns[at % 4][at / 4])).collect();
        let ulp = above(base, 1) - base;
        for (m, k) in dimensions(&residuals(values, 4)).iter().zip(&columns) {
            let what = format!("dimension {} of {n} tokens at {base}", m.dim);
            same(m.kurtosis, kurtosis(k), &what);
            same(m.skewness, (n as f64).sqrt() * central(k, 3) / central(k, 2).powf(1.5), &what);
            same(Some(m.variance / (ulp * ulp)), central(k, 2) / (n * n * n) as f64, &what);
            let mean = k.iter().sum::<i128>() as f64 / n as f64;
            assert!((m.mean - base - mean * ulp).abs() <= ulp, "{what}: mean {}", m.mean);
        }
    }
}

// Twice the threshold and half of it: neither side may lose what the other keeps.
#[test]
fn both_sides_of_the_threshold_agree_with_exact_sums() {
    let mut rng = stream(0, Purpose::Simulation, 412);
    for step in [40, 30, 22, 21, 20, 19, 18, 10] {
        let k = [pattern(32, &mut rng), pattern(32, &mut rng)];
        let spacing = (-f64::from(step)).exp2();
        let x = residuals(k.concat().iter().map(|k| 1.0 + *k as f64 * spacing).collect(), 32);
        same(value("token_kurtosis", &x), (kurtosis(&k[0]) + kurtosis(&k[1])) / 2.0, &format!("steps of 2^-{step}"));
    }
}
