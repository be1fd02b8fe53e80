//! How energy is spread over dimensions, tokens and directions.

use super::arithmetic::{dim_rms_kurtosis, max_dim_energy_share, max_median_ratio};
use super::shape::{dim_correlation, participation_ratio};
use super::{HE, Metric, MetricFn, TOKEN};
use statrs::function::gamma::ln_gamma;

pub(super) const DIM_RMS_KURTOSIS: Metric = Metric {
    name: "dim_rms_kurtosis",
    title: "kurtosis of the per-dimension mean squares",
    formula: "mean_j(s_j^2) / mean_j(s_j)^2, s_j = mean over tokens of x_j^2",
    estimator: "raw second moments per dimension",
    axis: "over tokens for each dimension, then over dimensions",
    null_text: "d/(d+2) (1 + 2/PR), exact for any activations of participation ratio PR under a Haar rotation; \
                d (n+2) / (d n+2), about 1 + 2/n and not 3, for n Gaussian tokens",
    ceiling_text: "d, when one dimension holds all energy",
    source: HE,
    known_failure: "one token with a huge norm moves it more than a persistent outlier dimension; their code logs this minus 1",
    basis_dependent: true,
    scale_invariant: true,
    // The shares of energy are Dirichlet(n/2, ..., n/2).
    null: Some(|d, n| (d * (n + 2)) as f64 / (d * n + 2) as f64),
    null_is_exact: false,
    ceiling: Some(|d, _| d as f64),
    of: MetricFn::Matrix(dim_rms_kurtosis),
};

pub(super) const MAX_MEDIAN_RATIO: Metric = Metric {
    name: "max_median_ratio",
    title: "largest over median magnitude of a token, mean over tokens",
    formula: "max_i |x_i| / median_i |x_i|",
    estimator: "no centring; arithmetic mean over tokens",
    axis: TOKEN,
    null_text: "grows slowly with d; use random bases",
    ceiling_text: "none",
    source: HE,
    known_failure: "undefined when half of a token's coordinates are 0; their code centres every token first, ours does not",
    basis_dependent: true,
    scale_invariant: true,
    null: None,
    null_is_exact: false,
    ceiling: None,
    of: MetricFn::Matrix(max_median_ratio),
};

pub(super) const INCOHERENCE: Metric = Metric {
    name: "incoherence",
    title: "largest magnitude of a token over its RMS, mean over tokens",
    formula: "max_i |x_i| / sqrt(mean(x_i^2))",
    estimator: "no centring; arithmetic mean over tokens",
    axis: TOKEN,
    null_text: "2.61 (d 64), 3.25 (512), 3.81 (4096) for a random direction: grows like sqrt(2 ln d)",
    ceiling_text: "sqrt(d), for a one-hot token",
    source: "Chee, Cai, Kuleshov, De Sa 2023, QuIP, who bound it for weights; what a rounding step per token must span",
    known_failure: "depends on each token's largest coordinate alone",
    basis_dependent: true,
    scale_invariant: true,
    null: None,
    null_is_exact: false,
    ceiling: Some(|d, _| (d as f64).sqrt()),
    of: MetricFn::Matrix(|x| x.tokens().peak),
};

pub(super) const HOYER_SPARSITY: Metric = Metric {
    name: "hoyer_sparsity",
    title: "Hoyer's sparsity of a token, mean over tokens",
    formula: "(sqrt(d) - sum|x_i| / sqrt(sum(x_i^2))) / (sqrt(d) - 1)",
    estimator: "no centring; arithmetic mean over tokens",
    axis: TOKEN,
    null_text: "(sqrt(d) - r) / (sqrt(d) - 1), r = d Gamma(d/2) / (sqrt(pi) Gamma((d+1)/2)): 0.227 at d = 64, exact for any \
                activations under a Haar rotation",
    ceiling_text: "1, for a one-hot token; 0 where all magnitudes are equal",
    source: "Hoyer 2004, Non-negative Matrix Factorization with Sparseness Constraints",
    known_failure: "moved more by many small coordinates than by a few large ones",
    basis_dependent: true,
    scale_invariant: true,
    null: Some(|d, _| {
        let d = d as f64;
        let flat = d * (ln_gamma(0.5 * d) - ln_gamma(0.5 * (d + 1.0))).exp() / std::f64::consts::PI.sqrt();
        (d.sqrt() - flat) / (d.sqrt() - 1.0)
    }),
    null_is_exact: true,
    ceiling: Some(|_, _| 1.0),
    of: MetricFn::Matrix(|x| x.tokens().sparsity),
};

