//! Tensors of one or several .safetensors files, read a few rows at a time.

use crate::error::ImportError;
use crate::rows::read_at;
use basislab_store::{Dtype, TensorPlace, is_lfs_pointer, read_capped, tensor_table};
use half::{bf16, f16};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Most bytes of an index, the limit of a header of .safetensors.
const MOST_INDEX_BYTES: u64 = 100_000_000;

/// The tensors of a model.
#[derive(Debug)]
pub(crate) struct Weights {
    shards: Vec<(PathBuf, File)>,
    /// By name: the shard that holds it, and where.
    tensors: BTreeMap<String, (usize, TensorPlace)>,
}

impl Weights {
    /// Of one file.
    ///
    /// # Errors
    /// What the file holds instead.
    pub(crate) fn open(path: &Path) -> Result<Self, ImportError> {
        let mut weights = Self { shards: Vec::new(), tensors: BTreeMap::new() };
        weights.add(path)?;
        Ok(weights)
    }

    /// Of the shards that an index names, which lie beside it.
    ///
    /// # Errors
    /// A shard that is missing, or that does not hold what the index says.
    pub(crate) fn open_index(path: &Path) -> Result<Self, ImportError> {
        let fail = |what: String| ImportError::new(path, what);
        let bytes = read_json(path, MOST_INDEX_BYTES)?;
        let index: Value = serde_json::from_slice(&bytes).map_err(|error| fail(format!("found no JSON: {error}")))?;
        let Some(map) = index["weight_map"].as_object() else {
            return Err(fail("found no weight_map, expected the file of each tensor by its name".to_owned()));
        };
        let mut files = BTreeSet::new();
        for (tensor, file) in map {
            // A name such as ../x would read outside the directory.
            let plain = file.as_str().filter(|file| Path::new(file).file_name().is_some_and(|name| name == *file));
            let (tensor, file) = (shorten(tensor), shorten(&file.to_string()));
            files.insert(plain.ok_or_else(|| fail(format!("found file {file} for tensor {tensor}, expected a name")))?);
        }
        let mut weights = Self { shards: Vec::new(), tensors: BTreeMap::new() };
        let folder = path.parent().unwrap_or(Path::new("."));
        for file in files {
            let shard = folder.join(file);
            if !shard.exists() {
                return Err(fail(format!("names the shard {:?}, which is missing: download it", shorten(file))));
            }
            weights.add(&shard)?;
        }
        match map.keys().find(|tensor| !weights.tensors.contains_key(*tensor)) {
            Some(tensor) => Err(fail(format!("names the tensor {:?}, which no shard holds", shorten(tensor)))),
            None => Ok(weights),
        }
    }

    fn add(&mut self, path: &Path) -> Result<(), ImportError> {
        let fail = |what: String| ImportError::new(path, what);
        let failed = |error: std::io::Error| fail(format!("cannot be read: {error}"));
        if !path.metadata().map_err(failed)?.is_file() {
            return Err(fail("found something that is not a file, expected a .safetensors file".to_owned()));
        }
        let file = File::open(path).map_err(failed)?;
        let table = tensor_table(&mut BufReader::new(&file)).map_err(fail)?;
        for (name, place) in table {
            if let Some((other, _)) = self.tensors.get(&name) {
                let (name, other) = (shorten(&name), &self.shards[*other].0);
                return Err(fail(format!("found tensor {name:?}, which is in {other:?} as well; expected it once")));
            }
            self.tensors.insert(name, (self.shards.len(), place));
        }
        self.shards.push((path.to_owned(), file));
        Ok(())
    }

