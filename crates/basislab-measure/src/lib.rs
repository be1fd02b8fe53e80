//! Measures the residual stream of a finished model, wherever its weights come from: one forward pass over fixed sequences,
//! with every metric at every site, and with interventions on the way.

mod fold;
mod intervention;
mod panel;
mod pass;
mod self_check;
mod sequences;
mod site;

pub use fold::{Read, why_not_rotated};
pub use intervention::{Ablation, Filling, Intervention, Turn};
pub use panel::{Panel, Plan, Variant};
pub use pass::{Changes, OnSaved, Pass, Subject, run};
pub use self_check::{SelfCheck, WrongSum};
pub use sequences::Sequences;
pub use site::{Bases, Measurements};
