//! What is said of one checkpoint, line by line.

use super::{KURTOSIS, MeasuredTables, Reading, Readings};
use crate::index::{mean, pooled_null};
use basislab_config::{Site, Tokens};
use basislab_tables::{MassiveRow, ModelRow};
use serde::Serialize;
use std::cmp::Ordering;

/// One checkpoint of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckpointLine {
    /// Its row of `models.csv`.
    pub model: ModelRow,
    /// The stream after the last block.
    pub end: Option<SiteLine>,
    /// Dimensions that stand out after the last block.
    pub special_at_end: usize,
}

/// Token kurtosis at one site.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteLine {
    /// The site.
    pub site: Site,
    /// Which tokens `value` and the random bases are of.
    pub tokens: Tokens,
    /// How many of them: those that were measured in random bases too, where there are such.
    pub sampled: u64,
    /// Mean over these tokens.
    pub value: Option<f64>,
    /// The same of tokens less their mean vector.
    pub varying: Option<f64>,
    /// Mean over random bases of the same activations.
    pub null_mean: Option<f64>,
    /// Standard deviation of one random basis.
    pub null_sd: Option<f64>,
    /// What was compared over `null_mean`.
    pub ratio: Option<f64>,
    /// Random bases.
    pub bases: usize,
    /// Whether it is larger than in every random basis; `false` without any.
    pub above: bool,
    /// Whether it is smaller than in every random basis; `false` without any.
    pub below: bool,
    /// Median over all of `tokens`.
    pub median: Option<f64>,
    /// Mean over all tokens.
    pub all: Option<f64>,
    /// Mean over the first tokens of sequences.
    pub first: Option<f64>,
}

/// A dimension that stands out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DimensionLine {
    /// The dimension, from 0.
    pub dim: usize,
    /// Its largest size over that of the median dimension.
    pub ratio: f64,
    /// Where that is.
    pub site: Site,
    /// The largest ratio of any dimension in any random basis there.
    pub threshold: f64,
    /// At how many of the `resid_post` sites it stands out.
    pub persistence: usize,
    /// How many `resid_post` sites there are.
    pub of: usize,
    /// First and last block at whose `resid_post` it stands out.
    pub blocks: Option<(usize, usize)>,
}

/// A token that holds a large share of the sum of squares of all tokens but the first of each sequence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DominantLine {
    /// Text of the token.
    pub text: String,
    /// The sequence, from 0.
    pub sequence: usize,
    /// Place in the sequence, from 0.
    pub position: usize,
    /// Its largest share.
    pub share: f64,
    /// Where that is.
    pub site: Site,
}

pub(super) fn checkpoint(tables: &MeasuredTables, readings: &Readings<'_>, model: &ModelRow) -> CheckpointLine {
    let end = readings.at_end(model).map(|(site, _)| site_line(readings, model, site));
    let is_of_end = |site: Site| end.as_ref().is_some_and(|end| end.site == site);
    let special = tables.special.iter().filter(|row| is_same(model, &row.model, row.step) && is_of_end(row.site));
    CheckpointLine { model: model.clone(), special_at_end: special.count(), end }
}

pub(super) fn sites(readings: &Readings<'_>, model: &ModelRow) -> Vec<SiteLine> {
    let sites = readings.sites_of_kurtosis(model).into_iter();
    sites.map(|site| site_line(readings, model, site)).collect()
}

fn site_line(readings: &Readings<'_>, model: &ModelRow, site: Site) -> SiteLine {
    let tokens = readings.detailed(model);
    let none = Reading::default();
    let reading = readings.get(model, site, tokens, KURTOSIS).unwrap_or(&none);
    let (null_mean, null_sd) = pooled_null(&[&reading.draws]);
    let value_of = |tokens, metric| readings.get(model, site, tokens, metric).and_then(Reading::value);
    let beyond = |order: Ordering| {
        let is_beyond = |value: f64| reading.draws.iter().all(|draw| value.total_cmp(draw) == order);
        !reading.draws.is_empty() && reading.compared().is_some_and(is_beyond)
    };
    SiteLine {
        site,
        tokens,
        sampled: reading.tokens_compared(),
        value: reading.compared(),
        varying: readings.get(model, site, tokens, "varying_kurtosis").and_then(Reading::compared),
        null_mean,
        null_sd,
        ratio: over_null(reading),
        bases: reading.draws.len(),
        above: beyond(Ordering::Greater),
        below: beyond(Ordering::Less),
        median: value_of(tokens, "token_kurtosis_median"),
        all: value_of(Tokens::All, KURTOSIS),
        first: value_of(Tokens::First, KURTOSIS),
    }
}

