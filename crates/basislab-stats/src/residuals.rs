use crate::metrics::shared::{ColumnStats, Token, columns, peaks, tokens};
use crate::rotation::Rotation;
use std::sync::OnceLock;

/// Activations `[n_tokens, d_model]`, row-major, finite, at least 2 x 4: checked once, so that metrics cannot fail.
#[derive(Debug, Clone)]
pub struct Residuals {
    values: Vec<f64>,
    d_model: usize,
    /// Computed by the first metric that asks; a subset takes its tokens' share along.
    tokens: OnceLock<Vec<Token>>,
    peaks: OnceLock<Vec<Option<f64>>>,
    columns: OnceLock<ColumnStats>,
}

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

    /// Statistics of every token.
    pub(crate) fn tokens(&self) -> &[Token] {
        self.tokens.get_or_init(|| tokens(&self.values, self.d_model))
    }

    /// Largest over median magnitude of every token.
    pub(crate) fn peaks(&self) -> &[Option<f64>] {
        self.peaks.get_or_init(|| peaks(&self.values, self.d_model))
    }

    /// Statistics of every dimension.
    pub(crate) fn columns(&self) -> &ColumnStats {
        self.columns.get_or_init(|| columns(&self.values, self.d_model))
    }

    fn from_finite(values: Vec<f64>, d_model: usize) -> Self {
        let (tokens, peaks, columns) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { values, d_model, tokens, peaks, columns }
    }
}
