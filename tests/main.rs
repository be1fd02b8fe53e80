//! The one integration binary: laws, parity with PyTorch, the model, configs, the command line, golden files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod backends;
mod build_script;
mod call_sites;
mod clean;
mod cli;
mod command_line;
mod config;
mod config_reference;
mod devices;
mod export;
#[cfg(target_os = "linux")]
mod faults;
mod fused;
mod fuzz;
mod golden;
mod gradients;
mod import;
mod laws;
mod many_runs;
mod matrices;
mod measure;
mod model;
mod models;
mod parity;
mod plans;
#[cfg(target_os = "linux")]
mod progress;
mod properties;
mod quantize;
#[cfg(target_os = "linux")]
mod refusals;
mod reports;
mod shared_runs;
mod sharing;
mod support;
#[cfg(target_os = "linux")]
mod taking;
mod tidy;
mod training;
#[cfg(target_os = "linux")]
mod watch;
