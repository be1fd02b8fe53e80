//! The training loop, when to look, and the laws that certify an optimizer.

mod laws;
mod observe;
mod run;
mod train;

pub use laws::{Expected, Law, certify, commutes, rotated_share};
pub use observe::{Observation, observe};
pub use run::{Event, Job, jobs, run};
pub use train::{Finished, Outcome, Trainee, prepare, train, update};
