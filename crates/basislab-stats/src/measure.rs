use crate::excess::random_basis;
use crate::metrics::{LargeValues, METRICS, Metric, MetricFn};
use crate::moments::{DimensionMoments, dimensions};
use crate::residuals::Residuals;
use crate::rotation::Rotation;
use basislab_config::{Basis, Tokens};
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// What is measured of a residual stream.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Tokens per sequence, which tells the first ones; `None` where sequences are not known: then all are measured
    /// together.
    pub n_ctx: Option<usize>,
    /// The basis that an optimizer works in.
    pub optimizer: Option<&'a Rotation>,
    /// Which tokens are measured in Haar bases and dimension by dimension.
    pub detailed: Tokens,
    /// Haar bases, from the first, in which every metric that depends on the basis is measured.
    pub random: &'a [Rotation],
    /// The seed and the numbers of further Haar bases, drawn one at a time, and the metrics that are measured in them.
    pub further: Option<(u64, Range<usize>, &'a [String])>,
    /// Whether each dimension is described.
    pub dimensions: bool,
}

/// What was measured of one residual stream.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// The metrics, tokens by tokens and basis by basis.
    pub values: Vec<MetricValue>,
    /// Each dimension over the detailed tokens, basis by basis.
    pub dimensions: Vec<(Tokens, Basis, DimensionMoments)>,
    /// For metrics of several layers.
    pub large: LargeValues,
}

/// One metric of some tokens in one basis.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricValue {
    /// Which tokens.
    pub tokens: Tokens,
    /// How many.
    pub tokens_used: usize,
    /// The basis.
    pub basis: Basis,
    /// The metric.
    pub metric: &'static str,
    /// Its value; `None` where it is undefined.
    pub value: Option<f64>,
}

/// Measures a residual stream, tokens in order, sequence by sequence: every metric of one matrix for all, first and
/// remaining tokens, in the standard basis and the optimizer's; what else is `wanted` of the detailed tokens. Bases are
/// shared out over the rayon pool that it finds itself in. Fewer than two tokens are not measured.
pub fn measure(x: &Residuals, wanted: &Wanted<'_>) -> Measured {
    let mut measured = Measured { large: LargeValues::of(x), ..Measured::default() };
    let rotated = wanted.optimizer.map(|q| x.rotated(q));
    // `all` comes first: what a metric computes of each token serves the subsets too.
    for tokens in [Tokens::All, Tokens::First, Tokens::Rest] {
        let Some(part) = subset(x, wanted.n_ctx, tokens) else { continue };
        let rotated = rotated.as_ref().and_then(|x| subset(x, wanted.n_ctx, tokens));
        measured.values.extend(measure_in(&part, (tokens, Basis::Standard), |_| true));
        if let Some(rotated) = &rotated {
            measured.values.extend(measure_in(rotated, (tokens, Basis::Optimizer), |metric| metric.basis_dependent));
        }
        if tokens != wanted.detailed {
            continue;
        }
        let in_random = wanted.random.par_iter().enumerate().map(|(k, q)| {
            measure_in(&part.rotated(q), (tokens, Basis::Random(k as u32)), |metric| metric.basis_dependent)
        });
        measured.values.extend(in_random.collect::<Vec<_>>().into_iter().flatten());
        if let Some((seed, numbers, metrics)) = wanted.further.clone() {
            let in_further = numbers.into_par_iter().map(|k| {
                let x = part.rotated(&random_basis(seed, k, x.d_model()));
                measure_in(&x, (tokens, Basis::Random(k as u32)), |metric| {
                    metrics.iter().any(|name| name == metric.name)
                })
            });
            measured.values.extend(in_further.collect::<Vec<_>>().into_iter().flatten());
        }
        if wanted.dimensions {
            let described =
                |basis, x: &Residuals| dimensions(x).into_iter().map(move |moments| (tokens, basis, moments));
            measured.dimensions.extend(described(Basis::Standard, &part));
            measured.dimensions.extend(rotated.iter().flat_map(|x| described(Basis::Optimizer, x)));
        }
    }
    measured
}

/// Every metric of one matrix that is `wanted`. `x` has the coordinates of `basis` already.
///
/// [`measure`] is a layer over this that holds the stream and a rotated copy of it for each basis that is measured at the
/// time. A caller whose matrix fills the memory cannot hold two: it rotates in place ([`Residuals::into_rotated`]), calls this,
/// and reads the matrix again for the next basis.
pub fn measure_in(
    x: &Residuals,
    (tokens, basis): (Tokens, Basis),
    wanted: impl Fn(&Metric) -> bool,
) -> Vec<MetricValue> {
    let value = |metric: &Metric| match metric.of {
        MetricFn::Matrix(of) => {
            Some(MetricValue { tokens, tokens_used: x.n_tokens(), basis, metric: metric.name, value: of(x) })
        }
        MetricFn::Layers { .. } => None,
    };
    METRICS.iter().filter(|metric| wanted(metric)).filter_map(value).collect()
}

/// Some tokens of each sequence; `None` when too few are left to be measured.
fn subset(x: &Residuals, n_ctx: Option<usize>, tokens: Tokens) -> Option<Cow<'_, Residuals>> {
    if tokens == Tokens::All {
        return Some(Cow::Borrowed(x));
    }
    let is_first = |token: &usize| token.is_multiple_of(n_ctx.unwrap_or(1));
    let picked = |first: bool| (0..x.n_tokens()).filter(|token| is_first(token) == first).collect::<Vec<_>>();
    let picked = if n_ctx.is_some() { picked(tokens == Tokens::First) } else { Vec::new() };
    (picked.len() >= 2).then(|| Cow::Owned(x.subset(&picked)))
}
