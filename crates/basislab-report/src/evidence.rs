//! What each claim is decided on: one number per seed, and what is missing.

use crate::bits;
use crate::read::Tables;
use crate::select::{Cells, Losses, RunState, Runs, mean};
use basislab_config::{Arm, BasisSpec, Claim, ClaimKind, Experiment, Reading, RotatedAxes, RotationSpec, Sharing};

/// How a claim's numbers are judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Test {
    /// They differ from 0 by at least the smallest effect.
    Difference { smallest_effect: f64 },
    /// They are 0 within the margin.
    Equivalence { margin: f64 },
    /// They are the same bits; `None` where too little was recorded to say.
    SameBits { equal: Option<bool> },
}

/// The numbers of one claim.
pub(crate) struct Evidence {
    pub(crate) comparison: String,
    pub(crate) metric: String,
    pub(crate) site: String,
    pub(crate) test: Test,
    /// One per seed that has all it needs.
    pub(crate) values: Vec<f64>,
    pub(crate) n_seeds: usize,
    pub(crate) planned: usize,
    pub(crate) gaps: Gaps,
    pub(crate) notes: Vec<String>,
}

/// Planned seeds that lack something, grouped: `sgd seeds 2, 5 diverged`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Gaps(Vec<(String, String, Vec<u64>)>);

impl Gaps {
    pub(crate) fn add(&mut self, arm: &str, seed: u64, what: &str) {
        match self.0.iter_mut().find(|gap| gap.0 == arm && gap.1 == what) {
            Some(gap) => gap.2.push(seed),
            None => self.0.push((arm.to_owned(), what.to_owned(), vec![seed])),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn phrases(&self) -> Vec<String> {
        let phrase = |(arm, what, seeds): &(String, String, Vec<u64>)| {
            format!("{arm} {} {} {what}", if seeds.len() == 1 { "seed" } else { "seeds" }, list(seeds))
        };
        self.0.iter().map(phrase).collect()
    }
}

/// `0, 3, 5-7`.
pub(crate) fn list(seeds: &[u64]) -> String {
    let runs = seeds.chunk_by(|a, b| a + 1 == *b).flat_map(|run| match run {
        [first, _, .., last] => vec![format!("{first}-{last}")],
        few => few.iter().map(u64::to_string).collect(),
    });
    runs.collect::<Vec<_>>().join(", ")
}

/// What every claim is looked up in.
pub(crate) struct Lookup<'a> {
    experiment: &'a Experiment,
    tables: &'a Tables,
    runs: Runs<'a>,
    cells: Cells<'a>,
    losses: Losses<'a>,
}

impl<'a> Lookup<'a> {
    pub(crate) fn of(experiment: &'a Experiment, tables: &'a Tables) -> Self {
        let verdict = &experiment.verdict;
        let cells = Cells::of(tables, &verdict.metric, &experiment.verdict_site(), &verdict.tokens);
        Self { experiment, tables, runs: Runs::of(experiment, tables), cells, losses: Losses::of(tables) }
    }

    pub(crate) fn gather(&self, claim: &Claim) -> Evidence {
        match &claim.test {
            ClaimKind::DiffersFromNull { arm, basis } => {
                let test = Test::Difference { smallest_effect: self.experiment.verdict.smallest_effect };
                self.against_null(arm, basis, test)
            }
            ClaimKind::EquivalentToNull { arm, basis } => {
                let test = Test::Equivalence { margin: self.experiment.verdict.equivalence_margin };
                self.against_null(arm, basis, test)
            }
            ClaimKind::ArmsDiffer { arm, other, reading } => self.between_arms(arm, other, *reading),
            ClaimKind::EqualLoss { arm, other } => self.between_losses(arm, other),
            ClaimKind::BitEqual { arm, other } => self.same_bits(arm, other),
        }
    }

    fn against_null(&self, arm: &str, basis: &str, test: Test) -> Evidence {
        let mut evidence = self.start(&[arm], format!("{arm} / null({basis})"), test);
        let last = self.experiment.train.steps;
        for seed in self.whole_seeds(&[arm], &mut evidence) {
            let null = mean(self.cells.draws(arm, seed, last));
            match (self.cells.value(arm, seed, last, basis), null) {
                (None, _) => evidence.gaps.add(arm, seed, &format!("without {} in the {basis} basis", evidence.metric)),
                (_, None) => evidence.gaps.add(arm, seed, "without random bases"),
                (Some(value), Some(null)) => evidence.push_log_ratio(arm, seed, value, null),
            }
        }
        if self.experiment.arm(arm).is_some_and(|arm| is_exact_symmetry(self.experiment, arm)) {
            evidence.notes.push("control (exact symmetry)".to_owned());
        }
        evidence
    }

    fn between_arms(&self, arm: &str, other: &str, reading: Reading) -> Evidence {
        let how = match reading {
            Reading::Final => "final",
            Reading::MatchedLoss => "matched loss",
        };
        let test = Test::Difference { smallest_effect: self.experiment.verdict.smallest_effect };
        let mut evidence = self.start(&[arm, other], format!("{arm} / {other} ({how})"), test);
        let last = self.experiment.train.steps;
        for seed in self.whole_seeds(&[arm, other], &mut evidence) {
            let steps = match reading {
                Reading::Final => Some((last, last)),
                Reading::MatchedLoss => self.steps_at_matched_loss(arm, other, seed),
            };
            let Some((step, other_step)) = steps else {
                evidence.gaps.add(arm, seed, "without a final loss");
                continue;
            };
            if other_step < last {
                evidence
                    .notes
                    .push(format!("seed {seed}: {arm} ended behind, so {other} is read at step {other_step}"));
            }
            let value = self.cells.value(arm, seed, step, "standard");
            let reference = self.cells.value(other, seed, other_step, "standard");
            match (value, reference) {
                (None, _) => evidence.gaps.add(arm, seed, &format!("without {}", evidence.metric)),
                (_, None) => evidence.gaps.add(other, seed, &format!("without {}", evidence.metric)),
                (Some(value), Some(reference)) => evidence.push_log_ratio(arm, seed, value, reference),
            }
        }
        evidence
    }

