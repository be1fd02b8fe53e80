use rayon::ThreadPool;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Does `work` for every item, one at a time in each pool; without pools in the calling thread. The CPU backends use the
/// pool they find themselves in, so one pool each keeps runs apart. The first error stops everything: `work` gets a flag that
/// is set then. Nothing is begun once `stop` is set.
///
/// # Errors
/// The first error of `work`.
///
/// # Panics
/// With the first panic of a worker, once all have stopped: a device that fails panics.
pub fn in_parallel<T: Sync>(
    items: &[T],
    pools: &[ThreadPool],
    stop: &AtomicBool,
    work: &(dyn Fn(&T, &AtomicBool) -> anyhow::Result<()> + Sync),
) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let failure: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let panic = Mutex::new(None);
    let stopped = || failed.load(Ordering::Relaxed) || stop.load(Ordering::Relaxed);
    let all = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !stopped()) {
            work(item, &failed)?;
        }
        anyhow::Ok(())
    };
    let worker = || {
        // First the reason, then the flag that makes others give up: theirs comes later.
        match catch_unwind(AssertUnwindSafe(all)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => _ = failure.lock().expect("no panic while held").get_or_insert(error),
            Err(reason) => _ = panic.lock().expect("no panic while held").get_or_insert(reason),
        }
        failed.store(true, Ordering::Relaxed);
    };
    if pools.is_empty() {
        worker();
    } else {
        in_all(&pools[..pools.len().min(items.len())], &worker);
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
