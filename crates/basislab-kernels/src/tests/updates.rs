use super::{Random, close, double, inner, on_each_level, single};
use crate::{Descent, Formula, Pass, Simd, Unchanged, fma, product, scale, sum_of_squares};

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
    on_each_level(|seed| {
        let mut random = Random(seed);
        let n = 17_000 + 7 * seed as usize;
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
    for [m, k, n] in [[1, 1, 1], [3, 7, 5], [64, 64, 256], [257, 65, 129], [600, 130, 300], [300, 130, 1]] {
        let (a, b) = (random.numbers(m * k, 1.0), random.numbers(k * n, 1.0));
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| product(&single(&a), &single(&b), k))
        };
        let alone = on(1);
        close(&double(&alone), &exact_product(&a, &b, k), 1e-5, &format!("{m} x {k} x {n}"));
        assert!([2, 3].into_iter().all(|threads| on(threads) == alone), "{m} x {k} x {n}");
    }
}

/// `[m, k] [k, n] -> [m, n]`
fn exact_product(a: &[f64], b: &[f64], k: usize) -> Vec<f64> {
    let n = b.len() / k;
    a.chunks(k).flat_map(|row| (0..n).map(|j| (0..k).map(|p| row[p] * b[p * n + j]).sum())).collect()
}
