use super::{Random, close, double, inner, on_each_level, single};
use crate::{Adam, descend, scale, sum_of_squares};

#[test]
fn updates_are_their_formulas() {
    on_each_level(|seed| {
        let mut random = Random(seed);
        let n = 17_000 + 7 * seed as usize;
        let (grad, first, w) = (random.numbers(n, 1.0), random.numbers(n, 1.0), random.numbers(n, 1.0));
        let second: Vec<f64> = random.numbers(n, 1.0).iter().map(|v| f64::from((v * v) as f32)).collect();
        let (beta_1, beta_2, count, epsilon) = (0.9f64, 0.999f64, 7, 1e-8);
        let (scale_1, scale_2) = (1.0 / (1.0 - beta_1.powi(count)), 1.0 / (1.0 - beta_2.powi(count)).sqrt());
        let adam = Adam {
            beta_1: beta_1 as f32,
            new_1: (1.0 - beta_1) as f32,
            beta_2: beta_2 as f32,
            new_2: (1.0 - beta_2) as f32,
            scale_1: scale_1 as f32,
            scale_2: scale_2 as f32,
            epsilon: epsilon as f32,
        };
        let (mut change, mut m, mut v, mut moved) = (single(&grad), single(&first), single(&second), single(&w));
        adam.change(&mut change, &mut m, &mut v);
        descend(&mut moved, &change, 0.75, 0.5);
        let m_exact: Vec<f64> = first.iter().zip(&grad).map(|(m, g)| beta_1 * m + (1.0 - beta_1) * g).collect();
        let v_exact: Vec<f64> = second.iter().zip(&grad).map(|(v, g)| beta_2 * v + (1.0 - beta_2) * g * g).collect();
        let exact: Vec<f64> =
            m_exact.iter().zip(&v_exact).map(|(m, v)| m * scale_1 / (v.sqrt() * scale_2 + epsilon)).collect();
        close(&double(&m), &m_exact, 1e-6, "first moment");
        close(&double(&v), &v_exact, 1e-6, "second moment");
        close(&double(&change), &exact, 1e-6, "change");
        let expected: Vec<f64> = w.iter().zip(&exact).map(|(w, c)| 0.75 * w - 0.5 * c).collect();
        close(&double(&moved), &expected, 1e-6, "descent");
        close(&[sum_of_squares(&single(&grad))], &[inner(&grad, &grad)], 1e-6, "squares");
        scale(&mut moved, 2.0);
        close(&double(&moved), &expected.iter().map(|w| 2.0 * w).collect::<Vec<_>>(), 1e-6, "scale");
    });
}
