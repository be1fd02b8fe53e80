//! Whether two runs recorded the same numbers, bit for bit.

use basislab_config::{Basis, RunName};
use basislab_tables::{EvalRow, Residual, ResidualRows, StepRow, Tables};
use std::collections::BTreeMap;

/// What a comparison of two runs found.
pub(crate) struct Outcome {
    /// Numbers that both runs recorded.
    pub(crate) compared: usize,
    /// The first place where they differ, in words.
    pub(crate) first_difference: Option<String>,
}

/// What the runs of two arms recorded.
pub(crate) struct Pair<'a> {
    arm: &'a RunName,
    other: &'a RunName,
    rows: &'a ResidualRows,
    runs: BTreeMap<(&'a str, u64), Run<'a>>,
}

#[derive(Default)]
struct Run<'a> {
    steps: Vec<&'a StepRow>,
    evals: Vec<&'a EvalRow>,
    residual: Vec<Residual>,
}

impl<'a> Pair<'a> {
    pub(crate) fn of(tables: &'a Tables, arm: &'a RunName, other: &'a RunName) -> Self {
        let is_read = |name: &RunName| name == arm || name == other;
        let mut runs: BTreeMap<(&str, u64), Run<'_>> = BTreeMap::new();
        for row in tables.steps.iter().filter(|row| is_read(&row.arm)) {
            runs.entry((&row.arm, row.seed)).or_default().steps.push(row);
        }
        for row in tables.evals.iter().filter(|row| is_read(&row.arm)) {
            runs.entry((&row.arm, row.seed)).or_default().evals.push(row);
        }
        let rows = &tables.residual;
        for row in rows.of_kinds(|kind| kind.basis == Basis::Standard) {
            let (name, seed) = rows.run_of(row);
            if is_read(name) {
                runs.entry((name, seed)).or_default().residual.push(row);
            }
        }
        Self { arm, other, rows, runs }
    }

    /// Compares losses, gradient norms and the metrics of the standard basis of one seed. A row that only one run has is a
    /// difference.
    pub(crate) fn compare(&self, seed: u64) -> Outcome {
        let (left, right) = (self.recorded(self.arm, seed), self.recorded(self.other, seed));
        compare(&left, &right, self.arm, self.other, seed)
    }

    /// By step and what it is, so that the first difference is the earliest.
    fn recorded(&self, arm: &RunName, seed: u64) -> Recorded {
        let mut all = BTreeMap::new();
        let Some(run) = self.runs.get(&(arm.as_str(), seed)) else { return all };
        for row in &run.steps {
            all.insert((row.step, "train_loss".to_owned()), row.train_loss);
            all.insert((row.step, "grad_norm".to_owned()), row.grad_norm);
        }
        for row in &run.evals {
            all.insert((row.step, format!("{} loss", row.split)), row.loss);
            all.insert((row.step, format!("{} loss_above_floor", row.split)), row.loss_above_floor);
        }
        for row in &run.residual {
            let kind = self.rows.kind_of(*row);
            all.insert((kind.step, format!("{} {} ({} tokens)", kind.site, kind.metric, kind.tokens)), row.value());
        }
        all
    }
}

/// Numbers by step and what they are.
type Recorded = BTreeMap<(u64, String), Option<f64>>;

fn compare(left: &Recorded, right: &Recorded, arm: &RunName, other: &RunName, seed: u64) -> Outcome {
    let mut outcome = Outcome { compared: 0, first_difference: None };
    for (key, value) in left {
        match right.get(key) {
            None => outcome.differs(key, seed, &format!("only {arm} has it")),
            Some(reference) if value.map(f64::to_bits) != reference.map(f64::to_bits) => {
                outcome.differs(key, seed, &format!("{} and {}", print(*value), print(*reference)));
            }
            Some(_) => {}
        }
        outcome.compared += usize::from(value.is_some() && right.contains_key(key));
    }
    if let Some(key) = right.keys().find(|key| !left.contains_key(*key)) {
        outcome.differs(key, seed, &format!("only {other} has it"));
    }
    outcome
}

impl Outcome {
    fn differs(&mut self, key: &(u64, String), seed: u64, how: &str) {
        let (step, what) = key;
        self.first_difference.get_or_insert_with(|| format!("seed {seed} step {step} {what}: {how}"));
    }
}

fn print(value: Option<f64>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
}
