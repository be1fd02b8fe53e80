//! One run: the training loop, its probes, and the laws that certify an optimizer. Knows neither arms, files nor claims.

mod laws;
mod losses;
mod probe;
mod state;
mod train;
mod trainee;

pub use laws::{Expected, Law, NotMeasured, certify, rotated_share};
pub use probe::{Capture, Probe, SiteProbe, capture};
pub use state::{State, check_state};
pub use train::{Context, Control, Event, Finished, Outcome, Record, StepStats, train};
pub use trainee::{Trainee, update};
