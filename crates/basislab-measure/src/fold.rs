//! Rotating the residual stream by changing weights alone: the gains of RMS norms are multiplied into the matrices that read
//! behind them, then the stream `x` becomes `x Q` with `Q = diag(signs) H`. `H` is the block-diagonal Hadamard matrix of
//! [`hadamard_rows`]; the random signs keep a vector that happens to be a row of `H` from ending up in one coordinate.

use anyhow::Result;
use basislab_config::{ModelSpec, NormKind, NormPlace};
use basislab_stats::hadamard_rows;
use rayon::prelude::*;

/// Gives the values of a parameter by its path and shape.
pub type Read<'a> = basislab_model::Read<'a, anyhow::Error>;

/// Why the stream of a model cannot be rotated by changing its weights; `None` where it can.
pub fn why_not_rotated(spec: &ModelSpec) -> Option<&'static str> {
    match spec.norm {
        _ if spec.norm_place == NormPlace::Post => {
            Some("the stream itself is normalised, with a gain for each dimension that no matrix can take over")
        }
        NormKind::Layernorm => Some("LayerNorm subtracts the mean over dimensions, which is along one fixed direction"),
        _ if !spec.d_model.is_multiple_of(2) => {
            Some("d_model is odd, and the blocks of the Hadamard matrix are powers of two that divide it")
        }
        NormKind::None | NormKind::Rms | NormKind::RmsScalar | NormKind::RmsGain => None,
    }
}

/// The architecture of the rotated model: without gains per dimension, and with a head of its own where the last gain was
/// folded into a tied one.
pub(crate) fn folded_spec(spec: &ModelSpec) -> ModelSpec {
    match spec.norm {
        NormKind::RmsGain => ModelSpec { norm: NormKind::Rms, tied_head: false, ..spec.clone() },
        _ => spec.clone(),
    }
}

/// A parameter of the rotated model of `spec`. Reads become `Qᵀ diag(gain) W`, writes, embeddings and biases of writes `W Q`.
///
/// # Errors
/// Those of `read`, which gives the parameters of the model as it is.
pub(crate) fn read_folded(
    spec: &ModelSpec,
    signs: &[f32],
    read: Read<'_>,
    path: &str,
    shape: [usize; 2],
) -> Result<Vec<f32>> {
    let name = path.rsplit('.').next().unwrap_or(path);
    let norm = match name {
        "w_q" | "w_k" | "w_v" => "norm_1",
        "w_gate" | "w_in" => "norm_2",
        "w_u" => "norm",
        "w_e" | "w_pos" | "w_o" | "w_out" | "b_o" | "b_out" => {
            let mut rows = read(path, shape)?;
            hadamard_rows(&mut rows, signs);
            return Ok(rows);
        }
        _ => return read(path, shape),
    };
    // Each column faces the stream: as a row, [out, D], it is turned as any row of the stream.
    let mut columns = match name {
        "w_u" if spec.tied_head => read("w_e", [shape[1], shape[0]])?,
        _ => transposed(&read(path, shape)?, shape[1]),
    };
    if spec.norm == NormKind::RmsGain {
        let gain = read(&format!("{}{norm}.gain", &path[..path.len() - name.len()]), [1, shape[0]])?;
        let scale = |column: &mut [f32]| column.iter_mut().zip(&gain).for_each(|(value, gain)| *value *= gain);
        columns.par_chunks_exact_mut(shape[0]).for_each(scale);
    }
    hadamard_rows(&mut columns, signs);
    Ok(transposed(&columns, shape[0]))
}

/// Turns rows of the rotated stream back, in place: `x Qᵀ`.
pub(crate) fn turn_back(rows: &mut [f32], signs: &[f32]) {
    hadamard_rows(rows, &vec![1.0; signs.len()]);
    let back = |row: &mut [f32]| row.iter_mut().zip(signs).for_each(|(value, sign)| *value *= sign);
    rows.par_chunks_exact_mut(signs.len()).for_each(back);
}

/// `[rows, columns]`, row-major -> `[columns, rows]`
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns;
    let mut all = vec![0.0; values.len()];
    all.par_chunks_exact_mut(rows).enumerate().for_each(|(column, row)| {
        row.iter_mut().enumerate().for_each(|(at, value)| *value = values[at * columns + column]);
    });
    all
}
