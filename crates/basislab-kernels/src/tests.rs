//! Every kernel against its formula in f64: values, and gradients by central differences of the formula.
//!
//! Each test runs twice, compiled for the best instruction set of the machine and for none. `.ci/run` repeats all of them on
//! emulated CPUs without AVX-512 and without AVX, where the GEMM library falls back too.

use crate::simd::tests::FALLBACK;
use crate::{
    Attention, AttentionWeights, Descent, Formula, Head, Mlp, Pass, Simd, Unchanged, fma, product as fast_product,
    scale, sum_of_squares,
};

const EPSILON: f64 = 1e-5;

/// Uniform in -1..1, from a counter (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((self.next() + 1.0) / 2.0 * n as f64) as usize
    }

    /// Numbers that f32 holds exactly, so that kernel and formula see the same.
    fn numbers(&mut self, n: usize, size: f64) -> Vec<f64> {
        (0..n).map(|_| f64::from((size * self.next()) as f32)).collect()
    }
}

fn single(x: &[f64]) -> Vec<f32> {
    x.iter().map(|x| *x as f32).collect()
}

fn double(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

fn inner(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len());
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// `[n, k] [k, m] -> [n, m]`
fn product(a: &[f64], b: &[f64], k: usize) -> Vec<f64> {
    let m = b.len() / k;
    a.chunks(k).flat_map(|row| (0..m).map(|j| (0..k).map(|p| row[p] * b[p * m + j]).sum())).collect()
}

fn norm(x: &[f64], gain: &[f64], d: usize) -> Vec<f64> {
    let one = |row: &[f64]| {
        let rms = (inner(row, row) / d as f64 + EPSILON).sqrt();
        (0..d).map(|j| row[j] / rms * gain[j % gain.len()]).collect::<Vec<_>>()
    };
    x.chunks(d).flat_map(one).collect()
}

fn erf(x: f64) -> f64 {
    // The series converges everywhere; hidden values stay below 4 here.
    let (mut term, mut sum) = (x, x);
    for n in 1..120 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

struct Shape {
    sequences: usize,
    pos: usize,
    heads: usize,
    d: usize,
    wide: usize,
    gains: usize,
}

/// Tensors of an operation: the stream, the gain, then the weights.
type Tensors = Vec<Vec<f64>>;

fn attention(s: &Shape, t: &Tensors) -> Vec<f64> {
    let (x, d, d_head) = (&t[0], s.d, s.d / s.heads);
    let y = norm(x, &t[1], d);
    let [q, k, v] = [2, 3, 4].map(|i| product(&y, &t[i], d));
    let mut mixed = vec![0.0; x.len()];
    for sequence in 0..s.sequences {
        for head in 0..s.heads {
            let at = |i: usize| (sequence * s.pos + i) * d + head * d_head;
            for i in 0..s.pos {
                let score = |j: usize| inner(&q[at(i)..][..d_head], &k[at(j)..][..d_head]) / (d_head as f64).sqrt();
                let weights: Vec<f64> = (0..=i).map(|j| score(j).exp()).collect();
                let total: f64 = weights.iter().sum();
                for (j, weight) in weights.iter().enumerate() {
                    for c in 0..d_head {
                        mixed[at(i) + c] += weight / total * v[at(j) + c];
                    }
                }
            }
        }
    }
    product(&mixed, &t[5], d).iter().zip(x).map(|(a, b)| a + b).collect()
}

fn mlp(s: &Shape, t: &Tensors) -> Vec<f64> {
    let hidden = product(&norm(&t[0], &t[1], s.d), &t[2], s.d);
    let active: Vec<f64> = hidden.iter().map(|h| 0.5 * h * (1.0 + erf(h / 2f64.sqrt()))).collect();
    product(&active, &t[3], s.wide).iter().zip(&t[0]).map(|(a, b)| a + b).collect()
}

fn loss(s: &Shape, t: &Tensors, targets: &[i32]) -> f64 {
    let logits = product(&norm(&t[0], &t[1], s.d), &t[2], s.d);
    let one = |(row, target): (&[f64], &i32)| row.iter().map(|l| l.exp()).sum::<f64>().ln() - row[*target as usize];
    logits.chunks(s.wide).zip(targets).map(one).sum::<f64>() / targets.len() as f64
}

/// Random shapes: widths that are no multiple of a vector, several chunks, one head, one gain or many.
fn shapes() -> impl Iterator<Item = (Shape, Random)> {
    (0..10).map(|seed| {
        let mut random = Random(seed);
        let heads = 1 + random.below(3);
        let pos = [1, 7, 16, 33, 50, 65][random.below(6)];
        let shape = Shape {
            // Two or three chunks of rows in some of them.
            sequences: if seed % 3 == 0 { 1100 / pos + 1 } else { 1 + random.below(5) },
            pos,
            heads,
            d: heads * (4 + random.below(5)),
            wide: 5 + random.below(30),
            gains: 0,
        };
        let gains = if seed % 2 == 0 { 1 } else { shape.d };
        (Shape { gains, ..shape }, random)
    })
}

fn tensors(random: &mut Random, s: &Shape, weights: &[(usize, usize)]) -> Tensors {
    let mut all = vec![random.numbers(s.sequences * s.pos * s.d, 1.0)];
    all.push(random.numbers(s.gains, 0.5).iter().map(|g| f64::from((1.0 + g) as f32)).collect());
    all.extend(weights.iter().map(|(rows, columns)| random.numbers(rows * columns, 1.5 / (*rows as f64).sqrt())));
    all
}

/// Runs `test` for every shape, on this machine's instruction set and on the fallback, in a pool of two threads and of one.
fn on_each_level(test: impl Fn(Shape, Random) + Sync) {
    for (fallback, threads) in [(false, 2), (true, 1)] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            FALLBACK.set(fallback);
            shapes().for_each(|(shape, random)| test(shape, random));
        });
    }
}

