//! The training loop, when to look, and the laws that certify an optimizer.

mod laws;
mod observe;
mod run;
mod stack;
mod state;
mod train;
mod update;

pub use laws::{Expected, Law, certify, commutes, rotated_share};
pub use observe::{Look, Observation, look};
pub use run::{Event, Job, Parallelism, Starts, jobs, run, stacks};
pub use state::State;
pub use train::{Control, Finished, Outcome, Setting, train, train_together};
pub use update::{Trainee, prepare, update};
