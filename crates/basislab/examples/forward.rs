//! The forward pass of `basislab measure` on a model that is trained already: see `scripts/bench_transformers.py`.
//!
//! `forward MODEL THREADS TOKENS PASSES memory|file LOGITS`, with a JSON file of equally long sequences of tokens, prints one
//! JSON line: the seconds of each pass from tokens to logits, and the peak memory. The weights are in memory as f32, or each
//! pass reads them from the file as `measure` does. A first pass is not counted; every 32nd row of its logits is written to
//! LOGITS (safetensors).

#![allow(missing_docs, reason = "an example has no public items")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for one script")]

use basislab_import::ImportError;
use basislab_model::{InParts, Read};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EVERY: usize = 32;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let source = basislab_import::open(Path::new(&args[0]), None).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args[1].parse().unwrap()).build().unwrap();
    let sequences: Vec<Vec<i32>> = serde_json::from_str(&std::fs::read_to_string(&args[2]).unwrap()).unwrap();
    let passes: usize = args[3].parse().unwrap();
    let device = Device::flex();
    let shape = [sequences.len(), sequences[0].len()];
    let tokens = TensorData::new(sequences.concat(), shape);
    let parts = InParts {
        spec: &source.spec,
        d_vocab: source.d_vocab,
        has_head: source.has_head,
        device: &device,
        rotation: None,
        rounding: None,
    };
    let forward = |read: Read<'_, ImportError>, on_logits: &mut dyn FnMut(Tensor<2>)| {
        let start = Instant::now();
        let tokens = Tensor::<2, Int>::from_data(tokens.clone(), (&device, DType::I32));
        parts.forward(vec![tokens], read, &mut |_, _| {}, on_logits).unwrap();
        start.elapsed().as_secs_f64()
    };
    pool.install(|| {
        let in_memory = match args[4].as_str() {
            "memory" => true,
            "file" => false,
            other => panic!("found {other}, expected memory or file"),
        };
        let mut weights: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        let mut first_read = |path: &str, shape| {
            let values = source.read(path, shape)?;
            if in_memory {
                weights.insert(path.to_owned(), values.clone());
            }
            Ok(values)
        };
        let (mut row, mut kept) = (0, Vec::new());
        forward(&mut first_read, &mut |logits| {
            let width = logits.dims()[1];
            let values = logits.into_data().try_into_vec::<f32>().unwrap();
            for one in values.chunks(width) {
                if row % EVERY == 0 {
                    kept.extend(one.iter().flat_map(|x| x.to_le_bytes()));
                }
                row += 1;
            }
        });
        let rows = TensorView::new(Dtype::F32, vec![row.div_ceil(EVERY), source.d_vocab], &kept).unwrap();
        serialize_to_file([("logits", rows)], None, Path::new(&args[5])).unwrap();
        let seconds: Vec<f64> = (0..passes)
            .map(|_| {
                // The pass takes what it is given: a copy is made before its time begins.
                let mut copy = weights.clone();
                let mut read = |path: &str, shape| match in_memory {
                    true => Ok(copy.remove(path).unwrap()),
                    false => source.read(path, shape),
                };
                forward(&mut read, &mut |_| {})
            })
            .collect();
        // Linux: the high-water mark of resident memory.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
        println!("{}", serde_json::json!({ "seconds": seconds, "peak_kib": peak }));
    });
}
