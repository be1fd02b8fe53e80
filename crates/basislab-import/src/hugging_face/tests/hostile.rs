//! Damaged files give an error or a model, never a panic.

use super::fixture;
use super::refusals::copy;
use crate::hugging_face::parse;
use crate::open;
use std::fs;

/// How often each file is damaged; `BASISLAB_FUZZ` multiplies it.
fn rounds() -> u64 {
    let times = std::env::var("BASISLAB_FUZZ").ok().and_then(|times| times.parse().ok());
    10_000 * times.unwrap_or(1_u64)
}

/// Numbers that look random (xorshift).
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize
}

/// Replaces, removes or repeats a few bytes.
fn damage(bytes: &[u8], within: usize, state: &mut u64) -> Vec<u8> {
    const DIGITS: &[u8] = b"0123456789-.eE[]{}\",:\\ntf";
    let mut damaged = bytes.to_vec();
    for _ in 0..=random(state) % 3 {
        let at = random(state) % within.min(damaged.len());
        match random(state) % 4 {
            0 => damaged[at] = random(state) as u8,
            1 => damaged[at] = DIGITS[random(state) % DIGITS.len()],
            2 => drop(damaged.remove(at)),
            _ => damaged.insert(at, damaged[at]),
        }
    }
    damaged
}

/// Opens the model, and reads all of it where that succeeds.
fn check(folder: &std::path::Path) -> bool {
    match open(folder, None) {
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains('\n') && message.len() < 5000, "{message}");
            false
        }
        Ok(source) => {
            let (d, v) = (source.spec.d_model, source.d_vocab);
            let _ = source.read("w_e", [v, d]);
            let _ = source.read("blocks.0.w_q", [d, d]);
            true
        }
    }
}

fn fuzz(family: &str, file: &str, within: impl Fn(&[u8]) -> usize) {
    let folder = copy(family);
    let path = folder.path().join(file);
    let good = fs::read(&path).unwrap();
    let (within, mut state, mut accepted) = (within(&good), 0x9e37_79b9_7f4a_7c15, 0);
    let rounds = rounds();
    for _ in 0..rounds {
        fs::write(&path, damage(&good, within, &mut state)).unwrap();
        accepted += u64::from(check(folder.path()));
    }
    assert!(accepted < rounds, "no damage to {file} was found");
}

#[test]
fn damaged_headers_do_not_panic() {
    fuzz("gpt_neox", "model.safetensors", |good| 8 + u64::from_le_bytes(*good.first_chunk().unwrap()) as usize);
}

/// Without files, and so faster; `fuzz` on `config.json` would mostly find tensors of another shape.
#[test]
fn damaged_configurations_do_not_panic() {
    let (mut state, mut accepted, mut layers) = (0x9e37_79b9_7f4a_7c15, 0, 0);
    for family in ["llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neox", "bert"] {
        let good = fs::read(fixture(family).join("config.json")).unwrap();
        for _ in 0..rounds() {
            if let Ok(layout) = parse(&damage(&good, good.len(), &mut state)) {
                accepted += 1;
                layers = layers.max(layout.spec.n_layers);
            }
        }
    }
    // Sizes were damaged as well, and stayed in their range.
    assert!(accepted > 0 && accepted < 7 * rounds() && layers > 2 && layers <= 1024, "{accepted} {layers}");
}

#[test]
fn damaged_indices_do_not_panic() {
    fuzz("llama_sharded", "model.safetensors.index.json", <[u8]>::len);
}

#[test]
fn a_file_that_is_cut_off_is_refused() {
    let folder = copy("llama");
    for file in ["model.safetensors", "config.json"] {
        let path = folder.path().join(file);
        let good = fs::read(&path).unwrap();
        // Without its last line feed a configuration is whole.
        let end = if file == "config.json" { good.trim_ascii_end().len() } else { good.len() };
        for length in (0..end.min(5000)).chain([end - 1]) {
            fs::write(&path, &good[..length]).unwrap();
            assert!(!check(folder.path()), "{file} was accepted with {length} of {} bytes", good.len());
        }
        fs::write(&path, good).unwrap();
        assert!(check(folder.path()));
    }
}
