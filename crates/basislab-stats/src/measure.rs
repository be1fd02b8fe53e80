use crate::excess::random_basis;
use crate::metrics::gram;
use crate::metrics::{LargeValues, METRICS, Metric, MetricFn};
use crate::moments::{DimensionMoments, columns, described};
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
    /// Whether the sizes of all dimensions are told, and the Haar bases that they are compared with.
    pub sizes: Option<&'a [Rotation]>,
}

/// What was measured of one residual stream.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// The metrics, tokens by tokens and basis by basis.
    pub values: Vec<MetricValue>,
    /// Each dimension over the detailed tokens, basis by basis.
    pub dimensions: Vec<(Tokens, Basis, DimensionMoments)>,
    /// The sizes of all dimensions over the detailed tokens, basis by basis.
    pub sizes: Vec<DimensionSizes>,
    /// For metrics of several layers.
    pub large: LargeValues,
}

/// How large the dimensions of some tokens are in one basis.
#[derive(Debug, Clone, PartialEq)]
pub struct DimensionSizes {
    /// Which tokens.
    pub tokens: Tokens,
    /// The basis.
    pub basis: Basis,
    /// Root of the mean square of each dimension, in order.
    pub rms: Vec<f64>,
    /// Mean fourth power of each dimension, about 0 as the mean square is.
    pub fourth_moment: Vec<f64>,
    /// The share of all energy that the largest dimension has in each Haar basis, in order: the metric `max_dim_energy_share`.
    /// Without values where all activations are 0.
    pub null_shares: Vec<f64>,
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
/// remaining tokens, in the standard basis and the optimizer's; what else is `wanted` of the detailed tokens. Metrics, and
/// then random bases, are shared out over the rayon pool that it finds itself in. Fewer than two tokens are not measured.
pub fn measure(x: &Residuals, wanted: &Wanted<'_>) -> Measured {
    let rotated = wanted.optimizer.map(|q| x.rotated(q));
    // What metrics compute of each token serves the subsets too.
    for x in std::iter::once(x).chain(&rotated) {
        rayon::join(|| x.tokens(), || x.each_peak(|_| ()));
    }
    let part = |tokens| {
        let rotated = rotated.as_ref().and_then(|x| subset(x, wanted.n_ctx, tokens));
        subset(x, wanted.n_ctx, tokens).map(|x| (tokens, x, rotated))
    };
    let parts: Vec<_> = [Tokens::All, Tokens::First, Tokens::Rest].into_iter().filter_map(part).collect();
    let mut all = Vec::new();
    for (tokens, x, rotated) in &parts {
        all.extend(METRICS.iter().map(|metric| (metric, &**x, (*tokens, Basis::Standard))));
        let moved = METRICS.iter().filter(|metric| metric.basis_dependent);
        let rotated = rotated.iter().map(|x| &**x);
        all.extend(rotated.flat_map(|x| moved.clone().map(move |metric| (metric, x, (*tokens, Basis::Optimizer)))));
    }
    let detailed = parts.iter().find(|(tokens, ..)| *tokens == wanted.detailed);
    let describe = || match detailed {
        Some((tokens, x, rotated)) => describe(*tokens, x, rotated.as_deref(), wanted),
        None => Default::default(),
    };
    let (((dimensions, sizes), large), mut values) = rayon::join(
        || (describe(), LargeValues::of(x)),
        || all.par_iter().filter_map(|&(metric, x, at)| value(metric, x, at)).collect::<Vec<_>>(),
    );
    if let Some((tokens, x, _)) = detailed {
        let behind = values.iter().rposition(|value| value.tokens == *tokens).map_or(0, |last| last + 1);
        values.splice(behind..behind, in_random_bases(x, *tokens, wanted));
    }
    Measured { values, dimensions, sizes, large }
}

/// What is wanted of each dimension of some tokens, also in the optimizer's basis where they are given in it.
fn describe(
    tokens: Tokens,
    x: &Residuals,
    rotated: Option<&Residuals>,
    wanted: &Wanted<'_>,
) -> (Vec<(Tokens, Basis, DimensionMoments)>, Vec<DimensionSizes>) {
    let (mut dimensions, mut sizes) = (Vec::new(), Vec::new());
    if !wanted.dimensions && wanted.sizes.is_none() {
        return (dimensions, sizes);
    }
    let null_shares = wanted.sizes.map(|bases| largest_shares(x, bases));
    let rotated = rotated.map(|x| (Basis::Optimizer, x));
    for (basis, x) in std::iter::once((Basis::Standard, x)).chain(rotated) {
        let (columns, n) = (columns(x), x.n_tokens());
        if wanted.dimensions {
            dimensions.extend(described(x, &columns).into_iter().map(|moments| (tokens, basis, moments)));
        }
        sizes.extend(null_shares.clone().map(|null_shares| {
            let (rms, fourth_moment) = (columns.rms(n), columns.fourth_moments(n));
            DimensionSizes { tokens, basis, rms, fourth_moment, null_shares }
        }));
    }
    (dimensions, sizes)
}

/// `max_dim_energy_share` in each basis, without rotating the tokens: the energies of the dimensions are the diagonal of
/// `Q C Q^T`, with `C` the sum of `x x^T` over tokens.
fn largest_shares(x: &Residuals, bases: &[Rotation]) -> Vec<f64> {
    if bases.is_empty() {
        return Vec::new();
    }
    let d = x.d_model();
    let half = gram(x, None);
    let whole: Vec<f64> = (0..d * d).map(|at| half[((at / d).min(at % d), (at / d).max(at % d))]).collect();
    let total: f64 = (0..d).map(|j| half[(j, j)]).sum();
    let share = |q: &Rotation| {
        // `C Q^T`: its column i is C times the axis i, which is row i of Q.
        let product = q.apply_rows(&whole);
        let axes = q.as_slice().chunks_exact(d).enumerate();
        let energies = axes.map(|(i, axis)| axis.iter().enumerate().map(|(j, q)| q * product[j * d + i]).sum::<f64>());
        energies.fold(0.0, f64::max) / total
    };
    bases.iter().map(share).filter(|share| share.is_finite()).collect()
}

/// What is wanted in Haar bases, basis by basis.
fn in_random_bases(x: &Residuals, tokens: Tokens, wanted: &Wanted<'_>) -> Vec<MetricValue> {
    let at = |k: usize| (tokens, Basis::Random(k as u32));
    let random = wanted.random.par_iter().enumerate();
    let in_random = random.map(|(k, q)| measure_in(&x.rotated(q), at(k), |metric| metric.basis_dependent));
    let mut values = in_random.collect::<Vec<_>>().concat();
    if let Some((seed, numbers, metrics)) = wanted.further.clone() {
        let in_further = numbers.into_par_iter().map(|k| {
            let x = x.rotated(&random_basis(seed, k, x.d_model()));
            measure_in(&x, at(k), |metric| metrics.iter().any(|name| name == metric.name))
        });
        values.extend(in_further.collect::<Vec<_>>().concat());
    }
    values
}

/// Every metric of one matrix that is `wanted`. `x` has the coordinates of `basis` already.
///
/// [`measure`] is a layer over this that holds the stream and a rotated copy of it for each basis that is measured at the
/// time. A caller whose matrix fills the memory cannot hold two: it rotates in place ([`Residuals::into_rotated`]), calls this,
/// and reads the matrix again for the next basis.
pub fn measure_in(x: &Residuals, at: (Tokens, Basis), wanted: impl Fn(&Metric) -> bool) -> Vec<MetricValue> {
    METRICS.iter().filter(|metric| wanted(metric)).filter_map(|metric| value(metric, x, at)).collect()
}

/// A metric of one matrix; `None` for one of several layers.
fn value(metric: &Metric, x: &Residuals, (tokens, basis): (Tokens, Basis)) -> Option<MetricValue> {
    match metric.of {
        MetricFn::Matrix(of) => {
            Some(MetricValue { tokens, tokens_used: x.n_tokens(), basis, metric: metric.name, value: of(x) })
        }
        MetricFn::Layers { .. } => None,
    }
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
