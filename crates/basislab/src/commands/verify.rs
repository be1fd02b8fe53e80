//! `basislab verify`: the first steps again, compared with what a directory holds.

use super::CommandResult;
use crate::backend::Backend;
use crate::build::{build, differences};
use crate::directories::expect_one;
use crate::exit::{Code, Exit};
use crate::experiments::{check_corpora, library};
use crate::resources;
use crate::terminal::say;
use basislab_config::count;
use basislab_report::{check_seal, resolve};
use basislab_runs::{Job, Opened, jobs, open, rows, step_row};
use basislab_tables::{SelectionRow, Shard, check_parts, compare_run, is_published, parts, read_optional};
use basislab_train::{Context, Control, Event, train};
use clap::ValueEnum;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ADVICE: resources::Advice = resources::Advice {
    memory: "verify on a machine that has more",
    disk: "free some, or set TMPDIR to a folder with more room",
};

pub(crate) fn verify(dir: &Path, steps: u64, all: bool) -> CommandResult {
    expect_one(dir)?;
    let Opened { experiment, manifest } = open(dir, library())?;
    let experiment = resolve(&experiment, &read_optional::<SelectionRow>(dir)?);
    let at = dir.display();
    let made_on = &manifest["device"];
    let name_of = made_on["backend"].as_str().unwrap_or_default();
    let backend = Backend::from_str(name_of, false).map_err(|_| {
        Exit::data(format!("{at}: the manifest's backend is {name_of:?}, which this build does not know"))
    })?;
    let device = backend.open(made_on["index"].as_u64().unwrap_or(0) as usize)?;
    device.require(&experiment)?;
    check_seal(dir, &experiment)?;
    if !is_published(dir) {
        check_parts(&parts(dir, &experiment)?)?;
    }
    let corpora = check_corpora(dir, &experiment, &manifest)?;
    let other = differences(&manifest, &device.work(|| Ok(build(&device, &experiment.shared.model)))?);
    let one = resources::Runs { at_once: 1, all: 1, resumed: 0, reports: true };
    resources::check(&experiment, &one, &std::env::temp_dir(), &device.info, &ADVICE)?;
    let (mut arms, mut total) = (BTreeSet::new(), 0);
    for job in jobs(&experiment) {
        // Breadth-first: the first job of an arm is its first seed.
        if !arms.insert(&job.arm.name) && !all {
            continue;
        }
        let again =
            tempfile::tempdir().map_err(|error| Exit::write(format!("cannot create a temporary folder: {error}")))?;
        let on = Context { corpus: corpora.of(&job.arm.run), device: &device.device, ahead: device.ahead() };
        let made = device.work(|| first_steps(on, &job, steps, again.path()))?;
        let name = format!("{} seed {}", job.arm.name, job.seed);
        let compared = compare_run(dir, (&job.arm.name, job.seed), again.path(), made)?;
        if let Err((at, found, expected)) = compared {
            let why = match &other[..] {
                [] if device.info.kind == "cpu" => "same build, same machine".to_owned(),
                [] => format!("same build, same machine; {name_of} does not promise to repeat its bits"),
                other => format!("another build or machine: {}", other.join("; ")),
            };
            let what = format!("{}: {name}: found {found}, expected {expected} ({why})", at.display());
            return Err(Exit::new(Code::Identity, what));
        }
        let lines = compared.unwrap_or_default();
        total += lines;
        let result = if lines == 0 {
            "not finished, nothing to compare".to_owned()
        } else {
            format!("the same bits in {}", count(lines, "line"))
        };
        say(format!("{name}: {result} up to step {made}\n"))?;
    }
    if total == 0 {
        return Err(Exit::data(format!("{at}: no run is finished, and only finished runs can be compared")));
    }
    Ok(None)
}

/// Writes the rows of a run up to `steps` into a folder. Returns the last update made.
fn first_steps(on: Context<'_>, job: &Job<'_>, steps: u64, folder: &Path) -> Result<u64, Exit> {
    let stop = AtomicBool::new(false);
    let control = Control { stop: &stop, checkpoint_steps: u64::MAX, checkpoint_interval: Duration::MAX };
    let (mut shard, mut made) = (Shard::create(folder)?, 0);
    let (arm, seed) = (&job.arm.name, job.seed);
    train(&job.arm.run, seed, on, None, control, &mut |event| {
        match event {
            Event::Step(stats) => {
                made = stats.step.min(steps);
                // The update after: the probe at `steps` comes before it.
                stop.fetch_or(stats.step > steps, Ordering::Relaxed);
                shard.push(step_row(arm, seed, &stats))?;
            }
            Event::Probe(probe) => rows(arm, seed, &probe).into_iter().try_for_each(|row| shard.push(row))?,
            Event::Checkpoint { .. } => {}
        }
        Ok(())
    })?;
    shard.commit()?;
    Ok(made)
}
