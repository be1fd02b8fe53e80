use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// Buffers by length. A training step takes the same lengths every time, so the system is asked for fresh pages (and has
/// to clear them) in the first step only.
static SHELVES: Mutex<BTreeMap<usize, Shelf>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Default)]
struct Shelf {
    free: Vec<Vec<f32>>,
    /// Taken and not yet returned.
    out: usize,
}

/// A buffer of `n` numbers of unspecified (but initialised) value.
pub fn take(n: usize) -> Vec<f32> {
    let mut shelves = SHELVES.lock().expect("no panic while held");
    let shelf = shelves.entry(n).or_default();
    shelf.out += 1;
    let recycled = shelf.free.pop();
    drop(shelves);
    recycled.unwrap_or_else(|| vec![0.0; n])
}

/// Longer buffers are not kept: they belong to weights that one forward pass reads, not to training steps.
const LONGEST: usize = 1 << 24;

/// Returns a buffer for reuse. As many are kept as were taken: buffers allocated elsewhere would accumulate.
pub fn recycle(buffer: Vec<f32>) {
    if buffer.len() > LONGEST {
        return;
    }
    let mut shelves = SHELVES.lock().expect("no panic while held");
    if let Some(shelf) = shelves.get_mut(&buffer.len()).filter(|shelf| shelf.out > 0) {
        shelf.out -= 1;
        shelf.free.push(buffer);
    }
}

/// A recycled buffer that is returned when it is dropped.
#[derive(Debug)]
pub struct Buffer(Vec<f32>);

impl Buffer {
    /// `n` numbers of unspecified value.
    pub fn new(n: usize) -> Self {
        Self(take(n))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        recycle(std::mem::take(&mut self.0));
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Fills what lies free with NaN: the numbers in a buffer are unspecified, and nobody may use them.
    pub(crate) fn spoil() {
        let mut shelves = SHELVES.lock().expect("no panic while held");
        shelves.values_mut().flat_map(|shelf| &mut shelf.free).for_each(|buffer| buffer.fill(f32::NAN));
    }

    #[test]
    fn a_buffer_is_used_again_and_no_more_are_kept_than_were_taken() {
        const N: usize = 1_234_567; // a length that no other test takes
        let free = || SHELVES.lock().expect("no panic while held").get(&N).map_or(0, |shelf| shelf.free.len());
        recycle(vec![0.0; N]);
        assert_eq!(free(), 0, "nobody took it");
        let mut taken = [take(N), take(N)];
        taken[0][7] = 1.0;
        let address = taken[1].as_ptr();
        taken.into_iter().for_each(recycle);
        for _ in 0..10 {
            recycle(vec![0.0; N]);
        }
        assert_eq!(free(), 2);
        let again = take(N);
        assert_eq!(again.as_ptr(), address);
    }
}
