//! Whether what a command is asked for fits: an estimate before anything is allocated.

mod cgroups;

use crate::backend::DeviceInfo;
use crate::exit::{Code, Exit};
use basislab_config::{
    Arm, BasisSpec, CorpusSpec, Experiment, Mlp, ModelSpec, OptimizerSpec, Positions, RotatedAxes, RunSpec, Sharing,
    count,
};
use basislab_optim::rule;
use basislab_tables::{DimensionRow, DimensionStepRow, ResidualRow, StepRow, TableRow};
use std::path::Path;

/// What a user can do where a command needs more than there is.
pub(crate) struct Advice {
    /// Of memory.
    pub(crate) memory: &'static str,
    /// Of disk.
    pub(crate) disk: &'static str,
}

/// How many runs a command trains.
pub(crate) struct Runs {
    /// Side by side.
    pub(crate) at_once: usize,
    /// In all.
    pub(crate) all: usize,
    /// Of these, those that are resumed from a checkpoint.
    pub(crate) resumed: usize,
    /// Whether it makes the report on all of them too.
    pub(crate) reports: bool,
}

/// Refuses what needs more memory or disk than there is. Sizes are computed in f64, which no configuration overflows.
pub(crate) fn check(
    experiment: &Experiment,
    runs: &Runs,
    dir: &Path,
    device: &DeviceInfo,
    advice: &Advice,
) -> Result<(), Exit> {
    let (workers, jobs) = (runs.at_once, runs.all);
    if jobs == 0 {
        return Ok(());
    }
    let what = match workers {
        1 => "training one run".to_owned(),
        _ => format!("training with {} side by side", count(workers, "run")),
    };
    let need = if runs.reports { memory(experiment, workers) } else { training(experiment, workers) };
    match device.kind {
        "cpu" | "software" => require(need, &what, advice.memory)?,
        _ => fits(need, device.memory.map(|bytes| (bytes as f64, "the device has")), &what, advice.memory)?,
    }
    let need = disk(experiment, runs);
    if let Some(have) = disk_there(dir).filter(|have| need > *have) {
        return Err(Exit::new(
            Code::TooLarge,
            format!(
                "{}: needs about {} of disk for {}, and {} are free; {}",
                dir.display(),
                size(need),
                if jobs == 1 { "one run".to_owned() } else { count(jobs, "run") },
                size(have),
                advice.disk
            ),
        ));
    }
    Ok(())
}

/// Refuses `what` where it needs more memory than this process may still take. To be called before anything of that size
/// is allocated.
pub(crate) fn require(need: f64, what: &str, advice: &str) -> Result<(), Exit> {
    fits(need, memory_there(), what, advice)
}

/// [`require`] of what comes beside the program itself. Less than that is not worth a refusal.
fn require_beside(need: f64, what: &str, advice: &str) -> Result<(), Exit> {
    if need < PROGRAM { Ok(()) } else { require(PROGRAM + need, what, advice) }
}

fn fits(need: f64, there: Option<(f64, &str)>, what: &str, advice: &str) -> Result<(), Exit> {
    match there.filter(|(have, _)| need > *have) {
        Some((have, limit)) => {
            let (need, have) = (size(need), size(have));
            let message = format!("{what}: needs about {need} of memory, and {limit} {have}; {advice}");
            Err(Exit::new(Code::TooLarge, message))
        }
        None => Ok(()),
    }
}

/// Bytes that `workers` runs side by side take at their peak: within a factor of two, as measured for the CPU backends.
pub(crate) fn memory(experiment: &Experiment, workers: usize) -> f64 {
    // The program itself, and the rows that the report keeps, about a fifth of all: 16 bytes of each, and what is made from them.
    let tables = 10.0 * table_rows(experiment);
    training(experiment, workers) + tables
}

/// Bytes that training alone takes with so many runs side by side.
pub(crate) fn training(experiment: &Experiment, workers: usize) -> f64 {
    PROGRAM + workers as f64 * most(experiment, memory_of_run)
}

