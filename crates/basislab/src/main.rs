//! The `basislab` program: arguments, backend choice, files. Everything that decides a result lives in the libraries.

mod args;
mod backend;
mod backends;
mod build;
mod check;
mod compare;
mod config;
mod data;
mod exit;
mod experiments;
mod metrics;
mod progress;
mod report;
mod resources;
mod run;
mod signals;
mod status;
mod terminal;
mod threads;
mod verify;

use args::{Cli, Command};
use clap::Parser;
use exit::{Code, Exit};
use std::io::Write;
use std::process::ExitCode;
use terminal::{say, say_json};

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
        Command::Run(args) => run::run(&args),
        Command::List { json } => list(json),
        Command::Report { dir, json } => report::report(&dir, json),
        Command::Compare { dirs, json } => compare::compare(&dirs, json),
        Command::Status { dir, json } => status::status(&dir, json),
        Command::Verify { dir, steps, all } => verify::verify(&dir, steps, all),
        Command::Metrics(args) => metrics::metrics(&args),
        Command::Check(args) => check::check(&args),
        Command::Backends { json } => backends::backends(json),
        Command::Data(args) => data::data(&args),
        Command::Config(args) => config::config(&args),
    }
}

/// How a command ends when it could do its work.
type CommandResult = Result<Option<Code>, Exit>;

fn list(json: bool) -> CommandResult {
    let mut lines = String::new();
    let mut all = Vec::new();
    for (name, _) in experiments::BUILT_IN {
        let experiment = experiments::find_plain(name, &[])?.loaded.experiment;
        let arms: Vec<&str> = experiment.arms.iter().map(|arm| arm.name.as_str()).collect();
        lines += &format!(
            "{name}\n  {}\n  {} seeds; arms {}\n",
            experiment.question,
            experiment.seeds.len(),
            arms.join(", ")
        );
        all.push(serde_json::json!({ "name": name, "question": experiment.question, "seeds": experiment.seeds, "arms": arms }));
    }
    if json {
        say_json(&all.into())?
    } else {
        say(lines + "\nRun one:  basislab run NAME\n")?
    }
    Ok(None)
}
