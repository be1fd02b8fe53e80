//! What each claim is decided on: one number per seed, and what is missing.

mod level;
mod several;

use crate::bit_compare::Pair;
use crate::index::{Losses, RunState, Runs, Values, mean};
use crate::note::{Gaps, Lack, Note};
use basislab_config::{Arm, Basis, Cell, Claim, ClaimKind, Direction, Experiment, LOSS, Reading, RunName, Sign, Site};
use basislab_stats::Side;
use basislab_tables::{Tables, TimingRow, repeats_its_bits};
use std::collections::BTreeMap;

/// How a claim's numbers are judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Test {
    /// They differ from 0 by at least the smallest effect, on the side of `sign` where a side is claimed.
    Difference { smallest_effect: f64, sign: Option<f64> },
    /// They are 0 within the margin.
    Equivalence { margin: f64 },
    /// They are slopes of a log per rank, above 0: over `steps` ranks at least the smallest effect. `p` is of permutations
    /// of the arms within seeds.
    Order { p: Option<f64>, smallest_effect: f64, steps: usize },
    /// They are correlations over arms, on the side of 0 where the `tested` one of blocks is, whose permutations give `p`.
    Correlation { p: Option<f64>, tested: Option<f64>, sign: Option<Sign>, blocks: usize },
    /// Their mean is the value within a share of it.
    Near { value: f64, tolerance: f64 },
    /// Their mean is on one side of the threshold.
    Bound { threshold: f64, side: Side },
    /// They are the same bits; `None` where too little was recorded to say.
    SameBits { equal: Option<bool> },
}

/// The numbers of one claim.
pub(crate) struct Evidence {
    pub(crate) comparison: String,
    pub(crate) metric: String,
    pub(crate) site: Option<Site>,
    pub(crate) test: Test,
    /// One per seed that has all it needs.
    pub(crate) values: Vec<f64>,
    /// Of a comparison with random bases, for each of those seeds: the log of the metric, then that of each draw.
    pub(crate) bases: Vec<Vec<f64>>,
    pub(crate) n_seeds: usize,
    pub(crate) planned: usize,
    pub(crate) gaps: Gaps,
    /// Besides the gaps.
    pub(crate) notes: Vec<Note>,
}

/// What the numbers of claims are read from.
pub(crate) struct Lookup<'a> {
    experiment: &'a Experiment,
    tables: &'a Tables,
    runs: Runs<'a>,
    losses: Losses<'a>,
    /// The values of every cell that a claim reads.
    values: Vec<(Cell, Values<'a>)>,
}

impl<'a> Lookup<'a> {
    pub(crate) fn of(experiment: &'a Experiment, tables: &'a Tables) -> Self {
        let mut values: Vec<(Cell, Values<'a>)> = Vec::new();
        for claim in &experiment.claims {
            for (_, cell) in claim.cells() {
                if !values.iter().any(|(known, _)| known == cell) {
                    values.push((cell.clone(), Values::of_cell(experiment, tables, cell)));
                }
            }
        }
        Self { experiment, tables, runs: Runs::of(experiment, tables), losses: Losses::of(tables), values }
    }

    pub(crate) fn gather(&self, claim: &Claim) -> Evidence {
        let verdict = &self.experiment.verdict;
        match &claim.test {
            ClaimKind::DiffersFromNull { arm, direction } => {
                let sign = direction.and_then(Direction::sign);
                self.against_null(claim, arm, Test::Difference { smallest_effect: verdict.smallest_effect, sign })
            }
            ClaimKind::EquivalentToNull { arm } => {
                self.against_null(claim, arm, Test::Equivalence { margin: verdict.equivalence_margin })
            }
            ClaimKind::ArmsDiffer { arm, other, reading, direction } => {
                let sign = direction.and_then(Direction::sign);
                self.between_arms(claim, arm, other, (*reading, sign))
            }
            ClaimKind::EqualLoss { arm, other } => self.between_losses(arm, other),
            ClaimKind::BitEqual { arm, other } => self.same_bits(arm, other),
            ClaimKind::Ordered { arms } => self.along_arms(claim, arms),
            ClaimKind::Correlates { arms, with, sign, .. } => self.over_arms(claim, arms, with, *sign),
            ClaimKind::NearValue { arm, value, tolerance, .. } => self.near(claim, arm, *value, *tolerance),
            ClaimKind::AtMost { arm, threshold } => self.bound(claim, arm, *threshold, Side::AtMost),
            ClaimKind::AtLeast { arm, threshold } => self.bound(claim, arm, *threshold, Side::AtLeast),
        }
    }

    fn values(&self, cell: &Cell) -> &Values<'a> {
        &self.values.iter().find(|(known, _)| known == cell).expect("the cells of all claims were read").1
    }

