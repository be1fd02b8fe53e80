use basislab_config::{Basis, RunName, Site, Tokens};
use basislab_stats::{
    Metric, MetricValue, Residuals, Rotation, SpecialDimension, Wanted, dominant_tokens, largest_dimension_ratio,
    largest_values, measure, measure_in, random_basis, special_dimensions,
};
use basislab_tables::{
    DimensionRow, DominantTokenRow, MassiveRow, MeasuredTokens, ResidualRow, SpecialDimensionRow, special_rows,
};
use rayon::prelude::*;

/// Largest values and dominant tokens of a site that get a row: of first tokens, and of others.
const LISTED: usize = 8;

/// Random bases, and the tokens that are measured in them.
#[derive(Debug)]
pub struct Bases {
    random: Vec<Rotation>,
    /// Rows of the sample, spread evenly over all tokens but the first of each sequence.
    sample: Vec<usize>,
}

impl Bases {
    /// `count` Haar bases of `seed` for a width of `d`, measured on about `sample` of the `tokens`.
    pub fn draw(seed: u64, count: usize, d: usize, tokens: usize, length: usize, sample: usize) -> Self {
        let random = (0..count).into_par_iter().map(|k| random_basis(seed, k, d)).collect();
        let rest: Vec<usize> = (0..tokens).filter(|token| !token.is_multiple_of(length)).collect();
        let size = sample.min(rest.len());
        let sample = (0..size).map(|i| rest[i * rest.len() / size]).collect();
        Self { random, sample }
    }
}

impl Bases {
    /// What the random bases tell of a site: metrics of the sample, the threshold that special dimensions exceed, and these.
    /// `None` where there is nothing to compare.
    fn measure(&self, x: &Residuals) -> Option<(Vec<MetricValue>, Option<f64>, Vec<SpecialDimension>)> {
        if self.sample.len() < 2 || self.random.is_empty() {
            return None;
        }
        let sample = x.subset(&self.sample);
        let (values, threshold) = in_random_bases(&sample, self);
        let special = threshold.map_or_else(Vec::new, |threshold| special_dimensions(&sample, threshold));
        Some((values, threshold, special))
    }
}

/// What was measured of one model, as rows.
#[derive(Debug, Default)]
pub struct Measurements {
    /// Metrics.
    pub residual: Vec<ResidualRow>,
    /// Dimensions.
    pub dimensions: Vec<DimensionRow>,
    /// The largest values.
    pub massive: Vec<MassiveRow>,
    /// Tokens that hold most of the sum of squares.
    pub dominant: Vec<DominantTokenRow>,
    /// Dimensions that stand out, with the threshold of each site.
    special: Vec<(Site, f64, Vec<SpecialDimension>)>,
    /// The first site with a value that is not finite.
    pub not_finite: Option<Site>,
}

impl Measurements {
    /// The rows of dimensions that stand out.
    pub fn special(&self, model: &RunName, step: u64) -> Vec<SpecialDimensionRow> {
        special_rows(model, step, &self.special)
    }

    /// Measures one site, `[tokens, width]`.
    pub(crate) fn site(&mut self, site: Site, values: &[f32], tokens: &MeasuredTokens<'_>, bases: &Bases) {
        let width = values.len() / tokens.tokens.len();
        let Ok(x) = Residuals::new(values.iter().copied().map(f64::from).collect(), width) else {
            self.not_finite.get_or_insert(site);
            return;
        };
        let wanted = Wanted {
            n_ctx: Some(tokens.n_ctx),
            optimizer: None,
            detailed: Tokens::Rest,
            random: &[],
            further: None,
            dimensions: true,
            sizes: None,
        };
        let measured = measure(&x, &wanted);
        let mut rows = measured.values;
        let (values, dominant) =
            (|| largest_values(&x, tokens.n_ctx, LISTED), || dominant_tokens(&x, tokens.n_ctx, LISTED));
        let ((values, dominant), null) = rayon::join(|| rayon::join(values, dominant), || bases.measure(&x));
        if let Some((values, threshold, special)) = null {
            rows.extend(values);
            self.special.extend(threshold.map(|threshold| (site, threshold, special)));
        }
        self.residual.extend(rows.into_iter().map(|one| residual_row(tokens, site, one)));
        for (of, basis, m) in measured.dimensions {
            self.dimensions.push(DimensionRow::of(tokens.model, 0, tokens.step, site, (of, basis), &m));
        }
        self.massive.extend(tokens.massive_rows(site, &values));
        self.dominant.extend(tokens.dominant_rows(site, &dominant));
    }
}

/// Every metric that depends on the basis, of the sample in the standard basis and in each random one; and the largest
/// ratio of a dimension's size to the median one's in any random basis.
fn in_random_bases(sample: &Residuals, bases: &Bases) -> (Vec<MetricValue>, Option<f64>) {
    let is_wanted = |metric: &Metric| metric.basis_dependent;
    let standard =
        rayon::iter::once(()).map(|()| (measure_in(sample, (Tokens::Sample, Basis::Standard), is_wanted), None));
    let each = bases.random.par_iter().enumerate().map(|(k, q)| {
        let rotated = sample.rotated(q);
        let at = (Tokens::Sample, Basis::Random(k as u32));
        (measure_in(&rotated, at, is_wanted), largest_dimension_ratio(&rotated))
    });
    let (mut values, mut largest) = (Vec::new(), None::<f64>);
    for (found, ratio) in standard.chain(each).collect::<Vec<_>>() {
        values.extend(found);
        largest = largest.into_iter().chain(ratio).reduce(f64::max);
    }
    (values, largest)
}

fn residual_row(tokens: &MeasuredTokens<'_>, site: Site, one: MetricValue) -> ResidualRow {
    ResidualRow {
        arm: tokens.model.clone(),
        seed: 0,
        step: tokens.step,
        site,
        layer: site.layer(),
        tokens: one.tokens,
        tokens_used: one.tokens_used as u64,
        basis: one.basis,
        metric: one.metric.to_owned(),
        value: one.value,
    }
}
