//! What `basislab measure` computes of one site, part by part: milliseconds, the least of several runs, and a digest of every
//! bit that was found. `cargo run --release -p basislab-stats --example site [-- TOKENS WIDTH RUNS]`

#![allow(clippy::print_stdout, reason = "a program that prints")]

use basislab_config::{Basis, Tokens};
use basislab_stats::{
    Purpose, Residuals, Rotation, Wanted, dominant_tokens, gaussian, largest_dimension_ratio, largest_values, measure,
    measure_in, random_basis, special_dimensions, stream,
};
use rayon::prelude::*;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

/// Activations with some dimensions and some tokens that are far larger than the rest.
fn heavy_tailed(tokens: usize, d: usize) -> Vec<f32> {
    let mut rng = stream(0, Purpose::Simulation, 0);
    let size = |token: usize, dim: usize| {
        let of_dim = if dim % 97 == 5 { 60.0 } else { 1.0 };
        let of_token = if token % 512 == 0 { 300.0 } else { 1.0 };
        of_dim * of_token
    };
    (0..tokens * d).map(|at| (size(at / d, at % d) * (gaussian(&mut rng) + 0.3)) as f32).collect()
}

fn main() {
    let argument = |at, default| std::env::args().nth(at).map_or(default, |text| text.parse().expect("a whole number"));
    let (tokens, d, runs): (usize, usize, usize) = (argument(1, 2048), argument(2, 576), argument(3, 10));
    let n_ctx = 512.min(tokens / 2);
    let values = heavy_tailed(tokens, d);
    let bases: Vec<Rotation> = (0..8).map(|k| random_basis(1, k, d)).collect();
    let rest: Vec<usize> = (0..tokens).filter(|token| !token.is_multiple_of(n_ctx)).collect();
    let size = 512.min(rest.len());
    let sample: Vec<usize> = (0..size).map(|i| rest[i * rest.len() / size]).collect();
    let mut least = [f64::INFINITY; 6];
    let mut digest = 0;
    for _ in 0..runs {
        let mut hasher = DefaultHasher::new();
        let mut parts = Vec::new();
        let start = Instant::now();
        let mut lap = || parts.push(start.elapsed().as_secs_f64() * 1e3);
        let x = Residuals::new(values.iter().copied().map(f64::from).collect(), d).expect("finite");
        lap();
        let wanted = Wanted {
            n_ctx: Some(n_ctx),
            optimizer: None,
            detailed: Tokens::Rest,
            random: &[],
            further: None,
            dimensions: true,
        };
        let measured = measure(&x, &wanted);
        lap();
        let sampled = x.subset(&sample);
        let mut found = measured.values;
        found.extend(measure_in(&sampled, (Tokens::Sample, Basis::Standard), |metric| metric.basis_dependent));
        lap();
        let each = bases.par_iter().enumerate().map(|(k, q)| {
            let rotated = sampled.rotated(q);
            let at = (Tokens::Sample, Basis::Random(k as u32));
            (measure_in(&rotated, at, |metric| metric.basis_dependent), largest_dimension_ratio(&rotated))
        });
        let each: Vec<_> = each.collect();
        lap();
        let special = special_dimensions(&x, n_ctx, 1.5);
        let dominant = dominant_tokens(&x, n_ctx, 8);
        let largest = largest_values(&x, n_ctx, 8);
        lap();
        let mut threshold = 0.0f64;
        for (values, ratio) in each {
            found.extend(values);
            threshold = threshold.max(ratio.expect("defined"));
        }
        for value in &found {
            (value.metric, value.tokens_used, value.value.map(f64::to_bits)).hash(&mut hasher);
        }
        // Debug output of a number is the shortest that reads back as the same bits.
        format!("{threshold:?} {:?} {special:?} {dominant:?} {largest:?}", measured.dimensions).hash(&mut hasher);
        digest = hasher.finish();
        for (at, (part, start)) in parts.iter().zip([0.0].iter().chain(&parts)).enumerate() {
            least[at] = least[at].min(part - start);
        }
        least[5] = least[5].min(parts[4]);
    }
    let names = ["checked", "standard basis", "sample", "random bases", "large values", "all"];
    for (name, least) in names.iter().zip(least) {
        println!("{name:<16}{least:8.2} ms");
    }
    println!("{digest:016x}");
}
