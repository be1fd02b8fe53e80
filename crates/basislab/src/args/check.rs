use super::{DeviceArgs, count};
use crate::commands::check::LAW_STEPS;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The name of a built-in experiment or the path of a TOML file
    #[arg(default_value = "adam-vs-sgd")]
    pub(crate) experiment: String,
    /// Add an arm: a copy of an existing arm with other values, e.g. `adamw=adam,optimizer.kind=adamw`. Repeatable
    #[arg(long = "arm", value_name = "NAME=ARM,KEY=VALUE,...")]
    pub(crate) arm: Vec<String>,
    /// Set one key, e.g. `arm.adam.optimizer.beta_2=0.99`. Repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    #[command(flatten)]
    pub(crate) on: DeviceArgs,
    /// Updates made for each law
    #[arg(long, default_value_t = LAW_STEPS, allow_hyphen_values = true, value_parser = count(2, 50))]
    pub(crate) steps: u64,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
