//! Which parts run as kernels, and what happens where some do not.

use super::{assert_agrees, batch, loss, model, run, seen};
use crate::support::{flex, relative, small, typed};
use basislab_config::Dtype;
use basislab_model::{PartName, Transformer, init};
use burn::tensor::{Tensor, TensorData};

/// A model that has all parts.
const ALL_PARTS: [(&str, &str); 4] = [
    ("model.norm", "layernorm"),
    ("model.qk_norm", "true"),
    ("model.positions.kind", "rope"),
    ("model.biases", "true"),
];

/// Parts that a model in f32 computes without a kernel on the device flex, and why.
const WITHOUT_KERNEL: [(PartName, &str); 0] = [];

/// The place of a part in the list of all. A new part does not compile here: it goes into [`PartName::ALL`] too.
fn place(part: PartName) -> usize {
    match part {
        PartName::Norm => 0,
        PartName::Projection => 1,
        PartName::HeadNorm => 2,
        PartName::Rope => 3,
        PartName::Attention => 4,
        PartName::Activation => 5,
        PartName::Residual => 6,
        PartName::Loss => 7,
    }
}

#[test]
fn every_part_has_a_kernel_or_a_reason() {
    let model = model(&run(&ALL_PARTS));
    for (number, part) in PartName::ALL.into_iter().enumerate() {
        assert_eq!(place(part), number, "{part:?}");
        let is_listed = WITHOUT_KERNEL.iter().any(|(known, why)| *known == part && !why.is_empty());
        assert!(model.runs_fused(part) != is_listed, "{part:?}");
        assert!(!model.reference().runs_fused(part), "{part:?}");
    }
}

#[test]
fn without_a_parts_kernel_a_model_is_the_same_function() {
    for options in [
        ALL_PARTS.to_vec(),
        vec![("model.norm", "rms-gain"), ("model.norm_place", "post"), ("model.mlp", "swiglu")],
        vec![("model.norm", "layernorm"), ("model.branches", "parallel"), ("model.tied_head", "true")],
        vec![("model.norm", "rms"), ("model.activation", "solu"), ("model.attention", "softmax-1")],
        vec![
            ("model.norm_place", "post"),
            ("model.branches", "parallel"),
            ("model.n_kv_heads", "1"),
            ("model.positions.kind", "rope"),
            ("model.positions.pairs", "interleaved"),
            ("model.qkv_biases", "true"),
        ],
        vec![("model.norm", "none"), ("model.qk_norm", "true"), ("model.mlp", "swiglu"), ("model.d_head", "5")],
    ] {
        let mut changes = vec![("model.n_ctx", "21")];
        changes.extend(&options);
        let run = run(&changes);
        let (model, batch) = (model(&run), batch(&run, 30));
        for part in PartName::ALL {
            assert_agrees(&model.without_kernel(part), &batch, &format!("without {part:?}, {options:?}"));
        }
    }
}

/// By bits: kernels round otherwise than burn's operations, but for a sum.
#[test]
fn without_a_parts_kernel_only_that_part_is_computed_by_the_reference() {
    let run =
        run(&[&ALL_PARTS[..], &[("model.n_ctx", "33"), ("model.d_model", "40"), ("model.n_layers", "1")]].concat());
    let (model, batch) = (model(&run), batch(&run, 20));
    let (fused, reference) = (seen(&model, &batch), seen(&model.reference(), &batch));
    for part in PartName::ALL {
        let without = model.without_kernel(part);
        for other in PartName::ALL {
            assert_eq!(without.runs_fused(other), other != part, "{other:?} without {part:?}");
        }
        let found = seen(&without, &batch);
        assert!(found != reference, "without {part:?} nothing runs as a kernel");
        assert!(part == PartName::Residual || found != fused, "without {part:?} it runs as a kernel all the same");
    }
}

