use crate::inference::mean_sd;
use crate::measure::MetricValue;
use crate::metrics::Metric;
use crate::random::{Purpose, stream};
use crate::rotation::Rotation;
use basislab_config::Basis;

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

/// A metric in the standard basis against itself in the random bases (8 at least for a verdict), from the values of one
/// choice of tokens.
///
/// `None` where the metric is undefined in one of the bases or has no values, with fewer than two random bases, and for
/// metrics that are the same in every basis: their draws differ by rounding only, and a z of rounding would look like a
/// result.
pub fn basis_excess(metric: &Metric, values: &[MetricValue]) -> Option<BasisExcess> {
    if !metric.basis_dependent {
        return None;
    }
    let (mut own, mut draws) = (None, Vec::new());
    for value in values.iter().filter(|value| value.metric == metric.name) {
        match value.basis {
            Basis::Standard => own = value.value,
            Basis::Random(_) => draws.push(value.value?),
            Basis::Optimizer => {}
        }
    }
    excess(own?, &draws)
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
