//! The `basislab` program: arguments, backend choice, files. Everything that decides a result lives in the libraries.

mod args;
mod backend;
mod build;
mod commands;
mod directories;
mod exit;
mod experiments;
mod live;
mod manifest;
mod progress;
mod resources;
mod run_state;
mod signals;
mod terminal;
mod threads;
mod training;

use args::{Cli, Command};
use clap::Parser;
use commands::CommandResult;
use exit::Exit;
use std::io::Write;
use std::process::ExitCode;

/// Training frees and takes the same large buffers every step; this allocator hands them back without asking the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match prepare().and_then(|()| work(cli.command)) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(code)) => ExitCode::from(code as u8),
        Err(exit) => {
            // Nothing is left to tell it to when stderr is closed too.
            let _ = writeln!(std::io::stderr(), "error: {exit}");
            ExitCode::from(exit.code as u8)
        }
    }
}

/// What every command needs of the process.
fn prepare() -> Result<(), Exit> {
    #[cfg(unix)]
    {
        signals::end_with_8_where_memory_is_refused()?;
        signals::ignore_file_size_signal()?;
    }
    threads::prepare()
}

fn work(command: Command) -> CommandResult {
    match command {
        Command::Run(args) => commands::run::run(&args),
        Command::Measure(args) => commands::measure::measure(&args),
        Command::Quantize(args) => commands::quantize::quantize(&args),
        Command::List { json } => commands::list::list(json),
        Command::Report { dir, figures, json } => commands::report::report(&dir, figures.beside(), json),
        Command::Open { dir } => commands::open::open(&dir),
        Command::Compare { dirs, out, figures, json } => {
            commands::compare::compare(&dirs, out.as_deref(), figures, json)
        }
        Command::Export(args) => commands::export::export(&args),
        Command::Status { dir, json } => commands::status::status(&dir, json),
        Command::Watch(args) => commands::watch::watch(&args),
        Command::Plan(args) => commands::plan::plan(&args),
        Command::Work(args) => commands::work::work(&args),
        Command::Collect(args) => commands::collect::collect(&args),
        Command::Clean { dir, yes, json } => commands::clean::clean(&dir, yes, json),
        Command::Verify { dir, steps, all } => commands::verify::verify(&dir, steps, all),
        Command::Metrics(args) => commands::metrics::metrics(&args),
        Command::Check(args) => commands::check::check(&args),
        Command::Backends { json } => commands::backends::backends(json),
        Command::Data(args) => commands::data::data(&args),
        Command::Config(args) => commands::config::config(&args),
        Command::Completions { shell } => commands::shell::completions(shell),
        Command::Man { dir } => commands::shell::man(&dir),
    }
}
