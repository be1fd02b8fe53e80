//! Whole training steps at a size of choice, for comparison with PyTorch: see `scripts/bench_pytorch.py`.
//!
//! `step ARM THREADS KEY=VALUE...` trains an arm of `step.toml` (`adam`, `adam-rotated`) with changed keys and prints one
//! JSON line: losses, seconds per step, peak memory. `--dump FILE` writes the initial weights and all batches there
//! (safetensors) and trains nothing. `--on wgpu` (or `cuda`) trains on that backend instead of flex, up to 16 updates ahead
//! of the host: memory is then what the device's allocator holds at the end.
//!
//! `step peak THREADS` prints how fast burn multiplies two large f32 matrices, the fastest of some products, and the relative
//! error of the result: about 1e-6 in f32, 1e-3 where factors are rounded to TF32.

#![allow(missing_docs, reason = "an example has no public items")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for one script")]

use basislab_config::{Change, Library, RunSpec, load};
use basislab_data::Corpus;
use basislab_stats::{Purpose, gaussian, stream};
use basislab_train::{Context, Control, Event, Trainee, update};
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

// The program's own: what is measured is what `--backend wgpu` opens.
#[cfg(feature = "wgpu")]
#[path = "../src/backend/adapters.rs"]
#[allow(dead_code, reason = "only the device is used here")]
mod adapters;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let mut option = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.remove(at);
        Some(args.remove(at))
    };
    let (dump_to, on) = (option("--dump"), option("--on"));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args[1].parse().unwrap()).build().unwrap();
    if args[0] == "peak" {
        return pool.install(|| peak(&open(on.as_deref().unwrap_or("flex"))));
    }
    let change = |arg: &String| arg.split_once('=').map(|(key, value)| Change::set(key, value, "")).unwrap();
    let changes: Vec<Change> = args[2..].iter().map(change).collect();
    let library = Library { rules: basislab_optim::rule_keys(), base: &|_| Err("no base".to_owned()) };
    let experiment = load(include_str!("step.toml"), "step", &changes, library).unwrap().experiment;
    let run = &experiment.arm(&args[0]).unwrap().run;
    let corpus = Corpus::open(&run.corpus, run.model.n_ctx).unwrap();
    pool.install(|| match (dump_to, on) {
        (Some(file), _) => dump(run, &corpus, &file),
        (None, Some(backend)) => ahead(run, &corpus, &backend),
        (None, None) => train(run, &corpus),
    });
}

fn train(run: &RunSpec, corpus: &Corpus) {
    let mut trainee = Trainee::new(run, 0, corpus.d_vocab(), &Device::flex());
    let (mut losses, mut seconds) = (Vec::new(), Vec::new());
    for step in 1..=run.train.steps {
        let start = Instant::now();
        let batch = corpus.batch(0, step, run.train.batch_size, run.model.n_ctx + 1);
        losses.push(update(&mut trainee, &run.train, 1.0, &batch).unwrap().0);
        seconds.push(start.elapsed().as_secs_f64());
    }
    // Linux: the high-water mark of resident memory.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    println!("{}", serde_json::json!({ "losses": losses, "seconds": seconds, "peak_kib": peak }));
}

fn open(backend: &str) -> Device {
    match backend {
        "flex" => Device::flex(),
        #[cfg(feature = "wgpu")]
        "wgpu" => adapters::open(1).unwrap().swap_remove(0).device,
        #[cfg(feature = "cuda")]
        "cuda" => Device::cuda(0),
        other => panic!("this build does not hold {other}"),
    }
}

fn peak(device: &Device) {
    const SIZE: usize = 2048;
    let mut rng = stream(0, Purpose::Simulation, 0);
    let mut random = || {
        let values: Vec<f64> = (0..SIZE * SIZE).map(|_| gaussian(&mut rng)).collect();
        Tensor::<2>::from_data(TensorData::new(values, [SIZE; 2]), (device, DType::F32))
    };
    let values = |x: &Tensor<2>| x.clone().into_data().convert::<f32>().try_into_vec::<f32>().unwrap();
    let (a, b) = (random(), random());
    // The host waits for a device by reading one number.
    let multiply = |products: usize| {
        let start = Instant::now();
        let mut last = a.clone().matmul(b.clone());
        for _ in 1..products {
            last = a.clone().matmul(b.clone());
        }
        last.clone().slice([0..1, 0..1]).into_data();
        (2.0e-9 * (SIZE.pow(3) * products) as f64 / start.elapsed().as_secs_f64(), last)
    };
    // As many as take 20 ms. The first product compiles its kernel.
    multiply(1);
    let products = (0.02 * multiply(1).0 / 17.2).ceil() as usize;
    let gflops = (0..8).map(|_| multiply(products).0).fold(0.0, f64::max);
    let (left, right, found) = (values(&a), values(&b), values(&multiply(1).1));
    let (mut wrong, mut all) = (0.0, 0.0);
    for j in 0..SIZE {
        let exact: f64 = (0..SIZE).map(|k| f64::from(left[k]) * f64::from(right[k * SIZE + j])).sum();
        wrong += (f64::from(found[j]) - exact).powi(2);
        all += exact.powi(2);
    }
    println!("{}", serde_json::json!({ "gflops": gflops, "relative_error": (wrong / all).sqrt() }));
}

/// Updates given to the device before the first is looked at.
const AHEAD: usize = 16;

fn ahead(run: &RunSpec, corpus: &Corpus, backend: &str) {
    let device = open(backend);
    let stop = AtomicBool::new(false);
    let control = Control { stop: &stop, checkpoint_steps: u64::MAX, checkpoint_interval: Duration::MAX };
    let on = Context { corpus, device: &device, ahead: AHEAD };
    let (mut losses, mut times) = (Vec::new(), Vec::new());
    let mut record = |event| {
        if let Event::Step(stats) = event {
            losses.push(stats.loss_and_norm.unwrap().0);
            times.push(Instant::now());
        }
        Ok(())
    };
    basislab_train::train(run, 0, on, None, control, &mut record).unwrap();
    // Updates are told when the device was looked at: after update 1 (a probe), then 16 at a time. Kernels are compiled and
    // tuned in the first of these.
    let first = 1 + AHEAD;
    let each = (times[times.len() - 1] - times[first]).as_secs_f64() / (times.len() - first - AHEAD) as f64;
    let peak = device.memory_pool_usage().map(|usage| usage.bytes_reserved / 1024);
    let seconds = vec![each; times.len()];
    println!("{}", serde_json::json!({ "losses": losses, "seconds": seconds, "peak_kib": peak }));
}

fn dump(run: &RunSpec, corpus: &Corpus, file: &str) {
    let model = basislab_model::init(&run.model, corpus.d_vocab(), 0, &Device::flex());
    let bytes = |values: Vec<f32>| values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = model
        .parameters()
        .into_iter()
        .zip(model.values())
        .map(|(parameter, value)| {
            let bytes = bytes(value.into_data().try_into_vec::<f32>().unwrap());
            (parameter.path, Dtype::F32, parameter.shape.to_vec(), bytes)
        })
        .collect();
    let (batch, width, steps) = (run.train.batch_size, run.model.n_ctx + 1, run.train.steps);
    let tokens = (1..=steps).flat_map(|step| corpus.batch(0, step, batch, width).concat());
    let tokens: Vec<u8> = tokens.flat_map(|token| i64::from(token).to_le_bytes()).collect();
    tensors.push(("tokens".to_owned(), Dtype::I64, vec![steps as usize, batch, width], tokens));
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    serialize_to_file(views, None, std::path::Path::new(file)).unwrap();
}
