//! Many runs side by side: arms x seeds over worker threads.

use crate::state::State;
use crate::train::{Control, Finished, Setting, train_together};
use basislab_config::{Arm, BasisSpec, Claim, ClaimKind, Experiment};
use basislab_report::Row;
use rayon::ThreadPool;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
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

/// Where runs that are trained together go on from, in their order; `None` is the beginning.
pub type Starts = Vec<Option<State>>;

/// How runs share the machine. Decides no number, but for `stack` where rounding is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Parallelism<'a> {
    /// Each trains one run (or stack of runs) at a time; without any, the calling thread does. The CPU backends use the
    /// pool they find themselves in, so one pool each keeps runs apart.
    pub pools: &'a [ThreadPool],
    /// Seeds of an arm that are trained as one batched model at most.
    pub stack: usize,
}

/// Runs `todo` as `parallelism` says. Results do not depend on workers and threads.
///
/// `begin` is called when the turn of jobs that are trained together has come, and says where each goes on from. Then
/// `on_event` is called, one call at a time per job. Both are called from the pools; their first error stops everything.
///
/// # Errors
/// The first error of `begin` or `on_event`.
///
/// # Panics
/// With the first panic of a worker, once all have stopped: a device that fails panics.
pub fn run(
    setting: Setting<'_>,
    todo: &[Job<'_>],
    Parallelism { pools, stack }: Parallelism<'_>,
    control: Control<'_>,
    begin: &(dyn Fn(&[Job<'_>]) -> anyhow::Result<Starts> + Sync),
    on_event: &(dyn Fn(&Job<'_>, Event) -> anyhow::Result<()> + Sync),
) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let failure: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let stopped = || failed.load(Ordering::Relaxed) || control.stop.load(Ordering::Relaxed);
    let together = |jobs: &[Job<'_>]| -> anyhow::Result<()> {
        let starts = begin(jobs)?;
        let at = |i: usize| starts[i].as_ref().map(|state| state.step);
        // Only seeds after the same update are trained as one.
        let mut left: Vec<usize> = (0..jobs.len()).collect();
        while let Some(&first) = left.first().filter(|_| !stopped()) {
            let (now, later): (Vec<usize>, Vec<usize>) = left.into_iter().partition(|&i| at(i) == at(first));
            left = later;
            let seeds: Vec<_> = now.iter().map(|&i| (jobs[i].seed, starts[i].as_ref())).collect();
            let mut sink = |lane: usize, event| {
                anyhow::ensure!(!failed.load(Ordering::Relaxed), "stopped");
                on_event(&jobs[now[lane]], event)
            };
            let all = train_together(setting, jobs[first].arm, &seeds, control, &mut sink)?;
            for (&i, finished) in now.iter().zip(all) {
                on_event(&jobs[i], Event::Finished(finished))?;
            }
        }
        Ok(())
    };
    // The same stacks whatever is left to do of them: their bits depend on who is in them.
    let is_left = |job: &Job<'_>| todo.iter().any(|left| (&left.arm.name, left.seed) == (&job.arm.name, job.seed));
    let mut stacks = stacks(setting.experiment, stack);
    stacks.iter_mut().for_each(|stack| stack.retain(is_left));
    stacks.retain(|stack| !stack.is_empty());
    let train = || {
        while let Some(jobs) = stacks.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !stopped()) {
            together(jobs)?;
        }
        anyhow::Ok(())
    };
    let panic = Mutex::new(None);
    let work = || {
        // First the reason, then the flag that makes others give up: theirs comes later.
        match catch_unwind(AssertUnwindSafe(train)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => _ = failure.lock().expect("no panic while held").get_or_insert(error),
            Err(reason) => _ = panic.lock().expect("no panic while held").get_or_insert(reason),
        }
        failed.store(true, Ordering::Relaxed);
    };
    if pools.is_empty() {
        work();
    } else {
        in_all(&pools[..pools.len().min(stacks.len())], &work);
    }
    if let Some(reason) = panic.into_inner().expect("no panic while held") {
        resume_unwind(reason);
    }
    failure.into_inner().expect("no panic while held").map_or(Ok(()), Err)
}

/// Does `work` once in each pool, all at the same time, and starts no thread for that: the system may refuse it.
fn in_all(pools: &[ThreadPool], work: &(dyn Fn() + Sync)) {
    if let Some((first, others)) = pools.split_first() {
        first.in_place_scope(|scope| {
            scope.spawn(|_| work());
            in_all(others, work);
        });
    }
}

/// All runs in stacks of at most `stack` seeds of one arm, in the order of their first jobs. A rotated model is not stacked.
/// Where the bits of two arms are compared, seeds that both have are stacked apart from the others: bits depend on who else
/// is in a stack.
pub fn stacks(experiment: &Experiment, stack: usize) -> Vec<Vec<Job<'_>>> {
    let compared = |job: &Job<'_>| -> Vec<bool> {
        let partner = |claim: &Claim| {
            let ClaimKind::BitEqual { arm, other } = &claim.test else { return None };
            let name = job.arm.name.as_str();
            [(arm, other), (other, arm)].into_iter().find(|(own, _)| *own == name).map(|(_, partner)| partner.clone())
        };
        let has_seed =
            |name: String| experiment.arm(&name).is_some_and(|arm| experiment.seeds_of(arm).contains(&job.seed));
        experiment.claims.iter().filter_map(partner).map(has_seed).collect()
    };
    let mut stacks: Vec<Vec<Job<'_>>> = Vec::new();
    for job in jobs(experiment) {
        let rotated_model = matches!(job.arm.basis, BasisSpec::RotatedModel { .. });
        let fits = |other: &&mut Vec<Job<'_>>| {
            let same = other[0].arm.name == job.arm.name && compared(&other[0]) == compared(&job);
            same && other.len() < stack && !rotated_model
        };
        match stacks.iter_mut().find(fits) {
            Some(stack) => stack.push(job),
            None => stacks.push(vec![job]),
        }
    }
    stacks
}
