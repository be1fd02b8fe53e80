//! What several tests need.

use basislab_config::{Dtype, Experiment, Override, load};
use burn::tensor::{Device, Tensor};
use std::path::{Path, PathBuf};

// The program's own: tests must not open what it refuses.
#[cfg(feature = "wgpu")]
#[path = "../crates/basislab/src/backend/adapters.rs"]
mod adapters;

/// The default experiment with changes.
pub(crate) fn experiment(changes: &[(&str, &str)]) -> Experiment {
    let text = std::fs::read_to_string(root().join("configs/adam-vs-sgd.toml")).unwrap();
    let change = |(path, value): &(&str, &str)| Override {
        path: (*path).into(),
        value: (*value).into(),
        typed: format!("{path}={value}"),
    };
    load(&text, "configs/adam-vs-sgd.toml", &changes.iter().map(change).collect::<Vec<_>>()).unwrap().experiment
}

/// The default experiment at a size for tests: d 16, 2 layers, 8 positions, 32 tokens, 6 steps.
pub(crate) fn small(changes: &[(&str, &str)]) -> Experiment {
    let mut all = vec![
        ("model.n_ctx", "8"),
        ("model.d_model", "16"),
        ("model.n_heads", "2"),
        ("model.d_mlp", "24"),
        ("corpus.d_vocab", "32"),
        ("corpus.classes", "4"),
        ("corpus.successors", "2"),
        ("train.warmup_steps", "2"),
        ("train.steps", "6"),
        ("train.batch_size", "4"),
        ("probe.log_until", "2"),
        ("probe.every", "4"),
        ("probe.residual_sequences", "4"),
        ("probe.loss_sequences", "6"),
        ("verdict.null_bases", "10"),
    ];
    all.extend_from_slice(changes);
    experiment(&all)
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every backend of this build that this machine has, by name: the CPU ones, and wgpu where there is an adapter, if only
/// a software one. `BASISLAB_ONLY_BACKEND=wgpu` leaves the others out, and wants this one to be there.
pub(crate) fn everywhere() -> Vec<(&'static str, Device)> {
    let all = backends().into_iter().chain(wgpu().map(|device| ("wgpu", device)));
    let Ok(only) = std::env::var("BASISLAB_ONLY_BACKEND") else { return all.collect() };
    let all: Vec<_> = all.filter(|(name, _)| *name == only).collect();
    assert!(!all.is_empty(), "{only} is expected here, and not found");
    all
}

/// The first adapter that `--backend wgpu` would take.
fn wgpu() -> Option<Device> {
    #[cfg(feature = "wgpu")]
    return adapters::open(1).ok().map(|mut all| all.swap_remove(0).device);
    #[cfg(not(feature = "wgpu"))]
    None
}

/// Whether a backend computes in f64 as a CPU does.
pub(crate) fn is_cpu(name: &str) -> bool {
    name != "wgpu"
}

/// The CPU backends, by name.
pub(crate) fn backends() -> Vec<(&'static str, Device)> {
    vec![
        #[cfg(feature = "flex")]
        ("flex", Device::flex()),
        #[cfg(feature = "ndarray")]
        ("ndarray", {
            #[expect(deprecated, reason = "the user's CPU backend, as long as burn has it")]
            let device = Device::ndarray();
            device
        }),
    ]
}

pub(crate) fn flex() -> Device {
    Device::flex()
}

pub(crate) fn values(tensor: &Tensor<2>) -> Vec<f64> {
    tensor.clone().inner().into_data().convert::<f64>().try_into_vec::<f64>().unwrap()
}

/// `|a - b| / |b|` in the L2 norm.
pub(crate) fn relative(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f64 = b.iter().map(|b| b * b).sum();
    (difference / size.max(1e-300)).sqrt()
}

/// The experiment with parameters and products of that type.
pub(crate) fn typed(mut experiment: Experiment, dtype: Dtype) -> Experiment {
    (experiment.model.param_dtype, experiment.model.compute_dtype) = (dtype, dtype);
    experiment
}
