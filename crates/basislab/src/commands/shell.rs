//! `basislab completions` and `basislab man`: what shells and `man` know of the command line, made from its definition.

use super::CommandResult;
use crate::args::Cli;
use crate::exit::Exit;
use crate::terminal::say_bytes;
use basislab_store::{FileError, write_if_changed};
use clap::CommandFactory;
use clap_complete::Shell;
use std::fs;
use std::path::Path;

pub(crate) fn completions(shell: Shell) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "basislab", &mut script);
    say_bytes(&script)?;
    Ok(None)
}

/// A page for the program and one for each command.
pub(crate) fn man(dir: &Path) -> CommandResult {
    fs::create_dir_all(dir).map_err(|error| FileError::new("create", dir, error))?;
    let mut command = Cli::command();
    command.build();
    write_pages(&command, dir)?;
    Ok(None)
}

fn write_pages(command: &clap::Command, dir: &Path) -> Result<(), Exit> {
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        write_pages(inner, dir)?;
    }
    let man = clap_mangen::Man::new(command.clone());
    let path = dir.join(man.get_filename());
    let mut page = Vec::new();
    man.render(&mut page).map_err(|error| FileError::new("write", &path, error))?;
    Ok(write_if_changed(&path, &page)?)
}
