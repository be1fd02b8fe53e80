//! Measures the residual stream of a finished model, wherever its weights come from: one forward pass over fixed sequences,
//! with every metric at every site, and with interventions on the way.

mod intervention;
mod pass;
mod self_check;
mod sequences;
mod site;

pub use intervention::{Ablation, Filling, Intervention, Turn};
pub use pass::{Changes, Pass, Subject, run};
pub use self_check::{SelfCheck, WrongSum};
pub use sequences::Sequences;
pub use site::{Bases, Measurements};
