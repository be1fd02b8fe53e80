//! `basislab compare`.

use super::CommandResult;
use crate::directories::expect_one;
use crate::exit::Exit;
use crate::experiments::library;
use crate::resources;
use crate::terminal::{say, say_json};
use basislab_config::Experiment;
use basislab_runs::open;
use std::path::{Path, PathBuf};

pub(crate) fn compare(dirs: &[PathBuf], json: bool) -> CommandResult {
    let mut all: Vec<(&Path, Experiment)> = Vec::new();
    for dir in dirs {
        expect_one(dir)?;
        resources::check_tables(dir)?;
        all.push((dir, open(dir, library())?.experiment));
    }
    let comparison = basislab_report::compare(&all)?;
    if json {
        say_json(&serde_json::to_value(&comparison).map_err(Exit::write)?)?
    } else {
        say(format!("{comparison}\n"))?
    }
    Ok(None)
}
