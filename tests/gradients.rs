//! Gradients against finite differences in f64, for every parameter tensor of several architectures.

use crate::support::{flex, small, typed, values};
use basislab_config::{Dtype, Parameter};
use basislab_data::Corpus;
use basislab_model::{Transformer, cross_entropy};
use basislab_stats::{Purpose, gaussian, stream};
use burn::tensor::{DType, Tensor, TensorData};

fn loss(model: &Transformer, batch: &[Vec<u32>]) -> Tensor<1> {
    let inputs: Vec<&[u32]> = batch.iter().map(|s| &s[..s.len() - 1]).collect();
    let targets: Vec<&[u32]> = batch.iter().map(|s| &s[1..]).collect();
    cross_entropy(model.forward(model.tokens(&inputs), &mut |_, _| {}), model.tokens(&targets))
}

fn check(changes: &[(&str, &str)]) {
    let run = typed(small(changes), Dtype::F64).shared;
    let corpus = Corpus::open(&run.corpus, run.model.n_ctx).unwrap();
    let batch = corpus.batch(0, 1, 3, run.model.n_ctx + 1);
    let device = flex().autodiff();
    let mut model = basislab_model::init(&run.model, corpus.d_vocab(), 1, &device);
    // Larger weights than a fresh model's, and no parameter at a special value: gradients of ordinary size everywhere.
    let mut rng = stream(2, Purpose::Simulation, 0);
    let start: Vec<Tensor<2>> = model
        .values()
        .into_iter()
        .map(|value| {
            let noise: Vec<f64> = (0..value.dims()[0] * value.dims()[1]).map(|_| 0.3 * gaussian(&mut rng)).collect();
            value.clone().inner() + Tensor::<2>::from_data(TensorData::new(noise, value.dims()), (&flex(), DType::F64))
        })
        .collect();
    model.set_values(start.clone());
    let mut grads = loss(&model, &batch).backward();
    let grads: Vec<Vec<f64>> = model.values().iter().map(|v| values(&v.grad_remove(&mut grads).unwrap())).collect();
    for (index, Parameter { path, shape, .. }) in model.parameters().into_iter().enumerate() {
        let direction: Vec<f64> = (0..shape[0] * shape[1]).map(|_| gaussian(&mut rng)).collect();
        let size = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
        let direction: Vec<f64> = direction.into_iter().map(|x| x / size).collect();
        let at = |h: f64| {
            let mut moved = start.clone();
            let step = Tensor::<2>::from_data(TensorData::new(direction.clone(), shape), (&flex(), DType::F64));
            moved[index] = moved[index].clone() + step.mul_scalar(h);
            let mut model = model.clone();
            model.set_values(moved);
            loss(&model, &batch).into_scalar::<f64>()
        };
        let h = 1e-4;
        // Five points: the error is of order h^4.
        let numeric = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
        let exact: f64 = grads[index].iter().zip(&direction).map(|(g, d)| g * d).sum();
        let norm = grads[index].iter().map(|g| g * g).sum::<f64>().sqrt();
        let error = (numeric - exact).abs() / norm.max(1e-8);
        assert!(error < 1e-6, "{changes:?} {path}: finite difference {numeric:e}, gradient {exact:e}, error {error:e}");
        assert!(norm > 1e-6, "{changes:?} {path}: the gradient is {norm:e}");
    }
}

#[test]
fn gradients_of_the_default_model() {
    check(&[]);
}

#[test]
fn gradients_with_gains_biases_and_a_tied_head() {
    check(&[
        ("model.norm", "layernorm"),
        ("model.biases", "true"),
        ("model.tied_head", "true"),
        ("model.attention", "softmax-1"),
    ]);
}

#[test]
fn gradients_with_rope_and_solu() {
    check(&[("model.positions.kind", "rope"), ("model.activation", "solu"), ("model.norm", "rms-gain")]);
}

#[test]
fn gradients_without_norm() {
    check(&[("model.norm", "none"), ("model.activation", "gelu"), ("model.init_std", "0.01")]);
}

#[test]
fn gradients_of_llama() {
    check(&[
        ("model.norm", "rms-gain"),
        ("model.mlp", "swiglu"),
        ("model.n_kv_heads", "1"),
        ("model.d_head", "6"),
        ("model.qk_norm", "true"),
        ("model.qkv_biases", "true"),
        ("model.positions.kind", "rope"),
        ("model.positions.pairs", "interleaved"),
        ("model.positions.dims", "4"),
    ]);
}

#[test]
fn gradients_of_parallel_branches() {
    check(&[
        ("model.norm", "layernorm"),
        ("model.biases", "true"),
        ("model.branches", "parallel"),
        ("model.activation", "gelu-tanh"),
        ("model.positions.kind", "rope"),
        ("model.positions.dims", "4"),
    ]);
}

#[test]
fn gradients_of_a_post_norm_model() {
    check(&[
        ("model.norm", "layernorm"),
        ("model.biases", "true"),
        ("model.norm_place", "post"),
        ("model.attention", "softmax-1"),
    ]);
}
