//! Against PyTorch in float64: logits, loss, every gradient, and 20 losses of each optimizer.
//! The numbers come from scripts/parity_fixture.py, which states its versions.

use crate::support::{everywhere, is_cpu, relative, small, typed, values};
use basislab_config::{Dtype, Experiment, OptimizerSpec};
use basislab_experiment::{Trainee, update};
use basislab_model::{Transformer, cross_entropy};
use basislab_optim::Optimizer;
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

fn fixture() -> Value {
    serde_json::from_str(include_str!("parity/pytorch.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

fn sequences(value: &Value) -> Vec<Vec<u32>> {
    value.as_array().unwrap().iter().map(|row| numbers(row).into_iter().map(|token| token as u32).collect()).collect()
}

fn model(all: &Value, one: &Value, device: &Device, dtype: Dtype) -> (Experiment, Transformer) {
    let text = |key: &str| one[key].as_str().unwrap().to_owned();
    let flag = |key: &str| one[key].to_string();
    let size = |key: &str| all[key].to_string();
    let rope = text("positions") == "rope";
    let base = all["rope_base"].to_string();
    let mut changes = vec![
        ("model.n_ctx", size("n_ctx")),
        ("model.d_model", size("d_model")),
        ("model.n_heads", size("n_heads")),
        ("model.d_mlp", size("d_mlp")),
        ("model.n_layers", size("n_layers")),
        ("model.norm_epsilon", size("norm_epsilon")),
        ("model.activation", text("activation")),
        ("model.norm", text("norm")),
        ("model.positions.kind", text("positions")),
        ("model.attention", text("attention")),
        ("model.tied_head", flag("tied_head")),
        ("model.biases", flag("biases")),
        ("corpus.d_vocab", size("d_vocab")),
        ("train.clip_norm", size("clip_norm")),
    ];
    if rope {
        changes.push(("model.positions.base", base));
    }
    let changes: Vec<(&str, &str)> = changes.iter().map(|(path, value)| (*path, value.as_str())).collect();
    let experiment = typed(small(&changes), dtype);
    let mut model = basislab_model::init(&experiment.model, 16, 0, &device.clone().autodiff());
    let weights = one["weights"].as_object().unwrap();
    let axes = model.residual_axes();
    assert_eq!(axes.len(), weights.len(), "{}: PyTorch has other parameters", one["name"]);
    let load = |(path, shape, _): &(String, [usize; 2], _)| {
        Tensor::<2>::from_data(TensorData::new(numbers(&weights[path]), *shape), (device, basislab_model::dtype(dtype)))
    };
    model.set_values(axes.iter().map(load).collect());
    (experiment, model)
}

#[test]
fn logits_loss_and_gradients() {
    let all = fixture();
    for (name, device) in everywhere() {
        for (dtype, tight, loose) in [(Dtype::F32, 1e-5, 1e-4), (Dtype::F64, 1e-9, 1e-9)] {
            if dtype == Dtype::F64 && !is_cpu(name) {
                continue;
            }
            for one in all["models"].as_array().unwrap() {
                let what = format!("{name} {dtype:?} {}", one["name"]);
                let (_, model) = model(&all, one, &device, dtype);
                let batch = sequences(&one["sequences"]);
                let inputs: Vec<&[u32]> = batch.iter().map(|s| &s[..s.len() - 1]).collect();
                let targets: Vec<&[u32]> = batch.iter().map(|s| &s[1..]).collect();
                let logits = model.forward(model.tokens(&inputs), &mut |_, _| {});
                let worst = relative(&values(&logits), &numbers(&one["logits"]));
                assert!(worst < tight, "{what}: logits differ by {worst:e}");
                let loss = cross_entropy(logits, model.tokens(&targets));
                let difference = (loss.clone().into_scalar::<f64>() - one["loss"].as_f64().unwrap()).abs();
                assert!(difference < tight, "{what}: losses differ by {difference:e}");
                let mut grads = loss.backward();
                for ((path, ..), value) in model.residual_axes().iter().zip(model.values()) {
                    let ours = values(&value.grad_remove(&mut grads).unwrap());
                    let theirs = numbers(&one["gradients"][path]);
                    let size = theirs.iter().map(|g| g * g).sum::<f64>().sqrt();
                    // A gradient that is 0 up to rounding (a bias of keys) has no relative error.
                    let error = if size > 1e-12 {
                        relative(&ours, &theirs)
                    } else {
                        ours.iter().map(|g| g.abs()).fold(0.0, f64::max)
                    };
                    assert!(error < loose, "{what} {path}: gradients differ by {error:e}");
                }
            }
        }
    }
}

#[test]
fn twenty_losses_of_every_optimizer() {
    let all = fixture();
    for (name, device) in everywhere() {
        for (dtype, tolerance) in [(Dtype::F32, 1e-4), (Dtype::F64, 1e-9)] {
            if dtype == Dtype::F64 && !is_cpu(name) {
                continue;
            }
            for one in all["optimizers"].as_array().unwrap() {
                let what = format!("{name} {dtype:?} {}", one["name"]);
                assert!(one["clipped_steps"].as_u64().unwrap() > 0, "{what}: the fixture must cover a clipped step");
                let spec: OptimizerSpec = serde_json::from_value(one["spec"].clone()).unwrap();
                let (experiment, model) = model(&all, &all["models"][0], &device, dtype);
                let bases = vec![Default::default(); model.values().len()];
                let mut trainee = Trainee { model, optimizer: Optimizer::new(&spec, bases) };
                for (step, (batch, expected)) in
                    all["batches"].as_array().unwrap().iter().zip(numbers(&one["losses"])).enumerate()
                {
                    let (loss, _) = update(&mut trainee, &experiment.train, spec.lr(), &sequences(batch)).unwrap();
                    assert!(
                        (loss - expected).abs() < tolerance,
                        "{what} step {step}: {loss} here, {expected} in PyTorch"
                    );
                }
            }
        }
    }
}