/// Bytes that one run takes at its peak.
fn memory_of_run(run: &RunSpec) -> f64 {
    let RunSpec { model, train, probe, .. } = run;
    let [d, f, pos, heads, layers, vocab] =
        [model.d_model, model.d_mlp, model.n_ctx, model.n_heads, model.n_layers, run.corpus.d_vocab()]
            .map(|n| n as f64);
    let rows = (train.batch_size / train.micro_batches.max(1)) as f64 * pos;
    // What the backward pass keeps of a layer: five streams, the pattern and two streams of attention, two wide ones of
    // the MLP; then its own buffers, and the logits with their gradient.
    let (width, gate) = (model.n_heads as f64 * model.d_head() as f64, f64::from(model.mlp == Mlp::Swiglu));
    let layer = rows * (5.0 * d + 4.0 * width + heads * pos + (2.0 + 3.0 * gate) * f);
    let activations = layers * layer + rows * (8.0 * d + 2.0 * f + 2.0 * vocab);
    // Weights, gradients, optimizer state, and the copies that an update and a transpose make.
    let weights = parameters(run) * (4.0 + slots(run) as f64);
    let probe_rows = probe.residual_sequences as f64 * pos;
    // The stream at one site, a few times over, and the random bases with one more while it is drawn.
    let probes = probe_rows * d * 6.0 + d * d * (probe.random_bases as f64 + HAAR);
    let number = model.param_dtype.at_least_f32().bytes() as f64;
    rotations(run) + number * (activations + weights) + 8.0 * probes
}

/// Bytes that measuring a finished model on `tokens` (in all, and per sequence) takes at its peak: the embeddings or the
/// head and one block, each once more as kernels read it, the stream with its statistics and its random bases, a few rows of logits.
pub(crate) fn measuring(model: &ModelSpec, d_vocab: usize, tokens: (usize, usize), bases: u64) -> f64 {
    let [d, f, vocab, n, pos, heads] =
        [model.d_model, model.d_mlp, d_vocab, tokens.0, tokens.1, model.n_heads].map(|size| size as f64);
    let wide = if model.mlp == Mlp::Swiglu { 3.0 } else { 2.0 };
    let block = 4.0 * d * heads * model.d_head() as f64 + wide * d * f;
    let batch = n.min(2048.0) * (4.0 * f + 3.0 * heads * pos);
    let numbers = 2.2 * (vocab * d + block) + 8.0 * n * d + batch + 1024.0 * vocab;
    PROGRAM + 4.0 * numbers + 8.0 * ((bases as f64 + HAAR) * d * d + 3.0 * n * d)
}

/// The largest of what `of` says of the arms' runs.
fn most(experiment: &Experiment, of: fn(&RunSpec) -> f64) -> f64 {
    experiment.arms.iter().map(|arm| of(&arm.run)).fold(0.0, f64::max)
}

/// Refuses a corpus that does not fit when it is opened.
pub(crate) fn check_corpus(spec: &CorpusSpec) -> Result<(), Exit> {
    let what = match spec {
        CorpusSpec::Language(_) => "the corpus",
        CorpusSpec::Text(text) => &text.path,
    };
    require_beside(basislab_data::memory(spec), what, "use a smaller one")
}

/// Refuses tables that do not fit when they are read. Rows of the three large tables are packed, or dropped where no report needs
/// them: with what is made from them they take half of what their lines do (measured). Lists of the sizes of dimensions are never
/// kept. Rows of the others take three times their lines.
pub(crate) fn check_tables(dir: &Path) -> Result<(), Exit> {
    let need = |table: &&basislab_tables::Table| {
        let large = [StepRow::TABLE, ResidualRow::TABLE, DimensionRow::TABLE];
        let is_large = large.iter().any(|large| large.file == table.file);
        let is_streamed = table.file == DimensionStepRow::TABLE.file;
        let bytes = dir.join(table.file).metadata().map_or(0, |info| info.len());
        bytes as f64
            * if is_streamed {
                0.0
            } else if is_large {
                0.5
            } else {
                3.0
            }
    };
    let need = basislab_tables::TABLES.iter().map(need).sum();
    require_beside(need, &dir.display().to_string(), "read its tables with a tool that streams them")
}

/// Refuses `tokens` tokens with the 13 bytes that are computed of each.
pub(crate) fn check_tokens(tokens: f64) -> Result<(), Exit> {
    require_beside(13.0 * tokens, &count(tokens, "token"), "ask for fewer")
}