fn close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    let difference: Vec<f64> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
    let error = (inner(&difference, &difference) / inner(expected, expected)).sqrt();
    assert!(error < tolerance, "{what}: off by {error:e}");
}

/// Each tensor's gradient against the slope of `formula` along a random direction.
fn slopes(random: &mut Random, t: &Tensors, grads: &[Vec<f32>], formula: impl Fn(&Tensors) -> f64, what: &str) {
    assert_eq!(t.len(), grads.len());
    for (number, grad) in grads.iter().enumerate() {
        let direction = random.numbers(grad.len(), 1.0);
        let size = inner(&direction, &direction).sqrt();
        let at = |h: f64| {
            let mut moved = t.clone();
            moved[number].iter_mut().zip(&direction).for_each(|(x, u)| *x += h * u / size);
            formula(&moved)
        };
        let h = 1e-3;
        let slope = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
        let grad = double(grad);
        let error = (inner(&grad, &direction) / size - slope).abs() / inner(&grad, &grad).sqrt().max(1e-6);
        // A gain's gradient is what is left of a sum over the whole batch whose terms cancel.
        let tolerance = if number == 1 { 1e-4 } else { 1e-5 };
        assert!(error < tolerance, "{what}: gradient {number} is off by {error:e}");
    }
}

#[test]
fn attention_is_its_formula() {
    on_each_level(|s, mut random| {
        let t = tensors(&mut random, &s, &[(s.d, s.d); 4]);
        let f: Vec<Vec<f32>> = t.iter().map(|x| single(x)).collect();
        let weights = AttentionWeights { q: &f[2], k: &f[3], v: &f[4], o: &f[5] };
        let op = Attention { pos: s.pos, heads: s.heads, epsilon: EPSILON as f32, gain: &f[1], weights };
        let mut out = vec![0.0; f[0].len()];
        let saved = op.forward(&f[0], s.d, &mut out);
        close(&double(&out), &attention(&s, &t), 1e-6, "attention");
        let upstream = random.numbers(out.len(), 1.0);
        let mut grads: Vec<Vec<f32>> = f.clone();
        let [dx, gain, q, k, v, o] = &mut grads[..] else { unreachable!("six tensors") };
        *dx = single(&upstream);
        op.backward(&f[0], s.d, &saved, dx, [gain, q, k, v, o]);
        slopes(&mut random, &t, &grads, |t| inner(&attention(&s, t), &upstream), "attention");
    });
}

#[test]
fn the_mlp_is_its_formula() {
    on_each_level(|s, mut random| {
        let t = tensors(&mut random, &s, &[(s.d, s.wide), (s.wide, s.d)]);
        let f: Vec<Vec<f32>> = t.iter().map(|x| single(x)).collect();
        let op = Mlp { pos: s.pos, epsilon: EPSILON as f32, gain: &f[1], w_in: &f[2], w_out: &f[3] };
        let mut out = vec![0.0; f[0].len()];
        let saved = op.forward(&f[0], s.d, &mut out);
        close(&double(&out), &mlp(&s, &t), 1e-6, "mlp");
        let upstream = random.numbers(out.len(), 1.0);
        let mut grads: Vec<Vec<f32>> = f.clone();
        let [dx, gain, w_in, w_out] = &mut grads[..] else { unreachable!("four tensors") };
        *dx = single(&upstream);
        op.backward(&f[0], s.d, &saved, dx, [gain, w_in, w_out]);
        slopes(&mut random, &t, &grads, |t| inner(&mlp(&s, t), &upstream), "mlp");
    });
}

