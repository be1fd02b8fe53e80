//! The experiment as data.
//!
//! An experiment is one TOML file in which every number is written out. This crate parses it, checks each key against
//! the schema (name, type, range) with file, line and column in every error, applies `--set` overrides, and writes the
//! effective configuration back out. It knows nothing of tensors, files or runs.

mod arms;
mod check;
mod dtype;
mod name;
mod number;
mod overrides;
mod schema;
mod spec;
mod tree;
mod whole;

pub use arms::{Arm, BasisSpec, Claim, ClaimKind, OptimizerSpec, Reading, RotatedAxes, RotationSpec, Sharing};
pub use check::{ConfigError, Loaded, Origin, Override, load, one_of};
pub use dtype::Dtype;
pub use name::RunName;
pub use number::integer;
pub use schema::{Key, Kind, MAX_SEED, MAX_SEEDS, ROOT, Variant};
pub use spec::{
    Activation, Attention, CorpusSpec, Experiment, LanguageSpec, ModelSpec, NormKind, Positions, ProbeSpec,
    ScheduleKind, TextSpec, TokenizerKind, TrainSpec, VerdictSpec,
};
