//! Facts about the model that need no reference.

use crate::support::{backends, everywhere, flex, relative, small, typed, values};
use basislab_config::{BasisSpec, Dtype};
use basislab_data::Corpus;
use basislab_experiment::{prepare, update};
use basislab_model::{Role, Transformer, cross_entropy, init};
use basislab_optim::{Basis, upload};
use basislab_stats::{Purpose, Rotation, stream};
use burn::tensor::{DType, Device, Tensor};

fn logits(model: &Transformer, batch: &[Vec<u32>]) -> Vec<f64> {
    let inputs: Vec<&[u32]> = batch.iter().map(|s| &s[..s.len() - 1]).collect();
    values(&model.forward(model.tokens(&inputs), &mut |_, _| {}))
}

fn batch(count: usize) -> Vec<Vec<u32>> {
    let experiment = small(&[]);
    Corpus::open(&experiment.corpus, 8).unwrap().batch(0, 1, count, 9)
}

#[test]
fn a_later_token_changes_no_bit_of_an_earlier_logit() {
    for changes in [vec![], vec![("model.positions.kind", "rope"), ("model.attention", "softmax-1")]] {
        for (name, device) in backends() {
            let model = init(&small(&changes).model, 32, 0, &device);
            let one = batch(1);
            let mut other = one.clone();
            other[0][5] = (other[0][5] + 1) % 32;
            let (a, b) = (logits(&model, &one), logits(&model, &other));
            assert_eq!(a[..5 * 32], b[..5 * 32], "{name}: a later token was seen");
            assert_ne!(a[5 * 32..6 * 32], b[5 * 32..6 * 32], "{name}: the changed token itself was not seen");
            assert_ne!(a[6 * 32..], b[6 * 32..], "{name}: attention does not look back");
        }
    }
}

#[test]
fn a_zero_head_starts_at_log_vocabulary() {
    let mut model = init(&typed(small(&[]), Dtype::F64).model, 32, 0, &flex());
    model.for_each(&mut |path, _, weight| {
        if path == "w_u" {
            weight.value = weight.value.zeros_like();
        }
    });
    let batch = batch(3);
    let inputs: Vec<&[u32]> = batch.iter().map(|s| &s[..8]).collect();
    let loss = cross_entropy(model.forward(model.tokens(&inputs), &mut |_, _| {}), model.tokens(&inputs));
    assert!((loss.into_scalar::<f64>() - 32f64.ln()).abs() < 1e-12);
}

#[test]
fn a_batch_gives_the_mean_of_its_items_and_micro_batches_change_nothing() {
    let one = |micro: &str| {
        let experiment = typed(small(&[("train.batch_size", "8"), ("train.micro_batches", micro)]), Dtype::F64);
        let mut trainee = prepare(&experiment, &experiment.arms[0], 0, 32, &flex());
        let seen = update(&mut trainee, &experiment.train, 1e-3, &batch(8)).unwrap();
        (seen, trainee.model.values().iter().flat_map(values).collect::<Vec<f64>>())
    };
    let (whole, weights) = one("1");
    for parts in ["2", "4", "8"] {
        let (seen, moved) = one(parts);
        assert!((seen.0 - whole.0).abs() < 1e-12 && (seen.1 - whole.1).abs() < 1e-12, "{parts}: {seen:?}, {whole:?}");
        assert!(relative(&moved, &weights) < 1e-9, "{parts} parts");
    }
}

#[test]
fn one_batch_is_overfitted() {
    let experiment = small(&[]);
    let mut trainee = prepare(&experiment, &experiment.arms[0], 0, 32, &flex());
    // Distinct first tokens, or the first prediction could not be certain.
    let batch: Vec<Vec<u32>> = batch(4)
        .into_iter()
        .zip(0..)
        .map(|(mut s, first)| {
            s[0] = first;
            s
        })
        .collect();
    let losses: Vec<f64> = (0..250).map(|_| update(&mut trainee, &experiment.train, 1e-2, &batch).unwrap().0).collect();
    assert!(losses[249] < 0.05, "{} -> {}", losses[0], losses[249]);
}

