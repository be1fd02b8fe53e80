//! `basislab compare`.

use super::CommandResult;
use super::report::provenance;
use crate::args::FigureArgs;
use crate::build::reporter;
use crate::directories::expect_one;
use crate::exit::{Code, Exit};
use crate::experiments::library;
use crate::resources;
use crate::terminal::{say, say_json};
use basislab_config::Experiment;
use basislab_report::Comparison;
use basislab_runs::{FORMAT, create_output_dir, open, read_manifest, write_manifest};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub(crate) fn compare(dirs: &[PathBuf], out: Option<&Path>, figures: FigureArgs, json: bool) -> CommandResult {
    if out.is_none() && (figures.png || figures.vega) {
        return Err(Exit::usage("--png and --vega need --out DIR, the directory into which the figure is written"));
    }
    let mut all: Vec<(&Path, Experiment)> = Vec::new();
    for dir in dirs {
        expect_one(dir)?;
        resources::check_tables(dir)?;
        all.push((dir, open(dir, library())?.experiment));
    }
    let comparison = basislab_report::compare(&all)?;
    if let Some(out) = out {
        write(&comparison, out, figures)?;
    }
    if json {
        say_json(&serde_json::to_value(&comparison).map_err(Exit::write)?)?
    } else {
        say(format!("{comparison}\n"))?;
        if let Some(out) = out {
            say(format!("next: basislab open {}\n", out.display()))?;
        }
    }
    Ok(None)
}

/// Page, figure and numbers, into a directory of their own.
fn write(comparison: &Comparison, out: &Path, figures: FigureArgs) -> Result<(), Exit> {
    create_output_dir(out)?;
    if read_manifest(out)?.is_some_and(|there| !there["compared"].is_array()) {
        let what = "belongs to something else, expected an empty directory or one of `basislab compare`";
        return Err(Exit::new(Code::Identity, format!("{}: {what}; choose another --out", out.display())));
    }
    let mut manifest = json!({ "format": FORMAT, "compared": comparison.directories });
    if let (Value::Object(all), Value::Object(build)) = (&mut manifest, reporter()) {
        all.extend(build);
    }
    write_manifest(out, &manifest)?;
    Ok(comparison.write(out, figures.beside(), &provenance(&manifest))?)
}
