//! Kernels against their reference in burn's operations: the same function, the same gradient, for every option of the model.

mod combinations;
mod narrow;
mod parts;

use crate::support::{flex, relative, small, values};
use basislab_config::{Parameter, Role, RunSpec, Site};
use basislab_data::Corpus;
use basislab_model::{Transformer, init};
use basislab_stats::{Purpose, gaussian, stream};
use basislab_train::Trainee;
use burn::tensor::{DType, Tensor, TensorData};

/// What a model computes from a batch.
#[derive(Debug, PartialEq)]
struct Seen {
    loss: f64,
    /// Of every parameter.
    grads: Vec<Vec<f64>>,
    /// The residual stream at every site.
    sites: Vec<(Site, Vec<f64>)>,
    logits: Vec<f64>,
}

fn seen(model: &Transformer, batch: &[Vec<u32>]) -> Seen {
    let inputs: Vec<&[u32]> = batch.iter().map(|s| &s[..s.len() - 1]).collect();
    let loss = loss(model, batch);
    let mut grads = loss.backward();
    let grads = model.values().iter().map(|value| values(&value.grad_remove(&mut grads).unwrap())).collect();
    let mut sites = Vec::new();
    let logits = model.forward(model.tokens(&inputs), &mut |site, x| sites.push((site, values(x))));
    // What a branch writes is no site of a model with kernels.
    sites.retain(|(site, _)| !site.is_branch());
    Seen { loss: loss.into_scalar::<f64>(), grads, sites, logits: values(&logits) }
}

fn loss(model: &Transformer, batch: &[Vec<u32>]) -> Tensor<1> {
    let inputs: Vec<&[u32]> = batch.iter().map(|s| &s[..s.len() - 1]).collect();
    let targets: Vec<&[u32]> = batch.iter().map(|s| &s[1..]).collect();
    model.loss(model.tokens(&inputs), model.tokens(&targets))
}

/// A small run with larger weights than a fresh model's.
fn run(changes: &[(&str, &str)]) -> RunSpec {
    let mut all = vec![("model.init_std", "0.1")];
    all.extend(changes);
    small(&all).shared
}

fn batch(run: &RunSpec, sequences: usize) -> Vec<Vec<u32>> {
    Corpus::open(&run.corpus, run.model.n_ctx).unwrap().batch(0, 1, sequences, run.model.n_ctx + 1)
}

/// A model whose gains and biases are ordinary numbers.
fn model(run: &RunSpec) -> Transformer {
    let mut model = init(&run.model, run.corpus.d_vocab(), 3, &flex().autodiff());
    unsettle(&mut model);
    model
}

fn unsettle(model: &mut Transformer) {
    let mut rng = stream(5, Purpose::Simulation, 0);
    let mut moved = |value: Tensor<2>| {
        let [rows, columns] = value.dims();
        let noise: Vec<f64> = (0..rows * columns).map(|_| 0.3 * gaussian(&mut rng)).collect();
        let noise = Tensor::<2>::from_data(TensorData::new(noise, [rows, columns]), (&flex(), value.dtype()));
        if rows == 1 { value.inner() + noise } else { value.inner() }
    };
    model.set_values(model.values().into_iter().map(&mut moved).collect());
}

