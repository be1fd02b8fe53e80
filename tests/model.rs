//! Facts about the model that need no reference.

use crate::support::{backends, everywhere, flex, relative, small, typed, values};
use basislab_config::{BasisSpec, Dtype, ModelSpec, Parameter, Role, RotationSpec, Sharing, Site};
use basislab_data::Corpus;
use basislab_model::{InParts, Transformer, cross_entropy, init};
use basislab_optim::bases;
use basislab_stats::{Purpose, Rotation, stream};
use basislab_train::{Trainee, update};
use burn::tensor::{DType, Device, Tensor, TensorData};

fn logits(model: &Transformer, batch: &[Vec<u32>]) -> Vec<f64> {
    let inputs: Vec<&[u32]> = batch.iter().map(|s| &s[..s.len() - 1]).collect();
    values(&model.forward(model.tokens(&inputs), &mut |_, _| {}))
}

fn batch(count: usize) -> Vec<Vec<u32>> {
    Corpus::open(&small(&[]).shared.corpus, 8).unwrap().batch(0, 1, count, 9)
}

#[test]
fn a_later_token_changes_no_bit_of_an_earlier_logit() {
    for changes in [vec![], vec![("model.positions.kind", "rope"), ("model.attention", "softmax-1")]] {
        for (name, device) in backends() {
            let model = init(&small(&changes).shared.model, 32, 0, &device);
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
    let mut model = init(&typed(small(&[]), Dtype::F64).shared.model, 32, 0, &flex());
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
        let run = typed(small(&[("train.batch_size", "8"), ("train.micro_batches", micro)]), Dtype::F64).shared;
        let mut trainee = Trainee::new(&run, 0, 32, &flex());
        let seen = update(&mut trainee, &run.train, 0.1, &batch(8)).unwrap();
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
    let run = small(&[]).shared;
    let mut trainee = Trainee::new(&run, 0, 32, &flex());
    // Distinct first tokens, or the first prediction could not be certain.
    let batch: Vec<Vec<u32>> = batch(4)
        .into_iter()
        .zip(0..)
        .map(|(mut s, first)| {
            s[0] = first;
            s
        })
        .collect();
    let losses: Vec<f64> = (0..250).map(|_| update(&mut trainee, &run.train, 1.0, &batch).unwrap().0).collect();
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
        let run = typed(small(&all), Dtype::F64).shared;
        let mut model = init(&run.model, 32, 0, &flex());
        let parameters = model.parameters();
        let basis = BasisSpec::RotatedModel { rotation: RotationSpec::Haar { seed: 0 }, sharing: Sharing::Shared };
        let bases = bases(&basis, 0, &parameters, &flex(), DType::F64);
        model.for_each(&mut |_, _, weight| weight.value = weight.value.clone().add_scalar(0.1)); // biases are not 0
        let before = logits(&model, &batch(2));
        let mut at = 0;
        model.for_each(&mut |path, role, weight| {
            let (parameter, basis) = (&parameters[at], &bases[at]);
            at += 1;
            assert_eq!((path, role), (parameter.path.as_str(), parameter.role));
            assert_eq!(weight.value.dims(), parameter.shape, "{path}");
            match role.residual_axis() {
                Some(axis) => {
                    assert_eq!(weight.value.dims()[axis], 16, "{path}");
                    assert!(basis.map(axis).is_some() && basis.map(1 - axis).is_none(), "{path}");
                    weight.value = basis.apply(weight.value.clone());
                }
                None => assert!(path.starts_with("blocks.") || path == "norm.gain", "{path} does not face the stream?"),
            }
        });
        assert_eq!(at, parameters.len());
        assert!(relative(&logits(&model, &batch(2)), &before) < 1e-12, "{changes:?}: a parameter or axis is missing");
        // And the check can fail: each parameter left out of the rotation shows.
        for (left_out, basis) in parameters.iter().zip(&bases) {
            let mut model = model.clone();
            model.for_each(&mut |path, _, weight| {
                if path == left_out.path {
                    weight.value = basis.undo(weight.value.clone());
                }
            });
            let (moved, faces) =
                (relative(&logits(&model, &batch(2)), &before), left_out.role.residual_axis().is_some());
            assert!(!faces || moved > 1e-6, "{changes:?}: forgetting {} goes unseen ({moved:e})", left_out.path);
        }
    }
}

#[test]
fn roles_are_as_the_glossary_says() {
    let roles = |changes: &[(&str, &str)]| init(&small(changes).shared.model, 32, 0, &flex()).parameters();
    let of = |all: &[Parameter], name: &str| all.iter().find(|parameter| parameter.path == name).unwrap().role;
    let all = roles(&[("model.biases", "true"), ("model.norm", "layernorm")]);
    for (role, axis, names) in [
        (Role::Embedding, Some(1), &["w_e", "w_pos"][..]),
        (Role::Write, Some(1), &["blocks.0.w_o", "blocks.1.w_out"]),
        (Role::Read, Some(0), &["blocks.0.w_q", "blocks.0.w_k", "blocks.1.w_v", "blocks.0.w_in"]),
        (Role::Head, Some(0), &["w_u"]),
        (Role::Vector, Some(1), &["blocks.0.b_o", "blocks.1.b_out", "blocks.0.norm_1.gain", "norm.gain", "norm.bias"]),
        (Role::Other, None, &["blocks.0.b_q", "blocks.0.b_k", "blocks.0.b_v", "blocks.1.b_in"]),
    ] {
        for name in names {
            assert_eq!((of(&all, name), role.residual_axis()), (role, axis), "{name}");
        }
    }
    assert_eq!(of(&roles(&[("model.norm", "rms-scalar")]), "norm.gain"), Role::Other);
    let tied = roles(&[("model.tied_head", "true")]);
    assert_eq!(of(&tied, "w_e"), Role::Embedding);
    assert!(tied.iter().all(|parameter| parameter.role != Role::Head));
}

#[test]
fn a_configuration_knows_the_roles_of_its_model() {
    // By them it tells whether every parameter has a rule.
    for norm in ["none", "rms", "rms-scalar", "rms-gain", "layernorm"] {
        for (biases, tied) in [("true", "false"), ("false", "true")] {
            let run = small(&[("model.norm", norm), ("model.biases", biases), ("model.tied_head", tied)]).shared;
            let mut roles: Vec<Role> =
                init(&run.model, 32, 0, &flex()).parameters().iter().map(|parameter| parameter.role).collect();
            roles.sort_unstable();
            roles.dedup();
            assert_eq!(run.model.roles(), roles, "{norm}, biases {biases}, tied {tied}");
        }
    }
    for key in ["model.qkv_biases", "model.qk_norm"] {
        let run = small(&[("model.norm", "rms"), (key, "true")]).shared;
        let model = init(&run.model, 32, 0, &flex());
        let others = model.parameters().iter().filter(|parameter| parameter.role == Role::Other).count();
        assert!(others > 0 && run.model.roles().contains(&Role::Other), "{key}");
    }
}

/// The sites of a model of two blocks, in the order in which they are handed out.
fn sites(changes: &[(&str, &str)]) -> String {
    sites_of(&init(&small(changes).shared.model, 32, 0, &flex()), changes)
}

fn sites_of(model: &Transformer, changes: &[(&str, &str)]) -> String {
    let mut sites: Vec<Site> = Vec::new();
    let batch = batch(1);
    let _ = model.forward(model.tokens(&[&batch[0][..8]]), &mut |site, x| {
        assert_eq!(x.dims(), [8, 16]);
        sites.push(site);
    });
    assert!(sites.is_sorted_by_key(|site| site.order()), "{sites:?}");
    // A fused branch is one operation: what it writes is no site.
    let all = small(changes).shared.model.sites().into_iter().filter(|site| !(model.is_fused() && site.is_branch()));
    assert_eq!(sites, all.collect::<Vec<_>>());
    sites.iter().map(Site::to_string).collect::<Vec<_>>().join(" ").replace("blocks.", "")
}

#[test]
fn sites_come_in_order() {
    assert_eq!(sites(&[]), "embed 0.resid_mid 0.resid_post 1.resid_mid 1.resid_post final");
    assert_eq!(sites(&[("model.branches", "parallel")]), "embed 0.resid_post 1.resid_post final");
    let of = |n: usize| format!("{n}.attn_sum {n}.resid_mid {n}.mlp_sum {n}.resid_post");
    assert_eq!(sites(&[("model.norm_place", "post")]), format!("embed_sum embed {} {}", of(0), of(1)));
    let reference =
        |changes: &[(&str, &str)]| sites_of(&init(&small(changes).shared.model, 32, 0, &flex()).reference(), changes);
    let branches = "0.attn_out 0.resid_mid 0.mlp_out 0.resid_post 1.attn_out 1.resid_mid 1.mlp_out 1.resid_post";
    assert_eq!(reference(&[]), format!("embed {branches} final"));
    let parallel = "0.attn_out 0.mlp_out 0.resid_post 1.attn_out 1.mlp_out 1.resid_post";
    assert_eq!(reference(&[("model.branches", "parallel")]), format!("embed {parallel} final"));
    let of = |n: usize| format!("{n}.attn_out {n}.attn_sum {n}.resid_mid {n}.mlp_out {n}.mlp_sum {n}.resid_post");
    assert_eq!(reference(&[("model.norm_place", "post")]), format!("embed_sum embed {} {}", of(0), of(1)));
}

const ARCHITECTURES: [&[(&str, &str)]; 4] = [
    &[("model.norm", "rms"), ("model.mlp", "swiglu"), ("model.n_kv_heads", "1"), ("model.qk_norm", "true")],
    &[("model.norm", "rms"), ("model.branches", "parallel"), ("model.biases", "true")],
    &[("model.norm", "rms"), ("model.norm_place", "post"), ("model.tied_head", "true"), ("model.biases", "true")],
    &[("model.norm", "layernorm"), ("model.tied_head", "true"), ("model.biases", "true")],
];

/// A forward pass in parts, with the weights of `model`.
fn in_parts(model: &Transformer, spec: &ModelSpec, rotation: Option<(Site, Tensor<2>)>) -> (Vec<f64>, Vec<Site>) {
    let parameters: Vec<String> = model.parameters().into_iter().map(|parameter| parameter.path).collect();
    let weights: Vec<Tensor<2>> = model.values();
    let mut read = |path: &str, shape: [usize; 2]| -> Result<Vec<f32>, String> {
        let index = parameters.iter().position(|known| known == path).ok_or_else(|| path.to_owned())?;
        assert_eq!(weights[index].dims(), shape, "{path}");
        Ok(weights[index].clone().into_data().try_into_vec::<f32>().unwrap())
    };
    let batches = batch(4);
    let rows: Vec<&[u32]> = batches.iter().map(|row| &row[..8]).collect();
    let (mut logits, mut sites) = (Vec::new(), Vec::new());
    let parts = InParts { spec, d_vocab: 32, has_head: true, device: &flex(), rotation, rounding: None };
    let tokens = vec![model.tokens(&rows[..2]), model.tokens(&rows[2..])];
    let mut on_logits = |part: Tensor<2>| logits.extend(values(&part));
    parts.forward(tokens, &mut read, &mut |site, _| sites.push(site), &mut on_logits).unwrap();
    (logits, sites)
}

#[test]
fn a_forward_pass_in_parts_is_the_forward_pass() {
    for changes in ARCHITECTURES {
        let spec = small(changes).shared.model;
        let model = init(&spec, 32, 3, &flex()).reference();
        let batches = batch(4);
        let rows: Vec<&[u32]> = batches.iter().map(|row| &row[..8]).collect();
        let mut expected_sites = Vec::new();
        let expected = values(&model.forward(model.tokens(&rows), &mut |site, _| expected_sites.push(site)));
        let (logits, sites) = in_parts(&model, &spec, None);
        assert!(relative(&logits, &expected) < 1e-6, "{changes:?}");
        assert_eq!(sites, expected_sites, "{changes:?}");
    }
}

#[test]
fn a_rotated_stream_changes_nothing_where_no_coordinate_is_special() {
    let q = Rotation::haar(16, &mut stream(5, Purpose::Simulation, 0));
    let q = Tensor::<2>::from_data(TensorData::new(q.as_slice().to_vec(), [16, 16]), (&flex(), DType::F32));
    for (index, changes) in ARCHITECTURES.into_iter().enumerate() {
        let spec = ModelSpec { init_std: 0.3, ..small(changes).shared.model };
        let model = init(&spec, 32, 3, &flex()).reference();
        let (expected, sites) = in_parts(&model, &spec, None);
        let of_stream =
            |site: &Site| matches!(site, Site::Embed | Site::ResidMid(_) | Site::ResidPost(_) | Site::Final);
        for site in sites.into_iter().filter(of_stream) {
            let (logits, _) = in_parts(&model, &spec, Some((site, q.clone())));
            let error = relative(&logits, &expected);
            // The centring of LayerNorm is along one direction of the standard basis.
            match index < 3 || site == Site::Final {
                true => assert!(error < 1e-5, "{changes:?} {site}: {error:e}"),
                false => assert!(error > 1e-3, "{changes:?} {site}: {error:e}"),
            }
        }
    }
}

#[test]
fn initial_weights_are_the_same_on_every_backend_and_for_every_arm() {
    let experiment = small(&[]);
    let of = |arm: usize, device: &Device| {
        let trainee = Trainee::new(&experiment.arms[arm].run, 7, 32, device);
        trainee.model.values().iter().flat_map(values).collect::<Vec<f64>>()
    };
    let first = of(0, &flex());
    assert!(matches!(experiment.arms[1].run.basis, BasisSpec::RotatedOptimizer { .. }));
    for (name, device) in everywhere() {
        for arm in 0..experiment.arms.len() {
            assert_eq!(of(arm, &device), first, "{name} {}", experiment.arms[arm].name);
        }
    }
    let other = Trainee::new(&experiment.arms[0].run, 8, 32, &flex());
    assert_ne!(other.model.values().iter().flat_map(values).collect::<Vec<f64>>(), first);
}

#[test]
fn initial_weights_have_the_stated_spread() {
    let model = init(&small(&[("model.d_model", "64"), ("model.d_mlp", "64")]).shared.model, 512, 0, &flex());
    for (Parameter { path, .. }, value) in model.parameters().iter().zip(model.values()) {
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
        let trainee = Trainee::new(&experiment.arms[1].run, 0, 32, &flex());
        let dtypes: Vec<_> = trainee.model.values().iter().map(Tensor::dtype).collect();
        assert!(dtypes.iter().all(|found| *found == basislab_model::dtype(dtype)), "{dtypes:?}");
    }
}
