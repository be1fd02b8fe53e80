//! Evidence over several arms at once: a dose, and a correlation.

use super::{Evidence, Lookup, Test};
use crate::index::mean;
use crate::note::{Lack, Note, chain};
use basislab_config::{Cell, Claim, RunName, Sign, count};
use basislab_stats::{block_means, ordered_p, rank_slope, smallest_spearman_p, spearman, spearman_p};

impl Lookup<'_> {
    /// One slope per seed: of the log of the metric per rank of the arm.
    pub(super) fn along_arms(&self, claim: &Claim, arms: &[RunName]) -> Evidence {
        let (cell, names) = (&claim.cell, arms.iter().collect::<Vec<_>>());
        let smallest_effect = self.experiment.verdict.smallest_effect;
        let test = |p| Test::Order { p, smallest_effect, steps: arms.len().saturating_sub(1) };
        let mut evidence = self.start(&names, chain(arms), test(None));
        evidence.read(cell, arms.first().and_then(|arm| self.site(cell, arm)));
        let mut rows = Vec::new();
        for seed in self.complete_seeds(&names, &mut evidence) {
            let Some(row) = self.row(cell, &names, seed, &mut evidence) else { continue };
            if let Some(at) = row.iter().position(|value| *value <= 0.0) {
                evidence.gaps.add(&arms[at], seed, Lack::Logarithm);
                continue;
            }
            let row: Vec<f64> = row.into_iter().map(f64::ln).collect();
            if let Some(slope) = rank_slope(&row) {
                evidence.push(slope);
                rows.push(row);
            }
        }
        evidence.test = test(ordered_p(&rows));
        if rows.is_empty() {
            return evidence;
        }
        let rising = |row: &[f64]| row.is_sorted_by(|a, b| a < b);
        let seeds = rows.iter().filter(|row| rising(row)).count();
        evidence.notes.push(Note::Rises { seeds, of: rows.len() });
        let means = means(&rows);
        if !rising(&means) {
            let mut order: Vec<usize> = (0..arms.len()).collect();
            order.sort_by(|a, b| means[*a].total_cmp(&means[*b]));
            evidence.notes.push(Note::MeansInOrder(order.into_iter().map(|at| arms[at].clone()).collect()));
        }
        evidence
    }

    /// One Spearman correlation over arms per seed.
    pub(super) fn over_arms(&self, claim: &Claim, arms: &[RunName], with: &Cell, sign: Option<Sign>) -> Evidence {
        let (cell, names, blocks) = (&claim.cell, arms.iter().collect::<Vec<_>>(), claim.test.blocks());
        let test = |p, tested| Test::Correlation { p, tested, sign, blocks: blocks.len() };
        let grouped =
            if blocks.len() < arms.len() { format!(" in {}", count(blocks.len(), "block")) } else { String::new() };
        let comparison = format!("{} ~ {} over {}{grouped}", cell.metric, beside(with, cell), count(arms.len(), "arm"));
        let mut evidence = self.start(&names, comparison, test(None, None));
        evidence.read(cell, arms.first().and_then(|arm| self.site(cell, arm)));
        let (mut of_cell, mut of_with) = (Vec::new(), Vec::new());
        for seed in self.complete_seeds(&names, &mut evidence) {
            let Some(x) = self.row(cell, &names, seed, &mut evidence) else { continue };
            let Some(y) = self.row(with, &names, seed, &mut evidence) else { continue };
            match spearman(&x, &y) {
                Some(rho) => evidence.push(rho),
                None => evidence.gaps.add("all arms", seed, Lack::Equal),
            }
            of_cell.push(x);
            of_with.push(y);
        }
        let smallest = smallest_spearman_p(blocks.len());
        if smallest > self.experiment.verdict.alpha {
            evidence.notes.push(Note::SmallestP { units: blocks.len(), unit: "block", p: smallest });
        }
        if of_cell.is_empty() {
            return evidence;
        }
        let (x, y) = (means(&of_cell), means(&of_with));
        if let Some(rho) = spearman(&x, &y) {
            evidence.notes.push(Note::CorrelationOfMeans(rho));
        }
        if let (Some(x), Some(y)) = (block_means(&x, &blocks), block_means(&y, &blocks)) {
            let tested = spearman(&x, &y);
            evidence.test = test(spearman_p(&x, &y), tested);
            if let Some(rho) = tested.filter(|_| blocks.len() < arms.len()) {
                evidence.notes.push(Note::CorrelationOfBlocks(rho));
            }
        }
        evidence
    }

    /// The values of all arms with one seed; the first arm without one goes to the gaps.
    fn row(&self, cell: &Cell, arms: &[&RunName], seed: u64, evidence: &mut Evidence) -> Option<Vec<f64>> {
        let mut row = Vec::new();
        for arm in arms {
            let Some(value) = self.reading(cell, arm, seed) else {
                evidence.gaps.add(arm, seed, Lack::Metric(cell.metric.clone()));
                return None;
            };
            row.push(value);
        }
        Some(row)
    }
}

/// What a cell is, as far as it differs from the one beside it.
fn beside(cell: &Cell, other: &Cell) -> String {
    let mut text = cell.metric.clone();
    if !cell.is_loss() {
        let parts = [
            (cell.site != other.site, format!(" at {}", cell.site)),
            (cell.tokens != other.tokens, format!(" of {} tokens", cell.tokens)),
            (cell.basis != other.basis, format!(" in the {} basis", cell.basis)),
        ];
        text.extend(parts.into_iter().filter(|(differs, _)| *differs).map(|(_, part)| part));
    }
    if cell.step != other.step {
        text.push_str(&match cell.step {
            basislab_config::StepPattern::At(step) => format!(" after step {step}"),
            basislab_config::StepPattern::Last(_) => " after the last step".to_owned(),
        });
    }
    text
}

/// The mean of each arm over the rows of seeds.
fn means(rows: &[Vec<f64>]) -> Vec<f64> {
    let arms = rows.first().map_or(0, Vec::len);
    (0..arms).filter_map(|at| mean(&rows.iter().map(|row| row[at]).collect::<Vec<_>>())).collect()
}
