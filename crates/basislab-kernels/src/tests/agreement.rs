//! A chain against its formula.

use super::draw::Case;
use super::{Random, close, double, formula, inner, length, single, within};
use crate::buffer::tests::spoil;
use crate::{Activation, Chain, Part};

/// Output and gradients.
type Found = (Vec<f32>, Vec<Vec<f32>>);

/// Runs a chain forward and back. Free buffers hold NaN: what is not written before it is read would be seen.
fn run(case: &Case, upstream: &[f64]) -> Found {
    let chain = Chain::new(case.shape.pos, case.d, case.parts.clone());
    let inputs: Vec<Vec<f32>> = case.tensors.iter().map(|x| single(x)).collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    spoil();
    let (out, saved) = chain.forward(&inputs, true);
    spoil();
    let (again, nothing) = chain.forward(&inputs, false);
    assert!(nothing.is_none() && bits(&out) == bits(&again), "{:?}: other bits where nothing is kept", case.parts);
    spoil();
    let grads = chain.backward(&inputs, &saved.unwrap(), single(upstream));
    (out, grads)
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Fails unless a chain computes its formula to 1e-6 and the gradients of all its inputs to 1e-5, on every level.
pub(super) fn assert_agrees(case: &Case, random: &mut Random) {
    assert_agrees_to(case, random, [1e-6, 1e-5]);
}

pub(super) fn assert_agrees_to(case: &Case, random: &mut Random, [of_values, of_gradients]: [f64; 2]) {
    let of = |t: &formula::Tensors| formula::chain(&case.parts, case.shape.pos, case.d, t);
    let exact = of(&case.tensors);
    let is_loss = matches!(case.parts.last(), Some(Part::Loss(_)));
    // A loss whose gradient comes in with another factor than 1.
    let upstream = if is_loss { vec![-0.375] } else { random.numbers(exact.len(), 1.0) };
    let slopes: Vec<(Vec<f64>, f64)> =
        (0..case.tensors.len()).map(|number| slope(case, number, random, &|t| inner(&of(t), &upstream))).collect();
    let what = format!("{:?}, {:?}", case.shape, names(case));
    for fallback in [false, true] {
        let of_threads = |threads| within(threads, fallback, || run(case, &upstream));
        let (out, grads) = of_threads(1);
        close(&double(&out), &exact, of_values, &what);
        for (number, (grad, (direction, slope))) in grads.iter().zip(&slopes).enumerate() {
            let grad = double(grad);
            // Some gradients are zero: that of the keys' bias, which moves all scores of a query alike.
            let size = length(&grad).max(0.01 * length(&upstream));
            let error = (inner(&grad, direction) - slope).abs() / size;
            // A single gain's is a sum over all rows and columns whose terms nearly cancel.
            let allowed = if grad.len() == 1 { 10.0 * of_gradients } else { of_gradients };
            assert!(error < allowed, "{what}: gradient {number} of {} is off by {error:e}", grads.len());
        }
        for threads in [2, 3] {
            let others = of_threads(threads);
            assert!(bits(&out) == bits(&others.0), "{what}: other values with {threads} threads");
            let is_same = grads.iter().zip(&others.1).all(|(a, b)| bits(a) == bits(b));
            assert!(is_same, "{what}: other gradients with {threads} threads");
        }
    }
}

/// A random direction of a tensor, and the slope of `formula` along it.
fn slope(
    case: &Case,
    number: usize,
    random: &mut Random,
    formula: &dyn Fn(&formula::Tensors) -> f64,
) -> (Vec<f64>, f64) {
    let direction = random.numbers(case.tensors[number].len(), 1.0);
    let size = length(&direction);
    let direction: Vec<f64> = direction.iter().map(|u| u / size).collect();
    let at = |h: f64| {
        let mut moved = case.tensors.clone();
        moved[number].iter_mut().zip(&direction).for_each(|(x, u)| *x += h * u);
        formula(&moved)
    };
    // Between the two points no hidden value should cross the kink of ReLU.
    let has_kinks = case.parts.iter().any(|part| matches!(part, Part::Activation(Activation::Relu)));
    let h = if has_kinks { 1e-7 } else { 1e-5 };
    let slope = (at(h) - at(-h)) / (2.0 * h);
    (direction, slope)
}

/// The parts, without their tables and targets.
fn names(case: &Case) -> Vec<String> {
    let name = |part: &Part| match part {
        Part::Rope(rope) => format!("Rope {}", if rope.is_interleaved { "interleaved" } else { "halves" }),
        Part::Loss(_) => "Loss".to_owned(),
        part => format!("{part:?}"),
    };
    case.parts.iter().map(name).collect()
}