/// Refuses the models of a certificate: small ones for the laws, and the experiment's own, without activations, to count
/// what is rotated.
pub(crate) fn check_certificate(experiment: &Experiment) -> Result<(), Exit> {
    let model =
        |run: &RunSpec| 2.0 * run.model.param_dtype.at_least_f32().bytes() as f64 * parameters(run) + rotations(run);
    require_beside(most(experiment, model), "the experiment's model", "use a smaller one")
}

/// Bytes that the program takes before it does anything.
const PROGRAM: f64 = 60e6;

/// Bytes that the tables and checkpoints of all runs take: within a factor of two. A run that is resumed is copied into a folder
/// of its own, and what it is copied from is removed after that.
fn disk(experiment: &Experiment, size: &Runs) -> f64 {
    let state = |run: &RunSpec| {
        run.model.param_dtype.at_least_f32().bytes() as f64 * parameters(run) * (1.0 + slots(run) as f64)
    };
    // Each row twice, once in its run's part and once in the merged table. Lists of sizes have as many digits as dimensions need.
    let runs: usize = experiment.arms.iter().map(|arm| arm.seeds.len()).sum();
    let (checkpoint, table) =
        (most(experiment, state), (100.0 * table_rows(experiment) + size_lists(experiment)) / runs.max(1) as f64);
    let copies = size.resumed.min(size.at_once) as f64;
    size.all as f64 * (2.0 * checkpoint + 2.0 * table) + copies * (checkpoint + table)
}

fn parameters(run: &RunSpec) -> f64 {
    let model = &run.model;
    let [d, f, pos, layers, vocab] =
        [model.d_model, model.d_mlp, model.n_ctx, model.n_layers, run.corpus.d_vocab()].map(|n| n as f64);
    let positions = if matches!(model.positions, Positions::Learned {}) { pos * d } else { 0.0 };
    let heads = if model.tied_head { 1.0 } else { 2.0 };
    let [q, kv] = [model.n_heads, model.n_kv_heads()].map(|heads| (heads * model.d_head()) as f64);
    let wide = if model.mlp == Mlp::Swiglu { 3.0 } else { 2.0 };
    heads * vocab * d + positions + layers * (2.0 * d * (q + kv) + wide * d * f)
}

/// Numbers that an optimizer keeps per parameter at most.
fn slots(run: &RunSpec) -> usize {
    let of = |optimizer: &OptimizerSpec| {
        let rules = optimizer.rules().into_iter();
        rules.map(|(.., spec)| (rule(spec).keys.slots)(spec).len()).max().unwrap_or(0)
    };
    run.phases.iter().map(|phase| of(&phase.optimizer)).fold(of(&run.optimizer), usize::max)
}

/// Matrices `[d, d]` of f64 that drawing a Haar rotation holds at a time.
const HAAR: f64 = 2.1;

/// Bytes that a run's rotations take: those it keeps, and those that drawing one holds.
fn rotations(run: &RunSpec) -> f64 {
    let ModelSpec { d_model, n_layers, d_mlp, param_dtype, .. } = run.model;
    let (d, number) = (d_model as f64, param_dtype.at_least_f32().bytes() as f64);
    let [layers, mlp, vocab] = [n_layers, d_mlp, run.corpus.d_vocab()].map(|n| n as f64);
    let of_basis = |basis: &BasisSpec| {
        let (sharing, axes) = match *basis {
            BasisSpec::Standard {} => return 0.0,
            BasisSpec::RotatedOptimizer { sharing, axes, .. } => (sharing, axes),
            BasisSpec::RotatedModel { sharing, .. } => (sharing, RotatedAxes::Residual),
        };
        let matrices = if sharing == Sharing::Shared { 1.0 } else { 3.0 + 6.0 * layers };
        let (others, largest) = match axes {
            RotatedAxes::Residual => (0.0, d),
            RotatedAxes::Both => {
                let width = (run.model.n_heads * run.model.d_head()) as f64;
                let wide = if run.model.mlp == Mlp::Swiglu { 3.0 } else { 2.0 };
                let of_layer = 4.0 * width * width + wide * mlp * mlp;
                (2.0 * vocab * vocab + layers * of_layer, d.max(mlp).max(vocab).max(width))
            }
        };
        // Each map as a tensor and, where the host multiplies, as rows and as columns.
        3.0 * number * (matrices * d * d + others) + HAAR * 8.0 * largest * largest
    };
    run.phases.iter().map(|phase| of_basis(&phase.basis)).fold(of_basis(&run.basis), f64::max)
}

