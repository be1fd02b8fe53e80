//! The experiment as data.
//!
//! An experiment is one TOML file in which every number is written out. This crate parses it, checks each key against
//! the schema (name, type, range) with file, line and column in every error, applies `--set` overrides, and writes the
//! effective configuration back out. It knows nothing of tensors, files or runs.

mod check;
mod schema;
mod spec;
mod tree;

pub use check::{ConfigError, Loaded, Origin, Override, load};
pub use schema::{Key, Kind, ROOT, Variant};
pub use spec::{
    Activation, Arm, Attention, BasisSpec, Claim, ClaimKind, CorpusSpec, Experiment, LanguageSpec, ModelSpec, NormKind,
    OptimizerSpec, Positions, ProbeSpec, Reading, RotatedAxes, RotationSpec, ScheduleKind, Sharing, TextSpec,
    TokenizerKind, TrainSpec, VerdictSpec,
};
