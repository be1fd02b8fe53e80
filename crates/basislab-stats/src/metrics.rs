//! The table of metrics. To add one, write it in the file of its topic and name it in [`METRICS`].

mod arithmetic;
mod kurtosis;
mod outliers;
pub(crate) mod shape;
pub(crate) mod shared;
mod spread;

use crate::residuals::Residuals;
use arithmetic::large_values;
pub(crate) use arithmetic::{is_narrow, median_of_bits, median_size_in_place};
pub(crate) use shape::gram;

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
    kurtosis::TOKEN_KURTOSIS,
    kurtosis::TOKEN_KURTOSIS_MEDIAN,
    kurtosis::TOKEN_KURTOSIS_UNCENTRED,
    kurtosis::MEAN_VECTOR_KURTOSIS,
    kurtosis::VARYING_KURTOSIS,
    spread::DIM_RMS_KURTOSIS,
    spread::MAX_MEDIAN_RATIO,
    spread::INCOHERENCE,
    spread::HOYER_SPARSITY,
    spread::TOP4_ENERGY_SHARE,
    spread::DIM_CORRELATION,
    outliers::OUTLIER_DIMS_ABS6,
    outliers::OUTLIER_DIMS_ABS6_NORMALISED,
    outliers::OUTLIER_DIMS_6X_RMS,
    outliers::DETTMERS_OUTLIER_FEATURES,
    outliers::MASSIVE_ACTIVATIONS,
    outliers::MASSIVE_ACTIVATIONS_NORMALISED,
    kurtosis::POOLED_KURTOSIS,
    kurtosis::OSP_EXCESS_KURTOSIS,
    kurtosis::LESSWRONG_EXCESS_KURTOSIS,
    spread::MAX_DIM_ENERGY_SHARE,
    spread::PARTICIPATION_RATIO,
    spread::TOKEN_RMS,
];
