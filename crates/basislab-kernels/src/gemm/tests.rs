//! Products against sums in f64 and, bit for bit, against one chain of scalar sums per element.

use super::*;
use crate::chunks::{WeightGradient, weight_gradients};
use crate::pairs;
use crate::simd::tests::FALLBACK;
use crate::tests::Random;

const SIZES: [usize; 14] = [1, 2, 3, 5, 7, 13, 16, 17, 31, 33, 37, 64, 97, 129];

/// A matrix in a slice with gaps, perhaps transposed.
struct Matrix {
    data: Vec<f32>,
    rows: usize,
    columns: usize,
    gap: usize,
    turned: bool,
}

impl Matrix {
    fn new(
        random: &mut Random,
        rows: usize,
        columns: usize,
        turned: bool,
        number: impl Fn(&mut Random) -> f32,
    ) -> Self {
        let gap = random.below(4);
        let (across, along) = if turned { (columns, rows) } else { (rows, columns) };
        // As short as may be: the last row has no gap.
        let data = (0..across * (along + gap) - gap).map(|_| number(random)).collect();
        Self { data, rows, columns, gap, turned }
    }

    fn view(&self) -> Mat<'_> {
        if self.turned {
            Mat::new(&self.data, self.columns, self.rows, self.rows + self.gap).transposed()
        } else {
            Mat::new(&self.data, self.rows, self.columns, self.columns + self.gap)
        }
    }

    fn at(&self, i: usize, j: usize) -> f32 {
        if self.turned {
            self.data[j * (self.rows + self.gap) + i]
        } else {
            self.data[i * (self.columns + self.gap) + j]
        }
    }
}

fn usual(random: &mut Random) -> f32 {
    random.next() as f32
}

/// Of all sizes, often so small that products or sums are at the end of the exponents; zeros, infinity and NaN.
fn extreme(random: &mut Random) -> f32 {
    let exponent = [0, 1, 127, 60 + random.below(12), random.below(255), 64, 64, 64][random.below(8)];
    let digits = [0, 0, random.below(1 << 23), random.below(8) << 20][random.below(4)];
    let x = f32::from_bits((exponent << 23 | digits) as u32).copysign(random.next() as f32);
    match random.below(500) {
        0 => f32::NAN,
        1 => f32::INFINITY,
        2..20 => 0.0f32.copysign(x),
        _ => x,
    }
}

fn as_bf16(x: f32) -> f32 {
    f32::from_bits(pairs::narrow(x) << 16)
}

/// One element as the kernels compute it at `level`.
fn chain(level: Level, a: impl Fn(usize) -> f32, b: impl Fn(usize) -> f32, k: usize) -> f32 {
    let word = |x: &dyn Fn(usize) -> f32, p: usize| {
        let second = if 2 * p + 1 < k { x(2 * p + 1) } else { 0.0 };
        pairs::pair(x(2 * p), second).to_bits()
    };
    (0..level.steps(k)).fold(0.0, |sum, p| match level.precision {
        Precision::F32 if level.fuses() => a(p).mul_add(b(p), sum),
        Precision::F32 => a(p) * b(p) + sum,
        Precision::Bf16 => pairs::multiply_add(word(&a, p), word(&b, p), sum),
    })
}

fn same(x: f32, y: f32) -> bool {
    x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan()
}

fn random_size(random: &mut Random) -> usize {
    SIZES[random.below(SIZES.len())]
}

