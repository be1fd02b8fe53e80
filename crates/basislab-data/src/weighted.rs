use basislab_stats::uniform;
use rand_chacha::ChaCha8Rng;

/// A finite distribution over token or class numbers, drawn from by bisection of its cumulative sums.
#[derive(Debug, Clone)]
pub(crate) struct Weighted {
    pub(crate) items: Vec<u32>,
    pub(crate) shares: Vec<f64>,
    cumulative: Vec<f64>,
}

impl Weighted {
    /// Weights are positive and need not sum to one.
    pub(crate) fn new(items: Vec<u32>, weights: Vec<f64>) -> Self {
        let total: f64 = weights.iter().sum();
        let shares: Vec<f64> = weights.iter().map(|weight| weight / total).collect();
        let cumulative = shares
            .iter()
            .scan(0.0, |sum, share| {
                *sum += share;
                Some(*sum)
            })
            .collect();
        Self { items, shares, cumulative }
    }

    pub(crate) fn draw(&self, rng: &mut ChaCha8Rng) -> u32 {
        let point = uniform(rng);
        let index = self.cumulative.partition_point(|sum| *sum <= point);
        // Rounding can leave the last sum just below one.
        self.items[index.min(self.items.len() - 1)]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        self.items.iter().copied().zip(self.shares.iter().copied())
    }
}
