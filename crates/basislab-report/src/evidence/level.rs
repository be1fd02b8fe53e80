//! Evidence about the level of one arm, in the unit of the metric.

use super::{Evidence, Lookup, Test};
use crate::note::Lack;
use crate::verdicts::percent;
use basislab_config::{Claim, RunName};
use basislab_stats::Side;

impl Lookup<'_> {
    /// The arm against a published number.
    pub(super) fn near(&self, claim: &Claim, arm: &RunName, value: f64, tolerance: f64) -> Evidence {
        let comparison = format!("{arm} = {value} ± {} %", percent(tolerance));
        self.level(claim, arm, comparison, Test::Near { value, tolerance })
    }

    /// The arm against a threshold.
    pub(super) fn bound(&self, claim: &Claim, arm: &RunName, threshold: f64, side: Side) -> Evidence {
        let sign = if side == Side::AtMost { "<=" } else { ">=" };
        self.level(claim, arm, format!("{arm} {sign} {threshold}"), Test::Bound { threshold, side })
    }

    fn level(&self, claim: &Claim, arm: &RunName, comparison: String, test: Test) -> Evidence {
        let cell = &claim.cell;
        let mut evidence = self.start(&[arm], comparison, test);
        evidence.read(cell, self.site(cell, arm));
        for seed in self.complete_seeds(&[arm], &mut evidence) {
            match self.reading(cell, arm, seed) {
                Some(value) => evidence.push(value),
                None => evidence.gaps.add(arm, seed, Lack::Metric(cell.metric.clone())),
            }
        }
        evidence
    }
}