/// A reading over the mean of its random bases.
pub(crate) fn over_null(reading: &Reading) -> Option<f64> {
    let ratio = reading.compared()? / mean(&reading.draws)?;
    ratio.is_finite().then_some(ratio)
}

pub(super) fn dimensions(tables: &MeasuredTables, readings: &Readings<'_>, model: &ModelRow) -> Vec<DimensionLine> {
    let of = readings.sites(model).iter().filter(|site| matches!(site, Site::ResidPost(_))).count();
    let mut lines: Vec<DimensionLine> = Vec::new();
    for row in tables.special.iter().filter(|row| is_same(model, &row.model, row.step)) {
        let block = if let Site::ResidPost(block) = row.site { Some((block, block)) } else { None };
        match lines.iter_mut().find(|line| line.dim == row.dim) {
            Some(line) => {
                if row.ratio > line.ratio {
                    (line.ratio, line.site, line.threshold) = (row.ratio, row.site, row.threshold);
                }
                line.blocks = match (line.blocks, block) {
                    (Some((from, to)), Some((block, _))) => Some((from.min(block), to.max(block))),
                    (known, new) => known.or(new),
                };
            }
            None => lines.push(DimensionLine {
                dim: row.dim,
                ratio: row.ratio,
                site: row.site,
                threshold: row.threshold,
                persistence: row.persistence,
                of,
                blocks: block,
            }),
        }
    }
    lines.sort_by(|a, b| (b.persistence.cmp(&a.persistence)).then(b.ratio.total_cmp(&a.ratio)));
    lines
}

pub(super) fn massive_activations(readings: &Readings<'_>, model: &ModelRow) -> Option<(f64, String)> {
    let count = |site: &Site| {
        let reading = readings.get(model, *site, Tokens::All, "massive_activations")?;
        Some((reading.value()?, site.to_string()))
    };
    let counts = readings.sites(model).iter().filter_map(count);
    counts.reduce(|most, next| if next.0 > most.0 { next } else { most })
}

pub(super) fn largest(tables: &MeasuredTables, model: &ModelRow) -> Vec<MassiveRow> {
    let mut all: Vec<MassiveRow> = Vec::new();
    let size = |row: &MassiveRow| row.ratio.unwrap_or(0.0);
    for row in tables.massive.iter().filter(|row| is_same(model, &row.model, row.step)) {
        let key = |row: &MassiveRow| (row.token, row.dim, row.first);
        match all.iter_mut().find(|known| key(known) == key(row)) {
            Some(known) if size(row) > size(known) => known.clone_from(row),
            Some(_) => {}
            None => all.push(row.clone()),
        }
    }
    all.sort_by(|a, b| b.first.cmp(&a.first).then(size(b).total_cmp(&size(a))));
    all
}

pub(super) fn first_token_share(tables: &MeasuredTables, model: &ModelRow) -> Vec<(String, f64)> {
    let mut shares: Vec<(String, f64)> = Vec::new();
    for row in tables.dominant.iter().filter(|row| row.first && is_same(model, &row.model, row.step)) {
        let site = row.site.to_string();
        let share = row.share / row.share_of_group;
        if share.is_finite() && shares.iter().all(|(known, _)| *known != site) {
            shares.push((site, share));
        }
    }
    shares
}

pub(super) fn dominant(tables: &MeasuredTables, model: &ModelRow) -> Vec<DominantLine> {
    let mut lines: Vec<DominantLine> = Vec::new();
    for row in tables.dominant.iter().filter(|row| !row.first && is_same(model, &row.model, row.step)) {
        let same = |line: &&mut DominantLine| (line.sequence, line.position) == (row.sequence, row.position);
        match lines.iter_mut().find(same) {
            Some(line) if row.share_of_group > line.share => (line.share, line.site) = (row.share_of_group, row.site),
            Some(_) => {}
            None => lines.push(DominantLine {
                text: row.text.clone(),
                sequence: row.sequence,
                position: row.position,
                share: row.share_of_group,
                site: row.site,
            }),
        }
    }
    lines.sort_by(|a, b| b.share.total_cmp(&a.share));
    lines
}

/// Whether a row is of this checkpoint.
fn is_same(model: &ModelRow, name: &str, step: u64) -> bool {
    model.model == *name && model.step == step
}
