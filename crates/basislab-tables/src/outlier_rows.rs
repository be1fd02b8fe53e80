//! The row of a dimension of a run that stands out.

use crate::schema::rows;
use basislab_config::{Basis, RunName, Site, Tokens};

rows! {
    /// One dimension that stands out at one site of a complete run at its last step: it is larger, against the median dimension,
    /// than any dimension of a random basis is but by chance. The file exists where single dimensions, and the largest ones of
    /// random bases, were measured at the last step.
    pub struct OutlierRow in "outliers.csv" {
        /// The arm, by its name in the configuration.
        arm: RunName,
        /// Paired replicate.
        seed: u64,
        /// Optimizer updates made.
        step: u64,
        /// Point on the residual stream.
        site: Site,
        /// Block of the site, where it has one.
        layer: Option<usize>,
        /// Coordinates in which the dimension is one.
        basis: Basis,
        /// All tokens, the first of each sequence, or the rest.
        tokens: Tokens,
        /// The dimension, from 0.
        dim: usize,
        /// Root of its mean square over tokens.
        rms: f64,
        /// `rms` over its median over dimensions.
        ratio: f64,
        /// The ratio that the largest dimension of a random basis of the same activations exceeds in 1 to 3 of 100 cases.
        threshold: f64,
        /// Random bases from which `threshold` is estimated.
        bases: usize,
        /// Its place at the site by `rms`, from 1.
        rank: usize,
        /// The first probe at which it stood out here, and at each probe from then on. Of runs without `dimension_steps.csv` only
        /// probes that recorded single dimensions are known.
        first_step: u64,
    }
}
