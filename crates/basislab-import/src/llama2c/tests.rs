use super::*;
use crate::gguf::tests::hostile::{Mutator, count};
use std::path::Path;

/// A model of width 4, MLP of 6, 2 blocks, 2 heads, 1 of keys and values, vocabulary of 5, 3 positions. The weights are
/// 0, 1, 2, ... in the order of the file.
pub(crate) fn model(tied: bool) -> Vec<u8> {
    let vocabulary = if tied { 5 } else { -5 };
    let mut bytes: Vec<u8> = [4, 6, 2, 2, 1, vocabulary, 3].iter().flat_map(|size: &i32| size.to_le_bytes()).collect();
    let weights = 5 * 4 + 2 * (4 + 16 + 8 + 8 + 16 + 4 + 24 + 24 + 24) + 4;
    bytes.extend((0..weights).flat_map(|value| (value as f32).to_le_bytes()));
    let angles = [0.0_f32, 1.0, 2.0];
    bytes.extend(angles.iter().flat_map(|angle| angle.cos().to_le_bytes()));
    bytes.extend(angles.iter().flat_map(|angle| angle.sin().to_le_bytes()));
    if !tied {
        bytes.extend((0..20).flat_map(|value| (1000.0 + value as f32).to_le_bytes()));
    }
    bytes
}

fn opened(bytes: &[u8]) -> Result<Llama2c, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bin");
    std::fs::write(&path, bytes).unwrap();
    open(&path).map_err(|error| error.what)
}

#[test]
fn a_model_is_described_and_read() {
    for tied in [true, false] {
        let bytes = model(tied);
        assert!(is_llama2c(&bytes));
        let model = opened(&bytes).unwrap();
        let description = model.describe().unwrap();
        let spec = &description.spec;
        assert_eq!((spec.d_model, spec.d_mlp, spec.n_layers, spec.n_heads, spec.n_ctx), (4, 6, 2, 2, 3));
        assert_eq!((spec.n_kv_heads, spec.tied_head, description.d_vocab), (Some(1), tied, 5));
        let head = if tied { 0 } else { 20 };
        assert_eq!(description.parameters, 20 + 2 * 128 + 4 + head);
        assert_eq!(description.types, [("F32".to_owned(), 2 + 2 * 9 + usize::from(!tied))]);

        assert_eq!(model.read("w_e", [5, 4]).unwrap()[..5], [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(model.read("blocks.1.norm_1.gain", [1, 4]).unwrap(), [24.0, 25.0, 26.0, 27.0]);
        // Both w_q before both w_k; [2, 4] is transposed.
        let w_k = 20 + 8 + 32;
        let expected = [8, 12, 9, 13, 10, 14, 11, 15].map(|value| (w_k + value) as f32);
        assert_eq!(model.read("blocks.1.w_k", [4, 2]).unwrap(), expected);
        let w_gate = w_k + 16 + 16 + 32 + 8;
        let first = |name: &str, shape| model.read(name, shape).unwrap()[0];
        assert_eq!(first("blocks.0.w_gate", [4, 6]), w_gate as f32);
        assert_eq!(first("blocks.0.w_out", [6, 4]), (w_gate + 48) as f32);
        assert_eq!(first("blocks.0.w_in", [4, 6]), (w_gate + 96) as f32);
        assert_eq!(first("norm.gain", [1, 4]), (w_gate + 144) as f32);
        match model.read("w_u", [4, 5]) {
            Ok(head) => assert_eq!(head[..3], [1000.0, 1004.0, 1008.0]),
            Err(error) => assert!(tied && error.what == "has no parameter \"w_u\"", "{error}"),
        }
        for (name, shape) in [("w_e", [4, 5]), ("blocks.0.w_k", [2, 4])] {
            assert!(model.read(name, shape).unwrap_err().what.contains("; expected "), "{name}");
        }
        for name in ["blocks.2.w_q", "blocks.0.w_e", "w_q", "blocks.x.w_e", "blocks.x.w_q", ""] {
            assert_eq!(model.read(name, [4, 4]).unwrap_err().what, format!("has no parameter {name:?}"));
        }
    }
}

#[test]
fn files_of_another_size_are_refused() {
    let whole = model(false);
    for length in (0..whole.len()).chain([whole.len() + 1, whole.len() + 80]) {
        let mut bytes = whole.clone();
        bytes.resize(length, 0);
        let error = opened(&bytes).unwrap_err();
        assert!(error.contains("its sizes add up to") || length < 28 && error.contains("expected the 28"), "{error}");
    }
    assert!(!is_llama2c(&whole[..27]));
}

#[test]
fn sizes_that_no_model_has_are_refused() {
    for (index, value) in
        [(0, 0), (0, 5), (0, 6), (0, 1 << 21), (1, -1), (2, 0), (3, 3), (4, 4), (4, 0), (5, 0), (5, i32::MIN), (6, 0)]
    {
        let mut bytes = model(true);
        bytes[4 * index..][..4].copy_from_slice(&i32::to_le_bytes(value));
        assert!(!is_llama2c(&bytes), "{index} {value}");
        assert!(opened(&bytes).unwrap_err().contains("expected the legacy format"));
    }
    // Other formats: a later version of llama2.c, an archive of PyTorch, safetensors.
    let bytes = |start: &[u8]| [start, &[0; 40]].concat();
    for start in [&b"24ka\x01\0\0\0"[..], b"PK\x03\x04", b"\x80\x02\x8a\x0a", b"@\0\0\0\0\0\0\0{\"a\":"] {
        assert!(!is_llama2c(&bytes(start)), "{start:?}");
    }
}

#[test]
fn other_positions_and_values_that_are_not_finite_are_refused() {
    let cosines = 28 + 4 * (20 + 256 + 4);
    let mut bytes = model(true);
    bytes[cosines + 4..][..4].copy_from_slice(&0.9_f32.to_le_bytes());
    let error = opened(&bytes).unwrap().describe().unwrap_err().what;
    assert!(error.contains("cosine 0 is 0.9 at position 1; expected 0.5403, of base 10000"), "{error}");
    let mut bytes = model(true);
    bytes[28 + 4 * 6..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let error = opened(&bytes).unwrap().read("w_e", [5, 4]).unwrap_err().what;
    assert_eq!(error, "\"w_e\" holds NaN at [1, 2]; expected finite numbers");
}

#[test]
fn mutated_sizes_neither_panic_nor_overflow() {
    let (original, mut mutator) = (model(false), Mutator::new(2));
    for _ in 0..count() {
        let mut header = original[..HEADER].to_vec();
        mutator.mutate(&mut header);
        if let Some((spec, d_vocab)) = spec(&header) {
            let _: u128 = stored(&spec, d_vocab).iter().map(|kind| numbers(kind, &spec)).sum();
        }
    }
    let most = [1 << 20, 1 << 20, 1 << 20, 1, 1, 1 << 20, 1 << 20].iter().flat_map(|size: &i32| size.to_le_bytes());
    assert!(opened(&most.collect::<Vec<u8>>()).unwrap_err().contains("its sizes add up to"));
    assert!(open(Path::new("/nowhere/x.bin")).unwrap_err().what.starts_with("cannot be read: "));
}
