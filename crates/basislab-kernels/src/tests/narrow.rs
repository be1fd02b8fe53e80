//! Products with weights in bf16: exact sums of rounded factors, in all three directions.

use super::{Random, close, double, on_each_level, single};
use crate::{Chain, Linear, Map, Part, Precision};

/// To 8 significant bits, ties to even.
fn rounded(x: &[f64]) -> Vec<f64> {
    let round = |x: &f64| {
        let bits = (*x as f32).to_bits();
        f64::from(f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000))
    };
    x.iter().map(round).collect()
}

/// `[n, k] [k, m] -> [n, m]` by a function of the two indices of each factor.
fn product(n: usize, k: usize, m: usize, a: impl Fn(usize, usize) -> f64, b: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let element = |i: usize, j: usize| (0..k).map(|p| a(i, p) * b(p, j)).sum::<f64>();
    (0..n * m).map(|at| element(at / m, at % m)).collect()
}

#[test]
fn factors_are_rounded_to_bf16_and_sums_are_not() {
    on_each_level(|seed| {
        let mut random = Random(seed);
        let (rows, d, out) = (1 + random.below(700), 1 + random.below(40), 1 + random.below(70));
        let is_transposed = seed % 2 == 1;
        let (x, w, dy) = (random.numbers(rows * d, 1.0), random.numbers(d * out, 1.0), random.numbers(rows * out, 1.0));
        let map = Map { weight: 1, is_transposed, bias: None, out };
        let linear = Linear { maps: vec![map], precision: Precision::Bf16 };
        let chain = Chain::new(1, d, vec![Part::Linear(linear)]);
        let (x_32, w_32) = (single(&x), single(&w));
        let (y, saved) = chain.forward(&[&x_32, &w_32], true);
        let [dx, dw] = &chain.backward(&[&x_32, &w_32], &saved.unwrap(), single(&dy))[..] else { panic!("two inputs") };
        let [x, w, dy] = [x, w, dy].map(|x| rounded(&x));
        let weight = |i: usize, j: usize| if is_transposed { w[j * d + i] } else { w[i * out + j] };
        let exact = product(rows, d, out, |i, p| x[i * d + p], weight);
        close(&double(&y), &exact, 1e-6, "product");
        let exact = product(rows, out, d, |i, p| dy[i * out + p], |p, j| weight(j, p));
        close(&double(dx), &exact, 1e-6, "gradient of the rows");
        let exact = product(d, rows, out, |i, p| x[p * d + i], |p, j| dy[p * out + j]);
        let in_place = |at: usize| if is_transposed { exact[at % d * out + at / d] } else { exact[at] };
        close(&double(dw), &(0..d * out).map(in_place).collect::<Vec<_>>(), 2e-6, "gradient of the weight");
    });
}
