//! Damaged files give an error or a model, never a panic.

use super::fixture;
use super::refusals::copy;
use crate::gguf::tests::hostile::{Mutator, count};
use crate::hugging_face::parse;
use crate::open;
use crate::safetensors::float_bytes;
use basislab_store::tensor_table;
use std::fs;
use std::io::Cursor;

/// Opens the model, and reads all of it where that succeeds.
fn check(folder: &std::path::Path) -> bool {
    match open(folder, None) {
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains(char::is_control) && message.len() < 5000, "{message}");
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

/// Damages the first bytes of a file.
fn fuzz(family: &str, file: &str, within: impl Fn(&[u8]) -> usize) {
    let folder = copy(family);
    let path = folder.path().join(file);
    let good = fs::read(&path).unwrap();
    let (damaged, kept) = good.split_at(within(&good));
    let (mut mutator, mut accepted) = (Mutator::new(1), 0);
    // Files are slow.
    let rounds = count() / 10;
    for _ in 0..rounds {
        let mut bytes = damaged.to_vec();
        mutator.mutate(&mut bytes);
        fs::write(&path, [&bytes, kept].concat()).unwrap();
        accepted += usize::from(check(folder.path()));
    }
    assert!(accepted < rounds, "no damage to {file} was found");
}

/// Length of the header and of the number before it.
fn header(file: &[u8]) -> usize {
    8 + u64::from_le_bytes(*file.first_chunk().unwrap()) as usize
}

#[test]
fn damaged_headers_do_not_panic() {
    fuzz("gpt_neox", "model.safetensors", header);
}

/// Without files, and so more often.
#[test]
fn a_damaged_header_names_no_place_outside_of_the_file() {
    let good = fs::read(fixture("qwen2").join("model.safetensors")).unwrap();
    let (damaged, kept) = good.split_at(header(&good));
    let (mut mutator, mut accepted) = (Mutator::new(2), 0);
    for _ in 0..count() {
        let mut bytes = damaged.to_vec();
        mutator.mutate(&mut bytes);
        bytes.extend(kept);
        let Ok(tensors) = tensor_table(&mut Cursor::new(&bytes)) else { continue };
        accepted += 1;
        for place in tensors.values() {
            assert!(place.bytes.start <= place.bytes.end && place.bytes.end <= bytes.len() as u64, "{place:?}");
            if let Some(width) = float_bytes(place.dtype) {
                assert_eq!(place.bytes.end - place.bytes.start, (place.shape.iter().product::<usize>() * width) as u64);
            }
        }
    }
    assert!(accepted > 0 && accepted < count(), "{accepted}");
}

#[test]
fn damaged_indices_do_not_panic() {
    fuzz("llama_sharded", "model.safetensors.index.json", <[u8]>::len);
}

/// Without the weights, whose shapes would refuse most of them.
#[test]
fn damaged_configurations_do_not_panic() {
    let (mut mutator, mut accepted, mut layers) = (Mutator::new(1), 0, 0);
    for family in ["llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neox", "bert"] {
        let good = fs::read(fixture(family).join("config.json")).unwrap();
        for _ in 0..count() {
            let mut bytes = good.clone();
            mutator.mutate(&mut bytes);
            if let Ok(layout) = parse(&bytes) {
                accepted += 1;
                layers = layers.max(layout.spec.n_layers);
            }
        }
    }
    assert!(accepted > 0 && accepted < 7 * count() && layers > 2 && layers <= 1024, "{accepted} {layers}");
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
