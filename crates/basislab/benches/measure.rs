//! What `basislab measure` computes of one site of SmolLM2-135M on 2048 tokens, all of it and part by part, and the forward
//! pass of one block, which has two sites.
//! `cargo bench -p basislab --bench measure`

#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]

use basislab_config::{Basis, Change, Library, Tokens, load};
use basislab_model::init;
use basislab_stats::{
    Measured, MetricValue, Purpose, Residuals, Rotation, Wanted, dominant_tokens, gaussian, largest_dimension_ratio,
    largest_values, measure, measure_in, random_basis, special_dimensions, stream,
};
use burn::tensor::{DType, Device, Tensor, TensorData};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rayon::prelude::*;
use std::hint::black_box;

// As in the binary: fresh memory is a good part of what a site costs with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TOKENS: usize = 2048;
const WIDTH: usize = 576;
const N_CTX: usize = 512;
const SAMPLE: usize = 512;

/// Activations of which some dimensions are 60 times and first tokens 300 times as large as the rest.
fn heavy_tailed() -> Vec<f32> {
    let mut rng = stream(0, Purpose::Simulation, 0);
    let of_token = |at: usize| if (at / WIDTH).is_multiple_of(N_CTX) { 300.0 } else { 1.0 };
    let of_dim = |at: usize| if at % WIDTH % 97 == 5 { 60.0 } else { 1.0 };
    (0..TOKENS * WIDTH).map(|at| (of_token(at) * of_dim(at) * (gaussian(&mut rng) + 0.3)) as f32).collect()
}

fn residuals(values: &[f32]) -> Residuals {
    Residuals::new(values.iter().copied().map(f64::from).collect(), WIDTH).unwrap()
}

/// Every metric of all, first and remaining tokens, and every dimension.
fn in_standard_basis(x: &Residuals) -> Measured {
    let wanted = Wanted {
        n_ctx: Some(N_CTX),
        optimizer: None,
        detailed: Tokens::Rest,
        random: &[],
        further: None,
        dimensions: true,
        sizes: None,
    };
    measure(x, &wanted)
}

/// Every metric that depends on the basis, of a sample of tokens as it is and in each random basis.
fn in_random_bases(x: &Residuals, bases: &[Rotation]) -> Vec<(Vec<MetricValue>, Option<f64>)> {
    let rest: Vec<usize> = (0..TOKENS).filter(|token| !token.is_multiple_of(N_CTX)).collect();
    let sample = x.subset(&(0..SAMPLE).map(|i| rest[i * rest.len() / SAMPLE]).collect::<Vec<_>>());
    let of = |x: &Residuals, basis| measure_in(x, (Tokens::Sample, basis), |metric| metric.basis_dependent);
    let each = bases.par_iter().enumerate().map(|(k, q)| {
        let rotated = sample.rotated(q);
        (of(&rotated, Basis::Random(k as u32)), largest_dimension_ratio(&rotated))
    });
    each.chain(rayon::iter::once(()).map(|()| (of(&sample, Basis::Standard), None))).collect()
}

fn site(c: &mut Criterion) {
    let values = heavy_tailed();
    let bases: Vec<Rotation> = (0..8).map(|k| random_basis(1, k, WIDTH)).collect();
    let large = |x: &Residuals| {
        black_box((special_dimensions(x, 1.5), dominant_tokens(x, N_CTX, 8), largest_values(x, N_CTX, 8)));
    };
    let mut group = c.benchmark_group(format!("measure/{TOKENS}x{WIDTH}"));
    group.sample_size(20);
    group.bench_function("all", |b| {
        b.iter(|| {
            let x = residuals(&values);
            black_box((in_standard_basis(&x), in_random_bases(&x, &bases)));
            large(&x);
        });
    });
    // A matrix of its own each time: it keeps what its metrics have computed.
    let fresh = || residuals(&values);
    group.bench_function("standard basis", |b| {
        b.iter_batched_ref(fresh, |x| in_standard_basis(x), BatchSize::PerIteration);
    });
    group.bench_function("sample in random bases", |b| {
        b.iter_batched_ref(fresh, |x| in_random_bases(x, &bases), BatchSize::PerIteration);
    });
    group.bench_function("large values", |b| b.iter_batched_ref(fresh, |x| large(x), BatchSize::PerIteration));
}

/// The forward pass of one block of SmolLM2-135M, without gradients: it has two sites, whose measuring should cost no more.
fn block(c: &mut Criterion) {
    let changes = [
        ("model.d_model", "576"),
        ("model.n_layers", "1"),
        ("model.n_heads", "9"),
        ("model.n_kv_heads", "3"),
        ("model.d_mlp", "1536"),
        ("model.n_ctx", "512"),
        ("model.norm", "rms-gain"),
        ("model.mlp", "swiglu"),
        ("model.positions.kind", "rope"),
        ("model.positions.pairs", "interleaved"),
    ];
    let changes = changes.map(|(path, value)| Change::set(path, value, ""));
    let library = Library { rules: basislab_optim::rule_keys(), base: &|_| Err("no base".to_owned()) };
    let config = include_str!("../../../configs/adam-vs-sgd.toml");
    let run = load(config, "adam-vs-sgd", &changes, library).unwrap().experiment.shared;
    let device = Device::flex();
    let model = init(&run.model, 256, 0, &device);
    let values = TensorData::new(heavy_tailed(), [TOKENS, WIDTH]);
    let resid = Tensor::<2>::from_data(values, (&device, DType::F32));
    let mut group = c.benchmark_group(format!("forward/{TOKENS}x{WIDTH}"));
    group.sample_size(20);
    group.bench_function("block", |b| b.iter(|| black_box(model.one_block(0, resid.clone(), N_CTX)).into_data()));
}

criterion_group!(benches, site, block);
criterion_main!(benches);
