use crate::metrics::median_size_in_place;
use crate::metrics::shared::{ColumnStats, Token, TokenMeans, columns, median_rms, peaks, tokens};
use crate::rotation::Rotation;
use std::sync::OnceLock;

/// Activations `[n_tokens, d_model]`, row-major, finite, at least 2 x 4: checked once, so that metrics cannot fail.
#[derive(Debug, Clone)]
pub struct Residuals {
    values: Vec<f64>,
    d_model: usize,
    /// Computed by the first metric that asks. Of up to [`KEPT`] tokens each one's statistics are kept, and a subset takes
    /// its tokens' share along; of more they would need as much memory as narrow activations themselves.
    tokens: OnceLock<Vec<Token>>,
    peaks: OnceLock<Vec<f64>>,
    means: OnceLock<TokenMeans>,
    median_rms: OnceLock<f64>,
    median_size: OnceLock<f64>,
    columns: OnceLock<ColumnStats>,
}

/// Tokens whose statistics are kept.
const KEPT: usize = 1 << 16;

impl PartialEq for Residuals {
    fn eq(&self, other: &Self) -> bool {
        self.d_model == other.d_model && self.values == other.values
    }
}

/// Why a matrix cannot be measured.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ResidualsError {
    /// Too few tokens or dimensions.
    #[error("found {0} tokens of width {1}, expected at least 2 tokens of width 4")]
    TooSmall(usize, usize),
    /// NaN or infinity.
    #[error("found {value} at token {token}, dimension {dimension}, expected finite numbers")]
    NotFinite {
        /// 0-based.
        token: usize,
        /// 0-based.
        dimension: usize,
        /// The offender.
        value: f64,
    },
}

impl Residuals {
    /// Checks shape and finiteness.
    ///
    /// # Errors
    /// Which of them fails, and where.
    pub fn new(values: Vec<f64>, d_model: usize) -> Result<Self, ResidualsError> {
        let tokens = values.len().checked_div(d_model).unwrap_or(0);
        if d_model < 4 || tokens < 2 || values.len() != tokens * d_model {
            return Err(ResidualsError::TooSmall(tokens, d_model));
        }
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => {
                let (token, dimension) = (at / d_model, at % d_model);
                Err(ResidualsError::NotFinite { token, dimension, value: values[at] })
            }
            None => Ok(Self::from_finite(values, d_model)),
        }
    }

    /// One row per token.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f64> {
        self.values.chunks_exact(self.d_model)
    }

    /// All values, row-major.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Tokens.
    pub fn n_tokens(&self) -> usize {
        self.values.len() / self.d_model
    }

    /// Width of the residual stream.
    pub fn d_model(&self) -> usize {
        self.d_model
    }

    /// The same activations in another basis: every row `x` becomes `Q x`.
    pub fn rotated(&self, q: &Rotation) -> Self {
        Self::from_finite(q.apply_rows(&self.values), self.d_model)
    }

    /// [`Residuals::rotated`] in the same memory, for a large matrix.
    pub fn into_rotated(mut self, q: &Rotation) -> Self {
        q.rotate_rows(&mut self.values);
        Self::from_finite(self.values, self.d_model)
    }

    /// The chosen tokens, in that order.
    ///
    /// # Panics
    /// If fewer than two are chosen, or one does not exist.
    pub fn subset(&self, tokens: &[usize]) -> Self {
        assert!(tokens.len() >= 2, "at least two tokens are needed");
        let mut values = Vec::with_capacity(tokens.len() * self.d_model);
        for &token in tokens {
            values.extend_from_slice(&self.values[token * self.d_model..(token + 1) * self.d_model]);
        }
        let subset = Self::from_finite(values, self.d_model);
        if let Some(all) = self.tokens.get() {
            let _ = subset.tokens.set(tokens.iter().map(|&token| all[token]).collect());
        }
        if let Some(all) = self.peaks.get() {
            let _ = subset.peaks.set(tokens.iter().map(|&token| all[token]).collect());
        }
        subset
    }

    /// Means of every token's statistics.
    pub(crate) fn tokens(&self) -> &TokenMeans {
        self.means.get_or_init(|| {
            TokenMeans::of(self.n_tokens(), |see| {
                if self.n_tokens() <= KEPT {
                    see(self.tokens.get_or_init(|| tokens(&self.values, self.d_model)));
                } else {
                    let blocks = self.values.chunks(4096 * self.d_model);
                    blocks.for_each(|block| see(&tokens(block, self.d_model)));
                }
            })
        })
    }

    /// The RMS of the median token.
    pub(crate) fn median_rms(&self) -> f64 {
        *self.median_rms.get_or_init(|| median_rms(&self.values, self.d_model))
    }

    /// The median magnitude of all values.
    pub(crate) fn median_size(&self) -> f64 {
        *self.median_size.get_or_init(|| median_size_in_place(&self.values))
    }

    /// Largest over median magnitude of every token in turn.
    pub(crate) fn each_peak(&self, see: impl FnMut(f64)) {
        if self.n_tokens() <= KEPT {
            self.peaks.get_or_init(|| peaks(&self.values, self.d_model)).iter().copied().for_each(see);
        } else {
            self.values.chunks(4096 * self.d_model).flat_map(|block| peaks(block, self.d_model)).for_each(see);
        }
    }

    /// Without the tokens whose coordinates are all 0, in the same memory; `None` where fewer than two remain.
    pub fn without_zero_tokens(mut self) -> Option<Self> {
        let (d, mut kept) = (self.d_model, 0);
        for at in (0..self.values.len()).step_by(d) {
            if self.values[at..at + d].iter().any(|value| *value != 0.0) {
                self.values.copy_within(at..at + d, kept);
                kept += d;
            }
        }
        self.values.truncate(kept);
        (kept >= 2 * d).then(|| Self::from_finite(self.values, d))
    }

    /// The sum of squares of every dimension.
    pub fn energy(&self) -> &[f64] {
        &self.columns().energy
    }

    /// Statistics of every dimension.
    pub(crate) fn columns(&self) -> &ColumnStats {
        self.columns.get_or_init(|| columns(&self.values, self.d_model))
    }

    fn from_finite(values: Vec<f64>, d_model: usize) -> Self {
        let (tokens, peaks, means, median_rms, median_size, columns) = Default::default();
        Self { values, d_model, tokens, peaks, means, median_rms, median_size, columns }
    }
}
