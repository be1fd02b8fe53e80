//! The legacy format of llama2.c: seven sizes, then all weights as f32, one kind after the other.

#[cfg(test)]
pub(crate) mod tests;

use crate::description::Description;
use crate::error::ImportError;
use crate::rows::{assemble, read_at};
use basislab_config::{
    Activation, Attention, Branches, Dtype, Mask, Mlp, ModelSpec, NormKind, NormPlace, Positions, RopePairs,
};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Bytes of the sizes.
const HEADER: usize = 28;

/// Fixed in llama2.c's run.c.
const ROPE_BASE: f64 = 10_000.0;

/// A llama2.c file whose sizes have been read.
#[derive(Debug)]
pub(crate) struct Llama2c {
    path: PathBuf,
    file: File,
    spec: ModelSpec,
    d_vocab: usize,
}

/// A kind of weights, in the order of the file.
struct Stored {
    /// The parameter's name, within its block where there is one per block.
    name: &'static str,
    /// Whether there is one per block.
    in_blocks: bool,
    /// Rows and columns as stored, each `[out, in]` but for the embedding.
    shape: [usize; 2],
}

/// Whether a file may be one of llama2.c: the seven sizes that it starts with are plausible.
pub(crate) fn is_llama2c(first_bytes: &[u8]) -> bool {
    spec(first_bytes).is_some()
}

/// Reads the sizes and compares them with the file's.
///
/// # Errors
/// A file that cannot be read, or whose sizes do not add up.
pub(crate) fn open(path: &Path) -> Result<Llama2c, ImportError> {
    let error = |what: String| ImportError::new(path, what);
    let failed = |cause: std::io::Error| error(format!("cannot be read: {cause}"));
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let mut header = [0; HEADER];
    if size < HEADER as u64 {
        return Err(error(format!("has {size} bytes; expected the {HEADER} of a llama2.c header")));
    }
    read_at(&file, &mut header, 0).map_err(failed)?;
    let (spec, d_vocab) = spec(&header).ok_or_else(|| {
        error("has sizes that no llama2.c model has; expected the legacy format (export.py --version 0)".to_owned())
    })?;
    let expected = HEADER as u128 + 4 * stored(&spec, d_vocab).iter().map(|kind| numbers(kind, &spec)).sum::<u128>();
    if u128::from(size) != expected {
        return Err(error(format!("has {size} bytes; its sizes add up to {expected}: it is cut off, or not llama2.c")));
    }
    Ok(Llama2c { path: path.to_owned(), file, spec, d_vocab })
}

/// The forward pass and the size of the vocabulary; `None` for sizes that no model has.
fn spec(header: &[u8]) -> Option<(ModelSpec, usize)> {
    let mut sizes = [0; 7];
    for (size, bytes) in sizes.iter_mut().zip(header.get(..HEADER)?.as_chunks().0) {
        *size = i32::from_le_bytes(*bytes);
    }
    let tied_head = sizes[5] > 0;
    sizes[5] = sizes[5].checked_abs()?;
    if sizes.iter().any(|size| !(1..=1 << 20).contains(size)) {
        return None;
    }
    let [d_model, d_mlp, n_layers, n_heads, n_kv_heads, d_vocab, n_ctx] = sizes.map(|size| size as usize);
    if !d_model.is_multiple_of(n_heads) || d_model / n_heads % 2 == 1 || !n_heads.is_multiple_of(n_kv_heads) {
        return None;
    }
    let spec = ModelSpec {
        n_ctx,
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: (n_kv_heads != n_heads).then_some(n_kv_heads),
        d_head: None,
        d_mlp,
        mlp: Mlp::Swiglu,
        activation: Activation::Gelu,
        branches: Branches::Sequential,
        norm: NormKind::RmsGain,
        norm_place: NormPlace::Pre,
        // Fixed in run.c.
        norm_epsilon: 1e-5,
        positions: Positions::Rope { base: ROPE_BASE, pairs: RopePairs::Interleaved, dims: None },
        attention: Attention::Softmax,
        mask: Mask::Causal,
        qk_norm: false,
        tied_head,
        biases: false,
        qkv_biases: false,
        init_std: 0.02,
        param_dtype: Dtype::F32,
        compute_dtype: Dtype::F32,
    };
    Some((spec, d_vocab))
}