    /// The files.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|(path, _)| path.as_path())
    }

    /// Names of all tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Type and shape of a tensor.
    pub(crate) fn get(&self, name: &str) -> Option<&TensorPlace> {
        self.tensors.get(name).map(|(_, place)| place)
    }

    /// The file that holds a tensor.
    pub(crate) fn file(&self, name: &str) -> &Path {
        self.tensors.get(name).map_or(Path::new(""), |(shard, _)| &self.shards[*shard].0)
    }

    /// Fills `out` with values of a tensor in row-major order, from value `first` on.
    ///
    /// # Errors
    /// A file that cannot be read, a tensor that is missing, has another type or fewer values.
    pub(crate) fn read(&self, name: &str, first: usize, out: &mut [f32]) -> Result<(), String> {
        let (shard, place) = self.tensors.get(name).ok_or_else(|| format!("found no tensor {:?}", shorten(name)))?;
        let width = float_bytes(place.dtype).ok_or_else(|| wrong_type(name, place.dtype))?;
        let mut bytes = vec![0; out.len() * width];
        let start = place.bytes.start + (first * width) as u64;
        if start + bytes.len() as u64 > place.bytes.end {
            return Err(format!("holds {:?} values, expected {} from {first} on", place.shape, out.len()));
        }
        read_at(&self.shards[*shard].1, &mut bytes, start).map_err(|error| format!("cannot be read: {error}"))?;
        match place.dtype {
            Dtype::F64 => fill(out, &bytes, |bytes| f64::from_le_bytes(bytes) as f32),
            Dtype::F16 => fill(out, &bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => fill(out, &bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            _ => fill(out, &bytes, f32::from_le_bytes),
        }
        Ok(())
    }
}

/// A JSON file of at most so many bytes.
///
/// # Errors
/// What cannot be read; a Git LFS pointer.
pub(crate) fn read_json(path: &Path, most: u64) -> Result<Vec<u8>, ImportError> {
    let bytes =
        read_capped(path, most).map_err(|error| ImportError::new(path, format!("cannot be read: {}", error.source)))?;
    if is_lfs_pointer(&bytes) {
        return Err(ImportError::new(path, format!("is {}", basislab_store::LFS_POINTER)));
    }
    Ok(bytes)
}

/// Bytes of a value of these types; `None` for all others.
pub(crate) fn float_bytes(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F16 | Dtype::BF16 => Some(2),
        Dtype::F32 => Some(4),
        Dtype::F64 => Some(8),
        _ => None,
    }
}

/// The error about a weight that is no float.
pub(crate) fn wrong_type(name: &str, dtype: Dtype) -> String {
    let name = shorten(name);
    format!("tensor {name:?} has type {dtype:?}, expected F16, BF16, F32 or F64: convert the model to one of them")
}

/// A text for a message: at most 100 characters.
pub(crate) fn shorten(text: &str) -> String {
    let end = text.char_indices().nth(100).map(|(end, _)| end);
    end.map_or_else(|| text.to_owned(), |end| format!("{}...", &text[..end]))
}

fn fill<const N: usize>(out: &mut [f32], bytes: &[u8], value: impl Fn([u8; N]) -> f32) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *out = value(*bytes);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests {
    use super::*;
    use basislab_store::{NamedTensor, encode};

    #[test]
    fn values_of_each_type_are_read_from_any_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let tensor = |dtype: Dtype, value: &dyn Fn(u8) -> Vec<u8>| NamedTensor {
            name: format!("{dtype:?}"),
            dtype,
            shape: vec![5, 2],
            bytes: (0..10).flat_map(value).collect(),
        };
        let tensors = [
            tensor(Dtype::F64, &|n| f64::from(n).to_le_bytes().to_vec()),
            tensor(Dtype::F32, &|n| f32::from(n).to_le_bytes().to_vec()),
            tensor(Dtype::F16, &|n| f16::from(n).to_le_bytes().to_vec()),
            tensor(Dtype::BF16, &|n| bf16::from(n).to_le_bytes().to_vec()),
            tensor(Dtype::U8, &|n| vec![n]),
        ];
        std::fs::write(&path, encode(&tensors)).unwrap();
        let weights = Weights::open(&path).unwrap();
        let mut out = [0.0; 3];
        for name in ["F64", "F32", "F16", "BF16"] {
            weights.read(name, 4, &mut out).unwrap();
            assert_eq!(out, [4.0, 5.0, 6.0], "{name}");
            assert_eq!(weights.read(name, 8, &mut out).unwrap_err(), "holds [5, 2] values, expected 3 from 8 on");
        }
        assert!(weights.read("U8", 0, &mut out).unwrap_err().contains("type U8, expected F16"));
        assert_eq!(weights.read("F8", 0, &mut out).unwrap_err(), "found no tensor \"F8\"");
        // Cut after its header was read.
        std::fs::write(&path, b"").unwrap();
        assert!(weights.read("F32", 0, &mut out).unwrap_err().starts_with("cannot be read"));
    }
}
