//! Where a run's time goes: whole steps at four sizes, each fused operation beside its reference, the optimizer's update,
//! rotations, and the metrics of one probe site. `cargo bench -p basislab [-- FILTER]`

#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]

use basislab_config::{BasisSpec, Change, Experiment, Library, Tokens, load};
use basislab_data::Corpus;
use basislab_model::{Transformer, init};
use basislab_optim::{Optimizer, clip};
use basislab_stats::{METRICS, Purpose, Residuals, Rotation, Wanted, gaussian, measure, stream};
use basislab_train::{Trainee, update};
use burn::tensor::{DType, Device, Tensor, TensorData};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Name, d_model, n_layers, n_heads, n_ctx: the sizes of `scripts/bench_pytorch.py`.
const SIZES: [(&str, [usize; 4]); 4] =
    [("d64", [64, 2, 4, 64]), ("d128", [128, 2, 4, 128]), ("d256", [256, 4, 4, 128]), ("d512", [512, 6, 8, 128])];

/// adam-vs-sgd at another size.
fn experiment([d, layers, heads, pos]: [usize; 4]) -> Experiment {
    let numbers = [
        ("model.d_model", d),
        ("model.d_mlp", 4 * d),
        ("model.n_layers", layers),
        ("model.n_heads", heads),
        ("model.n_ctx", pos),
    ];
    let numbers = numbers.iter().map(|(path, value)| Change::set(path, &value.to_string(), ""));
    let rules = ["adamw", "lion"].map(|rule| Change::parse_arm(&format!("{rule}=adam,optimizer.kind={rule}")).unwrap());
    let changes: Vec<Change> = numbers.chain(rules).collect();
    let library = Library { rules: basislab_optim::rule_keys(), base: &|_| Err("no base".to_owned()) };
    load(include_str!("../../../configs/adam-vs-sgd.toml"), "adam-vs-sgd", &changes, library).unwrap().experiment
}

fn normal(shape: [usize; 2], device: &Device) -> Tensor<2> {
    let mut rng = stream(0, Purpose::Simulation, 1);
    let values: Vec<f64> = (0..shape[0] * shape[1]).map(|_| gaussian(&mut rng)).collect();
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

/// Batch, forward, backward, norm, clipping, update: everything a step does but probing.
fn step(c: &mut Criterion) {
    for (size, shape) in SIZES {
        let experiment = experiment(shape);
        let shared = &experiment.shared;
        let corpus = Corpus::open(&shared.corpus, shared.model.n_ctx).unwrap();
        let mut group = c.benchmark_group(format!("step/{size}"));
        group.sample_size(10);
        group.throughput(Throughput::Elements((shared.train.batch_size * shared.model.n_ctx) as u64));
        for name in ["adam", "adam-rotated", "sgd"] {
            let run = &experiment.arm(name).unwrap().run;
            let mut trainee = Trainee::new(run, 0, corpus.d_vocab(), &Device::flex());
            let mut number = 0;
            group.bench_function(name, |b| {
                b.iter(|| {
                    number += 1;
                    let batch = corpus.batch(0, number, run.train.batch_size, run.model.n_ctx + 1);
                    update(&mut trainee, &run.train, 1e-2, &batch).unwrap()
                });
            });
        }
    }
}

/// Forward and backward of one block (or the head with its loss), fused and in burn's operations.
fn operations(c: &mut Criterion) {
    let device = Device::flex().autodiff();
    for (size, shape) in [SIZES[0], SIZES[2]] {
        let run = experiment(shape).shared;
        let pos = run.model.n_ctx;
        let corpus = Corpus::open(&run.corpus, pos).unwrap();
        let fused = init(&run.model, corpus.d_vocab(), 0, &device);
        let batch = corpus.batch(0, 1, run.train.batch_size, pos);
        let targets = fused.tokens(&batch.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let resid = normal([batch.len() * pos, run.model.d_model], &device).require_grad();
        type Operation<'a> = &'a dyn Fn(&Transformer) -> Tensor<1>;
        let all: [(&str, Operation<'_>); 2] = [
            ("block", &|model| model.one_block(0, resid.clone(), pos).sum()),
            ("head", &|model| model.head_loss(resid.clone(), targets.clone())),
        ];
        let mut group = c.benchmark_group(format!("operation/{size}"));
        group.sample_size(20);
        for (name, operation) in all {
            for (kind, model) in [("fused", &fused), ("reference", &fused.reference())] {
                group.bench_function(BenchmarkId::new(name, kind), |b| b.iter(|| operation(model).backward()));
            }
        }
    }
}

/// Clipping and one update of all parameters at d 256, in the standard basis and with one shared rotation.
fn optimizer(c: &mut Criterion) {
    let experiment = experiment(SIZES[2].1);
    let mut group = c.benchmark_group("optimizer/d256");
    for name in ["adam", "adam-rotated", "adamw", "lion", "sgd"] {
        let run = &experiment.arm(name).unwrap().run;
        assert_eq!(name == "adam-rotated", !matches!(run.basis, BasisSpec::Standard {}), "the arms of adam-vs-sgd");
        let trainee = Trainee::new(run, 0, 256, &Device::flex());
        let mut weights: Vec<Tensor<2>> = trainee.model.values().into_iter().map(Tensor::inner).collect();
        let grads: Vec<Tensor<2>> = weights.iter().map(|weight| normal(weight.dims(), &Device::flex())).collect();
        let mut optimizer: Optimizer = trainee.optimizer;
        group.bench_function(name, |b| {
            b.iter(|| {
                let (grads, _) = clip(grads.clone(), 1.0);
                weights = optimizer.step(1e-2, std::mem::take(&mut weights), grads);
            });
        });
    }
}

/// Drawing a Haar matrix, and turning the rows of one probe site with it.
fn rotations(c: &mut Criterion) {
    let mut group = c.benchmark_group("rotation");
    group.sample_size(20);
    for d in [64, 256, 512] {
        let mut rng = stream(0, Purpose::Simulation, 2);
        group.bench_function(BenchmarkId::new("haar", d), |b| b.iter(|| Rotation::haar(d, &mut rng)));
        let q = Rotation::haar(d, &mut rng);
        let x = residuals(2048, d);
        group.bench_function(BenchmarkId::new("rotate 2048 rows", d), |b| b.iter(|| x.rotated(&q)));
    }
}

fn residuals(tokens: usize, d: usize) -> Residuals {
    let mut rng = stream(0, Purpose::Simulation, 0);
    Residuals::new((0..tokens * d).map(|_| gaussian(&mut rng)).collect(), d).unwrap()
}

/// All metrics on one site of the default probe, alone and in 8 random bases.
fn metrics(c: &mut Criterion) {
    let names: Vec<String> = METRICS.iter().filter(|m| m.basis_dependent).map(|m| m.name.to_owned()).collect();
    let mut group = c.benchmark_group("metrics/2048x64");
    for (name, bases) in [("in its own basis", 0), ("and in 8 random bases", 8)] {
        // A matrix of its own each time: it keeps what its metrics have computed.
        let fresh = || residuals(2048, 64);
        let wanted = Wanted {
            n_ctx: None,
            optimizer: None,
            detailed: Tokens::All,
            random: &[],
            further: Some((0, 0..bases, &names)),
            dimensions: false,
            sizes: None,
        };
        group.bench_function(name, |b| b.iter_batched(fresh, |x| measure(&x, &wanted), BatchSize::LargeInput));
    }
}

criterion_group!(benches, step, operations, optimizer, rotations, metrics);
criterion_main!(benches);
