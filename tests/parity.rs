//! Against PyTorch in float64: logits, loss, every gradient, and 20 losses of each optimizer that PyTorch has. The numbers
//! come from scripts/parity_fixture.py, which states its versions. Lion and Muon against their papers, stated here.

use crate::support::{backends, everywhere, flex, is_cpu, muon_and_adam, optimizer, relative, small, typed, values};
use basislab_config::{Dtype, GroupSpec, OptimizerSpec, Parameter, Role, RuleSpec, RunSpec};
use basislab_model::{Transformer, cross_entropy};
use basislab_optim::Optimizer;
use basislab_stats::{Purpose, Rotation, gaussian, stream};
use basislab_train::{Trainee, update};
use burn::tensor::{DType, Device, Tensor, TensorData};
use serde_json::Value;
use std::collections::BTreeMap;

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

fn model(all: &Value, one: &Value, device: &Device, dtype: Dtype) -> (RunSpec, Transformer) {
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
    let options = one["options"].as_object().into_iter().flatten();
    let options: Vec<(String, String)> = options
        .map(|(key, value)| {
            let table = if ["pairs", "dims"].contains(&key.as_str()) { "model.positions" } else { "model" };
            (format!("{table}.{key}"), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        })
        .collect();
    changes.extend(options.iter().map(|(path, value)| (path.as_str(), value.clone())));
    let changes: Vec<(&str, &str)> = changes.iter().map(|(path, value)| (*path, value.as_str())).collect();
    let run = typed(small(&changes), dtype).shared;
    let mut model = basislab_model::init(&run.model, 16, 0, &device.clone().autodiff());
    let weights = one["weights"].as_object().unwrap();
    let parameters = model.parameters();
    assert_eq!(parameters.len(), weights.len(), "{}: PyTorch has other parameters", one["name"]);
    let load = |Parameter { path, shape, .. }: &Parameter| {
        Tensor::<2>::from_data(TensorData::new(numbers(&weights[path]), *shape), (device, basislab_model::dtype(dtype)))
    };
    model.set_values(parameters.iter().map(load).collect());
    (run, model)
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
                for (Parameter { path, .. }, value) in model.parameters().iter().zip(model.values()) {
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
                let (run, model) = model(&all, &all["models"][0], &device, dtype);
                let bases = vec![Default::default(); model.values().len()];
                let optimizer = Optimizer::new(&spec, model.parameters(), bases);
                let mut trainee = Trainee { model, optimizer };
                for (step, (batch, expected)) in
                    all["batches"].as_array().unwrap().iter().zip(numbers(&one["losses"])).enumerate()
                {
                    let (loss, _) = update(&mut trainee, &run.train, 1.0, &sequences(batch)).unwrap();
                    assert!(
                        (loss - expected).abs() < tolerance,
                        "{what} step {step}: {loss} here, {expected} in PyTorch"
                    );
                }
            }
        }
    }
}

fn noise(count: usize, number: u64) -> Vec<f64> {
    let mut rng = stream(11, Purpose::Simulation, number);
    (0..count).map(|_| gaussian(&mut rng)).collect()
}

fn tensor(values: &[f64], shape: [usize; 2], on: (&Device, DType)) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), on)
}

/// An optimizer of one matrix that reads the stream.
fn of_one(spec: &OptimizerSpec, shape: [usize; 2]) -> Optimizer {
    let parameter = Parameter { path: "w".to_owned(), role: Role::Read, shape };
    Optimizer::new(spec, vec![parameter], vec![Default::default()])
}

#[test]
fn lion_is_algorithm_2_of_its_paper() {
    let keys = [("lr", "0.1"), ("beta_1", "0.6"), ("beta_2", "0.75"), ("decoupled_weight_decay", "0.5")];
    let (spec, shape) = (optimizer("lion", &keys), [3, 5]);
    for (name, device) in backends() {
        let on = (&device, DType::F64);
        let mut optimizer = of_one(&spec, shape);
        let (mut w, mut m) = (noise(15, 0), vec![0.0; 15]);
        let mut held = tensor(&w, shape, on);
        for (step, factor) in (1..=4).zip([1.0, 0.5, 2.0, 1.0]) {
            let mut grad = noise(15, step);
            grad[7] = 0.0; // in every step: the sign of 0 is 0, and only decay moves that weight
            held = optimizer.step(factor, vec![held], vec![tensor(&grad, shape, on)]).remove(0);
            for i in 0..15 {
                let c = 0.6 * m[i] + 0.4 * grad[i];
                let sign = f64::from(i8::from(c > 0.0) - i8::from(c < 0.0));
                w[i] -= 0.1 * factor * (sign + 0.5 * w[i]);
                m[i] = 0.75 * m[i] + 0.25 * grad[i];
            }
            assert!(relative(&values(&held), &w) < 1e-14, "{name}, update {step}");
            let state = optimizer.state();
            assert_eq!((state.len(), state[0].0, state[0].1), (1, "w", "momentum"), "{name}");
            assert!(relative(&values(&state[0].2), &m) < 1e-14, "{name}, update {step}");
        }
    }
}

/// `U diag(values) V'` of shape `[rows, columns]`.
fn with_singular_values(values: &[f64], (u, v): (&Rotation, &Rotation)) -> Vec<f64> {
    let (rows, columns) = (u.d(), v.d());
    let at = |i: usize, j: usize| {
        let terms = values.iter().enumerate();
        terms.map(|(k, s)| u.as_slice()[i * rows + k] * s * v.as_slice()[j * columns + k]).sum::<f64>()
    };
    (0..rows * columns).map(|n| at(n / columns, n % columns)).collect()
}

