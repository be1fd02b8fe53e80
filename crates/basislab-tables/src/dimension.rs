//! The rows of dimensions from what was measured of them.

use crate::dimension_rows::DimensionStepRow;
use crate::numbers::Numbers;
use crate::rows::DimensionRow;
use basislab_config::{Basis, RunName, Site, Tokens};
use basislab_stats::{DimensionMoments, DimensionSizes};

impl DimensionStepRow {
    /// The row of one basis at one site.
    pub fn of(arm: &RunName, seed: u64, step: u64, site: Site, sizes: &DimensionSizes) -> Self {
        Self {
            arm: arm.clone(),
            seed,
            step,
            site,
            layer: site.layer(),
            basis: sizes.basis,
            tokens: sizes.tokens,
            rms: Numbers::new(&sizes.rms),
            fourth_moment: Numbers::new(&sizes.fourth_moment),
            null_shares: Numbers::new(&sizes.null_shares),
        }
    }
}

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