/// Rows of all tables together.
fn table_rows(experiment: &Experiment) -> f64 {
    let of_arm = |arm: &Arm| {
        let RunSpec { model, train, probe, .. } = &arm.run;
        let steps = probe.steps(train.steps);
        let full = steps.iter().filter(|step| probe.is_full(train.steps, **step)).count() as f64;
        let sites = sites(model);
        let metrics = basislab_stats::METRICS.len() as f64;
        let light = sites * metrics * 6.0;
        let dense = sites * (metrics * probe.random_bases as f64 + 2.0 * model.d_model as f64);
        let (bases, metrics) = probe.band();
        let band = (probe.null_sites.len() * metrics.len() * bases) as f64;
        arm.seeds.len() as f64 * (train.steps as f64 + steps.len() as f64 * (light + band) + full * dense)
    };
    experiment.arms.iter().map(of_arm).sum()
}

/// Bytes of all lists of the sizes of dimensions, which no report keeps.
fn size_lists(experiment: &Experiment) -> f64 {
    let of_arm = |arm: &Arm| {
        let RunSpec { model, train, probe, .. } = &arm.run;
        let bases = if arm.run.optimizer_at(u64::MAX).1.shared_rotation().is_some() { 2.0 } else { 1.0 };
        let rows = (arm.seeds.len() * probe.steps(train.steps).len()) as f64 * sites(model) * bases;
        // Two numbers for each dimension, one for each random basis, and the cells before them.
        rows * (11.5 * (2.0 * model.d_model as f64 + probe.random_bases as f64) + 60.0)
    };
    experiment.arms.iter().map(of_arm).sum()
}

/// Sites of the residual stream that a probe measures.
fn sites(model: &ModelSpec) -> f64 {
    2.0 * model.n_layers as f64 + 2.0
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

/// Bytes of memory that this process may still take, and who sets that limit: the smallest of all.
fn memory_there() -> Option<(f64, &'static str)> {
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
        Some((1024.0 * line.split_whitespace().nth(1)?.parse::<f64>().ok()?, "the system has"))
    });
    let cgroup = cgroups::memory_left().map(|left| (left, "the memory cgroup leaves"));
    #[cfg(unix)]
    let limits = {
        use rustix::process::{Resource, getrlimit};
        // The program, its libraries and the allocator's reserve take address space before any number does.
        let left = |resource, name| Some(((getrlimit(resource).current? as f64 - 150e6).max(0.0), name));
        [
            left(Resource::As, "the limit on address space (ulimit -v) leaves"),
            left(Resource::Data, "the limit on data (ulimit -d) leaves"),
        ]
    };
    #[cfg(not(unix))]
    let limits = [None, None];
    [available, cgroup].into_iter().chain(limits).flatten().min_by(|a, b| a.0.total_cmp(&b.0))
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

#[cfg(test)]
mod tests {
    use super::{Runs, disk};
    use basislab_config::load;

    #[test]
    fn a_run_that_is_resumed_is_on_the_disk_twice() {
        let text = include_str!("../../../configs/adam-vs-sgd.toml");
        let loaded = load(text, "adam-vs-sgd.toml", &[], crate::experiments::library()).expect("a built-in experiment");
        let need = |at_once, all, resumed| disk(&loaded.experiment, &Runs { at_once, all, resumed, reports: true });
        let one = need(1, 1, 0);
        assert!(
            (need(1, 1, 1) - 1.5 * one).abs() < 1e-6 * one,
            "half of it again: one checkpoint and one copy of the tables"
        );
        // Copies are made as runs begin, and only so many begin at a time.
        assert_eq!(need(2, 8, 5), need(2, 8, 2));
        assert!(need(2, 8, 1) < need(2, 8, 2) && need(2, 8, 0) < need(2, 8, 1));
    }
}
