//! The table of metrics. To add one, add an entry to [`METRICS`].

mod arithmetic;
mod shape;
pub(crate) mod shared;

use crate::residuals::Residuals;
pub(crate) use arithmetic::is_narrow;
use arithmetic::{
    dettmers, dim_rms_kurtosis, large_values, massive, massive_normalised, max_dim_energy_share, max_median_ratio,
    outlier_dims_6x_rms, outlier_dims_abs6, outlier_dims_abs6_normalised,
};
use shape::{dim_correlation, mean_vector_kurtosis, participation_ratio, varying_kurtosis};
use shared::pooled_kurtosis;
use statrs::function::gamma::ln_gamma;

/// One number about activations: its meaning, its null, and how to compute it.
#[derive(Debug)]
pub struct Metric {
    /// Its name in files and on the command line.
    pub name: &'static str,
    /// What it is, in a few words.
    pub title: &'static str,
    /// The formula, for one token or matrix `x`.
    pub formula: &'static str,
    /// Moments, medians, averaging.
    pub estimator: &'static str,
    /// Over which axis.
    pub axis: &'static str,
    /// Its value when no basis is special, in words.
    pub null_text: &'static str,
    /// Its largest possible value, in words.
    pub ceiling_text: &'static str,
    /// Who defined it.
    pub source: &'static str,
    /// When it misleads.
    pub known_failure: &'static str,
    /// Whether a rotation of the activations can change it.
    pub basis_dependent: bool,
    /// Whether multiplying all activations by a constant leaves it alone.
    pub scale_invariant: bool,
    /// Expected value for independent isotropic Gaussian tokens, from `(d_model, n_tokens)`, where a closed form exists.
    pub null: Option<fn(usize, usize) -> f64>,
    /// Whether `null` is the mean over Haar bases of any activations, not of Gaussian ones alone.
    pub null_is_exact: bool,
    /// Largest possible value, from `(d_model, n_tokens)`, where there is one.
    pub ceiling: Option<fn(usize, usize) -> f64>,
    /// The computation; `None` where it is undefined, never NaN.
    pub of: MetricFn,
}

/// What a metric is computed from.
#[derive(Debug, Clone, Copy)]
pub enum MetricFn {
    /// One matrix.
    Matrix(fn(&Residuals) -> Option<f64>),
    /// The same tokens at several layers, one layer at a time.
    Layers {
        /// What is kept of each layer.
        summary: fn(&Residuals) -> LargeValues,
        /// The metric, from the summaries of all layers.
        join: fn(&[LargeValues]) -> Option<f64>,
    },
}

impl MetricFn {
    /// The metric of one matrix, or of several layers that are held at once.
    pub fn of(self, layers: &[Residuals]) -> Option<f64> {
        match (self, layers) {
            (Self::Matrix(of), [x]) => of(x),
            (Self::Matrix(_), _) => None,
            (Self::Layers { summary, join }, layers) => join(&layers.iter().map(summary).collect::<Vec<_>>()),
        }
    }
}

/// Values of at least 6 in one layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LargeValues {
    /// How many there are in each dimension.
    pub counts: Vec<usize>,
    /// Tokens of the layer.
    pub tokens: usize,
}

impl LargeValues {
    /// Of one layer.
    pub fn of(x: &Residuals) -> Self {
        large_values(x)
    }
}

/// The metric of that name.
pub fn metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

const ELHAGE: &str = "Elhage, Lasenby, Olah 2023, Privileged Bases in the Transformer Residual Stream";
const HE: &str = "He, Noci, Paliotta, Schlag, Hofmann 2024, Understanding and Minimising Outlier Features";
const TOKEN: &str = "the d_model coordinates of one token, then averaged over tokens";

/// Of `n` numbers: of all but one that are equal.
fn largest_kurtosis(n: usize) -> f64 {
    n as f64 - 2.0 + 1.0 / (n as f64 - 1.0)
}

