//! The rows of `residual.csv` in memory: an experiment has millions, and of most only the run and the number are new.

use crate::rows::ResidualRow;
use basislab_config::{Basis, RunName, Site, Tokens};
use std::collections::BTreeMap;

/// What a number of `residual.csv` is of, in any run: a row without its run and its value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResidualKind {
    /// Optimizer updates made.
    pub step: u64,
    /// Point on the residual stream.
    pub site: Site,
    /// All tokens, the first of each sequence, or the rest.
    pub tokens: Tokens,
    /// How many tokens were measured.
    pub tokens_used: u64,
    /// Coordinates of the measurement.
    pub basis: Basis,
    /// Name of the metric.
    pub metric: String,
}

/// One row: its run and kind as places in the lists of [`ResidualRows`].
#[derive(Debug, Clone, Copy)]
pub struct Residual {
    /// The run.
    pub run: u32,
    /// The kind.
    pub kind: u32,
    /// NaN for an empty cell: no cell holds a number that is not finite.
    value: f64,
}

impl Residual {
    /// The number, where the cell is not empty.
    pub fn value(self) -> Option<f64> {
        (!self.value.is_nan()).then_some(self.value)
    }
}

/// Rows of `residual.csv` in their order, each in 16 bytes: every run and every kind of number is there once.
#[derive(Debug, Clone, Default)]
pub struct ResidualRows {
    runs: Distinct<(RunName, u64)>,
    kinds: Distinct<ResidualKind>,
    rows: Vec<Residual>,
}

impl ResidualRows {
    /// Adds a row at the end.
    pub fn push(&mut self, row: ResidualRow) {
        let ResidualRow { arm, seed, step, site, layer: _, tokens, tokens_used, basis, metric, value } = row;
        let last = self.rows.last().map(|row| (row.run, row.kind));
        let run = self.runs.place((arm, seed), last.map(|last| last.0));
        // Runs of one kind write the same rows in the same order.
        let kind = ResidualKind { step, site, tokens, tokens_used, basis, metric };
        let kind = self.kinds.place(kind, last.map(|last| last.1 + 1));
        self.rows.push(Residual { run, kind, value: value.unwrap_or(f64::NAN) });
    }

    /// The rows in their order.
    pub fn iter(&self) -> impl Iterator<Item = Residual> {
        self.rows.iter().copied()
    }

    /// Those whose kind `keep` wants; it is asked once for each kind.
    pub fn of_kinds(&self, keep: impl Fn(&ResidualKind) -> bool) -> impl Iterator<Item = Residual> {
        let kept: Vec<bool> = self.kinds.all.iter().map(keep).collect();
        self.iter().filter(move |row| kept[row.kind as usize])
    }

    /// The runs, as arm and seed, in the order of their first rows.
    pub fn runs(&self) -> &[(RunName, u64)] {
        &self.runs.all
    }

    /// The place of a run among [`Self::runs`].
    pub fn place_of(&self, arm: &RunName, seed: u64) -> Option<u32> {
        self.runs.places.get(&(arm.clone(), seed)).copied()
    }

    /// The kinds in the order of their first rows.
    pub fn kinds(&self) -> &[ResidualKind] {
        &self.kinds.all
    }

    /// The arm and seed of a row.
    pub fn run_of(&self, row: Residual) -> (&RunName, u64) {
        let (arm, seed) = &self.runs.all[row.run as usize];
        (arm, *seed)
    }

    /// What a row's number is of.
    pub fn kind_of(&self, row: Residual) -> &ResidualKind {
        &self.kinds.all[row.kind as usize]
    }

    /// A row as the file has it.
    pub fn whole(&self, row: Residual) -> ResidualRow {
        let ((arm, seed), kind) = (self.run_of(row), self.kind_of(row).clone());
        let ResidualKind { step, site, tokens, tokens_used, basis, metric } = kind;
        let (arm, layer, value) = (arm.clone(), site.layer(), row.value());
        ResidualRow { arm, seed, step, site, layer, tokens, tokens_used, basis, metric, value }
    }

    /// Every row as the file has it.
    pub fn to_rows(&self) -> Vec<ResidualRow> {
        self.iter().map(|row| self.whole(row)).collect()
    }

    pub(crate) fn shrink(&mut self) {
        self.rows.shrink_to_fit();
    }
}

impl Extend<ResidualRow> for ResidualRows {
    fn extend<I: IntoIterator<Item = ResidualRow>>(&mut self, rows: I) {
        rows.into_iter().for_each(|row| self.push(row));
    }
}

impl FromIterator<ResidualRow> for ResidualRows {
    fn from_iter<I: IntoIterator<Item = ResidualRow>>(rows: I) -> Self {
        let mut all = Self::default();
        all.extend(rows);
        all
    }
}

impl PartialEq for ResidualRows {
    fn eq(&self, other: &Self) -> bool {
        self.rows.len() == other.rows.len()
            && self.iter().zip(other.iter()).all(|(one, two)| self.whole(one) == other.whole(two))
    }
}

/// Values in the order of their first use, each once.
#[derive(Debug, Clone)]
struct Distinct<T> {
    all: Vec<T>,
    places: BTreeMap<T, u32>,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self { all: Vec::new(), places: BTreeMap::new() }
    }
}

impl<T: Ord + Clone> Distinct<T> {
    /// The place of a value, which is looked for at `guess` first.
    fn place(&mut self, value: T, guess: Option<u32>) -> u32 {
        if let Some(guess) = guess.filter(|guess| self.all.get(*guess as usize) == Some(&value)) {
            return guess;
        }
        if let Some(place) = self.places.get(&value) {
            return *place;
        }
        let place = u32::try_from(self.all.len()).expect("fewer than 2^32 different values");
        self.all.push(value.clone());
        self.places.insert(value, place);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::ResidualRows;
    use crate::rows::ResidualRow;
    use basislab_config::{Basis, RunName, Site, Tokens};

    #[test]
    fn packed_rows_are_the_rows_that_were_packed() {
        let row = |arm: &str, seed, step, basis, value| ResidualRow {
            arm: RunName::new(arm).expect("a name"),
            seed,
            step,
            site: Site::ResidPost(1),
            layer: Some(1),
            tokens: Tokens::Rest,
            tokens_used: 7,
            basis,
            metric: format!("metric_{step}"),
            value,
        };
        let random = Basis::Random(1);
        // Runs that differ in arm or seed alone, rows that return to an earlier run, and an empty cell.
        let rows = vec![
            row("a", 0, 0, Basis::Standard, Some(1.0)),
            row("a", 0, 0, random, None),
            row("a", 1, 0, Basis::Standard, Some(-0.0)),
            row("b", 1, 0, random, Some(2.0)),
            row("a", 0, 4, Basis::Standard, Some(3.0)),
        ];
        let packed: ResidualRows = rows.iter().cloned().collect();
        assert_eq!(packed.to_rows(), rows);
        assert_eq!((packed.runs().len(), packed.kinds().len()), (3, 3));
        let values: Vec<Option<f64>> = packed.of_kinds(|kind| kind.basis == random).map(|row| row.value()).collect();
        assert_eq!(values, [None, Some(2.0)]);
    }
}