#[test]
fn muon_brings_every_singular_value_near_one_and_keeps_its_vectors() {
    // Newton-Schulz is a polynomial of each singular value alone, so gradients are made from theirs.
    let OptimizerSpec::Groups { groups } = muon_and_adam("") else { unreachable!() };
    let spec = OptimizerSpec::One(groups["matrices"].rule.clone());
    for shape in [[6, 6], [4, 9], [9, 4]] {
        let [u, v] = [0, 1].map(|axis| Rotation::haar(shape[axis], &mut stream(3, Purpose::Simulation, axis as u64)));
        let count = shape[0].min(shape[1]);
        let (mut optimizer, mut buffer) = (of_one(&spec, shape), vec![0.0; count]);
        let mut w = tensor(&vec![0.0; shape[0] * shape[1]], shape, (&flex(), DType::F64));
        for step in 1..=3 {
            // The same vectors each time, so that momentum and Nesterov's step are sums of singular values.
            let own: Vec<f64> = (0..count).map(|k| 0.3 + f64::from(step) * (k as f64 + 1.0) / 2.0).collect();
            buffer.iter_mut().zip(&own).for_each(|(buffer, own)| *buffer = 0.95 * *buffer + own);
            let sums: Vec<f64> = own.iter().zip(&buffer).map(|(own, buffer)| own + 0.95 * buffer).collect();
            let size = sums.iter().map(|s| s * s).sum::<f64>().sqrt() + 1e-7;
            let polynomial = |x: f64| 3.4445 * x - 4.775 * x.powi(3) + 2.0315 * x.powi(5);
            let near_one: Vec<f64> = sums.iter().map(|s| (0..5).fold(s / size, |x, _| polynomial(x))).collect();
            assert!(near_one.iter().all(|s| (0.65..1.25).contains(s)), "{shape:?}: {near_one:?}");
            // Weights are [in, out]: a map to more outputs than inputs is scaled up.
            let scale = (shape[1] as f64 / shape[0] as f64).max(1.0).sqrt();
            let scaled: Vec<f64> = near_one.iter().map(|s| -2e-2 * scale * s).collect();
            let grad = with_singular_values(&own, (&u, &v));
            let before = values(&w);
            w = optimizer.step(1.0, vec![w], vec![tensor(&grad, shape, (&flex(), DType::F64))]).remove(0);
            let moved: Vec<f64> = values(&w).iter().zip(&before).map(|(after, before)| after - before).collect();
            let error = relative(&moved, &with_singular_values(&scaled, (&u, &v)));
            assert!(error < 1e-12, "{shape:?}, update {step}: {error:e}");
        }
    }
}

#[test]
fn groups_give_each_parameter_the_rule_of_its_role() {
    let run = typed(small(&[("model.norm", "layernorm"), ("model.biases", "true")]), Dtype::F64).shared;
    let one = |kind: &str, keys: &[(&str, &str)]| -> RuleSpec {
        let OptimizerSpec::One(rule) = optimizer(kind, keys) else { unreachable!() };
        rule
    };
    let group = |roles: &[Role], rule| GroupSpec { roles: roles.to_vec(), rule };
    let groups = BTreeMap::from([
        ("readers".to_owned(), group(&[Role::Read, Role::Head], one("lion", &[("lr", "0.25")]))),
        ("tables".to_owned(), group(&[Role::Embedding], one("adam", &[("lr", "0.5")]))),
        (
            "rest".to_owned(),
            group(&[Role::Write, Role::Vector, Role::Other], one("sgd", &[("lr", "2.0"), ("momentum", "0.0")])),
        ),
    ]);
    let parameters = basislab_model::init(&run.model, 32, 0, &flex()).parameters();
    let bases = vec![Default::default(); parameters.len()];
    let mut optimizer = Optimizer::new(&OptimizerSpec::Groups { groups }, parameters.clone(), bases);
    let on = (&flex(), DType::F64);
    let grads: Vec<Vec<f64>> =
        (0..).zip(&parameters).map(|(number, p)| noise(p.shape[0] * p.shape[1], number)).collect();
    let tensors = grads.iter().zip(&parameters).map(|(grad, p)| tensor(grad, p.shape, on)).collect();
    let zeros = parameters.iter().map(|p| Tensor::zeros(p.shape, on)).collect();
    let moved = optimizer.step(0.5, zeros, tensors);
    for ((parameter, grad), moved) in parameters.iter().zip(&grads).zip(&moved) {
        let update = |g: &f64| match parameter.role {
            Role::Read | Role::Head => -0.125 * g.signum(),
            Role::Embedding => -0.25 * g / (g.abs() + 1e-8),
            Role::Write | Role::Vector | Role::Other => -g,
        };
        let expected: Vec<f64> = grad.iter().map(update).collect();
        assert!(relative(&values(moved), &expected) < 1e-12, "{}", parameter.path);
    }
    // And each remembers what its rule remembers.
    let slots = |path: &str| -> Vec<&str> {
        optimizer.state().iter().filter(|(of, ..)| *of == path).map(|(_, slot, _)| *slot).collect()
    };
    assert_eq!(slots("blocks.1.w_q"), ["momentum"]);
    assert_eq!(slots("w_e"), ["first", "second"]);
    assert!(slots("blocks.0.w_o").is_empty() && slots("norm.gain").is_empty());
}
