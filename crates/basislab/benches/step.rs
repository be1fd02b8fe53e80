//! One training step at two sizes, and the metrics of one probe site. `cargo bench -p basislab`

#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]

use basislab_config::{Experiment, Override, load};
use basislab_data::Corpus;
use basislab_experiment::{prepare, update};
use basislab_stats::{METRICS, Metric, Purpose, Residuals, basis_excess_all, gaussian, stream};
use burn::tensor::{DType, Device};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn experiment(changes: &[(&str, &str)]) -> Experiment {
    let text = include_str!("../../../configs/adam-vs-sgd.toml");
    let change =
        |(path, value): &(&str, &str)| Override { path: (*path).into(), value: (*value).into(), typed: String::new() };
    load(text, "adam-vs-sgd", &changes.iter().map(change).collect::<Vec<_>>()).unwrap().experiment
}

/// Batch, forward, backward, norm, clipping, update: everything a step does but probing.
fn step(c: &mut Criterion) {
    let large = [("model.d_model", "256"), ("model.n_layers", "4"), ("model.d_mlp", "1024"), ("model.n_ctx", "128")];
    for (size, changes) in [("d64_l2_t64", &[][..]), ("d256_l4_t128", &large[..])] {
        let experiment = experiment(changes);
        let corpus = Corpus::open(&experiment.corpus, experiment.model.n_ctx).unwrap();
        let mut group = c.benchmark_group(format!("step/{size}"));
        group.sample_size(10);
        group.throughput(Throughput::Elements((experiment.train.batch_size * experiment.model.n_ctx) as u64));
        for name in ["adam", "adam-rotated", "sgd"] {
            let arm = experiment.arm(name).unwrap();
            let mut trainee = prepare(&experiment, arm, 0, corpus.d_vocab(), (&Device::flex(), DType::F32));
            let mut number = 0;
            group.bench_function(name, |b| {
                b.iter(|| {
                    number += 1;
                    let batch = corpus.batch(0, number, experiment.train.batch_size, experiment.model.n_ctx + 1);
                    update(&mut trainee, &experiment.train, 1e-4, &batch).unwrap()
                });
            });
        }
    }
}

/// All metrics on one site of the default probe, alone and in 8 random bases.
fn metrics(c: &mut Criterion) {
    let mut rng = stream(0, Purpose::Simulation, 0);
    let x = Residuals::new((0..2048 * 64).map(|_| gaussian(&mut rng)).collect(), 64).unwrap();
    let all: Vec<&Metric> = METRICS.iter().collect();
    c.bench_function("metrics/2048x64", |b| b.iter(|| basis_excess_all(&all, &x, 0, 0)));
    c.bench_function("metrics/2048x64 in 8 random bases", |b| b.iter(|| basis_excess_all(&all, &x, 8, 0)));
}

criterion_group!(benches, step, metrics);
criterion_main!(benches);
