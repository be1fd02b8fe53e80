//! Rows of `basislab measure` from statistics of a site.

use crate::measured_rows::{DominantTokenRow, MassiveRow, SpecialDimensionRow};
use basislab_config::{RunName, Site};
use basislab_stats::{DominantToken, LargestValue, SpecialDimension};

/// The rows of all sites of one model: `(site, threshold, dimensions that stand out there)`.
pub fn special_rows(
    model: &RunName,
    step: u64,
    sites: &[(Site, f64, Vec<SpecialDimension>)],
) -> Vec<SpecialDimensionRow> {
    let after_blocks = || sites.iter().filter(|(site, ..)| matches!(site, Site::ResidPost(_)));
    let persistence = |dim| after_blocks().filter(|(_, _, found)| found.iter().any(|one| one.dim == dim)).count();
    let row = |site: Site, threshold: f64, one: &SpecialDimension| SpecialDimensionRow {
        model: model.clone(),
        step,
        site,
        layer: site.layer(),
        dim: one.dim,
        size: one.size,
        ratio: one.ratio,
        threshold,
        rank: one.rank,
        persistence: persistence(one.dim),
    };
    sites.iter().flat_map(|(site, threshold, found)| found.iter().map(|one| row(*site, *threshold, one))).collect()
}

/// The tokens that a site was measured on.
#[derive(Debug, Clone, Copy)]
pub struct MeasuredTokens<'a> {
    /// The model's name.
    pub model: &'a RunName,
    /// Training step of the checkpoint; 0 where it is not known.
    pub step: u64,
    /// Numbers in the vocabulary, sequence by sequence.
    pub tokens: &'a [u32],
    /// Tokens per sequence, at least 1.
    pub n_ctx: usize,
    /// The text of each of `tokens`, as the tokenizer has it.
    pub texts: &'a [String],
}

impl MeasuredTokens<'_> {
    /// The rows of a site.
    ///
    /// # Panics
    /// If a value is of a token that is not here.
    pub fn massive_rows(&self, site: Site, values: &[LargestValue]) -> Vec<MassiveRow> {
        let row = |one: &LargestValue| MassiveRow {
            model: self.model.clone(),
            step: self.step,
            site,
            layer: site.layer(),
            sequence: one.token / self.n_ctx,
            position: one.token % self.n_ctx,
            token: self.tokens[one.token].into(),
            text: format!("{:?}", self.texts[one.token]),
            dim: one.dim,
            value: one.value,
            ratio: one.ratio,
            first: one.first,
        };
        values.iter().map(row).collect()
    }

    /// The rows of a site.
    ///
    /// # Panics
    /// If a token is not here.
    pub fn dominant_rows(&self, site: Site, tokens: &[DominantToken]) -> Vec<DominantTokenRow> {
        let row = |one: &DominantToken| DominantTokenRow {
            model: self.model.clone(),
            step: self.step,
            site,
            layer: site.layer(),
            sequence: one.token / self.n_ctx,
            position: one.token % self.n_ctx,
            token: self.tokens[one.token].into(),
            text: format!("{:?}", self.texts[one.token]),
            share: one.share,
            share_of_group: one.share_of_group,
            first: one.first,
        };
        tokens.iter().map(row).collect()
    }
}
