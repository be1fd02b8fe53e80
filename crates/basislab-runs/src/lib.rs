//! The runs of an experiment: their identity, their directory, who trains which, and how they are recorded.
//!
//! A run is a [`RunSpec`](basislab_config::RunSpec) with a seed. Its identity is what decides its numbers, so that
//! experiments share runs. Several processes may work on one directory: each takes runs that nobody has.

mod corpora;
mod create;
mod directory;
mod error;
mod held;
mod identity;
mod join;
mod parallel;
mod plan;
mod plan_file;
mod recorder;
mod reuse;
mod rows;
mod session;
mod unneeded;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests;

pub use corpora::Corpora;
pub use create::{create_or_extend, needs_manifest, plan_hash};
pub use directory::{
    FORMAT, Opened, create_output_dir, finished, has_ended_as_planned, lock, open, pending, read_manifest,
    remove_temporary_files, resumable, unfinished_runs, write_manifest,
};
pub use error::{RunsError, RunsErrorKind};
pub use held::{HeldRun, Taken};
pub use identity::{NUMERICS, identity};
pub use join::join_runs;
pub use parallel::in_parallel;
pub use plan::{Job, jobs};
pub use plan_file::{PlanFile, PlanFor, PlanLine, PlannedExperiment, PlannedRun, planned_runs};
pub use recorder::newest_checkpoint;
pub use reuse::FinishedRuns;
pub use rows::{rows, step_row};
pub use session::{RunEvent, RunOutcome, Session, rules};
pub use unneeded::{foreign, remove_run, run_of, unneeded, work_of};
