//! Host numerics in f64: random streams, rotations, residual metrics, inference, quantization. Knows neither burn nor files.

mod code_length;
mod excess;
mod hadamard;
mod inference;
mod measure;
mod metrics;
mod moments;
mod privilege;
mod quantize;
mod random;
mod residuals;
mod rotation;
mod special;

pub use code_length::{bits_per_byte, unigram_loss};
pub use excess::{BasisExcess, basis_excess, excess, random_basis};
pub use hadamard::{hadamard_rows, random_signs};
pub use inference::{
    Interval, MaxT, Method, PERMUTATION_DRAWS, Side, Tost, Verdict, block_means, bound_p, correlation_interval,
    decide_bound, decide_correlation, decide_difference, decide_equivalence, decide_near, exchange_method, exchange_p,
    holm, max_t, mean_sd, near_margin, near_p, ordered_method, ordered_p, rank_slope, sign_flip_method, sign_flip_p,
    smallest_spearman_p, spearman, spearman_method, spearman_p, t_interval, tost,
};
pub use measure::{DimensionSizes, Measured, MetricValue, Wanted, measure, measure_in};
pub use metrics::{LargeValues, METRICS, Metric, MetricFn, metric};
pub use moments::{DimensionMoments, dimensions};
pub use privilege::{Alignment, PRIVILEGE_METRICS, Privilege, PrivilegeStatistic, privilege};
pub use quantize::{Granularity, Kept, Levels, quantize, relative_error};
pub use random::{Purpose, below, gaussian, shuffle, stream, uniform};
pub use residuals::{Residuals, ResidualsError};
pub use rotation::Rotation;
pub use special::{
    DominantToken, LargestValue, SpecialDimension, chance_limit, dominant_tokens, largest_dimension_ratio,
    largest_values, ratio_of_share, special_dimensions, standing_out,
};

#[cfg(test)]
mod tests;
