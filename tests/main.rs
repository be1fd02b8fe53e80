//! The one integration binary: laws, parity with PyTorch, the model, configs, the command line, golden files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

//OFF mod backends;
mod build_script;
//OFF mod call_sites;
mod cli;
mod command_line;
mod config;
mod devices;
#[cfg(target_os = "linux")]
mod faults;
//OFF mod fused;
//OFF mod fuzz;
mod golden;
//OFF mod gradients;
//OFF mod laws;
//OFF mod matrices;
//OFF mod model;
//OFF mod parity;
//OFF mod properties;
#[cfg(target_os = "linux")]
mod refusals;
mod reports;
mod support;
mod tidy;
//OFF mod training;
