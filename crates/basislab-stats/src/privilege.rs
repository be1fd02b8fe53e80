//! One exact test of whether the basis of a model's activations is special, from several statistics at once.

use crate::inference::{MaxT, max_t, mean_sd};
use crate::measure::MetricValue;
use basislab_config::Basis;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of special basis a statistic speaks for on one side of its null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Alignment {
    /// Activations lie along coordinate axes: few dimensions are large.
    Axis,
    /// Activations lie along diagonals of the coordinate cube: all dimensions are about equally large.
    Corner,
}

impl Alignment {
    /// The names of all of them.
    pub const NAMES: &'static [&'static str] = &["axis", "corner"];

    /// Its name in tables and sentences.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl fmt::Display for Alignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The statistics of [`privilege`], each taken on a log scale, with what a value *above* its null speaks for; a value below
/// it speaks for the other.
pub static PRIVILEGE_METRICS: &[(&str, Alignment)] = &[
    ("token_kurtosis", Alignment::Axis),
    ("mean_vector_kurtosis", Alignment::Axis),
    ("varying_kurtosis", Alignment::Axis),
    ("dim_rms_kurtosis", Alignment::Axis),
    ("incoherence", Alignment::Axis),
    ("dim_correlation", Alignment::Corner),
];

/// Whether a basis is one of many: the result of [`privilege`].
#[derive(Debug, Clone, PartialEq)]
pub struct Privilege {
    /// Two-sided exact p over all statistics: the share of bases, the tested one counted, that are as far from the mean of
    /// all bases in any statistic.
    pub p: f64,
    /// Random bases.
    pub bases: usize,
    /// Every statistic that was defined in all bases, in the order of [`PRIVILEGE_METRICS`].
    pub statistics: Vec<PrivilegeStatistic>,
    /// The place in `statistics` of the one that is farthest from its null.
    pub largest: usize,
}

/// One statistic of [`Privilege`].
#[derive(Debug, Clone, PartialEq)]
pub struct PrivilegeStatistic {
    /// The metric.
    pub metric: &'static str,
    /// Its value in the tested basis.
    pub value: f64,
    /// Its mean over the random bases.
    pub null_mean: f64,
    /// Its standard deviation over the random bases (ddof 1).
    pub null_sd: f64,
    /// Its log's distance from the mean over all bases, the tested one counted, in standard deviations over all of them.
    pub z: f64,
    /// Random bases in which it is at most as large.
    pub above: usize,
    /// Random bases in which it is at least as large.
    pub below: usize,
    /// What a value on this side of the null speaks for.
    pub alignment: Alignment,
}

impl Privilege {
    /// The statistic that is farthest from its null.
    pub fn speaker(&self) -> &PrivilegeStatistic {
        &self.statistics[self.largest]
    }

    /// Whether no random basis is as far from the mean: the smallest p that so many bases can give.
    pub fn is_outside_all(&self) -> bool {
        self.p * ((self.bases + 1) as f64) < 1.5
    }
}

/// Tests whether `basis` is exchangeable with the random bases, from metrics of the same activations and tokens: the
/// statistics of [`PRIVILEGE_METRICS`] together, by [`max_t`] over their logarithms. A statistic is left out where it is
/// undefined or not positive in one of the bases, or was measured in fewer bases than another. `None` where none is left, or
/// without a random basis.
pub fn privilege(values: &[MetricValue], basis: Basis) -> Option<Privilege> {
    let mut measured: Vec<(PrivilegeStatistic, Vec<f64>)> = Vec::new();
    for &(metric, above) in PRIVILEGE_METRICS {
        let of_metric = || values.iter().filter(|value| value.metric == metric);
        let own = of_metric().find(|value| value.basis == basis).and_then(|value| value.value);
        let mut draws: Vec<(u32, f64)> = Vec::new();
        let mut complete = true;
        for value in of_metric() {
            if let Basis::Random(number) = value.basis {
                value.value.map_or_else(|| complete = false, |value| draws.push((number, value)));
            }
        }
        // The same order of bases in every statistic.
        draws.sort_by_key(|(number, _)| *number);
        let draws: Vec<f64> = draws.into_iter().map(|(_, value)| value).collect();
        let (Some(value), Some((null_mean, null_sd))) = (own.filter(|_| complete), mean_sd(&draws)) else { continue };
        let log: Vec<f64> = std::iter::once(value).chain(draws.iter().copied()).map(f64::ln).collect();
        if !log.iter().all(|log| log.is_finite()) {
            continue;
        }
        let alignment = if value >= null_mean { above } else { above.other() };
        let above = draws.iter().filter(|draw| **draw <= value).count();
        let below = draws.iter().filter(|draw| **draw >= value).count();
        let statistic = PrivilegeStatistic { metric, value, null_mean, null_sd, z: 0.0, above, below, alignment };
        measured.push((statistic, log));
    }
    let most = measured.iter().map(|(_, log)| log.len()).max()?;
    measured.retain(|(_, log)| log.len() == most);
    let (mut statistics, logs): (Vec<_>, Vec<_>) = measured.into_iter().unzip();
    let bases = most - 1;
    let MaxT { p, z, largest } = max_t(&logs)?;
    statistics.iter_mut().zip(z).for_each(|(statistic, z)| statistic.z = z);
    Some(Privilege { p, bases, statistics, largest })
}

impl Alignment {
    fn other(self) -> Self {
        match self {
            Self::Axis => Self::Corner,
            Self::Corner => Self::Axis,
        }
    }
}