#[test]
fn other_types_run_the_reference_where_there_is_no_kernel() {
    for dtype in [Dtype::F64, Dtype::F16, Dtype::Bf16] {
        let run = typed(small(&[]), dtype).shared;
        let model = init(&run.model, 32, 0, &flex().autodiff());
        assert!(!model.is_fused() && PartName::ALL.iter().all(|part| !model.runs_fused(*part)), "{dtype}");
    }
    for (dtype, without) in [("f16", &[PartName::Projection, PartName::Attention][..]), ("bf16", &[])] {
        let run = run(&[("model.compute_dtype", dtype), ("model.n_ctx", "20")]);
        let (model, batch) = (model(&run), batch(&run, 3));
        for part in PartName::ALL {
            assert_eq!(model.runs_fused(part), !without.contains(&part), "{dtype}: {part:?}");
        }
        let (fused, reference) = (seen(&model, &batch), seen(&model.reference(), &batch));
        let in_f32 = seen(&self::model(&self::run(&[("model.n_ctx", "20")])), &batch);
        assert!(fused.sites.iter().zip(&in_f32.sites).any(|((_, a), (_, b))| relative(a, b) > 1e-4), "{dtype} is f32");
        // A factor that a last bit of f32 moves over the edge between two numbers of 8 bits is off by 4e-3.
        for ((site, a), (_, b)) in fused.sites.iter().zip(&reference.sites) {
            assert!(relative(a, b) < 1e-2, "{dtype}: {site} is off by {:e}", relative(a, b));
        }
        for (a, b) in fused.grads.iter().zip(&reference.grads).filter(|(a, _)| a.len() > 1) {
            assert!(relative(a, b) < 3e-2, "{dtype}: a gradient is off by {:e}", relative(a, b));
        }
    }
}

fn with_value(model: &Transformer, index: usize, value: Tensor<2>) -> Transformer {
    let mut weights: Vec<Tensor<2>> = model.values().into_iter().map(Tensor::inner).collect();
    weights[index] = value;
    let mut model = model.clone();
    model.set_values(weights);
    model
}

#[test]
fn a_weight_that_is_not_finite_reaches_the_loss() {
    for options in [
        vec![("model.activation", "gelu"), ("model.norm", "rms-gain")],
        vec![("model.activation", "gelu-tanh"), ("model.norm", "layernorm"), ("model.biases", "true")],
        vec![("model.activation", "relu"), ("model.attention", "softmax-1"), ("model.norm", "rms")],
        vec![("model.activation", "solu"), ("model.attention", "softmax-1"), ("model.biases", "true")],
        vec![("model.mlp", "swiglu"), ("model.positions.kind", "rope"), ("model.qk_norm", "true")],
        vec![("model.norm", "none"), ("model.norm_place", "post"), ("model.n_kv_heads", "1")],
    ] {
        let run = run(&options);
        let (model, batch) = (model(&run), batch(&run, 4));
        assert!(loss(&model, &batch).into_scalar::<f64>().is_finite());
        for (index, parameter) in model.parameters().into_iter().enumerate() {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut value: Vec<f32> = model.values()[index].clone().inner().into_data().try_into_vec().unwrap();
                // Not every row of an embedding is used; of other weights one number is enough.
                let count = if parameter.path == "w_e" { value.len() } else { 1 };
                value[..count].fill(bad);
                let value = Tensor::from_data(TensorData::new(value, parameter.shape), &flex());
                let model = with_value(&model, index, value);
                let found = loss(&model, &batch).into_scalar::<f64>();
                // Scores of minus infinity alone are a head of soft-max-1 that attends to nothing.
                let expected = loss(&model.reference(), &batch).into_scalar::<f64>();
                if bad.is_infinite() && (found / expected - 1.0).abs() < 1e-6 {
                    continue;
                }
                assert!(!found.is_finite(), "{options:?}: {bad} in {} gives a loss of {found}", parameter.path);
            }
        }
    }
}
