//! Whether an experiment fits: an estimate before anything is allocated.

use crate::backend::Facts;
use crate::exit::{Code, Exit};
use basislab_config::{Experiment, ModelSpec, Positions};
use std::path::Path;

/// Refuses what needs more memory or disk than there is. Sizes are computed in f64, which no configuration overflows.
pub(crate) fn check(
    experiment: &Experiment,
    d_vocab: usize,
    workers: usize,
    jobs: usize,
    dir: &Path,
    device: &Facts,
) -> Result<(), Exit> {
    if jobs == 0 {
        return Ok(());
    }
    let need = memory(experiment, d_vocab, workers);
    let there = match device.kind {
        "cpu" | "software" => memory_there(),
        _ => device.memory.map(|bytes| (bytes as f64, "what the device has")),
    };
    if let Some((have, what)) = there.filter(|(have, _)| need > *have) {
        return Err(Exit::new(
            Code::TooLarge,
            format!(
                "needs about {} of memory with {workers} runs side by side, and {what} is {}; use fewer --jobs, or a smaller model, batch or context",
                size(need),
                size(have)
            ),
        ));
    }
    let need = disk(experiment, d_vocab, jobs);
    if let Some(have) = disk_there(dir).filter(|have| need > *have) {
        return Err(Exit::new(
            Code::TooLarge,
            format!(
                "{}: needs about {} of disk for {jobs} runs, and {} are free; free some, or choose another --out",
                dir.display(),
                size(need),
                size(have)
            ),
        ));
    }
    Ok(())
}

/// Refuses `what` where it needs more memory than this process may still take. To be called before anything of that size
/// is allocated.
pub(crate) fn require(need: f64, what: &str, advice: &str) -> Result<(), Exit> {
    match memory_there().filter(|(have, _)| need > *have) {
        Some((have, limit)) => {
            let (need, have) = (size(need), size(have));
            let message = format!("{what}: needs about {need} of memory, and {limit} is {have}; {advice}");
            Err(Exit::new(Code::TooLarge, message))
        }
        None => Ok(()),
    }
}

/// Bytes that `workers` runs side by side take at their peak: within a factor of two, as measured for the CPU backends.
pub(crate) fn memory(experiment: &Experiment, d_vocab: usize, workers: usize) -> f64 {
    let Experiment { model, train, probe, .. } = experiment;
    let [d, f, pos, heads, layers, vocab] =
        [model.d_model, model.d_mlp, model.n_ctx, model.n_heads, model.n_layers, d_vocab].map(|n| n as f64);
    let rows = (train.batch_size / train.micro_batches.max(1)) as f64 * pos;
    // What the backward pass keeps of a layer: five streams, the pattern and two streams of attention, two wide ones of
    // the MLP; then its own buffers, and the logits with their gradient.
    let layer = rows * (9.0 * d + heads * pos + 2.0 * f);
    let activations = layers * layer + rows * (8.0 * d + 2.0 * f + 2.0 * vocab);
    // Weights, gradients, moments, and the copies that an update and a transpose make.
    let weights = parameters(model, d_vocab) * (4.0 + slots(experiment) as f64);
    let probe_rows = probe.residual_sequences as f64 * pos;
    let probes = probe_rows * d * (2.0 * layers + 2.0) * 2.0;
    // The program itself, and the tables that the report reads.
    let tables = 400.0 * table_rows(experiment);
    let number = model.param_dtype.at_least_f32().bytes() as f64;
    60e6 + workers as f64 * (number * (activations + weights) + 8.0 * probes) + tables
}

/// Bytes that the tables and checkpoints of all runs take: within a factor of two.
fn disk(experiment: &Experiment, d_vocab: usize, jobs: usize) -> f64 {
    let state = experiment.model.param_dtype.at_least_f32().bytes() as f64
        * parameters(&experiment.model, d_vocab)
        * (1.0 + slots(experiment) as f64);
    // Each row twice, once in its run's part and once in the merged table.
    let runs: usize = experiment.arms.iter().map(|arm| experiment.seeds_of(arm).len()).sum();
    jobs as f64 * (2.0 * state + 200.0 * table_rows(experiment) / runs.max(1) as f64)
}