fn size(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Fails unless a model agrees with its reference: streams, logits and loss to 1e-6, every gradient to 1e-5.
///
/// Some gradients are sums that nearly cancel (one gain's), or are 0 but for rounding (that of a bias of the keys, which moves
/// all scores of a query alike): f32 has no five digits of them, with kernels or without. There the difference must be below
/// 1e-5 of the largest gradient of a parameter of that role, or the kernels' gradient nearer to that of f64 than the reference's.
fn assert_agrees(model: &Transformer, batch: &[Vec<u32>], at: &str) {
    assert!(model.is_fused() && !model.reference().is_fused(), "{at}");
    let (fused, reference) = (seen(model, batch), seen(&model.reference(), batch));
    assert!((fused.loss / reference.loss - 1.0).abs() < 1e-6, "{at}: losses {} and {}", fused.loss, reference.loss);
    assert_eq!(fused.sites.len(), reference.sites.len(), "{at}");
    for ((site, a), (other, b)) in fused.sites.iter().zip(&reference.sites) {
        assert_eq!(site, other, "{at}");
        let error = relative(a, b);
        assert!(error < 1e-6, "{at}: {site} is off by {error:e}");
    }
    let error = relative(&fused.logits, &reference.logits);
    assert!(error < 1e-6, "{at}: logits are off by {error:e}");
    let parameters = model.parameters();
    let largest = |role: Role| {
        let sizes = parameters.iter().zip(&reference.grads).filter(|(p, _)| p.role == role).map(|(_, g)| size(g));
        sizes.fold(0.0, f64::max)
    };
    for (Parameter { path, role, .. }, (a, b)) in parameters.iter().zip(fused.grads.iter().zip(&reference.grads)) {
        let error = relative(a, b);
        let is_close = error < 1e-5 || error * size(b) < 1e-5 * largest(*role) || is_closer(model, batch, path);
        assert!(is_close, "{at}: the gradient of {path} is off by {error:e}");
    }
}

/// Whether the fused gradient of a parameter is nearer than the reference's to what f64 gives on the same weights.
fn is_closer(model: &Transformer, batch: &[Vec<u32>], path: &str) -> bool {
    let index = model.parameters().iter().position(|known| known.path == path).unwrap();
    let mut exact = model.reference();
    exact.set_values(model.values().into_iter().map(|value| value.inner().cast(DType::F64)).collect());
    let of = |model: &Transformer| seen(model, batch).grads.swap_remove(index);
    let exact = of(&exact);
    relative(&of(model), &exact) < relative(&of(&model.reference()), &exact)
}

fn assert_agree(sequences: usize, changes: &[(&str, &str)]) {
    let run = run(changes);
    assert_agrees(&model(&run), &batch(&run, sequences), &format!("{sequences} sequences, {changes:?}"));
}

/// Odd batches, sequences that are no multiple of a vector or a block of queries, one head, one layer, d 48, and
/// enough rows for several chunks.
#[test]
fn kernels_and_reference_agree_on_chosen_shapes() {
    for (sequences, changes) in [
        (4, vec![]),
        (3, vec![("model.n_ctx", "7"), ("model.n_heads", "1"), ("model.n_layers", "1")]),
        (5, vec![("model.n_ctx", "37"), ("model.d_model", "48"), ("model.n_heads", "3"), ("model.d_mlp", "100")]),
        (9, vec![("model.n_ctx", "65"), ("model.d_model", "64"), ("model.n_heads", "4"), ("model.d_mlp", "256")]),
        (2, vec![("model.n_ctx", "300"), ("model.norm", "rms-gain"), ("corpus.d_vocab", "129")]),
        (1, vec![("model.n_ctx", "530"), ("model.norm", "layernorm"), ("model.n_kv_heads", "1")]),
        (1, vec![("model.n_ctx", "2"), ("model.norm", "rms")]),
        (6, vec![("model.n_ctx", "20"), ("model.tied_head", "true"), ("model.d_model", "160"), ("model.d_mlp", "300")]),
    ] {
        assert_agree(sequences, &changes);
    }
}

/// So that a failure names the option.
#[test]
fn each_option_alone() {
    let rope = ("model.positions.kind", "rope");
    for option in [
        vec![],
        vec![("model.norm", "none")],
        vec![("model.norm", "rms")],
        vec![("model.norm", "rms-gain")],
        vec![("model.norm", "layernorm")],
        vec![("model.norm_place", "post")],
        vec![("model.branches", "parallel")],
        vec![("model.biases", "true")],
        vec![("model.qkv_biases", "true")],
        vec![("model.qk_norm", "true")],
        vec![rope],
        vec![rope, ("model.positions.pairs", "interleaved")],
        vec![rope, ("model.positions.dims", "6")],
        vec![rope, ("model.positions.dims", "6"), ("model.positions.pairs", "interleaved")],
        vec![("model.tied_head", "true")],
        vec![("model.mlp", "swiglu")],
        vec![("model.activation", "gelu-tanh")],
        vec![("model.activation", "relu")],
        vec![("model.activation", "solu")],
        vec![("model.attention", "softmax-1")],
        vec![("model.n_kv_heads", "1")],
        vec![("model.n_kv_heads", "2")],
        vec![("model.d_head", "11")],
        vec![("model.norm_epsilon", "0.01")],
    ] {
        let mut changes = vec![("model.d_model", "64"), ("model.n_heads", "4"), ("model.d_mlp", "96")];
        changes.extend(&option);
        changes.push(("model.n_ctx", "24"));
        assert_agree(5, &changes);
    }
}

#[test]
fn rotated_models_run_as_kernels_and_agree_too() {
    for options in [
        vec![],
        vec![("model.norm", "layernorm"), ("model.biases", "true"), ("model.tied_head", "true")],
        vec![("model.norm", "rms-gain"), ("model.norm_place", "post"), ("model.mlp", "swiglu")],
        vec![("model.norm", "rms"), ("model.branches", "parallel"), ("model.positions.kind", "rope")],
        vec![("model.norm", "none"), ("model.qk_norm", "true"), ("model.activation", "solu")],
    ] {
        let mut changes = vec![("arm.adam.basis.kind", "rotated-model"), ("model.init_std", "0.1")];
        changes.extend(&options);
        let experiment = small(&changes);
        let run = &experiment.arm("adam").unwrap().run;
        let mut trainee = Trainee::new(run, 0, 32, &flex());
        unsettle(&mut trainee.model);
        assert_agrees(&trainee.model, &batch(run, 5), &format!("rotated, {options:?}"));
    }
}
