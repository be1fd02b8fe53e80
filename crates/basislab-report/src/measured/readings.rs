//! The rows of `residual.csv` by model, checkpoint, site, tokens and metric.

use super::KURTOSIS;
use basislab_config::{Basis, Site, Tokens};
use basislab_tables::{ModelRow, ResidualRow};
use std::collections::BTreeMap;

/// One metric of some tokens at one site.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reading {
    /// In the standard basis: `(tokens measured, value)`, once for each number of tokens.
    standard: Vec<(u64, f64)>,
    /// In random bases of the same activations.
    pub(crate) draws: Vec<f64>,
    /// Tokens measured in random bases.
    tokens_of_draws: u64,
}

impl Reading {
    /// The value in the standard basis, of as many tokens as were measured.
    pub(crate) fn value(&self) -> Option<f64> {
        self.standard.iter().max_by_key(|(tokens, _)| *tokens).map(|(_, value)| *value)
    }

    /// The value to be compared with random bases: of the same number of tokens, where there is one.
    pub(crate) fn compared(&self) -> Option<f64> {
        let same = self.standard.iter().find(|(tokens, _)| *tokens == self.tokens_of_draws);
        same.map(|(_, value)| *value).or_else(|| self.value())
    }

    /// Tokens that [`Reading::compared`] is of.
    pub(crate) fn tokens_compared(&self) -> u64 {
        let same = self.standard.iter().any(|(tokens, _)| *tokens == self.tokens_of_draws);
        if same { self.tokens_of_draws } else { self.tokens() }
    }

    /// Tokens that [`Reading::value`] is of.
    pub(crate) fn tokens(&self) -> u64 {
        self.standard.iter().map(|(tokens, _)| *tokens).max().unwrap_or(0)
    }
}

/// All rows.
pub(crate) struct Readings<'a> {
    readings: BTreeMap<(&'a str, u64, Site, Tokens, &'a str), Reading>,
    sites: BTreeMap<(&'a str, u64), Vec<Site>>,
    detailed: BTreeMap<(&'a str, u64), Tokens>,
}

impl<'a> Readings<'a> {
    pub(crate) fn of(rows: &'a [ResidualRow]) -> Self {
        let mut all = Self { readings: BTreeMap::new(), sites: BTreeMap::new(), detailed: BTreeMap::new() };
        for row in rows {
            // A sample is measured for the comparison with random bases alone.
            let tokens = if row.tokens == Tokens::Sample { Tokens::Rest } else { row.tokens };
            let key = (row.arm.as_str(), row.step, row.site, tokens, row.metric.as_str());
            let reading = all.readings.entry(key).or_default();
            match (row.basis, row.value) {
                (Basis::Standard, Some(value)) => reading.standard.push((row.tokens_used, value)),
                (Basis::Random(_), Some(value)) => {
                    reading.draws.push(value);
                    reading.tokens_of_draws = row.tokens_used;
                    all.detailed.insert((&row.arm, row.step), tokens);
                }
                _ => {}
            }
        }
        // Sites are written one after another, but single rows may have been brought to the front of the file: the last row of
        // each site is where it was.
        for row in rows.iter().rev() {
            let sites = all.sites.entry((&row.arm, row.step)).or_default();
            if !sites.contains(&row.site) {
                sites.push(row.site);
            }
        }
        all.sites.values_mut().for_each(|sites| sites.reverse());
        all
    }

    /// What was read of one metric.
    pub(crate) fn get<'b>(
        &'b self,
        model: &'b ModelRow,
        site: Site,
        tokens: Tokens,
        metric: &'b str,
    ) -> Option<&'b Reading> {
        self.readings.get(&(model.model.as_str(), model.step, site, tokens, metric))
    }

    /// Every site with a row, in the order of the forward pass.
    pub(crate) fn sites<'b>(&'b self, model: &'b ModelRow) -> &'b [Site] {
        self.sites.get(&(model.model.as_str(), model.step)).map_or(&[], Vec::as_slice)
    }

    /// The sites at which kurtosis was measured of any tokens, in that order.
    pub(crate) fn sites_of_kurtosis(&self, model: &ModelRow) -> Vec<Site> {
        let any = |site: &Site| Tokens::ALL.iter().any(|&tokens| self.get(model, *site, tokens, KURTOSIS).is_some());
        self.sites(model).iter().copied().filter(any).collect()
    }

    /// The tokens that were measured in random bases; without any, all but the first of each sequence where there are such,
    /// else all.
    pub(crate) fn detailed(&self, model: &ModelRow) -> Tokens {
        let rest = || self.sites(model).iter().any(|site| self.get(model, *site, Tokens::Rest, KURTOSIS).is_some());
        let known = self.detailed.get(&(model.model.as_str(), model.step)).copied();
        known.unwrap_or_else(|| if rest() { Tokens::Rest } else { Tokens::All })
    }

    /// Kurtosis of the detailed tokens after the last block.
    pub(crate) fn at_end<'b>(&'b self, model: &'b ModelRow) -> Option<(Site, &'b Reading)> {
        let last = |site: &&Site| matches!(site, Site::ResidPost(_));
        let site = *self.sites(model).iter().rev().find(last)?;
        Some((site, self.get(model, site, self.detailed(model), KURTOSIS)?))
    }
}
