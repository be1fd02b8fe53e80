//! Kurtosis over coordinates, in the forms found in the field.

use super::shape::{mean_vector_kurtosis, varying_kurtosis};
use super::shared::pooled_kurtosis;
use super::{ELHAGE, Metric, MetricFn, TOKEN, largest_kurtosis};

pub(super) const TOKEN_KURTOSIS: Metric = Metric {
    name: "token_kurtosis",
    title: "kurtosis over the coordinates of a token, mean over tokens",
    formula: "m4 / m2^2 of one token's coordinates, m_k = mean((x_i - mean(x))^k)",
    estimator: "biased central moments, of exact differences to the first value where sd < 1e-6 |mean|; \
                arithmetic mean over tokens; never clamped",
    axis: TOKEN,
    null_text: "3 (d-1)/(d+1) for a random direction (2.908 at d = 64), not 3; sd of one token 0.545 at d = 64, about sqrt(24/d) for large d",
    ceiling_text: "d - 2 + 1/(d-1), for a one-hot token",
    source: ELHAGE,
    known_failure: "a few huge tokens raise the mean (compare the median); more outlier dimensions can lower it; \
                    a value at the null does not prove that no basis is special",
    basis_dependent: true,
    scale_invariant: true,
    null: Some(|d, _| 3.0 * (d as f64 - 1.0) / (d as f64 + 1.0)),
    null_is_exact: true,
    ceiling: Some(|d, _| largest_kurtosis(d)),
    of: MetricFn::Matrix(|x| x.tokens().kurtosis),
};

pub(super) const TOKEN_KURTOSIS_MEDIAN: Metric = Metric {
    name: "token_kurtosis_median",
    title: "kurtosis over the coordinates of a token, median over tokens",
    formula: "median over tokens of m4 / m2^2",
    estimator: "central moments as of token_kurtosis; median, the mean of the two middle values for an even count",
    axis: "the d_model coordinates of one token, then the median over tokens",
    null_text: "below the mean's null, for the law of one token's kurtosis is skewed; use random bases",
    ceiling_text: "d - 2 + 1/(d-1)",
    source: "the median of the metric above; separates a dimension that is always large from a token that is very large",
    known_failure: "outliers of a minority of tokens do not change it",
    basis_dependent: true,
    scale_invariant: true,
    null: None,
    null_is_exact: false,
    ceiling: Some(|d, _| largest_kurtosis(d)),
    of: MetricFn::Matrix(|x| x.tokens().kurtosis_median),
};

pub(super) const TOKEN_KURTOSIS_UNCENTRED: Metric = Metric {
    name: "token_kurtosis_uncentred",
    title: "kurtosis about zero over the coordinates of a token, mean over tokens",
    formula: "d sum(x_i^4) / (sum(x_i^2))^2",
    estimator: "raw moments; arithmetic mean over tokens",
    axis: TOKEN,
    null_text: "3 d/(d+2), exact for any fixed vector under a Haar rotation",
    ceiling_text: "d, for a one-hot token",
    source: "the form with the simplest exact null",
    known_failure: "a common offset of all coordinates lowers it towards 1",
    basis_dependent: true,
    scale_invariant: true,
    null: Some(|d, _| 3.0 * d as f64 / (d as f64 + 2.0)),
    null_is_exact: true,
    ceiling: Some(|d, _| d as f64),
    of: MetricFn::Matrix(|x| x.tokens().kurtosis_about_zero),
};

pub(super) const MEAN_VECTOR_KURTOSIS: Metric = Metric {
    name: "mean_vector_kurtosis",
    title: "kurtosis over the coordinates of the mean token",
    formula: "m4 / m2^2 of the coordinates of mean_t(x_t)",
    estimator: "central moments as of token_kurtosis",
    axis: "over tokens for each dimension, then over dimensions",
    null_text: "3 (d-1)/(d+1), exact for any mean vector under a Haar rotation; sd as of one token's kurtosis",
    ceiling_text: "d - 2 + 1/(d-1), for a mean along one axis",
    source: "basislab; the part of token_kurtosis that all tokens share",
    known_failure: "one vector per model, so that its null is wide; says nothing where the mean is small beside what varies",
    basis_dependent: true,
    scale_invariant: true,
    null: Some(|d, _| 3.0 * (d as f64 - 1.0) / (d as f64 + 1.0)),
    null_is_exact: true,
    ceiling: Some(|d, _| largest_kurtosis(d)),
    of: MetricFn::Matrix(mean_vector_kurtosis),
};