#[test]
fn every_parameter_with_a_residual_axis_is_listed_and_rotating_them_all_changes_nothing() {
    // The list could forget a parameter or name a wrong axis; the model itself cannot: logits of the rotated twin agree
    // only if every parameter that faces the stream is rotated on the axis that faces it. d 16 differs from every other
    // size, so each axis of that length must be listed too.
    for changes in [
        vec![("model.n_heads", "1")],
        vec![("model.tied_head", "true"), ("model.biases", "true"), ("model.norm", "rms")],
        vec![("model.positions.kind", "rope"), ("model.norm", "none"), ("model.biases", "true")],
    ] {
        // Weights large enough for every one of them to matter.
        let mut all = vec![("model.init_std", "0.3")];
        all.extend(&changes);
        let experiment = typed(small(&all), Dtype::F64);
        let mut model = init(&experiment.model, 32, 0, &flex());
        let q = upload(&Rotation::haar(16, &mut stream(0, Purpose::Rotation, 0)), &flex(), DType::F64);
        model.for_each(&mut |_, _, weight| weight.value = weight.value.clone().add_scalar(0.1)); // biases are not 0
        let before = logits(&model, &batch(2));
        let mut seen = Vec::new();
        model.for_each(&mut |path, facing, weight| {
            seen.push(path.to_owned());
            match facing {
                Some(axis) => {
                    assert_eq!(weight.value.dims()[axis.index], 16, "{path}");
                    weight.value = Basis::on_axis(axis.index, q.clone(), weight.value.dims()[1 - axis.index])
                        .apply(weight.value.clone());
                }
                None => assert!(path.starts_with("blocks.") || path == "norm.gain", "{path} does not face the stream?"),
            }
        });
        assert!(relative(&logits(&model, &batch(2)), &before) < 1e-12, "{changes:?}: a parameter or axis is missing");
        // And the check can fail: each parameter left out of the rotation shows.
        for left_out in &seen {
            let mut model = model.clone();
            let mut faces = false;
            model.for_each(&mut |path, facing, weight| {
                if let (true, Some(axis)) = (path == left_out, facing) {
                    faces = true;
                    weight.value = Basis::on_axis(axis.index, q.clone(), weight.value.dims()[1 - axis.index])
                        .undo(weight.value.clone());
                }
            });
            let moved = relative(&logits(&model, &batch(2)), &before);
            assert!(!faces || moved > 1e-6, "{changes:?}: forgetting {left_out} goes unseen ({moved:e})");
        }
    }
}

#[test]
fn roles_are_as_the_glossary_says() {
    let model = init(&small(&[("model.biases", "true")]).model, 32, 0, &flex());
    let of = |name: &str| model.residual_axes().into_iter().find(|(path, ..)| path == name).unwrap().2;
    for name in ["w_e", "w_pos", "blocks.0.w_o", "blocks.1.w_out"] {
        assert_eq!(of(name).map(|a| (a.index, a.role)), Some((1, Role::Write)), "{name}");
    }
    for name in ["blocks.0.w_q", "blocks.0.w_k", "blocks.1.w_v", "blocks.0.w_in", "w_u"] {
        assert_eq!(of(name).map(|a| (a.index, a.role)), Some((0, Role::Read)), "{name}");
    }
    assert_eq!(of("blocks.0.b_o").map(|a| a.role), Some(Role::Vector));
    assert_eq!(of("blocks.0.b_q"), None);
    let tied = init(&small(&[("model.tied_head", "true")]).model, 32, 0, &flex());
    assert_eq!(tied.residual_axes()[0].2.map(|a| (a.index, a.role)), Some((1, Role::Both)));
}

#[test]
fn sites_come_in_order() {
    let model = init(&small(&[]).model, 32, 0, &flex());
    let mut sites = Vec::new();
    let batch = batch(1);
    let _ = model.forward(model.tokens(&[&batch[0][..8]]), &mut |site, x| {
        assert_eq!(x.dims(), [8, 16]);
        sites.push(site.to_string());
    });
    let expected = "embed blocks.0.resid_mid blocks.0.resid_post blocks.1.resid_mid blocks.1.resid_post final";
    assert_eq!(sites.join(" "), expected);
}

#[test]
fn initial_weights_are_the_same_on_every_backend_and_for_every_arm() {
    let experiment = small(&[]);
    let of = |arm: usize, device: &Device| {
        let trainee = prepare(&experiment, &experiment.arms[arm], 7, 32, device);
        trainee.model.values().iter().flat_map(values).collect::<Vec<f64>>()
    };
    let first = of(0, &flex());
    assert!(matches!(experiment.arms[1].basis, BasisSpec::RotatedOptimizer { .. }));
    for (name, device) in everywhere() {
        for arm in 0..experiment.arms.len() {
            assert_eq!(of(arm, &device), first, "{name} {}", experiment.arms[arm].name);
        }
    }
    let other = prepare(&experiment, &experiment.arms[0], 8, 32, &flex());
    assert_ne!(other.model.values().iter().flat_map(values).collect::<Vec<f64>>(), first);
}

#[test]
fn initial_weights_have_the_stated_spread() {
    let model = init(&small(&[("model.d_model", "64"), ("model.d_mlp", "64")]).model, 512, 0, &flex());
    for ((path, ..), value) in model.residual_axes().iter().zip(model.values()) {
        let x = values(&value);
        let rms = (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64).sqrt();
        let wanted = match path.rsplit('.').next() {
            Some("gain") => 1.0,
            Some("w_o" | "w_out") => 0.02 / 2.0,
            _ => 0.02,
        };
        assert!(
            (rms / wanted - 1.0).abs() < 6.0 / (2.0 * x.len() as f64).sqrt() + 1e-12,
            "{path}: {rms}, not {wanted}"
        );
    }
}

#[test]
fn f32_and_f64_models_live_in_one_process() {
    for dtype in [Dtype::F64, Dtype::F32, Dtype::F64] {
        let experiment = typed(small(&[]), dtype);
        let trainee = prepare(&experiment, &experiment.arms[1], 0, 32, &flex());
        let dtypes: Vec<_> = trainee.model.values().iter().map(Tensor::dtype).collect();
        assert!(dtypes.iter().all(|found| *found == basislab_model::dtype(dtype)), "{dtypes:?}");
    }
}
