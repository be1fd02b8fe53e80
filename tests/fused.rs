//! Fused operations against their reference in burn's operations: the same function, the same gradient.

use crate::support::{flex, relative, small, typed, values};
use basislab_config::{Dtype, Parameter};
use basislab_data::Corpus;
use basislab_model::{Transformer, init};
use basislab_stats::{Purpose, below, stream};
use basislab_train::Trainee;
use burn::tensor::Tensor;

/// Odd batches, sequences that are no multiple of a vector or a block of queries, one head, one layer, d 48, and
/// enough rows for several chunks.
fn shapes() -> Vec<(usize, Vec<(&'static str, &'static str)>)> {
    vec![
        (4, vec![]),
        (3, vec![("model.n_ctx", "7"), ("model.n_heads", "1"), ("model.n_layers", "1")]),
        (5, vec![("model.n_ctx", "37"), ("model.d_model", "48"), ("model.n_heads", "3"), ("model.d_mlp", "100")]),
        (9, vec![("model.n_ctx", "65"), ("model.d_model", "64"), ("model.n_heads", "4"), ("model.d_mlp", "256")]),
        (2, vec![("model.n_ctx", "300"), ("model.norm", "rms-gain"), ("corpus.d_vocab", "129")]),
        (1, vec![("model.n_ctx", "2"), ("model.norm", "rms")]),
        (6, vec![("model.n_ctx", "20"), ("model.tied_head", "true"), ("model.d_model", "160"), ("model.d_mlp", "300")]),
    ]
}

type Seen = (f64, Vec<Vec<f64>>, Vec<Vec<f64>>);

/// Loss, the gradient of every parameter, and the residual stream at every site.
fn seen(model: &Transformer, batch: &[Vec<u32>]) -> Seen {
    let inputs: Vec<&[u32]> = batch.iter().map(|s| &s[..s.len() - 1]).collect();
    let targets: Vec<&[u32]> = batch.iter().map(|s| &s[1..]).collect();
    let loss = model.loss(model.tokens(&inputs), model.tokens(&targets));
    let mut grads = loss.backward();
    let grads = model.values().iter().map(|value| values(&value.grad_remove(&mut grads).unwrap())).collect();
    let mut sites = Vec::new();
    let logits = model.forward(model.tokens(&inputs), &mut |site, x| {
        // What a branch writes is no site of a fused model.
        if !site.is_branch() {
            sites.push(values(x));
        }
    });
    sites.push(values(&logits));
    (loss.into_scalar::<f64>(), grads, sites)
}

fn assert_agree(sequences: usize, changes: &[(&str, &str)]) {
    let mut all = vec![("model.init_std", "0.1")];
    all.extend(changes);
    let run = small(&all).shared;
    let corpus = Corpus::open(&run.corpus, run.model.n_ctx).unwrap();
    let batch = corpus.batch(0, 1, sequences, run.model.n_ctx + 1);
    let model = init(&run.model, corpus.d_vocab(), 3, &flex().autodiff());
    assert!(model.is_fused() && !model.reference().is_fused(), "{changes:?}");
    let (fused, reference) = (seen(&model, &batch), seen(&model.reference(), &batch));
    let at = format!("{sequences} sequences, {changes:?}");
    assert!((fused.0 / reference.0 - 1.0).abs() < 1e-6, "{at}: losses {} and {}", fused.0, reference.0);
    for (site, (a, b)) in fused.2.iter().zip(&reference.2).enumerate() {
        let error = relative(a, b);
        assert!(error < 1e-6, "{at}: site {site} is off by {error:e}");
    }
    for (Parameter { path, .. }, (a, b)) in model.parameters().iter().zip(fused.1.iter().zip(&reference.1)) {
        let error = relative(a, b);
        // A single gain's gradient is a sum that may nearly cancel: f32 has no five digits of it, fused or not.
        assert!(
            error < 1e-5 || a.len() == 1 && is_closer(&model, &batch, path),
            "{at}: the gradient of {path} is off by {error:e}"
        );
    }
}

