//! A file of the Python package `gguf`, and what that package reads in it: scripts/gguf_fixture.py.

use crate::gguf::header::Value;
use crate::gguf::open;
use std::path::{Path, PathBuf};

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

#[test]
fn every_type_is_dequantized_to_the_bits_of_the_package_gguf() {
    let gguf = open(&tests().join("types.gguf")).unwrap();
    let expected: serde_json::Value =
        serde_json::from_slice(&std::fs::read(tests().join("types.json")).unwrap()).unwrap();
    let expected = expected["tensors"].as_object().unwrap();
    assert_eq!(expected.len(), 9);
    for (name, expected) in expected {
        let tensor = &gguf.header.tensors[name];
        assert_eq!(tensor.kind.name(), name);
        assert_eq!(serde_json::json!(tensor.shape), expected["shape"], "{name}");
        let values = gguf.values(name, tensor, false).unwrap();
        let bits =
            expected["bits"].as_array().unwrap().iter().map(|bits| u32::from_str_radix(bits.as_str().unwrap(), 16));
        let bits: Vec<u32> = bits.collect::<Result<_, _>>().unwrap();
        assert_eq!(values.len(), bits.len());
        for (index, (value, bits)) in values.iter().zip(bits).enumerate() {
            assert_eq!(value.to_bits(), bits, "{name} [{index}]: {value}, expected {}", f32::from_bits(bits));
        }
    }
}

#[test]
fn every_kind_of_value_is_read() {
    let gguf = open(&tests().join("types.gguf")).unwrap();
    let expected = [
        ("uint8", Value::Integer(200)),
        ("int8", Value::Integer(-100)),
        ("uint16", Value::Integer(60_000)),
        ("int16", Value::Integer(-30_000)),
        ("uint32", Value::Integer(4_000_000_000)),
        ("int32", Value::Integer(-2_000_000_000)),
        ("uint64", Value::Integer(10_000_000_000_000_000_000)),
        ("int64", Value::Integer(-9_000_000_000_000_000_000)),
        ("float32", Value::Float(f64::from(0.1_f32))),
        ("float64", Value::Float(0.1)),
        ("bool", Value::Bool(true)),
        ("string", Value::Text("d\u{e9}j\u{e0}".to_owned())),
        ("strings", Value::Texts(["a", "", "\u{2581}b"].map(str::to_owned).to_vec())),
        ("int32s", Value::Integers(vec![1, -2, 3])),
        ("float32s", Value::Floats(vec![1.5, -2.5])),
        ("bools", Value::Others),
    ];
    for (key, value) in expected {
        assert_eq!(gguf.header.metadata[&format!("test.{key}")], value, "{key}");
    }
}
