//! What several tests need.

pub(crate) mod many_runs;
#[cfg(target_os = "linux")]
pub(crate) mod terminal;

use basislab_config::{Arm, Change, ConfigError, Dtype, Experiment, Library, Loaded, OptimizerSpec, RunSpec, load};
use basislab_runs::{rows, step_row};
use basislab_tables::Row;
use basislab_train::{Control, Event};
use burn::tensor::{Device, Tensor};
use std::path::{Path, PathBuf};
#[cfg(target_os = "linux")]
use std::process::{Child, Command, Output};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

// The program's own: tests must not open what it refuses.
#[cfg(feature = "wgpu")]
#[path = "../crates/basislab/src/backend/adapters.rs"]
mod adapters;

/// All update rules, and no experiment to build on.
pub(crate) fn library() -> Library<'static> {
    let base = &|name: &str| Err(format!("found {name:?}, expected no base"));
    Library { rules: basislab_optim::rule_keys(), base }
}

/// A configuration as the program loads it, without built-in bases.
pub(crate) fn loaded(text: &str, file: &str, changes: &[Change]) -> Result<Loaded, ConfigError> {
    load(text, file, changes, library())
}

/// An experiment for tests, whose arms and claims do not follow those of the built-in ones.
pub(crate) const EXPERIMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/support/adam-vs-sgd.toml");

/// The experiment for tests with changes. `("arm", "NAME=LIKE")` adds an arm.
pub(crate) fn experiment(changes: &[(&str, &str)]) -> Experiment {
    let text = std::fs::read_to_string(EXPERIMENT).unwrap();
    let change = |(path, value): &(&str, &str)| match *path {
        "arm" => Change::parse_arm(value).unwrap(),
        path => Change::set(path, value, &format!("{path}={value}")),
    };
    let changes: Vec<Change> = changes.iter().map(change).collect();
    loaded(&text, "configs/adam-vs-sgd.toml", &changes).unwrap().experiment
}

/// The optimizer of this kind with its presets, and these keys changed.
pub(crate) fn optimizer(kind: &str, keys: &[(&str, &str)]) -> OptimizerSpec {
    let sets: String = keys.iter().map(|(key, value)| format!(",optimizer.{key}={value}")).collect();
    one_arm(&format!("optimizer.kind={kind}{sets}"))
}

/// The optimizer of an arm with these changes.
fn one_arm(sets: &str) -> OptimizerSpec {
    experiment(&[("arm", &format!("one=adam,{sets}"))]).arms.pop().unwrap().run.optimizer
}

/// Muon for the matrices that read or write the stream, with these changes (`", KEY = VALUE"`), and Adam for the rest.
pub(crate) fn muon_and_adam(muon: &str) -> OptimizerSpec {
    let matrices = format!("{{ kind = \"muon\", roles = [\"read\", \"write\"]{muon} }}");
    let rest = "{ kind = \"adam\", roles = [\"embedding\", \"vector\", \"head\", \"other\"] }";
    one_arm(&format!("optimizer={{ groups = {{ matrices = {matrices}, rest = {rest} }} }}"))
}

/// Changes what every run of an experiment is.
pub(crate) fn edit(experiment: &mut Experiment, change: impl Fn(&mut RunSpec)) {
    change(&mut experiment.shared);
    experiment.arms.iter_mut().for_each(|arm| change(&mut arm.run));
}

/// What a run of an arm tells, as rows.
pub(crate) fn rows_of(arm: &Arm, seed: u64, event: &Event) -> Vec<Row> {
    match event {
        Event::Step(stats) => vec![step_row(&arm.name, seed, stats)],
        Event::Probe(probe) => rows(&arm.name, seed, probe),
        Event::Checkpoint { .. } => Vec::new(),
    }
}

/// The experiment for tests, small: d 16, 2 layers, 8 positions, 32 tokens, 6 steps.
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
        ("probe.null_bases", "10"),
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
    edit(&mut experiment, |run| (run.model.param_dtype, run.model.compute_dtype) = (dtype, dtype));
    experiment
}

/// No stop, and no checkpoint before the end.
pub(crate) fn never() -> Control<'static> {
    static NO: AtomicBool = AtomicBool::new(false);
    Control { stop: &NO, checkpoint_steps: u64::MAX, checkpoint_interval: Duration::MAX }
}

/// The program under a shell that sets a limit first.
#[cfg(target_os = "linux")]
pub(crate) fn limited(dir: &Path, limit: &str, args: &[&str]) -> Output {
    let mut command = Command::new("sh");
    let start = format!("{limit}; exec \"$0\" \"$@\"");
    command.args(["-c", &start, env!("CARGO_BIN_EXE_basislab")]).args(args).current_dir(dir);
    command.env("BURN_DEVICE", "explicit-only").output().unwrap()
}

/// The largest resident size that a process reaches, and what it wrote.
#[cfg(target_os = "linux")]
pub(crate) fn peak_of(mut child: Child) -> (f64, Output) {
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0.0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        peak = kib.map_or(peak, |kib| 1024.0 * kib);
        std::thread::sleep(Duration::from_millis(5));
    }
    (peak, child.wait_with_output().unwrap())
}

/// The megabytes that a refusal says are needed.
#[cfg(target_os = "linux")]
pub(crate) fn needed_megabytes(said: &str) -> f64 {
    said.split("needs about ").nth(1).unwrap().split(" MB").next().unwrap().parse().unwrap()
}