    fn against_null(&self, claim: &Claim, arm: &RunName, test: Test) -> Evidence {
        let (cell, values) = (&claim.cell, self.values(&claim.cell));
        let mut evidence = self.start(&[arm], format!("{arm} / null({})", cell.basis), test);
        evidence.read(cell, self.site(cell, arm));
        let step = cell.step.resolve(self.last(arm));
        for seed in self.complete_seeds(&[arm], &mut evidence) {
            let draws = values.draws(arm, seed, step);
            match (values.value(arm, seed, step, cell.basis), mean(draws)) {
                (None, _) => evidence.gaps.add(arm, seed, Lack::MetricIn(cell.metric.clone(), cell.basis)),
                (_, None) => evidence.gaps.add(arm, seed, Lack::RandomBases),
                (Some(value), Some(null)) => {
                    if evidence.push_log_ratio(arm, seed, value, null) {
                        let list = std::iter::once(value).chain(draws.iter().copied()).map(f64::ln).collect();
                        evidence.bases.push(list);
                    }
                }
            }
        }
        evidence.notes.extend(outside(&evidence.bases));
        evidence
    }

    fn between_arms(
        &self,
        claim: &Claim,
        arm: &RunName,
        other: &RunName,
        (reading, sign): (Reading, Option<f64>),
    ) -> Evidence {
        let how = match reading {
            Reading::Final => "final",
            Reading::MatchedLoss => "matched loss",
        };
        let (cell, values) = (&claim.cell, self.values(&claim.cell));
        let test = Test::Difference { smallest_effect: self.experiment.verdict.smallest_effect, sign };
        let mut evidence = self.start(&[arm, other], format!("{arm} / {other} ({how})"), test);
        evidence.read(cell, self.site(cell, arm));
        let at = |arm: &RunName| cell.step.resolve(self.last(arm));
        let mut earlier = BTreeMap::<u64, Vec<u64>>::new();
        for seed in self.complete_seeds(&[arm, other], &mut evidence) {
            let steps = match reading {
                Reading::Final => Some((at(arm), at(other))),
                Reading::MatchedLoss => self.steps_at_matched_loss(arm, other, seed),
            };
            let Some((step, other_step)) = steps else {
                evidence.gaps.add(arm, seed, Lack::FinalLoss);
                continue;
            };
            if reading == Reading::MatchedLoss && other_step < self.last(other) {
                earlier.entry(other_step).or_default().push(seed);
            }
            let value = values.value(arm, seed, step, self.basis(cell, arm));
            let reference = values.value(other, seed, other_step, self.basis(cell, other));
            match (value, reference) {
                (None, _) => evidence.gaps.add(arm, seed, Lack::Metric(cell.metric.clone())),
                (_, None) => evidence.gaps.add(other, seed, Lack::Metric(cell.metric.clone())),
                (Some(value), Some(reference)) => _ = evidence.push_log_ratio(arm, seed, value, reference),
            }
        }
        evidence.notes.extend(earlier.into_iter().map(|(step, seeds)| Note::ReadEarlier {
            seeds,
            arm: arm.clone(),
            other: other.clone(),
            step,
        }));
        if let Some(centre) = mean(&evidence.values) {
            let seeds = evidence.values.iter().filter(|value| **value * centre > 0.0).count();
            evidence.notes.push(Note::SameSide { seeds, of: evidence.values.len() });
        }
        evidence
    }

    /// The first probe of each arm at which its loss is at or below the higher of their two final losses. The arm that
    /// ends behind is read at its end or shortly before, the other where it had come as far.
    fn steps_at_matched_loss(&self, arm: &RunName, other: &RunName, seed: u64) -> Option<(u64, u64)> {
        let last = |arm: &RunName| self.losses.at(arm, seed, self.last(arm))?.loss;
        let level = last(arm)?.max(last(other)?);
        let first = |arm: &RunName| {
            let evals = self.losses.of_run(arm, seed).iter();
            let reached = evals.filter(|eval| eval.step > 0 && eval.loss.is_some_and(|loss| loss <= level));
            reached.map(|eval| eval.step).min()
        };
        Some((first(arm)?, first(other)?))
    }

    /// The last update of an arm.
    fn last(&self, arm: &str) -> u64 {
        self.experiment.arm(arm).map_or(0, |arm| arm.run.train.steps)
    }

    /// The basis in which an arm is read: of an arm whose optimizer is not rotated, its own basis is the standard one.
    fn basis(&self, cell: &Cell, arm: &str) -> Basis {
        let is_rotated = self.experiment.arm(arm).is_some_and(|arm| arm.run.basis.rotation().is_some());
        if is_rotated { cell.basis } else { Basis::Standard }
    }

    fn site(&self, cell: &Cell, arm: &str) -> Option<Site> {
        self.experiment.arm(arm).map(|arm| self.experiment.site(cell, arm))
    }

    /// What a run has in a cell, which may be the held-out loss.
    fn reading(&self, cell: &Cell, arm: &str, seed: u64) -> Option<f64> {
        let step = cell.step.resolve(self.last(arm));
        match cell.is_loss() {
            true => self.losses.at(arm, seed, step)?.loss,
            false => self.values(cell).value(arm, seed, step, cell.basis),
        }
    }

