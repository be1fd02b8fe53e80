//! The row of a dimension from its moments.

use crate::rows::DimensionRow;
use basislab_config::{Basis, RunName, Site, Tokens};
use basislab_stats::DimensionMoments;

impl DimensionRow {
    /// The row of one dimension, for tokens and a basis.
    pub fn of(arm: &RunName, seed: u64, step: u64, site: Site, of: (Tokens, Basis), m: &DimensionMoments) -> Self {
        Self {
            arm: arm.clone(),
            seed,
            step,
            site,
            layer: site.layer(),
            dim: m.dim,
            mean: m.mean,
            rms: m.rms,
            variance: m.variance,
            skewness: m.skewness,
            kurtosis: m.kurtosis,
            min: m.min,
            max: m.max,
            max_abs: m.max_abs,
            share_of_energy: m.share_of_energy,
            basis: of.1,
            tokens: of.0,
        }
    }
}
