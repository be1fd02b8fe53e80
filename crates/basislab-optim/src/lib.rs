//! Optimizers, and optimizers in a rotated basis. Know no model.
//!
//! An update rule maps (gradient, state) to an update, one file per rule in `rules/`; [`ParameterBasis`] wraps any rule: it takes
//! the gradient into rotated coordinates, lets the rule work there (its state lives there too), and takes the update back.
//! Which axis of a parameter faces the residual stream follows from its role.

mod basis;
mod clip;
mod fused;
mod optimizer;
mod precision;
mod rule;
mod rules;

#[cfg(all(test, feature = "fused"))]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests;

pub use basis::{ParameterBasis, bases, optimizer_basis, upload};
pub use clip::{clip, clip_on_device};
pub use optimizer::Optimizer;
pub use precision::{Precision, precision};
pub use rule::Rule;
pub use rules::{RULES, commutes, rule, rule_keys};
