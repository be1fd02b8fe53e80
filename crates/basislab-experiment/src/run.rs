//! Many runs side by side: arms x seeds over worker threads.

use crate::state::State;
use crate::train::{Control, Finished, Setting, train};
use basislab_config::{Arm, Experiment};
use basislab_report::Row;
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
    /// Rows of an update or a probe.
    Rows(Vec<Row>),
    /// The state after the rows so far.
    Checkpoint {
        /// What to go on from.
        state: State,
        /// Wall-clock seconds spent in probes so far, by this process.
        probe_seconds: f64,
    },
    /// The run has ended.
    Finished(Finished),
}

/// Runs `todo` on `workers` threads of `threads` rayon threads each. Results do not depend on either.
///
/// `begin` is called when a job's turn has come, and says where it goes on from. Then `on_event` is called, one call at a
/// time per job. Both are called from the workers; their first error stops everything.
///
/// # Errors
/// The first error of `begin` or `on_event`.
pub fn run(
    setting: Setting<'_>,
    todo: &[Job<'_>],
    (workers, threads): (usize, usize),
    control: Control<'_>,
    begin: &(dyn Fn(&Job<'_>) -> anyhow::Result<Option<State>> + Sync),
    on_event: &(dyn Fn(&Job<'_>, Event) -> anyhow::Result<()> + Sync),
) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let failure: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let stopped = || failed.load(Ordering::Relaxed) || control.stop.load(Ordering::Relaxed);
    let one = |job: &Job<'_>| -> anyhow::Result<()> {
        let start = begin(job)?;
        let mut sink = |event| {
            anyhow::ensure!(!failed.load(Ordering::Relaxed), "stopped");
            on_event(job, event)
        };
        let finished = train(setting, *job, start.as_ref(), control, &mut sink)?;
        on_event(job, Event::Finished(finished))
    };
    let work = || {
        // The CPU backends use the rayon pool they find themselves in: one small pool per worker keeps runs apart.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        while let Some(job) = todo.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !stopped()) {
            pool.install(|| one(job))?;
        }
        anyhow::Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..workers.min(todo.len()) {
            scope.spawn(|| {
                if let Err(error) = work() {
                    // First the error, then the flag that makes others give up: theirs comes later.
                    failure.lock().expect("no panic while held").get_or_insert(error);
                    failed.store(true, Ordering::Relaxed);
                }
            });
        }
    });
    failure.into_inner().expect("no panic while held").map_or(Ok(()), Err)
}
