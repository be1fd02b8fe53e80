//! What must be so in every experiment, whatever it asks.

use basislab_config::{Arm, Basis, BasisSpec, Experiment};
use basislab_tables::{EvalRow, Residual, Tables, TimingRow, repeats_its_bits};
use serde::Serialize;
use std::borrow::Cow;
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

/// Before the first update, arms that share model, corpus and probes have the same losses and metrics, seed by seed: initial
/// weights and held-out tokens follow from the seed alone. Runs of different machines or devices are not compared, nor those of
/// a backend that does not repeat its own bits. `None` where there is nothing to compare.
pub(crate) fn same_start(experiment: &Experiment, tables: &Tables) -> Option<SelfTest> {
    let starts = Starts::of(tables);
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
            let [on_one, on_two] = [one, two].map(|run| made_on.get(&run).copied());
            if on_one.map(device) != on_two.map(device) || on_one.is_some_and(|row| !repeats_its_bits(&row.backend)) {
                continue;
            }
            let (of_one, of_two) = (starts.of_run(one), starts.of_run(two));
            // Tables that were thinned lack rows of some arms.
            for (what, value) in &of_one {
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
struct Starts<'a> {
    losses: BTreeMap<(&'a str, u64), Vec<&'a EvalRow>>,
    numbers: BTreeMap<(&'a str, u64), Vec<Residual>>,
    /// What a number of each kind is of.
    words: Vec<String>,
}

impl<'a> Starts<'a> {
    fn of(tables: &'a Tables) -> Self {
        let rows = &tables.residual;
        let mut losses: BTreeMap<(&str, u64), Vec<&EvalRow>> = BTreeMap::new();
        for row in tables.evals.iter().filter(|row| row.step == 0) {
            losses.entry((&row.arm, row.seed)).or_default().push(row);
        }
        let mut numbers: BTreeMap<(&str, u64), Vec<Residual>> = BTreeMap::new();
        for row in rows.of_kinds(|kind| kind.step == 0 && kind.basis == Basis::Standard) {
            let (arm, seed) = rows.run_of(row);
            numbers.entry((arm, seed)).or_default().push(row);
        }
        let words = rows.kinds().iter().map(|kind| format!("{} {} ({} tokens)", kind.site, kind.metric, kind.tokens));
        Self { losses, numbers, words: words.collect() }
    }

    /// The numbers of one run by what they are of.
    fn of_run(&self, run: (&str, u64)) -> BTreeMap<Cow<'_, str>, Option<u64>> {
        let bits = |value: Option<f64>| value.map(f64::to_bits);
        let losses = self.losses.get(&run).into_iter().flatten();
        let losses = losses.map(|row| (format!("{} loss", row.split).into(), bits(row.loss)));
        let numbers = self.numbers.get(&run).into_iter().flatten();
        losses.chain(numbers.map(|row| (self.words[row.kind as usize].as_str().into(), bits(row.value())))).collect()
    }
}