fn parameters(model: &ModelSpec, d_vocab: usize) -> f64 {
    let [d, f, pos, layers, vocab] =
        [model.d_model, model.d_mlp, model.n_ctx, model.n_layers, d_vocab].map(|n| n as f64);
    let positions = if matches!(model.positions, Positions::Learned {}) { pos * d } else { 0.0 };
    let heads = if model.tied_head { 1.0 } else { 2.0 };
    heads * vocab * d + positions + layers * (4.0 * d * d + 2.0 * d * f)
}

/// Numbers that an optimizer keeps per parameter, of the greediest arm.
fn slots(experiment: &Experiment) -> usize {
    experiment.arms.iter().map(|arm| arm.optimizer.slots()).max().unwrap_or(0)
}

/// Rows of all tables together.
fn table_rows(experiment: &Experiment) -> f64 {
    let Experiment { model, train, probe, .. } = experiment;
    let steps = probe.steps(train.steps);
    let full = steps.iter().filter(|step| probe.is_full(train.steps, **step)).count() as f64;
    let sites = 2.0 * model.n_layers as f64 + 2.0;
    let metrics = basislab_stats::METRICS.len() as f64;
    let light = sites * metrics * 6.0;
    let dense = sites * (metrics * probe.random_bases as f64 + 2.0 * model.d_model as f64);
    let runs: usize = experiment.arms.iter().map(|arm| experiment.seeds_of(arm).len()).sum();
    runs as f64 * (train.steps as f64 + steps.len() as f64 * light + full * dense)
}

/// Bytes of memory that the machine has in all.
pub(crate) fn memory_of_system() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    Some(1024 * line.split_whitespace().nth(1)?.parse::<u64>().ok()?)
}

/// Bytes of memory that a card has in all, by its PCI address (NVIDIA's also by number): wgpu does not tell.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) fn memory_of_card(card: &str) -> Option<u64> {
    let amd = std::fs::read_to_string(format!("/sys/bus/pci/devices/{card}/mem_info_vram_total"));
    let amd = amd.ok().and_then(|text| text.trim().parse().ok());
    amd.or_else(|| nvidia("memory.total", card)?.parse::<u64>().ok().map(|mebibytes| mebibytes << 20))
}

/// What NVIDIA's own tool says of a card.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) fn nvidia(what: &str, card: &str) -> Option<String> {
    let query = [&format!("--query-gpu={what}"), "--format=csv,noheader,nounits", "-i", card];
    let output = std::process::Command::new("nvidia-smi").args(query).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Bytes of memory that this process may still take, and what says so.
fn memory_there() -> Option<(f64, &'static str)> {
    let text = |path: &str| std::fs::read_to_string(path).ok();
    let available = text("/proc/meminfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
        Some((1024.0 * line.split_whitespace().nth(1)?.parse::<f64>().ok()?, "what the system has"))
    });
    let number = |path: &str| text(path)?.trim().parse::<f64>().ok();
    // File pages that the kernel gives back when asked.
    let cached = text("/sys/fs/cgroup/memory.stat")
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<f64>().ok()));
    let cgroup = number("/sys/fs/cgroup/memory.max")
        .zip(number("/sys/fs/cgroup/memory.current"))
        .map(|(most, used)| ((most - used + cached.unwrap_or(0.0)).max(0.0), "what the cgroup has left"));
    #[cfg(unix)]
    let limit = rustix::process::getrlimit(rustix::process::Resource::As)
        .current
        // The program, its libraries and the allocator's reserve take address space before any number does.
        .map(|most| ((most as f64 - 150e6).max(0.0), "what the limit on address space leaves"));
    #[cfg(not(unix))]
    let limit = None;
    [available, cgroup, limit].into_iter().flatten().min_by(|a, b| a.0.total_cmp(&b.0))
}

/// Bytes that are free where `dir` is or will be.
fn disk_there(dir: &Path) -> Option<f64> {
    #[cfg(unix)]
    {
        let dir = if dir.is_relative() { Path::new(".").join(dir) } else { dir.to_owned() };
        let there = dir.ancestors().find(|folder| folder.is_dir())?;
        let stat = rustix::fs::statvfs(there).ok()?;
        Some(stat.f_bavail as f64 * stat.f_frsize as f64)
    }
    #[cfg(not(unix))]
    {
        let _ = dir;
        None
    }
}

/// A number of bytes for people.
pub(crate) fn size(bytes: f64) -> String {
    let (scale, unit) = if bytes < 2e9 { (1e6, "MB") } else { (1e9, "GB") };
    format!("{:.1} {unit}", bytes / scale)
}
