//! Every part and chains of parts against their formula in f64: values, and gradients by central differences of the formula.
//!
//! All of it runs compiled for the best instruction set of the machine and for none, in pools of one, two and three threads
//! with the same bits. `.ci/run` repeats all of it on emulated CPUs without AVX-512 and without AVX, where products
//! fall back too.

mod agreement;
mod chains;
mod draw;
mod extremes;
mod formula;
mod narrow;
mod updates;

use crate::simd::tests::FALLBACK;

/// Uniform in -1..1, from a counter (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((self.next() + 1.0) / 2.0 * n as f64) as usize
    }

    fn coin(&mut self) -> bool {
        self.next() > 0.0
    }

    /// Numbers that f32 holds exactly, so that kernel and formula see the same.
    pub(crate) fn numbers(&mut self, n: usize, size: f64) -> Vec<f64> {
        (0..n).map(|_| f64::from((size * self.next()) as f32)).collect()
    }
}

fn single(x: &[f64]) -> Vec<f32> {
    x.iter().map(|x| *x as f32).collect()
}

fn double(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

fn inner(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len());
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn length(x: &[f64]) -> f64 {
    inner(x, x).sqrt()
}

fn close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let difference: Vec<f64> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
    let error = length(&difference) / length(expected).max(1e-30);
    assert!(error < tolerance, "{what}: off by {error:e}");
}

/// Runs `work` in a pool of threads, compiled for this machine or for the fallback.
fn within<T: Send>(threads: usize, fallback: bool, work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.broadcast(|_| FALLBACK.set(fallback));
    pool.install(work)
}

/// Runs `test` with several seeds, on this machine's instruction set and on the fallback, in pools of one to three threads.
fn on_each_level(test: impl Fn(u64) + Sync) {
    for fallback in [false, true] {
        (1..=3).for_each(|threads| within(threads, fallback, || (0..10).for_each(&test)));
    }
}
