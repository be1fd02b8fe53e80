//! GGUF, the format of llama.cpp: metadata with the hyperparameters and the tokenizer, then tensors, most of them quantized.

mod forward;
mod header;
mod quant;
mod vocabulary;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
pub(crate) mod tests;

use crate::description::Description;
use crate::error::ImportError;
use crate::rows::{assemble, read_at};
use crate::tokenizer::Tokenizer;
use header::{Header, Tensor};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// A GGUF file whose header has been read.
#[derive(Debug)]
pub(crate) struct Gguf {
    path: PathBuf,
    file: File,
    header: Header,
}

/// Whether a file that starts with these bytes is GGUF.
pub(crate) fn is_gguf(first_bytes: &[u8]) -> bool {
    first_bytes.starts_with(b"GGUF")
}

/// Reads the header.
///
/// # Errors
/// A file that cannot be read, or whose header is not that of GGUF 2 or 3.
pub(crate) fn open(path: &Path) -> Result<Gguf, ImportError> {
    let failed = |error: std::io::Error| ImportError::new(path, format!("cannot be read: {error}"));
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let header = header::parse(BufReader::new(&file), size).map_err(|what| ImportError::new(path, what))?;
    Ok(Gguf { path: path.to_owned(), file, header })
}

impl Gguf {
    /// What the header says; every tensor of the model is there with its shape.
    ///
    /// # Errors
    /// An architecture, a key or a tensor that changes the forward pass and is not computed here; what is missing.
    pub(crate) fn describe(&self) -> Result<Description, ImportError> {
        let description = forward::describe(&self.header).map_err(|what| self.error(what))?;
        if let Some(factors) = self.header.tensors.get(forward::ROPE_FACTORS) {
            let values = self.values(forward::ROPE_FACTORS, factors, false)?;
            if values.iter().any(|value| *value != 1.0) {
                let name = forward::ROPE_FACTORS;
                return Err(self.error(format!("tensor {name:?} scales the rotary positions; expected ones only")));
            }
        }
        Ok(description)
    }

    /// The tokenizer, where the file has one.
    ///
    /// # Errors
    /// One that is not understood, e.g. with a pre-tokenizer that is not known by name.
    pub(crate) fn tokenizer(&self) -> Result<Option<Tokenizer>, ImportError> {
        vocabulary::tokenizer(&self.path, &self.header).map_err(|what| self.error(what))
    }

    /// The values of a parameter, as `Source::read` gives them.
    ///
    /// # Errors
    /// A file that cannot be read, a tensor of another shape, a value that is not finite.
    pub(crate) fn read(&self, parameter: &str, shape: [usize; 2]) -> Result<Vec<f32>, ImportError> {
        let name = forward::tensor_name(parameter);
        let entry = name.and_then(|name| self.header.tensors.get_key_value(&name));
        let Some((name, tensor)) = entry else {
            return Err(self.error(format!("has no tensor for the parameter {parameter:?}")));
        };
        let transposed = parameter != "w_e";
        let matches = match tensor.shape[..] {
            [width] => shape == [1, width],
            [inputs, outputs] if transposed => shape == [inputs, outputs],
            [width, rows] => shape == [rows, width],
            _ => false,
        };
        if !matches {
            let found = &tensor.shape;
            return Err(
                self.error(format!("tensor {name:?} has shape {found:?}; expected {shape:?} for {parameter:?}"))
            );
        }
        self.values(name, tensor, transposed)
    }

    /// The numbers of a tensor of at most two axes, row-major [rows, columns], or its transpose.
    fn values(&self, name: &str, tensor: &Tensor, transposed: bool) -> Result<Vec<f32>, ImportError> {
        let columns = tensor.shape[0];
        let rows = tensor.shape[1..].iter().product();
        let (numbers, bytes) = tensor.kind.block();
        let row_bytes = columns / numbers * bytes;
        let mut buffer = Vec::new();
        let values = assemble([rows, columns], transposed, |range, out| {
            buffer.resize(range.len() * row_bytes, 0);
            let offset = tensor.offset + (range.start * row_bytes) as u64;
            read_at(&self.file, &mut buffer, offset).map_err(|error| format!("cannot be read: {error}"))?;
            tensor.kind.dequantize(&buffer, out);
            Ok(())
        });
        values.map_err(|what| self.error(format!("tensor {name:?} {what}")))
    }

    fn error(&self, what: impl Into<String>) -> ImportError {
        ImportError::new(&self.path, what)
    }
}
