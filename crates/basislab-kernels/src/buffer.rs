use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// Buffers that are free, by length. A training step takes the same lengths every time, so the system is asked for
/// fresh pages (and has to clear them) in the first step only.
static FREE: Mutex<BTreeMap<usize, Vec<Vec<f32>>>> = Mutex::new(BTreeMap::new());

/// A buffer of `n` numbers of unspecified (but initialised) value.
pub fn take(n: usize) -> Vec<f32> {
    let recycled = FREE.lock().expect("no panic while held").get_mut(&n).and_then(Vec::pop);
    recycled.unwrap_or_else(|| vec![0.0; n])
}

/// Hands a buffer back for reuse.
pub fn recycle(buffer: Vec<f32>) {
    FREE.lock().expect("no panic while held").entry(buffer.len()).or_default().push(buffer);
}

/// A recycled buffer that goes back when it is dropped.
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
