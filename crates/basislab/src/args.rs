use crate::backend::{Backend, OpenDevice};
use crate::exit::Exit;
use basislab_config::{MAX_SEED, integer};
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Where a count without an end of its own ends.
const MOST: u64 = 1 << 40;

/// An integer from `low` to `high`.
fn count(low: u64, high: u64) -> impl Fn(&str) -> Result<u64, String> + Clone {
    move |text| integer(text, low, high)
}

/// A folder's path without trailing `/` or `/.`, so that a symbolic link is recognised as one.
fn folder() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|path| path.components().collect::<PathBuf>())
}

/// Experiments on privileged bases in the transformer residual stream.
///
/// Trains small transformers under Adam, SGD and rotated Adam, measures kurtosis and outliers of every residual
/// dimension against their nulls, and reports each finding with its uncertainty.
#[derive(Debug, Parser)]
#[command(name = "basislab", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  basislab run adam-vs-sgd                       the main experiment, a few minutes on two cores
  basislab run adam-vs-sgd --smoke               a few steps of everything
  basislab run adam-vs-sgd --set corpus.kind=text --set corpus.path=plays.txt
  basislab metrics eval activations.npy          measure your own [n_tokens, d_model] matrix
  basislab check adam-vs-sgd                     is each optimizer what it says it is?

Exit codes: 0 done; 2 command line or config; 3 input data; 4 cannot write; 5 a run diverged, or a law or self-test failed;
6 the directory is in use; 7 the directory belongs to another config, or a file is not what was written;
8 more memory or disk is needed than there is; 9 a device failed, after a checkpoint: run the same command again; 75 stopped by a signal after a checkpoint: run the same command again.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train and measure every arm of an experiment, then print the answer
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// List the built-in experiments
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Rebuild summary, verdicts and figures of a run from its CSV files
    Report {
        /// The directory that `run` wrote
        #[arg(value_parser = folder())]
        dir: PathBuf,
        /// Print the summary as JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare experiments: what differs in their configurations, the arms' numbers, the verdicts
    Compare {
        /// Two or more directories that `run` wrote; each is compared with the first
        #[arg(required = true, num_args = 2.., value_name = "DIR", value_parser = folder())]
        dirs: Vec<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say which runs of a directory are complete, running, interrupted or diverged
    Status {
        /// A directory that `run` wrote, or a folder of such directories
        #[arg(value_parser = folder())]
        dir: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Run the first steps of a directory's runs again and compare every number with what it holds
    Verify {
        /// The directory that `run` wrote
        #[arg(value_parser = folder())]
        dir: PathBuf,
        /// Updates to make again
        #[arg(long, default_value_t = 20, allow_hyphen_values = true, value_parser = count(1, MOST))]
        steps: u64,
        /// Every seed of every arm, not only each arm's first
        #[arg(long)]
        all: bool,
    },
    /// The metrics: list them, explain one, or evaluate all on a matrix of your own
    #[command(subcommand)]
    Metrics(Metrics),
    /// Certify the optimizers of an experiment: which rotations change what they do, and which must not
    Check(Check),
    /// List what this build and this machine offer to compute on
    #[command(after_help = BACKENDS_HELP)]
    Backends {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Describe or sample a corpus
    #[command(subcommand)]
    Data(Data),
    /// Show a configuration
    #[command(subcommand)]
    Config(Config),
}

const BACKENDS_HELP: &str = "\
`kind` tells hardware (discrete, integrated, virtual, gpu) from a CPU and from software Vulkan (lavapipe).
`products` is the measured precision of a product of f32 matrices: f32, or tf32 where the device rounds its inputs.
wgpu means Vulkan, Metal or DirectX, never OpenGL. For long runs on a GPU, try a build with --features tuned.
Initial weights, batches and rotations are drawn on the host and are the same everywhere. flex and ndarray repeat their
own bits; other backends do not promise it: compare distributions over seeds there, not curves.

Examples:
  basislab run adam-vs-sgd --backend wgpu --device 1
  basislab run adam-vs-sgd --backend cpu                        CPU-only CI; the default";

const RUN_EXAMPLES: &str = "\
Examples:
  basislab run adam-vs-sgd --seeds 0..3                    three seeds (the verdicts will say `exploratory`)
  basislab run adam-vs-sgd --set arm.sgd.optimizer.lr=0.3
  basislab run adam-vs-sgd --set corpus.classes=8 --set corpus.stay=0.7
  basislab run adam-vs-sgd --backend ndarray --jobs 1
  basislab run my-experiment.toml --out runs/mine
  basislab run results/adam-vs-sgd/config.toml             reproduce a committed result

Re-run the command to resume after a stop or a kill; complete runs are skipped.
`basislab config show adam-vs-sgd` prints every key that --set can change.";

/// ExperimentArgs experiment, and what to change in it.
#[derive(Debug, Args)]
pub(crate) struct ExperimentArgs {
    /// A built-in experiment (see `basislab list`) or the path of a TOML file
    pub(crate) experiment: String,
    /// Change one key, e.g. `train.steps=300`; `X.kind=K` replaces table X by that kind's preset. Where the key holds text,
    /// VALUE is that text, quotes optional. Repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Add an arm like another one with other values, e.g. `adamw=adam,optimizer.kind=adamw`. Repeatable
    #[arg(long = "arm", value_name = "NAME=ARM,KEY=VALUE,...")]
    pub(crate) arm: Vec<String>,
    /// Add arms with other values of a key, e.g. `arm.adam.optimizer.lr=1e-3,3e-3,1e-2`. Repeatable
    #[arg(long = "sweep", value_name = "KEY=VALUE,VALUE,...")]
    pub(crate) sweep: Vec<String>,
    /// Seeds to run: `0..8` (8 excluded) or `0,3,5`
    #[arg(long, value_name = "SEEDS", allow_hyphen_values = true)]
    pub(crate) seeds: Option<String>,
    /// A few steps of everything, one seed
    #[arg(long)]
    pub(crate) smoke: bool,
}

/// Where to compute.
#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    /// Where to compute; `basislab backends` says what there is
    #[arg(long, value_enum, default_value_t = Backend::Cpu)]
    pub(crate) backend: Backend,
    /// ExperimentArgs of the backend's devices, by its number in `basislab backends`
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true, value_parser = count(0, 65_535))]
    pub(crate) device: u64,
}

