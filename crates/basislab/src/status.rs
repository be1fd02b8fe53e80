//! `basislab status`: what is complete, running, interrupted or diverged.

use crate::Done;
use crate::directory::{self, checkpoints};
use crate::exit::Exit;
use crate::terminal::{quoted, say, say_json, shown};
use basislab_experiment::{Job, jobs};
use basislab_report::{Ending, is_published, part_dir};
use basislab_store::{Lock, steps};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub(crate) fn status(dir: &Path, json: bool) -> Done {
    if dir.join("manifest.json").exists() {
        let status = Status::of(dir)?;
        if json {
            say_json(&status.json())?
        } else {
            say(status.text(dir))?
        }
        return Ok(None);
    }
    let entries = std::fs::read_dir(dir).map_err(|error| {
        Exit::data(format!("{}: cannot read: {error}; expected a directory of `basislab run`", dir.display()))
    })?;
    let mut folders: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.join("manifest.json").exists()).collect();
    folders.sort();
    if folders.is_empty() {
        return Err(Exit::data(format!(
            "{}: found no manifest.json here or one folder down, expected a directory of `basislab run`",
            dir.display()
        )));
    }
    let mut all = Vec::new();
    let mut lines = String::new();
    for folder in folders {
        let name = folder.display().to_string();
        // One unreadable directory must not hide the others.
        let (line, value) = match Status::of(&folder) {
            Ok(status) => (status.counts(), status.json()),
            Err(exit) => (exit.to_string(), json!({ "error": exit.to_string() })),
        };
        lines += &format!("{}: {line}\n", shown(&name));
        all.push(json!({ "directory": name, "status": value }));
    }
    if json {
        say_json(&all.into())?
    } else {
        say(lines)?
    }
    Ok(None)
}

/// One directory.
struct Status {
    /// The arguments that choose the device and how seeds share it.
    device: String,
    holder: Option<String>,
    runs: Vec<(String, u64, State)>,
}

/// How far a run is.
enum State {
    Complete,
    Diverged(u64, Option<String>),
    Running(Option<u64>),
    Interrupted(Option<u64>),
    NotStarted,
}

impl Status {
    fn of(dir: &Path) -> Result<Self, Exit> {
        let (experiment, manifest) = directory::open(dir)?;
        let backend = manifest["identity"]["backend"].as_str().unwrap_or("cpu");
        let device = match manifest["device"]["index"].as_u64().unwrap_or(0) {
            0 => format!("--backend {backend}"),
            index => format!("--backend {backend} --device {index}"),
        };
        let device = match manifest["identity"]["stacked_seeds"].as_u64() {
            Some(stack) => format!("{device} --stack-seeds={stack}"),
            None => device,
        };
        let holder = Lock::holder(dir);
        let published = is_published(dir);
        let run = |job: &Job<'_>| {
            let state = if published { State::Complete } else { state(dir, job, holder.is_some())? };
            Ok((job.arm.name.to_string(), job.seed, state))
        };
        let runs = jobs(&experiment).iter().map(run).collect::<Result<Vec<_>, Exit>>()?;
        Ok(Self { device, holder, runs })
    }

    fn counts(&self) -> String {
        let words = ["complete", "diverged", "running", "interrupted", "not started"];
        let count = |word: &str| self.runs.iter().filter(|(.., state)| state.word() == word).count();
        let counts: Vec<String> = words
            .iter()
            .map(|word| (count(word), word))
            .filter(|(n, _)| *n > 0)
            .map(|(n, word)| format!("{n} {word}"))
            .collect();
        let holder = self.holder.as_ref().map_or_else(String::new, |holder| format!("; running: {holder}"));
        format!("{} of {} runs{holder}", counts.join(", "), self.runs.len())
    }

    fn text(&self, dir: &Path) -> String {
        let mut text = format!("{}: {}\n", shown(&dir.display().to_string()), self.counts());
        for (arm, seed, state) in &self.runs {
            text += &format!("  {arm:<20} seed {seed:<4} {}\n", state.sentence());
        }
        if self.holder.is_none() && self.runs.iter().any(|(.., state)| !state.has_ended()) {
            let (config, dir) = (dir.join("config.toml").display().to_string(), dir.display().to_string());
            let (config, dir, device) = (quoted(&config), quoted(&dir), &self.device);
            text += &format!("\nGo on:  basislab run {config} {device} --out {dir}\n");
        }
        text
    }

    fn json(&self) -> Value {
        let run = |(arm, seed, state): &(String, u64, State)| {
            let (step, tensor) = match state {
                State::Diverged(step, tensor) => (Some(*step), tensor.clone()),
                State::Running(step) | State::Interrupted(step) => (*step, None),
                State::Complete | State::NotStarted => (None, None),
            };
            json!({ "arm": arm, "seed": seed, "state": state.word(), "step": step, "tensor": tensor })
        };
        json!({ "holder": self.holder, "runs": self.runs.iter().map(run).collect::<Vec<_>>() })
    }
}

impl State {
    fn word(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Diverged(..) => "diverged",
            Self::Running(_) => "running",
            Self::Interrupted(_) => "interrupted",
            Self::NotStarted => "not started",
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self, Self::Complete | Self::Diverged(..))
    }

    fn sentence(&self) -> String {
        let checkpoint = |step: &Option<u64>| {
            step.map_or_else(|| "no checkpoint yet".to_owned(), |step| format!("checkpoint of step {step}"))
        };
        match self {
            Self::Diverged(step, tensor) => {
                let what = tensor.as_ref().map_or_else(String::new, |tensor| format!(": {tensor} was not finite"));
                format!("diverged at step {step}{what}")
            }
            Self::Running(step) | Self::Interrupted(step) => format!("{}, {}", self.word(), checkpoint(step)),
            Self::Complete | Self::NotStarted => self.word().to_owned(),
        }
    }
}

fn state(dir: &Path, job: &Job<'_>, locked: bool) -> Result<State, Exit> {
    if let Some(done) = directory::done(dir, job)? {
        return Ok(match done.state {
            Ending::Complete => State::Complete,
            Ending::Diverged => State::Diverged(done.step, done.tensor),
        });
    }
    if !part_dir(dir, &job.arm.name, job.seed).is_dir() {
        return Ok(State::NotStarted);
    }
    let step = steps(&checkpoints(dir, job))?.first().copied();
    Ok(if locked { State::Running(step) } else { State::Interrupted(step) })
}