/// All metrics, the headline first.
pub static METRICS: &[Metric] = &[
    Metric {
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
    },
    Metric {
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
    },
    Metric {
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
    },
    Metric {
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
    },
    Metric {
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
    },
    Metric {
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
    },
    Metric {
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
    },
    Metric {
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
    },
    Metric {
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
    },
    Metric {
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
    },
    Metric {
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
    },
    Metric {
        name: "outlier_dims_abs6",
        title: "dimensions that ever exceed 6 in magnitude",
        formula: "#{ j : max over tokens |x_j| > 6 }",
        estimator: "a count",
        axis: "over tokens for each dimension",
        null_text: "depends on the scale of the activations; use random bases",
        ceiling_text: "d",
        source: "Elhage et al. 2023, after Dettmers et al. 2022; there 20 to 60 of 1280",
        known_failure: "6 is large only where typical magnitudes are near 1: streams of small norm have no such dimension, streams of large norm many",
        basis_dependent: true,
        scale_invariant: false,
        null: None,
        null_is_exact: false,
        ceiling: Some(|d, _| d as f64),
        of: MetricFn::Matrix(outlier_dims_abs6),
    },
    Metric {
        name: "outlier_dims_abs6_normalised",
        title: "dimensions that ever exceed 6 times the typical RMS of a token",
        formula: "#{ j : max over tokens |x_j| > 6 median_t(rms_t) }",
        estimator: "a count; RMS over the coordinates of a token, median over tokens",
        axis: "over tokens for each dimension",
        null_text: "0 or nearly so where tokens have similar norms; use random bases",
        ceiling_text: "d",
        source: "outlier_dims_abs6 of the stream divided by one number, so that models of different scale compare",
        known_failure: "tokens of large norm exceed it in every basis",
        basis_dependent: true,
        scale_invariant: true,
        null: None,
        null_is_exact: false,
        ceiling: Some(|d, _| d as f64),
        of: MetricFn::Matrix(outlier_dims_abs6_normalised),
    },
    Metric {
        name: "outlier_dims_6x_rms",
        title: "dimensions whose RMS exceeds 6 times the median dimension's",
        formula: "#{ j : rms_j > 6 median_k(rms_k) }",
        estimator: "RMS over tokens; median over dimensions",
        axis: "over tokens for each dimension, then over dimensions",
        null_text: "0",
        ceiling_text: "(d-1)/2, rounded down",
        source: "the scale-free form of the count above",
        known_failure: "a dimension that is large on few tokens does not count; undefined when half of the dimensions are 0",
        basis_dependent: true,
        scale_invariant: true,
        null: Some(|_, _| 0.0),
        null_is_exact: false,
        ceiling: Some(|d, _| ((d - 1) / 2) as f64),
        of: MetricFn::Matrix(outlier_dims_6x_rms),
    },
    Metric {
        name: "dettmers_outlier_features",
        title: "features that are large in many layers and at many positions",
        formula: "#{ j : |x_j| >= 6 in >= 25 % of layers, and at >= 6 % of all positions of all layers }",
        estimator: "a layer counts when any of its positions does; positions are pooled over layers",
        axis: "over layers and tokens for each dimension",
        null_text: "depends on the scale of the activations",
        ceiling_text: "d",
        source: "Dettmers, Lewis, Belkada, Zettlemoyer 2022, LLM.int8()",
        known_failure: "thresholds were chosen so that one 125M model shows exactly one; needs several layers, so a single matrix has no value; \
                        the original counts at the inputs of the projections, this metric at the stream after each block",
        basis_dependent: true,
        scale_invariant: false,
        null: None,
        null_is_exact: false,
        ceiling: Some(|d, _| d as f64),
        of: MetricFn::Layers { summary: large_values, join: dettmers },
    },
    Metric {
        name: "massive_activations",
        title: "single values above 100 and a thousand times the median",
        formula: "#{ (token, j) : |x| > 100 and |x| >= 1000 median |x| }",
        estimator: "a count; median over all values",
        axis: "the whole matrix",
        null_text: "0",
        ceiling_text: "(n d - 1)/2 for n tokens, rounded down: below half of all values",
        source: "Sun, Chen, Kolter, Liu 2024, Massive Activations in Large Language Models",
        known_failure: "counts values, not dimensions; needs a stream on the published scale",
        basis_dependent: true,
        scale_invariant: false,
        null: Some(|_, _| 0.0),
        null_is_exact: false,
        ceiling: Some(|d, n| ((d * n - 1) / 2) as f64),
        of: MetricFn::Matrix(massive),
    },
    Metric {
        name: "massive_activations_normalised",
        title: "single values above 100 times the typical RMS of a token and a thousand times the median",
        formula: "#{ (token, j) : |x| > 100 median_t(rms_t) and |x| >= 1000 median |x| }",
        estimator: "a count; RMS over the coordinates of a token, median over tokens; median magnitude over all values",
        axis: "the whole matrix",
        null_text: "0",
        ceiling_text: "none in closed form",
        source: "massive_activations of the stream divided by one number",
        known_failure: "counts values, not dimensions",
        basis_dependent: true,
        scale_invariant: true,
        null: Some(|_, _| 0.0),
        null_is_exact: false,
        ceiling: None,
        of: MetricFn::Matrix(massive_normalised),
    },
    Metric {
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
    },
    Metric {
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
    },
    Metric {
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
    },
    Metric {
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
    },
    Metric {
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
    },
    Metric {
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
    },
];
