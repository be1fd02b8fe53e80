//! The transformer: sites, reads and writes. Independent of optimizers.
//!
//! Everything that meets the residual stream is either a *read* (its input axis is `d_model`) or a *write* (its output
//! axis is). [`Weight::read`] and [`Weight::write`] are the only access, so a rotated model is the same forward
//! pass with a rotation inside those two functions.

mod fused;
mod init;
mod model;
mod norm;
mod product;
mod weight;

pub use init::init;
pub use model::{Transformer, cross_entropy};
pub use norm::Norm;
pub use product::{at_least_f32, dtype};
pub use weight::Weight;
