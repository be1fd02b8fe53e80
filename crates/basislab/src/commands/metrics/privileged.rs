//! Whether the basis of a matrix is special, in one sentence.

use basislab_config::{Basis, count};
use basislab_stats::{Alignment, MetricValue, Privilege, privilege};
use serde_json::{Value, json};

/// p up to this is called privileged: with 19 random bases or more it can be reached.
const ALPHA: f64 = 0.05;

/// The test over all statistics, and the dimension of the largest RMS.
pub(super) struct Privileged {
    test: Option<Privilege>,
    dimension: Dimension,
    bases: usize,
}

/// The dimension of the largest RMS over tokens.
pub(super) struct Dimension {
    number: usize,
    /// Its RMS over that of the median dimension; `None` where that is 0.
    over_median: Option<f64>,
    share_of_energy: f64,
}

impl Dimension {
    /// Of the dimensions with these sums of squares.
    pub(super) fn largest(energy: &[f64]) -> Self {
        let mut rms: Vec<f64> = energy.iter().map(|energy| energy.sqrt()).collect();
        rms.sort_by(f64::total_cmp);
        let middle = 0.5 * (rms[(rms.len() - 1) / 2] + rms[rms.len() / 2]);
        let (number, largest) =
            energy.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).expect("a matrix has dimensions");
        let all: f64 = energy.iter().sum();
        Self {
            number,
            over_median: (middle > 0.0).then(|| largest.sqrt() / middle),
            share_of_energy: if all > 0.0 { largest / all } else { 0.0 },
        }
    }
}

impl Privileged {
    /// From the metrics in the standard basis and in `bases` random ones.
    pub(super) fn of(values: &[MetricValue], dimension: Dimension, bases: usize) -> Self {
        Self { test: privilege(values, Basis::Standard), dimension, bases }
    }

    /// Such as `Privileged: token kurtosis 17.0, random bases 2.96 ± 0.05, outside all 64 (p = 1/65, the least that 64 bases can
    /// give). Dimension 37: RMS 8.5 x the median, 37 % of the energy.`
    pub(super) fn sentence(&self) -> String {
        let Some(test) = &self.test else {
            return "Not tested: no statistic is defined in every basis.".to_owned();
        };
        let speaker = test.speaker();
        let name = speaker.metric.replace('_', " ");
        let side = if speaker.value < speaker.null_mean { "lower than in random bases" } else { "random bases" };
        let [value, mean, sd] = [speaker.value, speaker.null_mean, speaker.null_sd].map(digits);
        let numbers = format!("{name} {value}, {side} {mean} ± {sd}");
        let p = format!("p = {}/{}", (test.p * (self.bases + 1) as f64).round(), self.bases + 1);
        if test.p > ALPHA {
            let few = if (self.bases + 1) as f64 * ALPHA < 1.0 {
                format!("; {} give no p of {ALPHA} or less", count(self.bases, "random basis"))
            } else {
                String::new()
            };
            return format!(
                "Not shown to be privileged: of {}, {numbers} is farthest from its null ({p}{few}).",
                count(test.statistics.len(), "statistic")
            );
        }
        let outside = match test.is_outside_all() {
            true => format!("outside all {} ({p}, the least that {} bases can give)", self.bases, self.bases),
            false => format!("farther out than all but {} of {} ({p})", self.beyond(test), self.bases),
        };
        format!("Privileged: {numbers}, {outside}. {}", self.alignment(speaker.alignment))
    }

    /// What the two kinds of p are of.
    pub(super) fn about_p(&self) -> String {
        let rank = "rank p: two-sided, each row alone, not corrected.";
        let Some(test) = &self.test else { return rank.to_owned() };
        let names: Vec<&str> = test.statistics.iter().map(|one| one.metric).collect();
        format!("The p of the first line: one test of {} together. {rank}", names.join(", "))
    }

    /// Random bases that are as far from the mean of all as the tested one.
    fn beyond(&self, test: &Privilege) -> usize {
        ((test.p * (self.bases + 1) as f64).round() as usize).saturating_sub(1)
    }

    fn alignment(&self, alignment: Alignment) -> String {
        let Dimension { number, over_median, share_of_energy } = &self.dimension;
        match (alignment, over_median) {
            (Alignment::Axis, Some(ratio)) => {
                let share = 100.0 * share_of_energy;
                format!("Dimension {number}: RMS {ratio:.1} x the median, {share:.0} % of the energy.")
            }
            (Alignment::Axis, None) => format!("Dimension {number}: {:.0} % of the energy.", 100.0 * share_of_energy),
            (Alignment::Corner, _) => {
                "Corner-like: coordinates are more alike in magnitude than in random bases.".to_owned()
            }
        }
    }

    pub(super) fn json(&self) -> Value {
        let Dimension { number, over_median, share_of_energy } = &self.dimension;
        let test = self.test.as_ref().map(|test| {
            let statistics: Vec<Value> = test
                .statistics
                .iter()
                .map(|one| {
                    json!({
                        "metric": one.metric, "value": one.value, "null_mean": one.null_mean, "null_sd": one.null_sd,
                        "z_of_log": one.z, "bases_at_most": one.above, "bases_at_least": one.below,
                        "alignment": one.alignment.name(),
                    })
                })
                .collect();
            json!({ "p": test.p, "outside_all": test.is_outside_all(), "speaker": test.speaker().metric, "statistics": statistics })
        });
        json!({
            "sentence": self.sentence(), "privileged": self.test.as_ref().is_some_and(|test| test.p <= ALPHA), "test": test,
            "largest_dimension": {
                "dim": number, "rms_over_median": over_median, "share_of_energy": share_of_energy,
            },
        })
    }
}

/// Three significant digits.
fn digits(value: f64) -> String {
    let digits = if value == 0.0 { 2.0 } else { (2.0 - value.abs().log10().floor()).clamp(0.0, 12.0) };
    format!("{value:.0$}", digits as usize)
}
