//! Numbers far from 0, and numbers that are none.

use super::agreement::assert_agrees_to;
use super::draw::{ACTIVATIONS, Case, Kind, NORMS, Shape};
use super::{Random, close, double, formula, single, within};
use crate::{Activation, Chain, Heads, Part};

const SHAPE: Shape = Shape { sequences: 2, pos: 40, d: 9, heads: Heads { heads: 4, kv_heads: 2, d_head: 7 }, wide: 13 };

/// Runs `test` on this machine's instruction set and on the fallback.
fn on_both(test: impl Fn() + Sync) {
    [false, true].into_iter().for_each(|fallback| within(1, fallback, &test));
}

#[test]
fn scores_far_from_0() {
    for (has_nothing, sign) in [(false, 1.0), (false, -1.0), (true, 1.0), (true, -1.0)] {
        for size in [3.0, 30.0, 400.0] {
            let mut random = Random(1);
            let kind = Kind::Attention { is_causal: true, has_nothing };
            let mut case = Case::new(SHAPE, &[kind], &mut random);
            // Queries lie around (size, ...), keys around +-(1, ...): scores around +-size sqrt(7).
            let (queries, keys) = (SHAPE.heads.queries(), SHAPE.heads.keys());
            for row in case.tensors[0].chunks_mut(case.d) {
                row[..queries].iter_mut().for_each(|q| *q = f64::from((size * (1.0 + 0.1 * *q)) as f32));
                row[queries..queries + keys].iter_mut().for_each(|k| *k = f64::from((sign * (1.0 + 0.1 * *k)) as f32));
            }
            if has_nothing && sign < 0.0 && size > 100.0 {
                // Every weight is 0 up to what f32 holds.
                let chain = Chain::new(SHAPE.pos, case.d, case.parts.clone());
                on_both(|| {
                    let (out, _) = chain.forward(&[&single(&case.tensors[0])], false);
                    assert!(out.iter().all(|y| y.abs() < 1e-30), "a head that attends to nothing mixes nothing");
                });
                continue;
            }
            // A score of 1000 in f32 is off by 6e-5, and so is its weight.
            let rounding = 2e-6 + 1e-6 * size;
            assert_agrees_to(&case, &mut random, [rounding, 30.0 * rounding]);
        }
    }
}

#[test]
fn activations_far_from_0() {
    let sizes = [10.0, 40.0, 88.0, 200.0, 1e4, 1e6, 1e38];
    let row: Vec<f64> = sizes.iter().flat_map(|x| [*x, -x]).chain([0.0, -0.0, 1e-20, -1e-20]).collect();
    for kind in ACTIVATIONS {
        let x: Vec<f64> =
            if kind == Activation::Swiglu { [&row[..], &vec![1.5; row.len()]].concat() } else { row.clone() };
        let chain = Chain::new(1, x.len(), vec![Part::Activation(kind)]);
        let exact = formula::chain(&[Part::Activation(kind)], 1, x.len(), &vec![x.clone()]);
        on_both(|| {
            let input = single(&x);
            let (out, saved) = chain.forward(&[&input], true);
            close(&double(&out), &exact, 1e-6, &format!("{kind:?}"));
            for (y, exact) in out.iter().zip(&exact) {
                assert!((f64::from(*y) - exact).abs() <= 1e-6 * exact.abs().max(1e-20), "{kind:?}: {y} and {exact}");
            }
            let ones = vec![1.0; out.len()];
            let grads = chain.backward(&[&input], &saved.unwrap(), ones);
            for (dx, x) in grads[0].iter().zip(&row).filter(|(_, x)| x.abs() > 1.0) {
                let slope = match kind {
                    Activation::Solu => break,
                    Activation::Swiglu => 1.5,
                    _ => 1.0,
                };
                let expected = if *x > 0.0 { slope } else { 0.0 };
                // silu(-10) has a slope of -4e-4, gelu(+-10) of nothing.
                let tolerance = if x.abs() > 30.0 || kind != Activation::Swiglu { 1e-6 } else { 1e-3 };
                assert!((f64::from(*dx) - expected).abs() < tolerance, "{kind:?}: the slope at {x} is {dx}");
            }
            assert!(grads[0].iter().all(|dx| dx.is_finite()), "{kind:?}: {:?}", grads[0]);
        });
    }
}

#[test]
fn logits_far_from_0() {
    let mut random = Random(3);
    let mut case = Case::new(SHAPE, &[Kind::Logits, Kind::Loss], &mut random);
    case.tensors[1].iter_mut().for_each(|w| *w *= 1024.0);
    assert_agrees_to(&case, &mut random, [1e-6, 1e-4]);
}

#[test]
fn rows_of_zeros_are_normalised_to_zeros_and_constant_rows_centred_to_the_bias() {
    on_both(|| {
        for norm in NORMS {
            let mut random = Random(4);
            let case = Case::new(SHAPE, &[Kind::Norm(norm)], &mut random);
            for constant in [0.0, 3.0] {
                let mut tensors = case.tensors.clone();
                tensors[0].fill(constant);
                let exact = formula::chain(&case.parts, SHAPE.pos, case.d, &tensors);
                let inputs: Vec<Vec<f32>> = tensors.iter().map(|x| single(x)).collect();
                let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
                let (out, _) = Chain::new(SHAPE.pos, case.d, case.parts.clone()).forward(&inputs, false);
                for (y, exact) in out.iter().zip(&exact) {
                    // The mean of equal numbers is off by a rounding, and that is divided by the root of epsilon.
                    assert!((f64::from(*y) - exact).abs() < 1e-4 * exact.abs().max(3.0), "{norm:?}: {y} and {exact}");
                }
            }
        }
    });
}

#[test]
fn a_number_that_is_none_stays_none_in_every_part() {
    let attentions = [false, true].map(|has_nothing| Kind::Attention { is_causal: true, has_nothing });
    let mut all: Vec<Vec<Kind>> = NORMS.map(|norm| vec![Kind::Norm(norm)]).to_vec();
    all.extend(ACTIVATIONS.map(|activation| vec![Kind::Activation(activation)]));
    all.extend(attentions.map(|attention| vec![attention]));
    all.extend([vec![Kind::Qkv], vec![Kind::HeadNorms], vec![Kind::Rope], vec![Kind::AddInput], vec![Kind::AddOther]]);
    all.push(vec![Kind::Logits, Kind::Loss]);
    for kinds in all {
        let mut random = Random(5);
        let case = Case::new(SHAPE, &kinds, &mut random);
        let inputs: Vec<Vec<f32>> = case.tensors.iter().map(|x| single(x)).collect();
        let chain = Chain::new(SHAPE.pos, case.d, case.parts.clone());
        on_both(|| {
            for column in 0..case.d {
                let mut inputs = inputs.clone();
                // In the last row of the first sequence, which sees itself alone.
                let row = SHAPE.pos - 1;
                inputs[0][row * case.d + column] = f32::NAN;
                let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
                let (out, _) = chain.forward(&inputs, false);
                let width = if chain.is_loss() { out.len() } else { chain.width() };
                let own = &out[if chain.is_loss() { 0 } else { row * width }..][..width];
                assert!(own.iter().any(|y| y.is_nan()), "{kinds:?}: a NaN in column {column} is lost");
                // A weight of 0 times a value that is none is none: attention brings it to others of its block.
                let is_alone = !chain.is_loss() && !matches!(kinds[0], Kind::Attention { .. });
                assert!(!is_alone || out[..row * width].iter().all(|y| y.is_finite()), "{kinds:?}: other rows");
            }
        });
    }
}
