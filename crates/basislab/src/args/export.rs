use super::{count, folder};
use basislab_config::MAX_SEED;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

pub(super) const EXPORT_EXAMPLES: &str = "\
Forms:
  parquet       a .parquet file for each table, with its columns and types
  tensorboard   event files, a folder for each arm and seed
  bundle        one zip of a finished directory, which `basislab report` reads
  weights       the weights of one run in float32 with the keys of its model, for
                programs of your own; `basislab.load_torch` in Python reads them
  model-card    the weights of one run as `transformers` loads them, with a card
                that says what was measured

Equal directories give equal bytes. What an export did not write is never
replaced.

Examples:
  basislab export runs/my-run --to parquet
  basislab export runs/my-run --to tensorboard --out logs
  basislab export runs/my-run --to bundle --out my-run.zip
  basislab export runs/my-run --to model-card --arm adam --seed 2000";

/// A form that other programs read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    Parquet,
    Tensorboard,
    Bundle,
    Weights,
    ModelCard,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A directory that `run` wrote
    #[arg(value_parser = folder())]
    pub(crate) dir: PathBuf,
    /// The form
    #[arg(long, value_name = "FORM", value_enum)]
    pub(crate) to: Form,
    /// The arm whose weights are exported, for `weights` and `model-card`
    #[arg(long)]
    pub(crate) arm: Option<String>,
    /// Its seed
    #[arg(long, allow_hyphen_values = true, value_parser = count(0, MAX_SEED))]
    pub(crate) seed: Option<u64>,
    /// What to write [default: a folder or file beside DIR, with DIR's name and that of the form]
    #[arg(long, value_parser = folder())]
    pub(crate) out: Option<PathBuf>,
}
