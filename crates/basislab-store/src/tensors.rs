use safetensors::tensor::{SafeTensors, TensorView, serialize};
use std::collections::BTreeMap;

pub use safetensors::Dtype;

/// A tensor with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedTensor {
    /// Its name in the file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Lengths of its axes.
    pub shape: Vec<usize>,
    /// Elements in row-major order, little-endian.
    pub bytes: Vec<u8>,
}

/// A file that does not hold exactly the tensors that were expected.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TensorError(String);

impl TensorError {
    /// What is wrong, found and expected.
    pub fn new(what: String) -> Self {
        Self(what)
    }
}

/// A safetensors file of these tensors: the same tensors give the same bytes.
///
/// # Panics
/// If a tensor's bytes do not fit its shape, or two have one name.
pub fn encode(tensors: &[NamedTensor]) -> Vec<u8> {
    let mut views = BTreeMap::new();
    for NamedTensor { name, dtype, shape, bytes } in tensors {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        views.insert(name.clone(), view.unwrap_or_else(|error| panic!("{name}: {error}")));
    }
    assert_eq!(views.len(), tensors.len(), "one name per tensor");
    serialize(views, None).expect("views were checked when they were made")
}

/// All tensors of a safetensors file, in the order of their names.
///
/// # Errors
/// What is wrong with the file.
pub fn decode_any(bytes: &[u8]) -> Result<Vec<NamedTensor>, TensorError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| TensorError(format!("not safetensors: {error}")))?;
    let named = |(name, view): (String, TensorView<'_>)| {
        let (dtype, shape, bytes) = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        NamedTensor { name, dtype, shape, bytes }
    };
    let mut all: Vec<NamedTensor> = file.tensors().into_iter().map(named).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// The bytes of the tensors that `expected` names, in its order. Anything missing, left over, of another shape or another
/// type is an error that lists all of them.
///
/// # Errors
/// What is wrong with the file.
pub fn decode(bytes: &[u8], expected: &[(String, Dtype, Vec<usize>)]) -> Result<Vec<NamedTensor>, TensorError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| TensorError(format!("not safetensors: {error}")))?;
    let mut wrong = Vec::new();
    let mut found = Vec::new();
    for (name, dtype, shape) in expected {
        match file.tensor(name) {
            Err(_) => wrong.push(format!("{name} is missing")),
            Ok(view) if view.dtype() != *dtype || view.shape() != shape => {
                wrong.push(format!("{name}: found {:?} {:?}, expected {dtype:?} {shape:?}", view.dtype(), view.shape()))
            }
            Ok(view) => found.push(NamedTensor {
                name: name.clone(),
                dtype: *dtype,
                shape: shape.clone(),
                bytes: view.data().to_vec(),
            }),
        }
    }
    let known = |name: &&str| expected.iter().any(|(known, ..)| known == name);
    wrong.extend(file.names().into_iter().filter(|name| !known(name)).map(|name| format!("{name} is unknown")));
    match wrong.len() {
        0 => Ok(found),
        count => {
            wrong.truncate(20);
            let more = if count > 20 { format!("; and {} more", count - 20) } else { String::new() };
            Err(TensorError(wrong.join("; ") + &more))
        }
    }
}
