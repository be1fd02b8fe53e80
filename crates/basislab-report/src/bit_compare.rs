//! Whether two runs recorded the same numbers, bit for bit.

use basislab_config::{Basis, RunName};
use basislab_tables::Tables;
use std::collections::BTreeMap;

/// What a comparison of two runs found.
pub(crate) struct Outcome {
    /// Numbers that both runs recorded.
    pub(crate) compared: usize,
    /// The first place where they differ, in words.
    pub(crate) first_difference: Option<String>,
}

/// Compares losses, gradient norms and the metrics of the standard basis. A row that only one run has is a difference.
pub(crate) fn compare(tables: &Tables, arm: &RunName, other: &RunName, seed: u64) -> Outcome {
    let (left, right) = (recorded(tables, arm, seed), recorded(tables, other, seed));
    let mut outcome = Outcome { compared: 0, first_difference: None };
    for (key, value) in &left {
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

/// By step and what it is, so that the first difference is the earliest.
fn recorded(tables: &Tables, arm: &RunName, seed: u64) -> BTreeMap<(u64, String), Option<f64>> {
    let mut all = BTreeMap::new();
    for row in tables.steps.iter().filter(|row| row.arm == *arm && row.seed == seed) {
        all.insert((row.step, "train_loss".to_owned()), row.train_loss);
        all.insert((row.step, "grad_norm".to_owned()), row.grad_norm);
    }
    for row in tables.evals.iter().filter(|row| row.arm == *arm && row.seed == seed) {
        all.insert((row.step, format!("{} loss", row.split)), row.loss);
        all.insert((row.step, format!("{} loss_above_floor", row.split)), row.loss_above_floor);
    }
    let standard = tables.residual.iter().filter(|row| row.basis == Basis::Standard);
    for row in standard.filter(|row| row.arm == *arm && row.seed == seed) {
        all.insert((row.step, format!("{} {} ({} tokens)", row.site, row.metric, row.tokens)), row.value);
    }
    all
}

fn print(value: Option<f64>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
}
