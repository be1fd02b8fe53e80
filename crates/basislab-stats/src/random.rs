//! Host randomness: ChaCha8 streams keyed by (seed, purpose, index), the same on every machine, backend and thread.
//!
//! Integers and uniforms have the same bits everywhere. Gaussians go through the system's `ln` and `cos`, which may differ
//! in the last bit between C libraries.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What a stream is for. Streams of different purposes never meet; their numbers are part of the key and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Initial weights.
    Init = 1,
    /// Training batches.
    Batches = 2,
    /// Held-out sequences.
    HeldOut = 3,
    /// Rotations of optimizers and models.
    Rotation = 5,
    /// Random bases for nulls.
    RandomBasis = 6,
    /// The synthetic language itself.
    Language = 7,
    /// Simulations in tests and of error rates.
    Simulation = 8,
    /// Permutations that decide claims.
    Permutation = 9,
}

/// The stream of this seed, purpose and index. The 256-bit key is the triple itself, so no two triples share one.
pub fn stream(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    key[16..24].copy_from_slice(&index.to_le_bytes());
    key[24..].copy_from_slice(b"basislab");
    ChaCha8Rng::from_seed(key)
}

/// Uniform on `[0, 1)`, 53 bits.
pub fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Uniform on `0..n`, without bias.
///
/// # Panics
/// If `n` is 0.
pub fn below(rng: &mut ChaCha8Rng, n: u64) -> u64 {
    assert!(n > 0, "an empty range has no element");
    // Draws beyond the last whole multiple of n are drawn again. Nearly all are so far below it that it need not be known.
    let zone = || u64::MAX - (u64::MAX % n + 1) % n;
    loop {
        let draw = rng.next_u64();
        if draw <= u64::MAX - n || draw <= zone() {
            return draw % n;
        }
    }
}

/// Standard normal, by Box and Muller: two uniforms per draw, so that the value cannot change with a library's tables.
pub fn gaussian(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(rng)).cos()
}

/// Fisher-Yates.
pub fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(rng, last as u64 + 1) as usize);
    }
}
