//! Damaged files: an error or a model, never a panic, and no more memory than the file's size allows.

use super::all_steps;
use super::build::{llama, with_merges};
use crate::gguf::{forward, header, vocabulary};
use std::path::Path;

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = with_merges().bytes();
    // The last tensor, of 96 bytes, ends where the padding to 32 bytes does.
    for length in 0..whole.len() {
        let error = all_steps(&whole[..length]).expect_err("cut");
        assert!(error.contains("cut off") || error.contains("does not fit") || length < 4, "{length}: {error}");
    }
}

/// Most memory that the process had reserved, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A generator of 64-bit numbers (SplitMix64), so that every run mutates alike.
pub(crate) struct Mutator(u64);

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    /// One to four edits: a bit, a byte, a number of 64 bits, a cut, a doubled or removed range.
    pub(crate) fn mutate(&mut self, data: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            if data.is_empty() {
                return;
            }
            let at = self.below(data.len());
            let end = (at + 1 + self.below(64)).min(data.len());
            match self.below(12) {
                0..=3 => data[at] ^= 1 << self.below(8),
                4..=6 => data[at] = self.below(256) as u8,
                7 | 8 => {
                    let number = [0, 1, 255, 1 << 31, u64::MAX, 1 << 40, u64::MAX / 2][self.below(7)];
                    data.splice(at..end.min(at + 8), number.to_le_bytes());
                }
                9 => data.truncate(at),
                10 => drop(data.drain(at..end)),
                _ => {
                    let again = data[at..end].to_vec();
                    data.splice(at..at, again);
                }
            }
        }
    }
}

/// Mutated files per target: `BASISLAB_FUZZ`, or fewer where the code is not optimised.
pub(crate) fn count() -> usize {
    let default = if cfg!(debug_assertions) { 20_000 } else { 100_000 };
    std::env::var("BASISLAB_FUZZ").map_or(default, |text| text.parse().unwrap())
}

#[test]
fn mutated_headers_neither_panic_nor_allocate_more_than_their_size() {
    let originals = [llama().bytes(), with_merges().bytes()];
    let mut mutator = Mutator::new(1);
    let (mut read, before) = (0, peak());
    for round in 0..count() {
        let mut data = originals[round % 2].clone();
        mutator.mutate(&mut data);
        let Ok(header) = header::parse(&data[..], data.len() as u64) else { continue };
        read += usize::from(forward::describe(&header).is_ok());
        if let Ok(Some(tokenizer)) = vocabulary::tokenizer(Path::new("x"), &header) {
            let _ = tokenizer.encode("ab b\u{e4}");
        }
    }
    // Mutations of weights leave the header as it is: most steps are reached.
    assert!(read > count() / 10, "{read} of {} are still models", count());
    let grown = peak() - before;
    assert!(grown < 256 << 10, "reading files of a few KiB reserved {grown} KiB");
}