#[test]
fn products_are_their_sums_in_one_order() {
    for precision in [Precision::F32, Precision::Bf16] {
        for (number, level) in Level::all(precision).into_iter().enumerate() {
            let mut random = Random(number as u64);
            for trial in 0..60 {
                let (m, n, k) = (random_size(&mut random), random_size(&mut random), random_size(&mut random));
                let numbers = if trial % 3 == 0 { extreme } else { usual };
                let mut turned = [random.below(2) == 1, random.below(2) == 1, random.below(2) == 1];
                // A wide transposed matrix, which is rearranged in pieces.
                let n = if trial == 58 { 1100 } else { n };
                turned[1 + n % 2] |= trial == 58;
                let a = Matrix::new(&mut random, m, k, turned[0], numbers);
                let parts = [n, 1 + n / 3].map(|n| Matrix::new(&mut random, k, n, turned[1 + n % 2], numbers));
                let parts = if trial % 2 == 0 { &parts[..1] } else { &parts };
                let b = Packed::at(level, &parts.iter().map(Matrix::view).collect::<Vec<_>>());
                let b_at = |p: usize, j: usize| if j < n { parts[0].at(p, j) } else { parts[1].at(p, j - n) };
                let stride = b.columns + random.below(3);
                let before = Matrix::new(&mut random, 1, (m - 1) * stride + b.columns, false, usual).data;
                let sums: Vec<f32> = (0..m * b.columns)
                    .map(|at| chain(level, |p| a.at(at / b.columns, p), |p| b_at(p, at % b.columns), k))
                    .collect();
                for (add, scale) in [(false, 1.0), (true, 1.0), (false, -0.37), (true, 2.5)] {
                    let mut out = before.clone();
                    multiply(a.view(), &b, &mut out, stride, add, scale);
                    for (at, (found, before)) in out.iter().zip(&before).enumerate() {
                        let (i, j) = (at / stride, at % stride);
                        if j >= b.columns {
                            assert!(same(*found, *before), "a number between two rows of the result was overwritten");
                            continue;
                        }
                        let sum = sums[i * b.columns + j];
                        let expected = match add {
                            false => scale * sum,
                            true if level.fuses() => scale.mul_add(sum, *before),
                            true => scale * sum + before,
                        };
                        let what = format!("{level:?}, {m} x {n} x {k}, ({i}, {j})");
                        assert!(same(*found, expected), "{what}: {found:e}, not {expected:e}");
                        if trial % 3 != 0 && add {
                            let number = |x| f64::from(if precision == Precision::Bf16 { as_bf16(x) } else { x });
                            let exact: f64 = (0..k).map(|p| number(a.at(i, p)) * number(b_at(p, j))).sum();
                            let exact = f64::from(scale) * exact + f64::from(*before);
                            assert!((f64::from(*found) - exact).abs() < 5e-5, "{what}: {found}, not {exact}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn products_of_unpacked_matrices_are_their_sums_in_one_order() {
    for fallback in [false, true] {
        FALLBACK.set(fallback);
        let (level, mut random) = (Level::new(Precision::F32), Random(7));
        for _ in 0..150 {
            let (m, n, k) = (random_size(&mut random), random_size(&mut random), random_size(&mut random));
            let turned = [random.below(2) == 1, random.below(3) == 1];
            let a = Matrix::new(&mut random, m, k, turned[0], usual);
            let b = Matrix::new(&mut random, k, n, turned[1], usual);
            let mut out = vec![f32::NAN; m * n];
            matmul(a.view(), b.view(), &mut out, n, false, 0.5);
            for (at, found) in out.iter().enumerate() {
                let expected = 0.5 * chain(level, |p| a.at(at / n, p), |p| b.at(p, at % n), k);
                assert!(same(*found, expected), "{m} x {n} x {k}: {found}, not {expected}");
            }
        }
    }
    FALLBACK.set(false);
}

#[test]
fn the_bits_of_a_row_do_not_depend_on_how_many_rows_there_are() {
    for precision in [Precision::F32, Precision::Bf16] {
        let mut random = Random(3);
        let (a, b) = (Matrix::new(&mut random, 101, 70, false, usual), Matrix::new(&mut random, 70, 50, false, usual));
        let packed = Packed::new(&[b.view()], precision);
        let (mut whole, mut cut) = (vec![0.0; 101 * 50], vec![0.0; 101 * 50]);
        multiply(a.view(), &packed, &mut whole, 50, false, 1.0);
        for first in (0..101).step_by(17) {
            let rows = 17.min(101 - first);
            multiply(a.view().rows(first, rows), &packed, &mut cut[first * 50..], 50, false, 1.0);
        }
        assert!(whole.iter().zip(&cut).all(|(x, y)| same(*x, *y)));
    }
}

#[test]
fn nothing_is_summed_over_no_rows() {
    let b = Packed::new(&[Mat::new(&[], 0, 3, 3)], Precision::Bf16);
    let mut out = [1.0; 6];
    multiply(Mat::new(&[], 2, 0, 0), &b, &mut out, 3, true, 1.0);
    assert_eq!(out, [1.0; 6]);
    matmul(Mat::new(&[], 2, 0, 0), Mat::new(&[], 0, 3, 3), &mut out, 3, false, 1.0);
    assert_eq!(out, [0.0; 6]);
}

#[test]
fn the_instruction_for_pairs_computes_what_its_description_says() {
    if !Level::new(Precision::Bf16).paired {
        #[allow(clippy::print_stderr, reason = "skipped tests are counted")]
        return eprintln!("skipped: no AVX512-BF16 on this CPU");
    }
    let product = |level: Level, a: &[f32], b: &[f32]| {
        let mut out = [0.0];
        multiply(Mat::dense(a, a.len()), &Packed::at(level, &[Mat::dense(b, 1)]), &mut out, 1, false, 1.0);
        out[0]
    };
    let power = |exponent: i32| 2f32.powi(exponent);
    let least = f32::MIN_POSITIVE;
    for level in Level::all(Precision::Bf16) {
        for (a, b, expected) in [
            // The second product is added first: 1 is lost next to 2^24 only if it comes between it and -2^24.
            ([1.0, power(12), 0.0, -power(12)], [1.0, power(12), 0.0, power(12)], 0.0),
            ([-power(12), power(12), 1.0, 0.0], [power(12), power(12), 1.0, 0.0], 1.0),
            ([0.0, power(12), -power(12), 1.0], [0.0, power(12), power(12), 1.0], 0.0),
            // What is below the smallest normal number counts as zero.
            ([least / 2.0, 0.0, 0.0, 0.0], [power(100), 0.0, 0.0, 0.0], 0.0),
            ([power(-70), 0.0, 0.0, 0.0], [power(-60), 0.0, 0.0, 0.0], 0.0),
            // A product that small counts within a sum.
            ([-power(-75), power(-63), 0.0, 0.0], [power(-62), power(-61), 0.0, 0.0], 4.0 * least - power(-137)),
            // Half of the last digit below the smallest normal number would round to that number, and is zero instead.
            ([-power(-75), power(-63), 0.0, 0.0], [power(-75), power(-63), 0.0, 0.0], 0.0),
            ([-power(-76), power(-63), 0.0, 0.0], [power(-75), power(-63), 0.0, 0.0], least),
        ] {
            let found = product(level, &a, &b);
            assert!(same(found, expected), "{level:?}: {a:?} {b:?} is {found:e}, not {expected:e}");
        }
        let sign = product(level, &[-power(-70)], &[power(-70)]);
        assert!(same(sign, -0.0), "a small result keeps its sign");
    }
}

#[test]
fn the_nearest_bf16_is_found() {
    let mut random = Random(11);
    for _ in 0..100_000 {
        let x = extreme(&mut random);
        let found = as_bf16(x);
        if x.is_nan() {
            assert!(found.is_nan());
        } else if x.abs() < f32::MIN_POSITIVE {
            assert!(same(found, 0.0f32.copysign(x)));
        } else if x.is_finite() {
            let down = x.to_bits() & 0xffff_0000;
            // In f64, where what follows the largest number is no infinity.
            let [low, high] = [down, down + 0x1_0000].map(|bits| {
                let exponent = (bits >> 23 & 255) as i32 - 127;
                (1.0 + f64::from(bits & 0x7f_ffff) / f64::from(1 << 23)) * 2f64.powi(exponent)
            });
            let (to_low, to_high) = (f64::from(x.abs()) - low, high - f64::from(x.abs()));
            let up = to_high < to_low || to_high == to_low && down & 0x1_0000 != 0;
            assert_eq!(found.to_bits(), if up { down + 0x1_0000 } else { down }, "{x:e}");
        } else {
            assert!(same(found, x));
        }
    }
}

/// `[rows, inputs]`, `[rows, outputs]`: both are columns of a wider matrix.
fn gradients(precision: Precision, x: &[Matrix; 2], scale: f32) -> Vec<f32> {
    let [x, dy] = x.each_ref().map(|side| side.view().columns(1, side.columns - 2));
    let mut gradient = vec![f32::NAN; x.columns * dy.columns];
    let mut second = gradient.clone();
    weight_gradients(vec![
        WeightGradient { x, dy, into: &mut gradient, scale, precision },
        WeightGradient { x, dy, into: &mut second, scale, precision },
    ]);
    assert!(gradient.iter().zip(&second).all(|(x, y)| same(*x, *y)));
    gradient
}

#[test]
fn weight_gradients_are_their_sums_on_any_number_of_threads() {
    for (precision, fallback) in
        [Precision::F32, Precision::Bf16].into_iter().flat_map(|precision| [(precision, false), (precision, true)])
    {
        let mut random = Random(5);
        for (rows, inputs, outputs) in
            [(1, 1, 1), (3, 37, 5), (255, 32, 64), (257, 129, 300), (600, 64, 33), (1025, 16, 16), (513, 290, 37)]
        {
            let sides = [inputs, outputs].map(|n| Matrix::new(&mut random, rows, n + 2, false, usual));
            let found: Vec<Vec<f32>> = [1, 2, 3]
                .map(|threads| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
                    pool.install(|| {
                        FALLBACK.set(fallback);
                        gradients(precision, &sides, 0.25)
                    })
                })
                .into();
            let number = |x| f64::from(if precision == Precision::Bf16 { as_bf16(x) } else { x });
            for at in 0..inputs * outputs {
                assert!(found.iter().all(|of| same(of[at], found[0][at])), "as many threads, as many results");
                let (i, j) = (at / outputs, at % outputs);
                let exact: f64 =
                    (0..rows).map(|p| number(sides[0].at(p, i + 1)) * number(sides[1].at(p, j + 1))).sum::<f64>()
                        * 0.25;
                let error = (f64::from(found[0][at]) - exact).abs();
                assert!(error < 2e-5, "{rows} rows, {inputs} x {outputs}: ({i}, {j}) is off by {error:e}");
            }
        }
    }
}