#[test]
fn the_head_is_its_formula() {
    on_each_level(|s, mut random| {
        let t = tensors(&mut random, &s, &[(s.d, s.wide)]);
        let f: Vec<Vec<f32>> = t.iter().map(|x| single(x)).collect();
        let targets: Vec<i32> = (0..s.sequences * s.pos).map(|_| random.below(s.wide) as i32).collect();
        let op = Head { pos: s.pos, epsilon: EPSILON as f32, gain: &f[1], w_u: &f[2] };
        let (found, saved) = op.forward(&f[0], s.d, &targets);
        close(&[f64::from(found)], &[loss(&s, &t, &targets)], 1e-6, "head");
        let mut grads: Vec<Vec<f32>> = f.clone();
        let [dx, gain, w_u] = &mut grads[..] else { unreachable!("three tensors") };
        op.backward(&f[0], s.d, &saved, 0.5, dx, [gain, w_u]);
        slopes(&mut random, &t, &grads, |t| 0.5 * loss(&s, t, &targets), "head");
    });
}

/// Remembers two numbers, and every number of it enters the update.
#[derive(Clone, Copy)]
struct Two;

impl Formula<2> for Two {
    #[inline(always)]
    fn change<S: Simd>(&self, g: f32, [m, v]: &mut [f32; 2]) -> f32 {
        *m = fma::<S>(*m, 0.5, g);
        *v = *v * 0.25 + g * g;
        *m + *v
    }
}

#[test]
fn updates_are_their_formulas() {
    on_each_level(|s, mut random| {
        let n = 17_000 + s.d;
        let [grad, first, second, w] = [(); 4].map(|()| random.numbers(n, 1.0));
        let descent = Descent { coupled: 0.125, keep: 0.75, lr: 0.5 };
        // `coupled` is 0 where the update is left in the place of the gradient.
        for coupled in [0.0, 0.125] {
            let seen: Vec<f64> = grad.iter().zip(&w).map(|(g, w)| g + coupled * w).collect();
            let m_exact: Vec<f64> = first.iter().zip(&seen).map(|(m, g)| 0.5 * m + g).collect();
            let v_exact: Vec<f64> = second.iter().zip(&seen).map(|(v, g)| 0.25 * v + g * g).collect();
            let exact: Vec<f64> = m_exact.iter().zip(&v_exact).map(|(m, v)| m + v).collect();
            let moved: Vec<f64> = w.iter().zip(&exact).map(|(w, c)| 0.75 * w - 0.5 * c).collect();
            let (mut g, mut state, mut out) = (single(&grad), [single(&first), single(&second)], single(&w));
            let is_in_place = coupled == 0.0;
            let weight = (!is_in_place).then_some((out.as_mut_slice(), descent));
            Pass { weight, grad: &mut g, state: &mut state }.run(Two);
            if is_in_place {
                close(&double(&g), &exact, 1e-6, "change");
                let weight = Some((out.as_mut_slice(), Descent { coupled: 0.0, ..descent }));
                Pass { weight, grad: &mut g, state: &mut [] }.run(Unchanged);
            }
            close(&double(&state[0]), &m_exact, 1e-6, "first slot");
            close(&double(&state[1]), &v_exact, 1e-6, "second slot");
            close(&double(&out), &moved, 1e-6, "descent");
        }
        close(&[sum_of_squares(&single(&grad))], &[inner(&grad, &grad)], 1e-6, "squares");
        let mut doubled = single(&grad);
        scale(&mut doubled, 2.0);
        close(&double(&doubled), &grad.iter().map(|g| 2.0 * g).collect::<Vec<_>>(), 1e-6, "scale");
    });
}

#[test]
fn products_are_their_sums_and_the_same_bits_on_any_thread_count() {
    let mut random = Random(5);
    for [m, k, n] in [[1, 1, 1], [3, 7, 5], [64, 64, 256], [257, 65, 129], [1, 130, 300], [300, 130, 1]] {
        let (a, b) = (random.numbers(m * k, 1.0), random.numbers(k * n, 1.0));
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| fast_product(&single(&a), &single(&b), k))
        };
        let alone = on(1);
        close(&double(&alone), &product(&a, &b, k), 1e-5, &format!("{m} x {k} x {n}"));
        assert!([2, 3].into_iter().all(|threads| on(threads) == alone), "{m} x {k} x {n}");
    }
}
