//! Optimizers, and optimizers in a rotated basis. Know no model.
//!
//! An update rule maps (gradient, state) to an update; [`Basis`] wraps any rule: it turns the gradient into rotated
//! coordinates, lets the rule work there (its moments live there too), and turns the update back. Which axes face the
//! residual stream is told by the caller.

mod basis;
mod clip;
mod fused;
mod optimizer;
mod precision;
mod rule;

pub use basis::{Basis, bases, rotation, upload};
pub use clip::{clip, clip_ahead};
pub use optimizer::Optimizer;
pub use precision::{Precision, precision};
