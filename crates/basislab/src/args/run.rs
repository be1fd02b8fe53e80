use super::{DeviceArgs, ExperimentArgs, FigureArgs, MOST, count, folder};
use basislab_train::Control;
use clap::Args;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub(super) const RUN_EXAMPLES: &str = "\
Examples:
  basislab run adam-vs-sgd --seeds 0..3              three seeds: `exploratory`
  basislab run adam-vs-sgd --set arm.sgd.optimizer.lr=0.3
  basislab run adam-vs-sgd --arm lion=adam,optimizer.kind=lion
  basislab run adam-vs-sgd --sweep arm.adam.optimizer.lr=1e-3,3e-3,1e-2
  basislab run adam-vs-sgd --set corpus.classes=8 --set corpus.stay=0.7
  basislab run adam-vs-sgd --only adam,sgd           two arms of the experiment
  basislab run adam-vs-sgd --backend ndarray --jobs 1
  basislab run my-experiment.toml --out runs/mine
  basislab run results/adam-vs-sgd/config.toml       repeat a committed result

Re-run the command to resume; finished runs are skipped. Several processes may
run it in one directory: each takes runs that no other process has.

`basislab config show adam-vs-sgd` prints every key that --set can change, and
`basislab config explain KEY` says what a key means.";

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) which: ExperimentArgs,
    #[command(flatten)]
    pub(crate) on: DeviceArgs,
    /// Output directory [default: runs/NAME-HASH; HASH covers backend and arms, not seeds or claims]
    #[arg(long, value_parser = folder())]
    pub(crate) out: Option<PathBuf>,
    /// Runs to train in parallel; on a CPU, results do not depend on it [default: one per core; 1 on a GPU]
    #[arg(long, allow_hyphen_values = true, value_parser = count(1, 4096))]
    pub(crate) jobs: Option<u64>,
    /// Train only these arms, with all their seeds or with one: `adam,sgd` or `adam/3`. Claims about other arms are
    /// left out of the printed answer
    #[arg(long, value_name = "ARM,ARM[/SEED]")]
    pub(crate) only: Option<String>,
    #[command(flatten)]
    pub(crate) figures: FigureArgs,
    #[command(flatten)]
    pub(crate) training: TrainingArgs,
    /// Print the answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How runs are trained, whoever asks for them.
#[derive(Debug, Args)]
pub(crate) struct TrainingArgs {
    /// Do not copy finished runs of the same identity from sibling directories; train them
    #[arg(long)]
    pub(crate) no_reuse: bool,
    /// Most seconds between two checkpoints of a run
    #[arg(long, value_name = "SECONDS", default_value_t = 60, allow_hyphen_values = true, value_parser = count(0, MOST))]
    pub(crate) checkpoint_seconds: u64,
    /// Most updates between two checkpoints of a run [default: no limit]
    #[arg(long, value_name = "STEPS", allow_hyphen_values = true, value_parser = count(1, MOST))]
    pub(crate) checkpoint_steps: Option<u64>,
    /// Do not lock, for file systems without locks: several processes may then train the same run, to the same bits
    #[arg(long)]
    pub(crate) no_lock: bool,
    /// Do not print progress on stderr
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

impl TrainingArgs {
    /// When checkpoints are made. `stop` ends each run after its current update.
    pub(crate) fn control<'a>(&self, stop: &'a AtomicBool) -> Control<'a> {
        Control {
            stop,
            checkpoint_steps: self.checkpoint_steps.unwrap_or(u64::MAX),
            checkpoint_interval: Duration::from_secs(self.checkpoint_seconds),
        }
    }
}
