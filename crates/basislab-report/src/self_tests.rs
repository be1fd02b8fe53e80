//! What must be so in every experiment, whatever it asks.

use basislab_config::{Arm, Basis, BasisSpec, Experiment};
use basislab_tables::{Tables, TimingRow, repeats_its_bits};
use serde::Serialize;
use std::collections::BTreeMap;

/// The outcome of a self-test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SelfTest {
    /// What must be so.
    pub what: String,
    /// Numbers that were compared.
    pub compared: usize,
    /// The first of them that is not as it must be.
    pub first_difference: Option<String>,
}

impl SelfTest {
    /// It in a sentence.
    pub(crate) fn sentence(&self) -> String {
        match &self.first_difference {
            None => format!("Self-test passed: {} ({} numbers, bit for bit).", self.what, self.compared),
            Some(difference) => format!(
                "Self-test FAILED: {} does not hold ({difference}); trust no comparison of arms before this is explained.",
                self.what
            ),
        }
    }
}

/// Numbers by what they are of.
type Numbers = BTreeMap<String, Option<u64>>;

/// Before the first update, arms that share model, corpus and probes have the same losses and metrics, seed by seed: initial
/// weights and held-out tokens follow from the seed alone. Runs of different machines or devices are not compared, nor those of
/// a backend that does not repeat its own bits. `None` where there is nothing to compare.
pub(crate) fn same_start(experiment: &Experiment, tables: &Tables) -> Option<SelfTest> {
    let starts = starts(tables);
    let made_on: BTreeMap<(&str, u64), &TimingRow> =
        tables.timing.iter().map(|row| ((row.arm.as_str(), row.seed), row)).collect();
    let device = |row: &TimingRow| (row.backend.clone(), row.device.clone(), row.driver.clone());
    let mut test = SelfTest {
        what: "before the first update all arms have the same numbers".to_owned(),
        compared: 0,
        first_difference: None,
    };
    for (place, arm) in experiment.arms.iter().enumerate() {
        let Some(first) = experiment.arms[..place].iter().find(|first| start_alike(first, arm)) else { continue };
        for &seed in arm.seeds.iter().filter(|seed| first.seeds.contains(seed)) {
            let [one, two] = [first, arm].map(|arm| (arm.name.as_str(), seed));
            let (Some(of_one), Some(of_two)) = (starts.get(&one), starts.get(&two)) else { continue };
            let [on_one, on_two] = [one, two].map(|run| made_on.get(&run).copied());
            if on_one.map(device) != on_two.map(device) || on_one.is_some_and(|row| !repeats_its_bits(&row.backend)) {
                continue;
            }
            // Tables that were thinned lack rows of some arms.
            for (what, value) in of_one {
                let Some(other) = of_two.get(what) else { continue };
                test.compared += 1;
                if value != other {
                    let [a, b] = [value, other]
                        .map(|bits| bits.map_or("nothing".to_owned(), |bits| f64::from_bits(bits).to_string()));
                    let difference = format!("{what}, seed {seed}: {a} in {}, {b} in {}", one.0, two.0);
                    test.first_difference.get_or_insert(difference);
                }
            }
        }
    }
    (test.compared > 0).then_some(test)
}

fn start_alike(one: &Arm, two: &Arm) -> bool {
    let is_plain = |arm: &Arm| !matches!(arm.run.basis, BasisSpec::RotatedModel { .. });
    let same = one.run.model == two.run.model && one.run.corpus == two.run.corpus && one.run.probe == two.run.probe;
    // The size of a batch decides how many sequences go through the model at a time, which rounding depends on.
    same && one.run.train.batch_size == two.run.train.batch_size && is_plain(one) && is_plain(two)
}

/// What was recorded of each run before its first update, in the standard basis.
fn starts(tables: &Tables) -> BTreeMap<(&str, u64), Numbers> {
    let mut all: BTreeMap<(&str, u64), Numbers> = BTreeMap::new();
    let bits = |value: Option<f64>| value.map(f64::to_bits);
    for row in tables.evals.iter().filter(|row| row.step == 0) {
        all.entry((&row.arm, row.seed)).or_default().insert(format!("{} loss", row.split), bits(row.loss));
    }
    for row in tables.residual.iter().filter(|row| row.step == 0 && row.basis == Basis::Standard) {
        let what = format!("{} {} ({} tokens)", row.site, row.metric, row.tokens);
        all.entry((&row.arm, row.seed)).or_default().insert(what, bits(row.value));
    }
    all
}
