//! One file per command.

pub(crate) mod backends;
pub(crate) mod check;
pub(crate) mod clean;
pub(crate) mod collect;
pub(crate) mod compare;
pub(crate) mod config;
pub(crate) mod data;
pub(crate) mod export;
pub(crate) mod list;
pub(crate) mod measure;
pub(crate) mod metrics;
pub(crate) mod open;
pub(crate) mod plan;
pub(crate) mod quantize;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod shell;
pub(crate) mod status;
pub(crate) mod verify;
pub(crate) mod watch;
pub(crate) mod work;

use crate::exit::{Code, Exit};

/// How a command ends when it could do its work.
pub(crate) type CommandResult = Result<Option<Code>, Exit>;
