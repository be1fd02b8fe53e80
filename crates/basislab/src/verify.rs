//! `basislab verify`: the first steps again, compared with what a directory holds.

use crate::backend::Backend;
use crate::build::{build, differences};
use crate::directory;
use crate::exit::{Code, Exit};
use crate::terminal::say;
use crate::{Done, resources};
use basislab_experiment::{Control, Event, Job, Setting, stacks, train_together};
use basislab_report::{Row, Shard, compare_run};
use clap::ValueEnum;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ADVICE: resources::Advice = resources::Advice {
    memory: "verify on a machine that has more",
    disk: "free some, or set TMPDIR to a folder with more room",
};

pub(crate) fn verify(dir: &Path, steps: u64, all: bool) -> Done {
    let (experiment, manifest) = directory::open(dir)?;
    let place = dir.display();
    let made_on = &manifest["device"];
    let name_of = made_on["backend"].as_str().unwrap_or_default();
    let backend = Backend::from_str(name_of, false).map_err(|_| {
        Exit::data(format!("{place}: the manifest's backend is {name_of:?}, which this build does not know"))
    })?;
    let device = backend.open(made_on["index"].as_u64().unwrap_or(0) as usize)?;
    device.require(&experiment.model)?;
    let corpus = directory::corpus(dir, &experiment, &manifest)?;
    let setting = device.setting(&experiment, &corpus);
    let other = differences(&manifest, &device.work(|| Ok(build(&device, &experiment.model)))?);
    let stack = manifest["identity"]["stacked_seeds"].as_u64().map_or(1, |stack| stack as usize);
    resources::check(&experiment, corpus.d_vocab(), stack, 1, &std::env::temp_dir(), &device.facts, &ADVICE)?;
    let (mut arms, mut total) = (BTreeSet::new(), 0);
    for jobs in stacks(&experiment, stack) {
        // Breadth-first: the first jobs of an arm are its first seeds.
        if !arms.insert(&jobs[0].arm.name) && !all {
            continue;
        }
        let again = tempfile::tempdir().map_err(|error| Exit::write(format!("temporary folder: {error}")))?;
        let made = device.work(|| first_steps(setting, &jobs, steps, again.path()))?;
        for job in &jobs {
            let name = format!("{} seed {}", job.arm.name, job.seed);
            let compared = compare_run(dir, (&job.arm.name, job.seed), &again_of(again.path(), job), made)?;
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
    }
    if total == 0 {
        return Err(Exit::data(format!("{place}: nothing is recorded that could be compared")));
    }
    Ok(None)
}

/// Where a run's first steps are written again.
fn again_of(folder: &Path, job: &Job<'_>) -> PathBuf {
    folder.join(job.seed.to_string())
}

/// The rows up to `steps` of runs that are trained together, each into a folder of its own. Returns the last update made.
fn first_steps(setting: Setting<'_>, jobs: &[Job<'_>], steps: u64, folder: &Path) -> Result<u64, Exit> {
    let stop = AtomicBool::new(false);
    let control = Control { stop: &stop, checkpoint_steps: u64::MAX, checkpoint_interval: Duration::MAX };
    let create = |job: &Job<'_>| Shard::create(&again_of(folder, job));
    let (mut shards, mut made) = (jobs.iter().map(create).collect::<Result<Vec<_>, _>>()?, 0);
    let seeds: Vec<_> = jobs.iter().map(|job| (job.seed, None)).collect();
    train_together(setting, jobs[0].arm, &seeds, control, &mut |lane, event| {
        if let Event::Rows(rows) = event {
            for row in rows {
                if let Row::Step(row) = &row {
                    made = row.step.min(steps);
                    // The update after: the probe at `steps` comes before it.
                    stop.fetch_or(row.step > steps, Ordering::Relaxed);
                }
                shards[lane].push(row)?;
            }
        }
        Ok(())
    })?;
    shards.iter_mut().try_for_each(Shard::commit)?;
    Ok(made)
}
