//! The transformer: sites, reads and writes. Independent of optimizers.
//!
//! Everything that meets the residual stream is either a *read* (its input axis is `d_model`) or a *write* (its output
//! axis is). [`Weight::read`] and [`Weight::write`] are the only access, so a rotated model is the same forward
//! pass with a rotation inside those two functions.

mod activation;
mod assemble;
mod block;
mod fused;
mod in_parts;
mod init;
mod model;
mod norm;
mod part;
mod product;
mod rope;
mod weight;

pub use in_parts::{InParts, Read};
pub use init::init;
pub use model::{OnSite, Transformer, cross_entropy};
pub use norm::Norm;
pub use part::{PartName, parts};
pub use product::{at_least_f32, dtype};
pub use weight::{Rounding, Weight};
