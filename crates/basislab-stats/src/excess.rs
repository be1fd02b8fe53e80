use crate::inference::mean_sd;
use crate::metrics::{Metric, MetricFn};
use crate::random::{Purpose, stream};
use crate::residuals::Residuals;
use crate::rotation::Rotation;

/// A metric against itself in random bases of the same activations.
#[derive(Debug, Clone, PartialEq)]
pub struct BasisExcess {
    /// In the given basis.
    pub value: f64,
    /// Mean over the random bases.
    pub null_mean: f64,
    /// Standard deviation of one draw (ddof 1).
    pub null_sd: f64,
    /// `(value - null_mean) / null_sd`; infinite when the draws do not differ but the value does, 0 when nothing differs.
    pub z: f64,
    /// Two-sided rank p-value: `2 min(1 + #{draws <= value}, 1 + #{draws >= value}) / (k + 1)`, at most 1.
    pub rank_p: f64,
    /// Number of random bases.
    pub k: usize,
}

/// The `k`-th random basis of this seed.
pub fn random_basis(seed: u64, k: usize, d_model: usize) -> Rotation {
    Rotation::haar(d_model, &mut stream(seed, Purpose::RandomBasis, k as u64))
}

/// The basis excess of each metric over the same `k` Haar bases (8 at least for a verdict), drawn from
/// [`Purpose::RandomBasis`]. Each basis is applied once, whatever the number of metrics.
///
/// `None` where the metric is undefined in one of the bases or needs layers, with fewer than two bases, and for metrics
/// that are the same in every basis: their draws differ by rounding only, and a z of rounding would look like a result.
pub fn basis_excess_all(metrics: &[&Metric], x: &Residuals, k: usize, seed: u64) -> Vec<Option<BasisExcess>> {
    let turned = |i| x.rotated(&random_basis(seed, i, x.d_model()));
    let draws: Vec<_> = (0..k).map(|i| evaluate(metrics, &turned(i))).collect();
    excess_all(metrics, &evaluate(metrics, x), &draws)
}

/// Each metric of one matrix; `None` where it is undefined or needs layers.
pub fn evaluate(metrics: &[&Metric], x: &Residuals) -> Vec<Option<f64>> {
    let one = |metric: &&Metric| match metric.of {
        MetricFn::Matrix(of) => of(x),
        MetricFn::Layers { .. } => None,
    };
    metrics.iter().map(one).collect()
}

/// What [`basis_excess_all`] makes of the metrics' values in the given basis and in each random one.
pub fn excess_all(metrics: &[&Metric], values: &[Option<f64>], draws: &[Vec<Option<f64>>]) -> Vec<Option<BasisExcess>> {
    let column = |at: usize| draws.iter().map(|row| row[at]).collect::<Option<Vec<f64>>>();
    let one = |at: usize| if metrics[at].basis_dependent { excess(values[at]?, &column(at)?) } else { None };
    (0..metrics.len()).map(one).collect()
}

/// A value against draws of its null; `None` with fewer than two draws.
pub fn excess(value: f64, draws: &[f64]) -> Option<BasisExcess> {
    let (null_mean, null_sd) = mean_sd(draws)?;
    let distance = value - null_mean;
    let z = if distance == 0.0 { 0.0 } else { distance / null_sd };
    let at_most = 1 + draws.iter().filter(|draw| **draw <= value).count();
    let at_least = 1 + draws.iter().filter(|draw| **draw >= value).count();
    let rank_p = (2.0 * at_most.min(at_least) as f64 / (draws.len() + 1) as f64).min(1.0);
    Some(BasisExcess { value, null_mean, null_sd, z, rank_p, k: draws.len() })
}
