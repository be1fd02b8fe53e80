//! `basislab verify`: the first steps again, compared with what a directory holds.

use crate::Done;
use crate::backend::Backend;
use crate::build::{build, differences};
use crate::directory;
use crate::exit::{Code, Exit};
use crate::terminal::say;
use basislab_experiment::{Control, Event, Job, Setting, jobs, train};
use basislab_report::{Row, Shard, compare_run};
use clap::ValueEnum;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) fn verify(dir: &Path, steps: u64, all: bool) -> Done {
    let (experiment, manifest) = directory::open(dir)?;
    let place = dir.display();
    let made_on = &manifest["device"];
    let name_of = made_on["backend"].as_str().unwrap_or_default();
    let backend = Backend::from_str(name_of, false).map_err(|_| {
        Exit::data(format!("{place}: the manifest's backend is {name_of:?}, which this build does not know"))
    })?;
    let device = backend.open(made_on["index"].as_u64().unwrap_or(0) as usize)?;
    if let Some(stack) = manifest["identity"]["stacked_seeds"].as_u64() {
        return Err(Exit::data(format!(
            "{place}: found {stack} seeds trained as one model, expected runs of their own, whose bits can be made again"
        )));
    }
    device.require(&experiment.model)?;
    let corpus = directory::corpus(dir, &experiment, &manifest)?;
    let setting = device.setting(&experiment, &corpus);
    let other = differences(&manifest, &device.work(|| Ok(build(&device, &experiment.model)))?);
    let (mut arms, mut total) = (BTreeSet::new(), 0);
    for job in jobs(&experiment) {
        // Breadth-first: the first job of an arm is its first seed.
        if !arms.insert(&job.arm.name) && !all {
            continue;
        }
        let name = format!("{} seed {}", job.arm.name, job.seed);
        let again = tempfile::tempdir().map_err(|error| Exit::write(format!("temporary folder: {error}")))?;
        let made = device.work(|| first_steps(setting, job, steps, again.path()))?;
        let compared = compare_run(dir, (&job.arm.name, job.seed), again.path(), made)?;
        if let Err((at, found, expected)) = compared {
            let why = match &other[..] {
                [] if device.facts.kind == "cpu" => "same build, same machine".to_owned(),
                [] => format!("same build, same machine; {name_of} does not promise to repeat its bits"),
                other => format!("another build or machine: {}", other.join("; ")),
            };
            let what = format!("{}: {name}: found {found}, expected {expected} ({why})", at.display());
            return Err(Exit::new(Code::Identity, what));
        }
        let lines = compared.unwrap_or_default();
        total += lines;
        let result =
            if lines == 0 { "nothing recorded yet".to_owned() } else { format!("the same bits in {lines} lines") };
        say(format!("{name}: {result} up to step {made}\n"))?;
    }
    if total == 0 {
        return Err(Exit::data(format!("{place}: nothing is recorded that could be compared")));
    }
    Ok(None)
}

/// The rows of a run up to `steps`, into `part`. Returns the last update made.
fn first_steps(setting: Setting<'_>, job: Job<'_>, steps: u64, part: &Path) -> Result<u64, Exit> {
    let stop = AtomicBool::new(false);
    let control = Control { stop: &stop, checkpoint_steps: u64::MAX, checkpoint_interval: Duration::MAX };
    let (mut shard, mut made) = (Shard::create(part)?, 0);
    train(setting, job, None, control, &mut |event| {
        if let Event::Rows(rows) = event {
            for row in rows {
                if let Row::Step(row) = &row {
                    made = row.step.min(steps);
                    // The update after: the probe at `steps` comes before it.
                    stop.fetch_or(row.step > steps, Ordering::Relaxed);
                }
                shard.push(row)?;
            }
        }
        Ok(())
    })?;
    shard.commit()?;
    Ok(made)
}