/// Whether the fused gradient of a parameter is nearer than the reference's to what f64 gives on the same weights.
fn is_closer(model: &Transformer, batch: &[Vec<u32>], path: &str) -> bool {
    let index = model.parameters().iter().position(|known| known.path == path).unwrap();
    let mut exact = model.reference();
    exact.set_values(model.values().into_iter().map(|value| value.inner().cast(burn::tensor::DType::F64)).collect());
    let of = |model: &Transformer| seen(model, batch).1.swap_remove(index);
    let exact = of(&exact);
    relative(&of(model), &exact) < relative(&of(&model.reference()), &exact)
}

#[test]
fn fused_and_reference_agree_on_chosen_shapes() {
    for (sequences, changes) in shapes() {
        assert_agree(sequences, &changes);
    }
}

#[test]
fn fused_and_reference_agree_on_random_shapes() {
    let mut rng = stream(20_261_125, Purpose::Simulation, 0);
    for _ in 0..16 {
        let mut draw = |low: u64, high: u64| low + below(&mut rng, high - low + 1);
        let heads = draw(1, 5);
        let numbers = [
            ("model.n_heads", heads),
            ("model.d_model", heads * draw(4, 30)),
            ("model.d_mlp", draw(1, 300)),
            ("model.n_layers", draw(1, 3)),
            ("model.n_ctx", draw(2, 150)),
            ("corpus.d_vocab", draw(16, 300)),
        ];
        let norm = ["rms", "rms-scalar", "rms-gain"][draw(0, 2) as usize];
        let sequences = draw(1, 9) as usize;
        let numbers = numbers.map(|(key, number)| (key, number.to_string()));
        let mut changes: Vec<(&str, &str)> = numbers.iter().map(|(key, number)| (*key, number.as_str())).collect();
        changes.push(("model.norm", norm));
        assert_agree(sequences, &changes);
    }
}

#[test]
fn what_is_not_covered_runs_the_reference() {
    for changes in [
        ("model.activation", "solu"),
        ("model.attention", "softmax-1"),
        ("model.norm", "layernorm"),
        ("model.norm", "none"),
        ("model.positions.kind", "rope"),
        ("model.biases", "true"),
    ] {
        assert!(!init(&small(&[changes]).shared.model, 32, 0, &flex().autodiff()).is_fused(), "{changes:?}");
    }
    assert!(!init(&typed(small(&[]), Dtype::F64).shared.model, 32, 0, &flex().autodiff()).is_fused());
}

#[test]
fn gradients_are_the_same_bits_on_any_thread_count() {
    let run =
        small(&[("model.n_ctx", "40"), ("model.d_model", "48"), ("model.n_heads", "3"), ("model.d_mlp", "300")]).shared;
    let corpus = Corpus::open(&run.corpus, 40).unwrap();
    let batch = corpus.batch(0, 1, 33, 41);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| seen(&init(&run.model, 32, 0, &flex().autodiff()), &batch))
    };
    let alone = with(1);
    for threads in [2, 3, 4] {
        assert!(with(threads) == alone, "{threads} threads");
    }
}

#[test]
fn a_rotated_model_is_fused_and_agrees_too() {
    let experiment = small(&[("arm.adam.basis.kind", "rotated-model"), ("model.init_std", "0.1")]);
    let run = &experiment.arm("adam").unwrap().run;
    let trainee = Trainee::new(run, 0, 32, &flex());
    assert!(trainee.model.is_fused());
    let batch = Corpus::open(&run.corpus, 8).unwrap().batch(0, 1, 5, 9);
    let (fused, reference) = (seen(&trainee.model, &batch), seen(&trainee.model.reference(), &batch));
    for (a, b) in fused.1.iter().zip(&reference.1) {
        assert!(relative(a, b) < 1e-5, "{:e}", relative(a, b));
    }
}

#[test]
fn a_weight_that_is_not_finite_reaches_the_loss() {
    let run = small(&[]).shared;
    let mut model = init(&run.model, 32, 0, &flex().autodiff());
    let mut weights: Vec<Tensor<2>> = model.values().into_iter().map(Tensor::inner).collect();
    let batch = Corpus::open(&run.corpus, 8).unwrap().batch(0, 1, 2, 9);
    weights[2] = weights[2].clone().mul_scalar(f64::NAN);
    model.set_values(weights);
    assert!(!seen(&model, &batch).0.is_finite());
}
