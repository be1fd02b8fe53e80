//! A user's matrix from a .npy or .safetensors file.

use safetensors::{Dtype, SafeTensors};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::BTreeSet;

/// Values in C order and their two axes, or what is wrong with the bytes.
pub type Matrix = Result<(Vec<f64>, [usize; 2]), String>;

/// `[n, m]` of float16, float32 or float64, in either order.
///
/// # Errors
/// What the file holds instead.
pub fn read_npy(bytes: &[u8]) -> Matrix {
    let npy = npyz::NpyFile::new(bytes).map_err(|error| format!("not a .npy file: {error}"))?;
    let shape = two_axes(npy.shape().iter().map(|&n| n as usize).collect())?;
    let kind = npy.dtype().descr();
    let fortran = npy.order() == npyz::Order::Fortran;
    let width = match kind.trim_matches('\'') {
        "<f8" | ">f8" => 8,
        "<f4" | ">f4" => 4,
        "<f2" | ">f2" => 2,
        other => return Err(format!("found dtype {other}, expected float16, float32 or float64")),
    };
    // Before anything of that size is allocated.
    if shape[0].saturating_mul(shape[1]).saturating_mul(width) > bytes.len() {
        return Err(format!("damaged .npy file: found {} bytes for shape {shape:?}", bytes.len()));
    }
    let broken = |error: std::io::Error| format!("damaged .npy file: {error}");
    let values: Vec<f64> = match width {
        8 => npy.into_vec::<f64>().map_err(broken)?,
        4 => npy.into_vec::<f32>().map_err(broken)?.into_iter().map(f64::from).collect(),
        _ => npy.into_vec::<half::f16>().map_err(broken)?.into_iter().map(f64::from).collect(),
    };
    let [rows, columns] = shape;
    if values.len() != rows * columns {
        return Err(format!("damaged .npy file: found {} values for shape {shape:?}", values.len()));
    }
    if fortran {
        return Ok(((0..rows * columns).map(|i| values[(i % columns) * rows + i / columns]).collect(), shape));
    }
    Ok((values, shape))
}

/// The tensor of that name, or the only one: `[n, m]` of F16, BF16, F32 or F64.
///
/// # Errors
/// What the file holds instead.
pub fn read_safetensors(bytes: &[u8], name: Option<&str>) -> Matrix {
    let file = SafeTensors::deserialize(bytes).map_err(|error| format!("not a .safetensors file: {error}"))?;
    if let Some(twice) = name_found_twice(bytes) {
        return Err(format!("found tensor {twice:?} twice, expected distinct names"));
    }
    let mut names = file.names();
    names.sort_unstable();
    let name = match (name, &names[..]) {
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, _) => {
            return Err(format!("found {} tensors, expected --tensor with one of {}", names.len(), names.join(", ")));
        }
    };
    let view = file.tensor(name).map_err(|_| format!("no tensor {name:?}, expected one of {}", names.join(", ")))?;
    let shape = two_axes(view.shape().to_vec())?;
    let data = view.data();
    let values: Vec<f64> = match view.dtype() {
        Dtype::F64 => data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        Dtype::F16 => data.as_chunks::<2>().0.iter().map(|b| f64::from(half::f16::from_le_bytes(*b))).collect(),
        Dtype::BF16 => data.as_chunks::<2>().0.iter().map(|b| f64::from(half::bf16::from_le_bytes(*b))).collect(),
        other => return Err(format!("tensor {name:?}: found dtype {other:?}, expected F16, BF16, F32 or F64")),
    };
    if values.len() != shape[0] * shape[1] {
        return Err(format!("tensor {name:?}: found {} values for shape {shape:?}", values.len()));
    }
    Ok((values, shape))
}

fn two_axes(shape: Vec<usize>) -> Result<[usize; 2], String> {
    let shape = <[usize; 2]>::try_from(shape).map_err(|shape| {
        format!(
            "found {} axes {shape:?}, expected 2: [n_tokens, d_model]; reshape other axes into n_tokens",
            shape.len()
        )
    })?;
    match shape[0].checked_mul(shape[1]).filter(|values| values.checked_mul(8).is_some()) {
        Some(_) => Ok(shape),
        None => Err(format!("found shape {shape:?}, more values than any file holds")),
    }
}

/// A name that the header of a safetensors file holds twice; the parser keeps the last one in silence.
fn name_found_twice(bytes: &[u8]) -> Option<String> {
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
    let length = u64::from_le_bytes(*bytes.first_chunk()?);
    let header = bytes.get(8..)?.get(..usize::try_from(length).ok()?)?;
    serde_json::Deserializer::from_slice(header).deserialize_map(Names).ok()?
}
