mod check;
mod export;
mod figures;
mod measure;
mod plan;
mod plan_script;
mod quantize;
mod run;
mod watch;

use crate::backend::{Backend, OpenDevice};
use crate::exit::Exit;
use basislab_config::{MAX_SEED, integer};
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

pub(crate) use check::CheckArgs;
use export::EXPORT_EXAMPLES;
pub(crate) use export::{ExportArgs, Form};
pub(crate) use figures::FigureArgs;
use measure::MEASURE_EXAMPLES;
pub(crate) use measure::MeasureArgs;
use plan::{COLLECT_EXAMPLES, PLAN_EXAMPLES, WORK_EXAMPLES};
pub(crate) use plan::{CollectArgs, PlanArgs, PlanCommand, WorkArgs};
pub(crate) use plan_script::{Engine, ScriptArgs, TimeLimit};
use quantize::QUANTIZE_EXAMPLES;
pub(crate) use quantize::QuantizeArgs;
use run::RUN_EXAMPLES;
pub(crate) use run::RunArgs;
use watch::WATCH_EXAMPLES;
pub(crate) use watch::WatchArgs;

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

/// Train small transformers and test whether the optimizer gives the residual stream a privileged basis.
///
/// An experiment is a TOML file of arms (configurations to compare), seeds and claims. Every arm is trained with every
/// seed, metrics of the residual stream are compared with those of random rotations of the same activations, and each
/// claim is decided by the rule that the file states.
#[derive(Debug, Parser)]
#[command(name = "basislab", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

// What is laid out by hand is at most 80 columns wide, so that no terminal of usual width wraps it.
const EXAMPLES: &str = "\
Examples:
  basislab run adam-vs-sgd                  train, measure, print the verdicts
  basislab run adam-vs-sgd --smoke          the whole pipeline with 4 updates
  basislab run adam-vs-sgd --set corpus.kind=text --set corpus.path=plays.txt
  basislab config show adam-vs-sgd          every key and where its value is set
  basislab config explain optimizer.lr      meaning, type and default of a key
  basislab check adam-vs-sgd                which rotations change an optimizer
  basislab plan adam-vs-sgd > plan.jsonl    the same runs on a cluster
  basislab measure model.gguf --text a.txt  a model that somebody else trained
  basislab metrics eval activations.npy     metrics of [n_tokens, d_model] data

