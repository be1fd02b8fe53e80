//! The experiment as data.
//!
//! An experiment is one TOML file in which every number is written out. This crate parses it, checks each key against its
//! declaration (name, type, range) with file, line and column in every error, applies `--set` and its like, and resolves
//! arms and grids to complete [`RunSpec`]s. It knows nothing of tensors, files or runs.

mod basis;
mod cell;
mod change;
mod check;
mod claim;
mod claims;
mod consistency;
mod corpus;
mod document;
mod dtype;
mod error;
mod experiment;
mod grid;
mod hash;
mod keys;
mod load;
mod merge;
mod model;
mod name;
mod number;
mod optimizer;
mod phase;
mod reference;
mod run;
mod selection;
mod settings;
mod symmetry;
mod train;
mod tree;

pub use basis::{BasisSpec, RotatedAxes, RotationSpec, Sharing};
pub use cell::{Basis, Cell, LOSS, Site, SitePattern, StepPattern, Tokens};
pub use change::Change;
pub use claim::{Claim, ClaimKind, Direction, Reading, Sign, VerdictSpec};
pub use corpus::{CorpusSpec, LanguageSpec, TextSpec, TokenizerKind};
pub use dtype::Dtype;
pub use error::{ConfigError, Origin, count, nearest, one_of};
pub use experiment::{Arm, Choose, Criterion, Experiment, QuantizeSpec, Sweep, SweepPoint};
pub use keys::{Choice, Key, Kind, MAX_SEED, MAX_SEEDS, Variant};
pub use load::{FindBase, Library, Loaded, load};
pub use model::{Activation, Attention, Branches, Mask, Mlp, ModelSpec, NormKind, NormPlace, Positions, RopePairs};
pub use name::RunName;
pub use number::integer;
pub use optimizer::{GroupSpec, OptimizerSpec, Parameter, Role, RuleKeys, RuleSpec};
pub use phase::{Moments, Phase};
pub use reference::{KeyEntry, explained, reference};
pub use run::RunSpec;
pub use selection::value_text;
pub use symmetry::{Commutes, Symmetry};
pub use train::{ProbeSpec, ScheduleKind, TrainSpec};
