//! Many runs side by side: arms x seeds over worker threads.

use crate::train::{Finished, train};
use basislab_config::{Arm, Experiment};
use basislab_data::Corpus;
use basislab_report::Row;
use burn::tensor::{DType, Device};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// One arm with one seed.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The arm.
    pub arm: &'a Arm,
    /// The seed.
    pub seed: u64,
}

/// All runs of an experiment, breadth-first: every arm's first seed before any arm's second, so that a first picture
/// comes early.
pub fn jobs(experiment: &Experiment) -> Vec<Job<'_>> {
    let seeds = experiment.seeds.iter();
    let of_seed = |&seed: &u64| {
        experiment
            .arms
            .iter()
            .filter(move |arm| experiment.seeds_of(arm).contains(&seed))
            .map(move |arm| Job { arm, seed })
    };
    seeds.flat_map(of_seed).collect()
}

/// What a run tells while it goes. Rows come in the order in which the run makes them.
#[derive(Debug)]
pub enum Event {
    /// The run begins.
    Started,
    /// Rows of an update or a probe.
    Rows(Vec<Row>),
    /// The run has ended.
    Finished(Finished),
}

/// Runs `todo` on `workers` threads of `threads` rayon threads each. Results do not depend on either.
///
/// `on_event` is called from the workers, one call at a time per job; its first error stops everything.
///
/// # Errors
/// The first error of `on_event`.
pub fn run(
    experiment: &Experiment,
    corpus: &Corpus,
    on: (&Device, DType),
    todo: &[Job<'_>],
    (workers, threads): (usize, usize),
    on_event: &(dyn Fn(&Job<'_>, Event) -> anyhow::Result<()> + Sync),
) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failure: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let one = |job: &Job<'_>| -> anyhow::Result<()> {
        on_event(job, Event::Started)?;
        let mut sink = |rows| {
            anyhow::ensure!(!stop.load(Ordering::Relaxed), "stopped");
            on_event(job, Event::Rows(rows))
        };
        let finished = train(experiment, job.arm, job.seed, corpus, on, &mut sink)?;
        on_event(job, Event::Finished(finished))
    };
    let work = || {
        // The CPU backends use the rayon pool they find themselves in: one small pool per worker keeps runs apart.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        while let Some(job) = todo.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !stop.load(Ordering::Relaxed)) {
            pool.install(|| one(job))?;
        }
        anyhow::Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..workers.min(todo.len()) {
            scope.spawn(|| {
                if let Err(error) = work() {
                    stop.store(true, Ordering::Relaxed);
                    failure.lock().expect("no panic while held").get_or_insert(error);
                }
            });
        }
    });
    failure.into_inner().expect("no panic while held").map_or(Ok(()), Err)
}