Exit codes:
    0  success
    2  invalid command line or configuration
    3  input data that cannot be read
    4  output that cannot be written
    5  finished, but a run diverged, or a law, self-test or self-check failed
    6  other processes have the remaining runs, or hold the directory's lock;
       runs of a plan have not ended
    7  the directory belongs to another configuration, or a file was changed
    8  not enough memory, disk or threads
    9  the device failed; re-run the command to resume from a checkpoint
   75  stopped by a signal after a checkpoint; re-run the command to resume
  130  stopped at once by a second Ctrl-C; updates since the last checkpoint are
       made again";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train and measure every arm of an experiment, then print the verdicts
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// List the built-in experiments
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Measure models that are trained already: GGUF, Hugging Face, llama2.c, or runs of basislab
    #[command(after_help = MEASURE_EXAMPLES)]
    Measure(MeasureArgs),
    /// Say what rounding weights and activations to int8 and int4 costs models that are trained already
    #[command(after_help = QUANTIZE_EXAMPLES)]
    Quantize(QuantizeArgs),
    /// Rebuild summary, verdicts, figures and page of a directory from its tables, without training
    Report {
        /// A directory that `run`, `measure` or `quantize` wrote, or a bundle of `export`
        #[arg(value_parser = folder())]
        dir: PathBuf,
        #[command(flatten)]
        figures: FigureArgs,
        /// Print the summary as JSON
        #[arg(long)]
        json: bool,
    },
    /// Open the page of a directory, report.html, in the browser; print its path
    Open {
        /// A directory that `run`, `measure`, `quantize` or `compare --out` wrote
        #[arg(value_parser = folder())]
        dir: PathBuf,
    },
    /// Compare experiments: differences of configuration, the arms' metrics and losses, the verdicts
    Compare {
        /// Two or more directories that `run` wrote; each is compared with the first
        #[arg(required = true, num_args = 2.., value_name = "DIR", value_parser = folder())]
        dirs: Vec<PathBuf>,
        /// Write a page (report.html), a figure and comparison.json into this directory
        #[arg(long, value_name = "DIR", value_parser = folder())]
        out: Option<PathBuf>,
        #[command(flatten)]
        figures: FigureArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a directory as Parquet, event files of TensorBoard or a zip, or a run's weights for `transformers`
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(ExportArgs),
    /// Show which runs are complete, running, interrupted, diverged or not started
    Status {
        /// A directory that `run` wrote, or a directory of such directories
        #[arg(value_parser = folder())]
        dir: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Follow runs on a terminal while other processes train them: curves, last values, time to go
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(WatchArgs),
    /// Print the runs of experiments as a plan, one JSON line each, or show, script or follow a plan
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(PlanArgs),
    /// Train runs of a plan: a share of them, or whatever no other worker has
    #[command(after_help = WORK_EXAMPLES)]
    Work(WorkArgs),
    /// Merge the finished runs of a plan, decide the claims and draw the figures
    #[command(after_help = COLLECT_EXAMPLES)]
    Collect(CollectArgs),
    /// Remove the runs of a directory that its experiment does not need; without --yes, only list them
    Clean {
        /// A directory that `run` wrote
        #[arg(value_parser = folder())]
        dir: PathBuf,
        /// Remove what is listed
        #[arg(long)]
        yes: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Repeat the first updates of recorded runs and compare every number with the tables
    Verify {
        /// A directory that `run` wrote
        #[arg(value_parser = folder())]
        dir: PathBuf,
        /// Updates to repeat
        #[arg(long, default_value_t = 20, allow_hyphen_values = true, value_parser = count(1, MOST))]
        steps: u64,
        /// Verify every seed of every arm [default: the first seed of each arm]
        #[arg(long)]
        all: bool,
    },
    /// List the metrics, explain one, or evaluate all on a matrix
    #[command(subcommand)]
    Metrics(Metrics),
    /// Test each optimizer's equivariance: which rotations change its updates, and which must not
    Check(CheckArgs),
    /// List the backends and devices of this build and machine
    #[command(after_help = BACKENDS_HELP)]
    Backends {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Describe a corpus or print samples of it
    #[command(subcommand)]
    Data(Data),
    /// Show the configuration of an experiment, or explain the keys of configurations
    #[command(subcommand)]
    Config(Config),
    /// Print a script with which a shell completes the command line
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each command
    Man {
        /// The folder, e.g. ~/.local/share/man/man1
        #[arg(value_parser = folder())]
        dir: PathBuf,
    },
}

const BACKENDS_HELP: &str = "\
`kind` is discrete, integrated, virtual or gpu for hardware, `cpu`, or
`software` for software Vulkan (lavapipe). `products` is the measured precision
of f32 matrix products: f32, or tf32 where the device rounds its inputs.

wgpu uses Vulkan, Metal or DirectX, never OpenGL. For long runs on a GPU, build
with `--features tuned`. Initial weights, batches and rotations are drawn on the
host and are the same on every backend. flex and ndarray repeat their bits.
Other backends do not promise it: compare distributions over seeds there.

Examples:
  basislab run adam-vs-sgd --backend wgpu --device 1
  basislab run adam-vs-sgd --backend cpu              the default";

/// Which experiment, and the changes to it.
#[derive(Debug, Args)]
pub(crate) struct ExperimentArgs {
    /// The name of a built-in experiment (see `basislab list`) or the path of a TOML file
    pub(crate) experiment: String,
    #[command(flatten)]
    pub(crate) changes: ChangeArgs,
}

/// Changes to an experiment.
#[derive(Debug, Default, Args)]
pub(crate) struct ChangeArgs {
    /// Set one key, e.g. `train.batch_size=32` in the shared tables or `arm.sgd.optimizer.lr=0.3` in one arm. Setting
    /// `kind` replaces the table by the preset of that kind. VALUE is TOML; quotes around text are optional. Repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Add an arm: a copy of an existing arm with other values, e.g. `adamw=adam,optimizer.kind=adamw`. Repeatable
    #[arg(long = "arm", value_name = "NAME=ARM,KEY=VALUE,...")]
    pub(crate) arm: Vec<String>,
    /// Add one arm per value, named after the key and the value, e.g. `arm.adam.optimizer.lr=1e-3,3e-3,1e-2`; without
    /// `arm.NAME.` every arm is swept. Repeatable
    #[arg(long = "sweep", value_name = "KEY=VALUE,VALUE,...")]
    pub(crate) sweep: Vec<String>,
    /// Seeds to train: `0..8` (8 excluded) or `0,3,5`
    #[arg(long, value_name = "SEEDS", allow_hyphen_values = true)]
    pub(crate) seeds: Option<String>,
    /// Test the pipeline: 4 updates, small probes and, unless --seeds is given, one seed
    #[arg(long)]
    pub(crate) smoke: bool,
}

/// Which device to compute on.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct DeviceArgs {
    /// Backend to compute on; `basislab backends` lists what is available
    #[arg(long, value_enum, default_value_t = Backend::Cpu)]
    pub(crate) backend: Backend,
    /// Which of the backend's devices, by its number in `basislab backends`
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true, value_parser = count(0, 65_535))]
    pub(crate) device: u64,
}

