//! `basislab status`: what is complete, running, interrupted, failed or diverged.

use super::CommandResult;
use crate::directories::{expect_one, inside, is_measured, is_one};
use crate::exit::Exit;
use crate::experiments::library;
use crate::run_state::RunState;
use crate::terminal::{quoted, say, say_json, shown};
use basislab_runs::{Job, Opened, jobs, open, unneeded};
use basislab_tables::is_published;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub(crate) fn status(dir: &Path, json: bool) -> CommandResult {
    if is_measured(dir) {
        expect_one(dir)?;
    }
    if is_one(dir) {
        let status = Status::of(dir)?;
        if json {
            say_json(&status.json())?
        } else {
            say(status.text(dir))?
        }
        return Ok(None);
    }
    let folders = inside(dir)?;
    if folders.is_empty() {
        return Err(Exit::data(format!(
            "{}: found no manifest.json here or one folder down, expected a directory of `basislab run`",
            dir.display()
        )));
    }
    let mut all = Vec::new();
    let mut rows = vec![("directory".to_owned(), "state".to_owned())];
    for folder in folders {
        let name = folder.display().to_string();
        // One unreadable directory must not hide the others.
        let (state, value) = match Status::of(&folder) {
            Ok(status) => (status.counts(), status.json()),
            Err(exit) => (format!("error: {exit}"), json!({ "error": exit.to_string() })),
        };
        rows.push((shown(&name), state));
        all.push(json!({ "directory": name, "status": value }));
    }
    if json {
        say_json(&all.into())?
    } else {
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        say(rows.iter().map(|(name, state)| format!("{name:<width$}  {state}\n")).collect::<String>())?
    }
    Ok(None)
}

/// Of a directory with more runs, complete ones are counted and not listed.
const MOST_LISTED: usize = 100;

/// One directory.
struct Status {
    /// The arguments that choose the device.
    device: String,
    runs: Vec<(String, u64, RunState)>,
    /// Parts of runs that the experiment does not need.
    unneeded: Vec<PathBuf>,
}

impl Status {
    fn of(dir: &Path) -> Result<Self, Exit> {
        let Opened { experiment, manifest } = open(dir, library())?;
        let backend = manifest["backend"].as_str().unwrap_or("cpu");
        let device = match manifest["device"]["index"].as_u64().unwrap_or(0) {
            0 => format!("--backend {backend}"),
            index => format!("--backend {backend} --device {index}"),
        };
        let published = is_published(dir);
        let run = |job: &Job<'_>| {
            let state = if published { RunState::Complete } else { RunState::of(dir, job)? };
            Ok((job.arm.name.to_string(), job.seed, state))
        };
        let runs = jobs(&experiment).iter().map(run).collect::<Result<Vec<_>, Exit>>()?;
        Ok(Self { device, runs, unneeded: unneeded(dir, &experiment)? })
    }

    fn counts(&self) -> String {
        let count = |word: &str| self.runs.iter().filter(|(.., state)| state.word() == word).count();
        let counts: Vec<String> = RunState::WORDS
            .iter()
            .map(|word| (count(word), word))
            .filter(|(n, _)| *n > 0)
            .map(|(n, word)| format!("{n} {word}"))
            .collect();
        let mut holders: Vec<&str> = Vec::new();
        for (.., state) in &self.runs {
            if let RunState::Running(holder, _) = state
                && !holders.contains(&holder.as_str())
            {
                holders.push(holder);
            }
        }
        let holders = if holders.is_empty() { String::new() } else { format!("; running: {}", holders.join("; ")) };
        format!("{} of {}{holders}", counts.join(", "), basislab_config::count(self.runs.len(), "run"))
    }

    fn text(&self, dir: &Path) -> String {
        let mut text = format!("{}: {}\n", shown(&dir.display().to_string()), self.counts());
        let is_complete = |state: &RunState| matches!(state, RunState::Complete);
        let only_counts = self.runs.len() > MOST_LISTED;
        for (arm, seed, state) in self.runs.iter().filter(|(.., state)| !(only_counts && is_complete(state))) {
            text += &format!("  {arm:<20} seed {seed:<4} {}\n", state.sentence());
        }
        let complete = self.runs.iter().filter(|(.., state)| is_complete(state)).count();
        if only_counts && complete > 0 {
            let complete = basislab_config::count(complete, "complete run");
            text += &format!("  {complete} not listed, of more than {MOST_LISTED} runs; --json lists all\n");
        }
        for part in &self.unneeded {
            text += &format!(
                "  {}: not needed by the experiment: see `basislab clean`\n",
                shown(&part.display().to_string())
            );
        }
        let is_running = |(.., state): &(String, u64, RunState)| matches!(state, RunState::Running(..));
        if !self.runs.iter().any(is_running) && self.runs.iter().any(|(.., state)| !state.has_ended()) {
            let (config, dir) = (dir.join("config.toml").display().to_string(), dir.display().to_string());
            let (config, dir, device) = (quoted(&config), quoted(&dir), &self.device);
            text += &format!("\nResume:  basislab run {config} {device} --out {dir}  # all arms; --only for some\n");
        }
        text
    }

    fn json(&self) -> Value {
        let run = |(arm, seed, state): &(String, u64, RunState)| {
            let (step, tensor) = match state {
                RunState::Diverged(step, tensor) => (Some(*step), tensor.clone()),
                RunState::Running(_, step) | RunState::Failed(_, step) | RunState::Interrupted(step) => (*step, None),
                RunState::Complete | RunState::NotStarted => (None, None),
            };
            let holder = if let RunState::Running(holder, _) = state { Some(holder) } else { None };
            let reason = if let RunState::Failed(reason, _) = state { Some(reason) } else { None };
            json!({
                "arm": arm, "seed": seed, "state": state.word(), "step": step, "tensor": tensor, "holder": holder, "reason": reason,
            })
        };
        json!({ "runs": self.runs.iter().map(run).collect::<Vec<_>>(), "unneeded": self.unneeded })
    }
}