pub(super) const VARYING_KURTOSIS: Metric = Metric {
    name: "varying_kurtosis",
    title: "kurtosis over the coordinates of a token less the mean token, mean over tokens",
    formula: "m4 / m2^2 of the coordinates of x_t - mean_s(x_s)",
    estimator: "central moments as of token_kurtosis; arithmetic mean over tokens",
    axis: TOKEN,
    null_text: "3 (d-1)/(d+1), exact for any activations under a Haar rotation",
    ceiling_text: "d - 2 + 1/(d-1), where tokens differ in one coordinate alone",
    source: "basislab; the part of token_kurtosis that differs between tokens",
    known_failure: "undefined where a token is the mean token",
    basis_dependent: true,
    scale_invariant: true,
    null: Some(|d, _| 3.0 * (d as f64 - 1.0) / (d as f64 + 1.0)),
    null_is_exact: true,
    ceiling: Some(|d, _| largest_kurtosis(d)),
    of: MetricFn::Matrix(varying_kurtosis),
};

pub(super) const POOLED_KURTOSIS: Metric = Metric {
    name: "pooled_kurtosis",
    title: "kurtosis of all values together",
    formula: "m4 / m2^2 over the flattened matrix",
    estimator: "central moments as of token_kurtosis",
    axis: "the whole matrix",
    null_text: "3 (N-1)/(N+1) for N independent Gaussian values; 3 d/(d+2) mean(r^4)/mean(r^2)^2 for tokens of norms r",
    ceiling_text: "N - 2 + 1/(N-1) for N values: grows with the matrix",
    source: "the flattened form found in several training logs",
    known_failure: "one of 128 tokens with 50 times the norm makes it 337 at d = 64 in a basis without any preference: no verdict should use it",
    basis_dependent: true,
    scale_invariant: true,
    null: Some(|d, n| {
        let values = (d * n) as f64;
        3.0 * (values - 1.0) / (values + 1.0)
    }),
    null_is_exact: false,
    ceiling: Some(|d, n| largest_kurtosis(d * n)),
    of: MetricFn::Matrix(|x| pooled_kurtosis(x.values())),
};

pub(super) const OSP_EXCESS_KURTOSIS: Metric = Metric {
    name: "osp_excess_kurtosis",
    title: "the clamped excess kurtosis of the OSP script",
    formula: "max(0, mean(x^4) / sd(x)^4 - 3), sd about the mean with ddof = 1",
    estimator: "fourth moment NOT centred, sd centred (as of token_kurtosis) and unbiased; clamped at 0 per token; mean over tokens",
    axis: TOKEN,
    null_text: "positive because of the clamp: 0.178 (d 64), 0.139 (128), 0.106 (256), 0.078 (512), 0.040 (2048)",
    ceiling_text: "none: a common offset of 1000 sd gives 1e12, for the fourth moment is not centred and the sd is",
    source: "Park et al. 2025, Outlier-Safe Pre-Training, evaluate_kurtosis.py",
    known_failure: "a common offset of all dimensions raises it without any outlier; its null is above 0; \
                    the script feeds every token as a sequence of its own",
    basis_dependent: true,
    scale_invariant: true,
    null: None,
    null_is_exact: false,
    ceiling: None,
    of: MetricFn::Matrix(|x| x.tokens().excess_about_zero),
};

pub(super) const LESSWRONG_EXCESS_KURTOSIS: Metric = Metric {
    name: "lesswrong_excess_kurtosis",
    title: "the clamped excess kurtosis of the Adam-versus-SGD notebooks",
    formula: "max(0, m4 / sd(x)^4 - 3), sd with ddof = 1",
    estimator: "central moments as of token_kurtosis, unbiased sd; clamped at 0 per token; mean over tokens",
    axis: TOKEN,
    null_text: "positive because of the clamp: 0.132 (d 64), 0.117 (128), 0.095 (256), 0.072 (512), 0.039 (2048)",
    ceiling_text: "max(0, (d - 2 + 1/(d-1)) ((d-1)/d)^2 - 3) for a one-hot token, about d - 7",
    source: "Caples, Neuhaus 2024, LessWrong",
    known_failure: "cannot show kurtosis below the null, which is above 0",
    basis_dependent: true,
    scale_invariant: true,
    null: None,
    null_is_exact: false,
    ceiling: Some(|d, _| {
        let shrunk = (d as f64 - 1.0) / d as f64;
        (largest_kurtosis(d) * shrunk * shrunk - 3.0).max(0.0)
    }),
    of: MetricFn::Matrix(|x| x.tokens().excess),
};