impl DeviceArgs {
    /// The device, opened.
    pub(crate) fn open(&self) -> Result<OpenDevice, Exit> {
        self.backend.open(self.device as usize)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Metrics {
    /// Print one line per metric
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print formula, estimator, axis, null, ceiling, source and known failure of a metric
    Explain {
        /// The metric's name
        name: String,
    },
    /// Evaluate every metric on a matrix `[n_tokens, d_model]` in a .npy or .safetensors file
    #[command(after_help = EVAL_EXAMPLES)]
    Eval(EvalArgs),
}

const EVAL_EXAMPLES: &str = "\
Examples (activations: [n_tokens, d_model], f16, f32 or f64):
  python -c 'import numpy; numpy.save(\"x.npy\", activations)'
  basislab metrics eval x.npy
  basislab metrics eval x.safetensors --tensor blocks.3.resid_post --json

Memory: the matrix once in f64, and two matrices [d_model, d_model].
In JSON, `z` is null where it is undefined or infinite; `z_infinite` is true
where it is infinite.";

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// A .npy or .safetensors file
    pub(crate) file: PathBuf,
    /// Name of the tensor in a .safetensors file with several
    #[arg(long)]
    pub(crate) tensor: Option<String>,
    /// Number of random bases for the null
    #[arg(long, default_value_t = 64, allow_hyphen_values = true, value_parser = count(8, 4096))]
    pub(crate) bases: u64,
    /// Seed of the random bases
    #[arg(long, default_value_t = 0, allow_hyphen_values = true, value_parser = count(0, MAX_SEED))]
    pub(crate) seed: u64,
    /// Skip tokens whose coordinates are all 0 (padding), for which most metrics are undefined
    #[arg(long)]
    pub(crate) skip_zero_tokens: bool,
    /// Do not print progress on stderr
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The corpus of an experiment, or a text file.
#[derive(Debug, Args)]
pub(crate) struct CorpusArgs {
    /// The name of a built-in experiment or the path of a TOML file
    #[arg(default_value = "adam-vs-sgd")]
    pub(crate) experiment: String,
    /// Set one key, e.g. `corpus.classes=8`. Repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// A text file to use as the corpus: short for `--set corpus.kind=text --set corpus.path=FILE`
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub(crate) text: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Data {
    /// Print size, Zipf exponent, entropies, burstiness and entropy floor
    Describe {
        #[command(flatten)]
        source: CorpusArgs,
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
        source: CorpusArgs,
        /// Number of sequences
        #[arg(long, default_value_t = 4, allow_hyphen_values = true, value_parser = count(1, 10_000))]
        count: u64,
        /// Seed of the run whose first batch is printed
        #[arg(long, default_value_t = 0, allow_hyphen_values = true, value_parser = count(0, MAX_SEED))]
        seed: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Print every key and value with the place where it was set: a line of a file, an argument or a preset
    Show {
        #[command(flatten)]
        which: ExperimentArgs,
        /// Print TOML that `basislab run` accepts
        #[arg(long)]
        toml: bool,
    },
    /// List every key with its default and meaning, or print type, values, defaults and meaning of some
    Explain {
        /// A key (`optimizer.lr`, or its end: `lr`) or a table with all its keys (`model`, `claim.test`)
        key: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}
