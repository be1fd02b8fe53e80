//! Where the tensors of a .safetensors file lie.

use crate::file::{LFS_POINTER, is_lfs_pointer};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

/// A tensor of a .safetensors file, whose shape and type fit its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorPlace {
    /// Element type.
    pub dtype: Dtype,
    /// Lengths of its axes.
    pub shape: Vec<usize>,
    /// Where its values are in the file, row-major and little-endian.
    pub bytes: Range<u64>,
}

/// The tensors of a .safetensors file by name. Only the header is read; it must fit the file's length.
///
/// # Errors
/// What the file holds instead.
pub fn tensor_table(source: &mut (impl Read + Seek)) -> Result<BTreeMap<String, TensorPlace>, String> {
    refuse_pointer(source)?;
    let header = safetensors_header(source)?;
    let fail = |what: String| format!("not a .safetensors file: {what}");
    let file: Metadata = serde_json::from_slice(&header).map_err(|error| fail(error.to_string()))?;
    if let Some(twice) = name_found_twice(&header) {
        return Err(format!("found tensor {twice:?} twice, expected distinct names"));
    }
    let start = 8 + header.len() as u64;
    let length = source.seek(SeekFrom::End(0)).map_err(|error| error.to_string())?;
    let expected = start.saturating_add(file.data_len() as u64);
    if length != expected {
        return Err(fail(format!("found {length} bytes, expected {expected} as its header says")));
    }
    let place = |name: String| {
        let tensor = file.info(&name)?;
        let bytes = start + tensor.data_offsets.0 as u64..start + tensor.data_offsets.1 as u64;
        Some((name, TensorPlace { dtype: tensor.dtype, shape: tensor.shape.clone(), bytes }))
    };
    Ok(file.offset_keys().into_iter().filter_map(place).collect())
}

pub(crate) fn refuse_pointer(source: &mut (impl Read + Seek)) -> Result<(), String> {
    let mut head = Vec::new();
    let read = source.take(64).read_to_end(&mut head).and_then(|_| source.seek(SeekFrom::Start(0)));
    read.map_err(|error| error.to_string())?;
    if is_lfs_pointer(&head) { Err(format!("is {LFS_POINTER}")) } else { Ok(()) }
}

/// The JSON at the start of a .safetensors file. No more is allocated than the file holds.
fn safetensors_header(source: &mut impl Read) -> Result<Vec<u8>, String> {
    // The format's own limit.
    const MOST_BYTES: u64 = 100_000_000;
    let fail = |what: String| format!("not a .safetensors file: {what}");
    let mut length = [0; 8];
    source.read_exact(&mut length).map_err(|error| fail(error.to_string()))?;
    let length = u64::from_le_bytes(length);
    if length > MOST_BYTES {
        return Err(fail(format!("found a header of {length} bytes, expected at most {MOST_BYTES}")));
    }
    let mut header = Vec::new();
    source.take(length).read_to_end(&mut header).map_err(|error| fail(error.to_string()))?;
    if (header.len() as u64) < length {
        return Err(fail(format!("found {} bytes of a header of {length}", header.len())));
    }
    Ok(header)
}

/// A name that occurs twice in the header of a safetensors file; the parser keeps the last one without an error.
fn name_found_twice(header: &[u8]) -> Option<String> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Option<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a header")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut seen, mut twice) = (BTreeSet::new(), None);
            while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                if !seen.insert(name.clone()) {
                    twice.get_or_insert(name);
                }
            }
            Ok(twice)
        }
    }
    serde_json::Deserializer::from_slice(header).deserialize_map(Names).ok()?
}