    /// The first look of each arm at which its loss is at or below the higher of their two final losses. The arm that
    /// ends behind is read at its end or shortly before, the other where it had come as far.
    fn steps_at_matched_loss(&self, arm: &str, other: &str, seed: u64) -> Option<(u64, u64)> {
        let last = |arm| self.losses.at(arm, seed, self.experiment.train.steps)?.loss;
        let level = last(arm)?.max(last(other)?);
        let first = |arm| {
            let looks = self.losses.of_run(arm, seed).iter();
            looks
                .filter(|look| look.step > 0 && look.loss.is_some_and(|loss| loss <= level))
                .map(|look| look.step)
                .min()
        };
        Some((first(arm)?, first(other)?))
    }

    fn between_losses(&self, arm: &str, other: &str) -> Evidence {
        let test = Test::Equivalence { margin: self.experiment.verdict.equal_loss_margin };
        let mut evidence = self.start(&[arm, other], format!("{arm} - {other} (nats)"), test);
        "loss".clone_into(&mut evidence.metric);
        evidence.site.clear();
        let at_end = |arm: &str, seed| self.losses.at(arm, seed, self.experiment.train.steps)?.loss;
        for seed in self.whole_seeds(&[arm, other], &mut evidence) {
            match (at_end(arm, seed), at_end(other, seed)) {
                (None, _) => evidence.gaps.add(arm, seed, "without a finite final loss"),
                (_, None) => evidence.gaps.add(other, seed, "without a finite final loss"),
                (Some(loss), Some(reference)) => evidence.push(loss - reference),
            }
        }
        evidence
    }

    fn same_bits(&self, arm: &str, other: &str) -> Evidence {
        let test = Test::SameBits { equal: None };
        let mut evidence = self.start(&[arm, other], format!("{arm} = {other} (bits)"), test);
        "all".clone_into(&mut evidence.metric);
        evidence.site.clear();
        let mut compared = 0;
        let mut difference = None;
        for seed in self.common_seeds(&[arm, other]) {
            let absent = [arm, other].into_iter().find(|arm| self.runs.state(arm, seed) == RunState::Missing);
            if let Some(absent) = absent {
                evidence.gaps.add(absent, seed, "missing");
                continue;
            }
            let outcome = bits::compare(self.tables, arm, other, seed);
            compared += outcome.compared;
            evidence.n_seeds += 1;
            difference = difference.or(outcome.first_difference);
        }
        let equal = match &difference {
            Some(_) => Some(false),
            None => (compared > 0 && evidence.gaps.is_empty()).then_some(true),
        };
        evidence.test = Test::SameBits { equal };
        evidence.notes.push(format!("{compared} numbers compared"));
        evidence.notes.extend(difference);
        evidence
    }

    fn start(&self, arms: &[&str], comparison: String, test: Test) -> Evidence {
        Evidence {
            comparison,
            metric: self.experiment.verdict.metric.clone(),
            site: self.experiment.verdict_site(),
            test,
            values: Vec::new(),
            n_seeds: 0,
            planned: self.common_seeds(arms).len(),
            gaps: Gaps::default(),
            notes: Vec::new(),
        }
    }

    /// Seeds planned for every one of the arms.
    fn common_seeds(&self, arms: &[&str]) -> Vec<u64> {
        let arms: Option<Vec<&Arm>> = arms.iter().map(|name| self.experiment.arm(name)).collect();
        let Some((first, rest)) = arms.as_deref().and_then(<[&Arm]>::split_first) else { return Vec::new() };
        let in_rest = |seed: &u64| rest.iter().all(|arm| self.experiment.seeds_of(arm).contains(seed));
        self.experiment.seeds_of(first).iter().copied().filter(in_rest).collect()
    }

    /// Common seeds whose runs are all complete; the others go to the gaps.
    fn whole_seeds(&self, arms: &[&str], evidence: &mut Evidence) -> Vec<u64> {
        let mut whole = self.common_seeds(arms);
        whole.retain(|&seed| {
            let mut complete = true;
            for arm in arms {
                match self.runs.state(arm, seed) {
                    RunState::Complete => continue,
                    RunState::Diverged => evidence.gaps.add(arm, seed, "diverged"),
                    RunState::Missing => evidence.gaps.add(arm, seed, "missing"),
                }
                complete = false;
            }
            complete
        });
        whole
    }
}

impl Evidence {
    fn push(&mut self, value: f64) {
        self.values.push(value);
        self.n_seeds += 1;
    }

    fn push_log_ratio(&mut self, arm: &str, seed: u64, value: f64, reference: f64) {
        let ratio = (value / reference).ln();
        if value > 0.0 && reference > 0.0 && ratio.is_finite() {
            self.push(ratio);
        } else {
            self.gaps.add(arm, seed, "without a log ratio");
        }
    }
}

/// Whether the arm is its optimizer on a rotated model by algebra: one rotation for every parameter on its residual
/// axis, and a model that knows no basis. What it shows must then hold, and checks the code more than the world.
fn is_exact_symmetry(experiment: &Experiment, arm: &Arm) -> bool {
    let BasisSpec::RotatedOptimizer { rotation, sharing, axes } = &arm.basis else { return false };
    let moves = !matches!(rotation, RotationSpec::Identity {});
    experiment.model.is_basis_free() && moves && *sharing == Sharing::Shared && *axes == RotatedAxes::Residual
}
