//! The part of the tables that a report is made of. The others have ten times as many rows, and would fill the memory.

use crate::atlas::Profiles;
use crate::index::{RunState, Runs};
use crate::outliers::{Search, StandingOut, is_null_of_outliers};
use basislab_config::{Basis, ClaimKind, Experiment, Site, Tokens};
use basislab_tables::{
    DimensionRow, DimensionStepRow, ReadError, ResidualRow, Status, StepRow, TableRow, Tables, for_each_row,
    read_optional, read_residual, read_rows, read_rows_if_any, read_table,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The rows at the top of `dir` from which report, verdicts and figures of the experiment are made, and the dimensions that stand
/// out.
///
/// # Errors
/// The first thing that is wrong in any row, with file, line and column.
pub(crate) fn read_needed(dir: &Path, experiment: &Experiment) -> Result<(Tables, StandingOut), ReadError> {
    let (tables, standing_out, _) = read_for_page(dir, experiment)?;
    Ok((tables, standing_out))
}

/// [`read_needed`], and single dimensions of as many runs as the page can hold.
///
/// # Errors
/// As [`read_needed`].
pub(crate) fn read_for_page(dir: &Path, experiment: &Experiment) -> Result<(Tables, StandingOut, Profiles), ReadError> {
    let needed = Needed::of(experiment);
    let mut last = None;
    let mut tables = Tables {
        steps: read_rows(dir, |row: &StepRow| {
            // Of every run a row: that there are any.
            let is_new = last.as_ref().is_none_or(|(arm, seed)| *arm != row.arm || *seed != row.seed);
            if is_new {
                last = Some((row.arm.clone(), row.seed));
            }
            is_new || row.status == Status::Diverged || needed.of_bits.contains(row.arm.as_str())
        })?,
        evals: read_table(dir)?,
        residual: read_residual(dir, |row| needed.has_residual(row))?,
        dimensions: Vec::new(),
        dimension_steps: Vec::new(),
        timing: read_optional(dir)?,
    };
    let (mut search, mut profiles, runs) = (Search::new(&tables), Profiles::default(), Runs::of(experiment, &tables));
    let is_shown = |row: &DimensionRow| {
        !experiment.is_selection_arm(&row.arm) && runs.state(&row.arm, row.seed) != RunState::Diverged
    };
    let dimensions = read_rows_if_any(dir, |row| {
        search.visit(row);
        profiles.visit(row, || is_shown(row));
        needed.has_dimension(row)
    })?;
    let mut standing_out = search.end();
    if dir.join(DimensionStepRow::TABLE.file).exists() {
        for_each_row(dir, |row| standing_out.visit(&row))?;
    }
    profiles.end();
    tables.dimensions = dimensions;
    Ok((tables, standing_out, profiles))
}

struct Needed<'a> {
    /// The metrics that `[verdict]` and claims read, with their tokens.
    cells: BTreeSet<(&'a str, Tokens)>,
    /// The arms whose every number is compared.
    of_bits: BTreeSet<&'a str>,
    /// The tokens of the verdict.
    tokens: Tokens,
    /// The last step of each arm and the verdict's site in it, also as they become with the values of a grid that it may
    /// choose.
    ends: BTreeMap<&'a str, Vec<(u64, Site)>>,
}

impl<'a> Needed<'a> {
    fn of(experiment: &'a Experiment) -> Self {
        let (verdict, cell) = (&experiment.verdict, experiment.verdict.cell());
        let of_claims = experiment.claims.iter().flat_map(|claim| claim.cells());
        let of_claims = of_claims.map(|(_, cell)| (cell.metric.as_str(), cell.tokens));
        let bits = experiment.claims.iter().filter(|claim| matches!(claim.test, ClaimKind::BitEqual { .. }));
        let own = experiment.arms.iter().map(|arm| (arm.name.as_str(), arm));
        let chosen = experiment.choices().flat_map(|(sweep, _)| {
            let points = sweep.points.iter().filter_map(|point| experiment.arm(&point.arm));
            points.map(|point| (sweep.arm.as_str(), point))
        });
        let mut ends: BTreeMap<&str, Vec<(u64, Site)>> = BTreeMap::new();
        for (name, arm) in own.chain(chosen) {
            let (end, ends) = ((arm.run.train.steps, experiment.site(&cell, arm)), ends.entry(name).or_default());
            if !ends.contains(&end) {
                ends.push(end);
            }
        }
        Self {
            cells: std::iter::once((verdict.metric.as_str(), verdict.tokens)).chain(of_claims).collect(),
            of_bits: bits.flat_map(|claim| claim.test.arms()).map(|arm| arm.as_str()).collect(),
            tokens: verdict.tokens,
            ends,
        }
    }

    fn has_residual(&self, row: &ResidualRow) -> bool {
        // All arms are compared before their first update.
        (row.step == 0 && row.basis == Basis::Standard)
            || self.cells.contains(&(row.metric.as_str(), row.tokens))
            || (row.tokens == self.tokens && self.is_end(&row.arm, row.step, row.site))
            || self.of_bits.contains(row.arm.as_str())
            || is_null_of_outliers(row)
    }

    fn has_dimension(&self, row: &DimensionRow) -> bool {
        self.is_end(&row.arm, row.step, row.site)
    }

    /// Whether that is the last step of an arm, and the verdict's site in it.
    fn is_end(&self, arm: &str, step: u64, site: Site) -> bool {
        self.ends.get(arm).is_some_and(|ends| ends.contains(&(step, site)))
    }
}