/// What the file holds.
fn stored(spec: &ModelSpec, d_vocab: usize) -> Vec<Stored> {
    let (d, f, k) = (spec.d_model, spec.d_mlp, spec.n_kv_heads() * spec.d_head());
    let once = |name, shape| Stored { name, in_blocks: false, shape };
    let in_blocks = |name, shape| Stored { name, in_blocks: true, shape };
    let mut all = vec![
        once("w_e", [d_vocab, d]),
        in_blocks("norm_1.gain", [1, d]),
        in_blocks("w_q", [d, d]),
        in_blocks("w_k", [k, d]),
        in_blocks("w_v", [k, d]),
        in_blocks("w_o", [d, d]),
        in_blocks("norm_2.gain", [1, d]),
        in_blocks("w_gate", [f, d]),
        in_blocks("w_out", [d, f]),
        in_blocks("w_in", [f, d]),
        once("norm.gain", [1, d]),
        once("cosines", [spec.n_ctx, spec.d_head() / 2]),
        once("sines", [spec.n_ctx, spec.d_head() / 2]),
    ];
    if !spec.tied_head {
        all.push(once("w_u", [d_vocab, d]));
    }
    all
}

/// Numbers of a kind in all blocks: up to 2^60, which 64 bits cannot hold for all kinds together.
fn numbers(kind: &Stored, spec: &ModelSpec) -> u128 {
    let blocks = if kind.in_blocks { spec.n_layers as u128 } else { 1 };
    blocks * kind.shape[0] as u128 * kind.shape[1] as u128
}

impl Llama2c {
    /// What the header says.
    ///
    /// # Errors
    /// A file that cannot be read, or whose table of rotary positions has another base than llama2.c's.
    pub(crate) fn describe(&self) -> Result<Description, ImportError> {
        self.check_positions()?;
        let kinds = stored(&self.spec, self.d_vocab);
        let weights = kinds.iter().filter(|kind| !matches!(kind.name, "cosines" | "sines"));
        let count = |kind: &Stored| if kind.in_blocks { self.spec.n_layers } else { 1 };
        Ok(Description {
            spec: self.spec.clone(),
            d_vocab: self.d_vocab,
            architecture: "llama2.c".to_owned(),
            has_head: true,
            parameters: weights.clone().map(|kind| numbers(kind, &self.spec) as u64).sum(),
            types: vec![("F32".to_owned(), weights.map(count).sum())],
            licence: None,
        })
    }

    /// The table of cosines, which run.c computes instead of reading it, is that of its base.
    fn check_positions(&self) -> Result<(), ImportError> {
        let half = self.spec.d_head() / 2;
        let cosines = self.read("cosines", [half, self.spec.n_ctx])?;
        let position = 1.min(self.spec.n_ctx - 1);
        for pair in 0..half {
            let angle = position as f64 * ROPE_BASE.powf(-(pair as f64) / half as f64);
            let found = cosines[pair * self.spec.n_ctx + position];
            if (f64::from(found) - angle.cos()).abs() > 1e-3 {
                return Err(self.error(format!(
                    "has rotary positions whose cosine {pair} is {found} at position {position}; expected {:.4}, of base \
                     {ROPE_BASE}",
                    angle.cos()
                )));
            }
        }
        Ok(())
    }

    /// The values of a parameter, as `Source::read` gives them.
    ///
    /// # Errors
    /// A file that cannot be read, a parameter of another shape, a value that is not finite.
    pub(crate) fn read(&self, parameter: &str, shape: [usize; 2]) -> Result<Vec<f32>, ImportError> {
        let missing = || self.error(format!("has no parameter {parameter:?}"));
        let (block, name) = match parameter.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
            Some((block, name)) => (Some(block.parse::<usize>().map_err(|_| missing())?), name),
            None => (None, parameter),
        };
        let mut offset = HEADER as u64;
        for kind in stored(&self.spec, self.d_vocab) {
            let is_asked = kind.name == name && kind.in_blocks == block.is_some();
            if is_asked && block.is_none_or(|block| block < self.spec.n_layers) {
                let [rows, columns] = kind.shape;
                let transposed = rows > 1 && name != "w_e";
                let found = if transposed { [columns, rows] } else { [rows, columns] };
                if found != shape {
                    return Err(self.error(format!("{parameter:?} has shape {found:?}; expected {shape:?}")));
                }
                offset += 4 * (block.unwrap_or(0) * rows * columns) as u64;
                let values = assemble(kind.shape, transposed, |range, out| {
                    let mut bytes = vec![0; 4 * out.len()];
                    let offset = offset + 4 * (range.start * columns) as u64;
                    read_at(&self.file, &mut bytes, offset).map_err(|error| format!("cannot be read: {error}"))?;
                    for (value, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                        *value = f32::from_le_bytes(*bytes);
                    }
                    Ok(())
                });
                return values.map_err(|what| self.error(format!("{parameter:?} {what}")));
            }
            offset += 4 * numbers(&kind, &self.spec) as u64;
        }
        Err(missing())
    }

    fn error(&self, what: impl Into<String>) -> ImportError {
        ImportError::new(&self.path, what)
    }
}