pub(super) const TOP4_ENERGY_SHARE: Metric = Metric {
    name: "top4_energy_share",
    title: "share of a token's energy in its four largest coordinates, mean over tokens",
    formula: "sum of the 4 largest x_i^2 / sum(x_i^2)",
    estimator: "no centring; arithmetic mean over tokens",
    axis: TOKEN,
    null_text: "0.314 (d 64), 0.068 (512) for a random direction",
    ceiling_text: "1",
    source: "basislab; read it for the first tokens and the rest apart: attention sinks are a few coordinates of the first token",
    known_failure: "the four may be other coordinates in every token: max_dim_energy_share tells",
    basis_dependent: true,
    scale_invariant: true,
    null: None,
    null_is_exact: false,
    ceiling: Some(|_, _| 1.0),
    of: MetricFn::Matrix(|x| x.tokens().top_share),
};

pub(super) const DIM_CORRELATION: Metric = Metric {
    name: "dim_correlation",
    title: "squared correlation between two dimensions, mean over pairs",
    formula: "mean over j < k of corr_t(x_tj, x_tk)^2",
    estimator: "centred over tokens; a dimension that does not vary counts as uncorrelated",
    axis: "over tokens for each pair of dimensions, then over pairs",
    null_text: "1/(n-1) for n Gaussian tokens; else it depends on the spectrum of the activations: use random bases",
    ceiling_text: "1, where all tokens lie on one line that is along no axis",
    source: "basislab; below its null the axes are near the principal components, above it far from them",
    known_failure: "of fewer tokens than dimensions it is mostly sampling noise",
    basis_dependent: true,
    scale_invariant: true,
    null: Some(|_, n| 1.0 / (n as f64 - 1.0)),
    null_is_exact: false,
    ceiling: Some(|_, _| 1.0),
    of: MetricFn::Matrix(dim_correlation),
};

pub(super) const MAX_DIM_ENERGY_SHARE: Metric = Metric {
    name: "max_dim_energy_share",
    title: "share of all energy in the largest dimension",
    formula: "max_j sum_t x_tj^2 / sum_tj x_tj^2",
    estimator: "raw second moments",
    axis: "over tokens for each dimension, then the maximum",
    null_text: "slightly above 1/d; use random bases",
    ceiling_text: "1",
    source: "basislab",
    known_failure: "depends on the largest dimension alone",
    basis_dependent: true,
    scale_invariant: true,
    null: None,
    null_is_exact: false,
    ceiling: Some(|_, _| 1.0),
    of: MetricFn::Matrix(max_dim_energy_share),
};

pub(super) const PARTICIPATION_RATIO: Metric = Metric {
    name: "participation_ratio",
    title: "effective number of directions that the activations fill",
    formula: "tr(C)^2 / tr(C^2), C = mean_t(x_t x_t^T)",
    estimator: "raw second moments, not centred",
    axis: "the whole matrix",
    null_text: "the same in every basis; the null of dim_rms_kurtosis follows from it",
    ceiling_text: "the smaller of d and n, where all of so many directions are filled alike",
    source: "common in physics and neuroscience; raw second moments, as He et al. 2024 take them for dim_rms_kurtosis",
    known_failure: "a large mean vector brings it near 1",
    basis_dependent: false,
    scale_invariant: true,
    null: None,
    null_is_exact: false,
    ceiling: Some(|d, n| d.min(n) as f64),
    of: MetricFn::Matrix(participation_ratio),
};

pub(super) const TOKEN_RMS: Metric = Metric {
    name: "token_rms",
    title: "root mean square of a token, mean over tokens",
    formula: "sqrt(mean(x_i^2))",
    estimator: "raw second moment; arithmetic mean over tokens",
    axis: TOKEN,
    null_text: "the scale of the stream; the same in every basis",
    ceiling_text: "none",
    source: "basislab: the scale that absolute thresholds (6, 100) must be read against",
    known_failure: "says nothing about any basis",
    basis_dependent: false,
    scale_invariant: false,
    null: None,
    null_is_exact: false,
    ceiling: None,
    of: MetricFn::Matrix(|x| x.tokens().rms),
};
