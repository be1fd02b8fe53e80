//! Which runs are complete, and the recorded values of one metric.

use basislab_config::{Arm, Basis, Cell, Experiment, Site, Tokens};
use basislab_tables::{ResidualRows, Split, Status, Tables};
use std::collections::{BTreeMap, BTreeSet};

/// What became of a planned run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunState {
    /// Its last step was evaluated.
    Complete,
    /// It stopped on a number that is not finite.
    Diverged,
    /// It was not run, or not to its end.
    Missing,
}

/// The state of each planned run.
pub(crate) struct Runs<'a> {
    complete: BTreeSet<(&'a str, u64)>,
    diverged: BTreeSet<(&'a str, u64)>,
}

impl<'a> Runs<'a> {
    pub(crate) fn of(experiment: &Experiment, tables: &'a Tables) -> Self {
        let last: BTreeMap<&str, u64> =
            experiment.arms.iter().map(|arm| (arm.name.as_str(), arm.run.train.steps)).collect();
        let diverged = tables.steps.iter().filter(|row| row.status == Status::Diverged);
        let complete = tables.evals.iter().filter(|row| last.get(row.arm.as_str()) == Some(&row.step));
        Self {
            diverged: diverged.map(|row| (row.arm.as_str(), row.seed)).collect(),
            complete: complete.map(|row| (row.arm.as_str(), row.seed)).collect(),
        }
    }

    pub(crate) fn state(&self, arm: &str, seed: u64) -> RunState {
        if self.diverged.contains(&(arm, seed)) {
            RunState::Diverged
        } else if self.complete.contains(&(arm, seed)) {
            RunState::Complete
        } else {
            RunState::Missing
        }
    }

    /// The arm's planned seeds in that state.
    pub(crate) fn seeds_in(&self, arm: &Arm, state: RunState) -> Vec<u64> {
        arm.seeds.iter().copied().filter(|&seed| self.state(&arm.name, seed) == state).collect()
    }
}

/// The recorded values of one metric over one set of tokens, at one site of each arm.
pub(crate) struct Values<'a> {
    measured: BTreeMap<(&'a str, u64, u64, Basis), f64>,
    draws: BTreeMap<(&'a str, u64, u64), Vec<f64>>,
    /// Tokens measured, as recorded last.
    pub(crate) tokens_used: u64,
    metric: String,
}

impl<'a> Values<'a> {
    /// Those that a claim with this cell reads.
    pub(crate) fn of_cell(experiment: &Experiment, tables: &'a Tables, cell: &Cell) -> Self {
        let site_of = |arm: &str| experiment.arm(arm).map(|arm| experiment.site(cell, arm));
        Self::of(tables, &cell.metric, cell.tokens, site_of)
    }

    pub(crate) fn of(tables: &'a Tables, metric: &str, tokens: Tokens, site_of: impl Fn(&str) -> Option<Site>) -> Self {
        Self::of_steps(tables, metric, tokens, site_of, |_, _| true)
    }

    /// [`Values::of`] the updates that `is_read` wants of an arm.
    pub(crate) fn of_steps(
        tables: &'a Tables,
        metric: &str,
        tokens: Tokens,
        site_of: impl Fn(&str) -> Option<Site>,
        is_read: impl Fn(&str, u64) -> bool,
    ) -> Self {
        let mut values =
            Self { measured: BTreeMap::new(), draws: BTreeMap::new(), tokens_used: 0, metric: metric.to_owned() };
        let rows = &tables.residual;
        let sites = of_runs(rows, site_of);
        for row in rows.of_kinds(|kind| kind.metric == metric && kind.tokens == tokens) {
            let ((arm, seed), kind) = (rows.run_of(row), rows.kind_of(row));
            if sites[row.run as usize] != Some(kind.site) || !is_read(arm, kind.step) {
                continue;
            }
            values.tokens_used = kind.tokens_used;
            let Some(value) = row.value() else { continue };
            match kind.basis {
                Basis::Random(_) => values.draws.entry((arm, seed, kind.step)).or_default().push(value),
                basis => _ = values.measured.insert((arm, seed, kind.step, basis), value),
            }
        }
        values
    }

    /// The metric.
    pub(crate) fn metric(&self) -> &str {
        &self.metric
    }

    /// The value in a basis that is no random one.
    pub(crate) fn value(&self, arm: &str, seed: u64, step: u64, basis: Basis) -> Option<f64> {
        self.measured.get(&(arm, seed, step, basis)).copied()
    }

    /// The values in random bases of the same activations.
    pub(crate) fn draws<'b>(&'b self, arm: &'b str, seed: u64, step: u64) -> &'b [f64] {
        self.draws.get(&(arm, seed, step)).map_or(&[], Vec::as_slice)
    }

    /// The steps that have a value in the basis, ascending.
    pub(crate) fn steps(&self, arm: &str, basis: Basis) -> Vec<u64> {
        let of_arm = self.measured.range((arm, 0, 0, Basis::Standard)..).take_while(|(key, _)| key.0 == arm);
        let steps: BTreeSet<u64> = of_arm.filter(|(key, _)| key.3 == basis).map(|(key, _)| key.2).collect();
        steps.into_iter().collect()
    }

    /// The draws of every run after the update that `step_of` its arm gives.
    pub(crate) fn draws_at(&self, step_of: impl Fn(&str) -> Option<u64>) -> Vec<&[f64]> {
        let here = self.draws.iter().filter(|((arm, _, step), _)| step_of(arm) == Some(*step));
        here.map(|(_, draws)| &draws[..]).collect()
    }

    /// The steps that have random bases, with those of every run pooled: `(step, draws of each run)`.
    pub(crate) fn draws_by_step(&self) -> BTreeMap<u64, Vec<&[f64]>> {
        let mut steps: BTreeMap<u64, Vec<&[f64]>> = BTreeMap::new();
        for ((_, _, step), draws) in &self.draws {
            steps.entry(*step).or_default().push(draws);
        }
        steps
    }
}

/// What `of` says of the arm of each run of the rows.
pub(crate) fn of_runs<T: Clone>(rows: &ResidualRows, of: impl Fn(&str) -> T) -> Vec<T> {
    let of_arm = rows.runs().chunk_by(|one, other| one.0 == other.0);
    of_arm.flat_map(|runs| std::iter::repeat_n(of(&runs[0].0), runs.len())).collect()
}

/// Held-out losses: `(step, loss, loss above the floor)` of each run, in the order of the file.
pub(crate) struct Losses<'a> {
    runs: BTreeMap<(&'a str, u64), Vec<Eval>>,
}

/// The held-out loss at one probe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Eval {
    pub(crate) step: u64,
    pub(crate) loss: Option<f64>,
    pub(crate) above_floor: Option<f64>,
}

impl<'a> Losses<'a> {
    pub(crate) fn of(tables: &'a Tables) -> Self {
        let mut runs: BTreeMap<(&str, u64), Vec<Eval>> = BTreeMap::new();
        for row in tables.evals.iter().filter(|row| row.split == Split::HeldOut) {
            let eval = Eval { step: row.step, loss: row.loss, above_floor: row.loss_above_floor };
            runs.entry((&row.arm, row.seed)).or_default().push(eval);
        }
        Self { runs }
    }

    pub(crate) fn of_run<'b>(&'b self, arm: &'b str, seed: u64) -> &'b [Eval] {
        self.runs.get(&(arm, seed)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn at(&self, arm: &str, seed: u64, step: u64) -> Option<Eval> {
        self.of_run(arm, seed).iter().copied().find(|eval| eval.step == step)
    }
}

/// Mean of the run means, and standard deviation of one draw, pooled within runs.
pub(crate) fn pooled_null(runs: &[&[f64]]) -> (Option<f64>, Option<f64>) {
    let means: Vec<f64> = runs.iter().filter_map(|draws| mean(draws)).collect();
    let mut squares = 0.0;
    let mut freedom = 0;
    for draws in runs {
        if let Some(centre) = mean(draws) {
            squares += draws.iter().map(|draw| (draw - centre).powi(2)).sum::<f64>();
            freedom += draws.len() - 1;
        }
    }
    let sd = (freedom > 0).then(|| (squares / freedom as f64).sqrt());
    (mean(&means), sd)
}

/// The mean, where there is something to average.
pub(crate) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
