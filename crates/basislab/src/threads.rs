//! Threads, and doing with fewer where the system refuses them (`ulimit -u`, a container's limit on processes).

use crate::exit::{Code, Exit};
use rayon::{ThreadBuilder, ThreadPool, ThreadPoolBuilder};
use std::sync::mpsc;
use std::thread;

/// Sets up rayon's global pool, which whatever computes outside of a run uses: one thread per core, or as many as the
/// system grants, or this thread alone. Left to itself, rayon panics when a thread is refused.
pub(crate) fn prepare() -> Result<(), Exit> {
    // Threads first, pool second: a pool that failed to start cannot be tried again.
    let granted = (0..cores()).map_while(|_| {
        let (hand_over, task) = mpsc::channel::<ThreadBuilder>();
        let run = move || task.recv().map_or((), ThreadBuilder::run);
        thread::Builder::new().spawn(run).ok().map(|_| hand_over)
    });
    let granted: Vec<_> = granted.collect();
    let pool = ThreadPoolBuilder::new().num_threads(granted.len().max(1));
    let built = if granted.is_empty() {
        pool.use_current_thread().build_global()
    } else {
        let mut granted = granted.into_iter();
        let start = |task| match granted.next() {
            Some(hand_over) => hand_over.send(task).map_err(|_| std::io::Error::other("a thread has ended early")),
            None => Err(std::io::Error::other("more threads are wanted than were started")),
        };
        pool.spawn_handler(start).build_global()
    };
    built.map_err(|error| Exit::new(Code::TooLarge, format!("cannot start threads: {error}")))
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// One pool of `threads` threads for each of `workers` runs side by side, or as many pools as the system grants threads
/// for; none where it grants no thread at all.
pub(crate) fn pools(workers: usize, threads: usize) -> Vec<ThreadPool> {
    let pool = |_| ThreadPoolBuilder::new().num_threads(threads).build().ok();
    (0..workers).map_while(pool).collect()
}
