//! The one integration binary: laws, parity with PyTorch, the model, configs, the command line, golden files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod cli;
mod config;
mod fused;
mod golden;
mod gradients;
mod laws;
mod model;
mod parity;
mod support;
mod tidy;
mod training;