impl DeviceArgs {
    /// The device, opened.
    pub(crate) fn open(&self) -> Result<OpenDevice, Exit> {
        self.backend.open(self.device as usize)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) which: ExperimentArgs,
    #[command(flatten)]
    pub(crate) on: DeviceArgs,
    /// Output directory [default: runs/EXPERIMENT-HASH]
    #[arg(long, value_parser = folder())]
    pub(crate) out: Option<PathBuf>,
    /// Runs side by side; never changes a result on a CPU [default: one per core; on a GPU 1]
    #[arg(long, allow_hyphen_values = true, value_parser = count(1, 4096))]
    pub(crate) jobs: Option<u64>,
    /// Train these arms alone, with all their seeds or one: `adam,sgd` or `adam/3`. Claims about other arms are dropped from
    /// the answer
    #[arg(long, value_name = "ARM,ARM[/SEED]")]
    pub(crate) only: Option<String>,
    /// Train every run, even where a directory beside this one has a finished run of the same identity
    #[arg(long)]
    pub(crate) no_reuse: bool,
    /// Seconds between a run's checkpoints at most
    #[arg(long, value_name = "SECONDS", default_value_t = 60, allow_hyphen_values = true, value_parser = count(0, MOST))]
    pub(crate) checkpoint_seconds: u64,
    /// Updates between a run's checkpoints at most [default: no limit]
    #[arg(long, value_name = "STEPS", allow_hyphen_values = true, value_parser = count(1, MOST))]
    pub(crate) checkpoint_steps: Option<u64>,
    /// Do without locks, on a file system that has none: several processes may then train one run, to the same bits
    #[arg(long)]
    pub(crate) no_lock: bool,
    /// No progress on stderr
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Print the summary as JSON on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Metrics {
    /// One line per metric
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Formula, estimator, axis, null, ceiling, source and known failure of one metric
    Explain {
        /// Its name
        name: String,
    },
    /// Evaluate every metric on a matrix `[n_tokens, d_model]` in a .npy or .safetensors file
    #[command(after_help = EVAL_EXAMPLES)]
    Eval(Eval),
}

const EVAL_EXAMPLES: &str = "\
Examples:
  python -c 'import numpy; numpy.save(\"x.npy\", activations)'     activations: [n_tokens, d_model], f16, f32 or f64
  basislab metrics eval x.npy
  basislab metrics eval activations.safetensors --tensor blocks.3.resid_post --json

Memory: the matrix once in f64, and two matrices [d_model, d_model].
In JSON, `z` is null where it is undefined or infinite, and `z_infinite` says which.";

#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// A .npy or .safetensors file
    pub(crate) file: PathBuf,
    /// ExperimentArgs tensor of a .safetensors file
    #[arg(long)]
    pub(crate) tensor: Option<String>,
    /// Random bases for the null
    #[arg(long, default_value_t = 64, allow_hyphen_values = true, value_parser = count(8, 4096))]
    pub(crate) bases: u64,
    /// Seed of the random bases
    #[arg(long, default_value_t = 0, allow_hyphen_values = true, value_parser = count(0, MAX_SEED))]
    pub(crate) seed: u64,
    /// Leave out tokens whose coordinates are all 0 (padding): most metrics are undefined for them
    #[arg(long)]
    pub(crate) skip_zero_tokens: bool,
    /// No progress on stderr
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// A built-in experiment or the path of a TOML file
    #[arg(default_value = "adam-vs-sgd")]
    pub(crate) experiment: String,
    /// Change one key first, e.g. `arm.adam.optimizer.kind=adamw`. Repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    #[command(flatten)]
    pub(crate) on: DeviceArgs,
    /// Updates per law
    #[arg(long, default_value_t = 30, allow_hyphen_values = true, value_parser = count(2, 50))]
    pub(crate) steps: u64,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The corpus of an experiment, or a text file.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// A built-in experiment or the path of a TOML file
    #[arg(default_value = "adam-vs-sgd")]
    pub(crate) experiment: String,
    /// Change one key first, e.g. `corpus.classes=8`. Repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// A text file of your own, as by `--set corpus.kind=text --set corpus.path=FILE`
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub(crate) text: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Data {
    /// Size, Zipf exponent, entropies, burstiness, floor
    Describe {
        #[command(flatten)]
        source: Source,
        /// Tokens to read
        #[arg(long, default_value_t = 262_144, allow_hyphen_values = true, value_parser = count(1024, 100_000_000))]
        tokens: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a few training sequences
    Sample {
        #[command(flatten)]
        source: Source,
        /// How many
        #[arg(long, default_value_t = 4, allow_hyphen_values = true, value_parser = count(1, 10_000))]
        count: u64,
        /// Seed of the run they belong to
        #[arg(long, default_value_t = 0, allow_hyphen_values = true, value_parser = count(0, MAX_SEED))]
        seed: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Print the effective configuration, each value with where it was written
    Show {
        #[command(flatten)]
        which: ExperimentArgs,
        /// Print plain TOML, ready to be run again
        #[arg(long)]
        toml: bool,
    },
}
