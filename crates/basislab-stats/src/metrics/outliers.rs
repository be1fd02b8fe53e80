//! Counts of dimensions and values that are large.

use super::arithmetic::{
    dettmers, large_values, massive, massive_normalised, outlier_dims_6x_rms, outlier_dims_abs6,
    outlier_dims_abs6_normalised,
};
use super::{Metric, MetricFn};

pub(super) const OUTLIER_DIMS_ABS6: Metric = Metric {
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
};

pub(super) const OUTLIER_DIMS_ABS6_NORMALISED: Metric = Metric {
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
};

pub(super) const OUTLIER_DIMS_6X_RMS: Metric = Metric {
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
};

pub(super) const DETTMERS_OUTLIER_FEATURES: Metric = Metric {
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
};

pub(super) const MASSIVE_ACTIVATIONS: Metric = Metric {
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
};

pub(super) const MASSIVE_ACTIVATIONS_NORMALISED: Metric = Metric {
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
};
