//! The row of the sizes of all dimensions at one site.

use crate::numbers::Numbers;
use crate::schema::rows;
use basislab_config::{Basis, RunName, Site, Tokens};

rows! {
    /// The sizes of all dimensions of one site at one probe. Lists have a number for each dimension, from dimension 0, with a space
    /// between two and the fewest digits that tell an `f32` from its neighbours. Runs of earlier versions have no such file.
    pub struct DimensionStepRow in "dimension_steps.csv" {
        /// The arm, by its name in the configuration.
        arm: RunName,
        /// Paired replicate: arms share initial weights, batches and held-out tokens.
        seed: u64,
        /// Optimizer updates made.
        step: u64,
        /// Point on the residual stream.
        site: Site,
        /// Block of the site, where it has one.
        layer: Option<usize>,
        /// Coordinates of the measurement.
        basis: Basis,
        /// All tokens, the first of each sequence, or the rest.
        tokens: Tokens,
        /// Root of the mean square of each dimension, as `rms` of `dimensions.csv`.
        rms: Numbers,
        /// Mean fourth power of each dimension, about 0 and not about its mean: of `dimensions.csv`, with `m3` and `m4` from its
        /// skewness and kurtosis, `m4 + 4 mean m3 + 6 mean^2 variance + mean^4`.
        fourth_moment: Numbers,
        /// The largest dimension's share of the energy (`max_dim_energy_share`) in each of `probe.random_bases` random bases of the
        /// same tokens; the same in all bases of a site, and empty where all activations are 0.
        null_shares: Numbers,
    }
}