    fn between_losses(&self, arm: &RunName, other: &RunName) -> Evidence {
        let test = Test::Equivalence { margin: self.experiment.verdict.equal_loss_margin };
        let mut evidence = self.start(&[arm, other], format!("{arm} - {other} (nats)"), test);
        LOSS.clone_into(&mut evidence.metric);
        let at_end = |arm: &str, seed| self.losses.at(arm, seed, self.last(arm))?.loss;
        for seed in self.complete_seeds(&[arm, other], &mut evidence) {
            match (at_end(arm, seed), at_end(other, seed)) {
                (None, _) => evidence.gaps.add(arm, seed, Lack::FiniteFinalLoss),
                (_, None) => evidence.gaps.add(other, seed, Lack::FiniteFinalLoss),
                (Some(loss), Some(reference)) => evidence.push(loss - reference),
            }
        }
        evidence
    }

    fn same_bits(&self, arm: &RunName, other: &RunName) -> Evidence {
        let test = Test::SameBits { equal: None };
        let mut evidence = self.start(&[arm, other], format!("{arm} = {other} (bits)"), test);
        "all".clone_into(&mut evidence.metric);
        let mut compared = 0;
        let mut difference = None;
        let pair = Pair::of(self.tables, arm, other);
        for seed in self.common_seeds(&[arm, other]) {
            let absent = [arm, other].into_iter().find(|arm| self.runs.state(arm, seed) == RunState::Missing);
            if let Some(absent) = absent {
                evidence.gaps.add(absent, seed, Lack::Missing);
                continue;
            }
            let outcome = pair.compare(seed);
            compared += outcome.compared;
            evidence.n_seeds += 1;
            difference = difference.or(outcome.first_difference);
        }
        let is_compared = |row: &&TimingRow| row.arm == *arm || row.arm == *other;
        let unrepeatable = self.tables.timing.iter().filter(is_compared).find(|row| !repeats_its_bits(&row.backend));
        let equal = match &difference {
            // An arm may differ as much from itself.
            Some(_) if unrepeatable.is_some() => None,
            Some(_) => Some(false),
            None => (compared > 0 && evidence.gaps.is_empty()).then_some(true),
        };
        evidence.test = Test::SameBits { equal };
        evidence.notes.push(Note::Compared(compared));
        if let Some(difference) = difference {
            evidence.notes.push(Note::FirstDifference(difference));
            evidence.notes.extend(unrepeatable.map(|row| Note::BitsNotPromised(row.backend.clone())));
        }
        evidence
    }

    fn start(&self, arms: &[&RunName], comparison: String, test: Test) -> Evidence {
        Evidence {
            comparison,
            metric: String::new(),
            site: None,
            test,
            values: Vec::new(),
            bases: Vec::new(),
            n_seeds: 0,
            planned: self.common_seeds(arms).len(),
            gaps: Gaps::default(),
            notes: Vec::new(),
        }
    }

    /// Seeds planned for every one of the arms.
    fn common_seeds(&self, arms: &[&RunName]) -> Vec<u64> {
        let arms: Option<Vec<&Arm>> = arms.iter().map(|name| self.experiment.arm(name)).collect();
        let Some((first, rest)) = arms.as_deref().and_then(<[&Arm]>::split_first) else { return Vec::new() };
        let in_rest = |seed: &u64| rest.iter().all(|arm| arm.seeds.contains(seed));
        first.seeds.iter().copied().filter(in_rest).collect()
    }

    /// Common seeds whose runs are all complete; the others go to the gaps.
    fn complete_seeds(&self, arms: &[&RunName], evidence: &mut Evidence) -> Vec<u64> {
        let mut whole = self.common_seeds(arms);
        whole.retain(|&seed| {
            let mut complete = true;
            for arm in arms {
                match self.runs.state(arm, seed) {
                    RunState::Complete => continue,
                    RunState::Diverged => evidence.gaps.add(arm, seed, Lack::Diverged),
                    RunState::Missing => evidence.gaps.add(arm, seed, Lack::Missing),
                }
                complete = false;
            }
            complete
        });
        whole
    }
}

impl Evidence {
    /// Notes what the numbers are of.
    fn read(&mut self, cell: &Cell, site: Option<Site>) {
        self.metric.clone_from(&cell.metric);
        self.site = site.filter(|_| !cell.is_loss());
    }

    fn push(&mut self, value: f64) {
        self.values.push(value);
        self.n_seeds += 1;
    }

    /// Whether there is one.
    fn push_log_ratio(&mut self, arm: &str, seed: u64, value: f64, reference: f64) -> bool {
        let ratio = (value / reference).ln();
        let is_defined = value > 0.0 && reference > 0.0 && ratio.is_finite();
        if is_defined {
            self.push(ratio);
        } else {
            self.gaps.add(arm, seed, Lack::LogRatio);
        }
        is_defined
    }
}

/// In how many seeds the metric lies outside all random bases.
fn outside(seeds: &[Vec<f64>]) -> Option<Note> {
    let count = |is_beyond: fn(f64, f64) -> bool| {
        seeds.iter().filter(|list| list[1..].iter().all(|draw| is_beyond(list[0], *draw))).count()
    };
    let bases = seeds.iter().map(|list| list.len() - 1).min()?;
    Some(Note::Outside {
        above: count(|value, draw| value > draw),
        below: count(|value, draw| value < draw),
        of: seeds.len(),
        bases,
    })
}
