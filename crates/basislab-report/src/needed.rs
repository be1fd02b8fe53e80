//! The part of the tables that a report is made of. The others have ten times as many rows, and would fill the memory.

use basislab_config::{Arm, Cell, ClaimKind, Experiment, RunName};
use basislab_tables::{
    DimensionRow, ReadError, ResidualRow, Tables, read_optional, read_rows, read_rows_if_any, read_table,
};
use std::path::Path;

/// The rows at the top of `dir` from which report, verdicts and figures of the experiment are made.
///
/// # Errors
/// The first thing that is wrong in any row, with file, line and column.
pub(crate) fn read_needed(dir: &Path, experiment: &Experiment) -> Result<Tables, ReadError> {
    let needed = Needed::of(experiment);
    Ok(Tables {
        steps: read_table(dir)?,
        evals: read_table(dir)?,
        residual: read_rows(dir, |row| needed.has_residual(row))?,
        dimensions: read_rows_if_any(dir, |row| needed.has_dimension(row))?,
        timing: read_optional(dir)?,
    })
}

struct Needed<'a> {
    experiment: &'a Experiment,
    /// What `[verdict]` and claims read.
    cells: Vec<Cell>,
    /// The arms whose every number is compared.
    of_bits: Vec<&'a RunName>,
}

impl<'a> Needed<'a> {
    fn of(experiment: &'a Experiment) -> Self {
        let of_claims =
            experiment.claims.iter().flat_map(|claim| claim.cells().into_iter().map(|(_, cell)| cell.clone()));
        let bits = experiment.claims.iter().filter(|claim| matches!(claim.test, ClaimKind::BitEqual { .. }));
        Self {
            experiment,
            cells: std::iter::once(experiment.verdict.cell()).chain(of_claims).collect(),
            of_bits: bits.flat_map(|claim| claim.test.arms()).collect(),
        }
    }

    fn has_residual(&self, row: &ResidualRow) -> bool {
        // All arms are compared before their first update.
        row.step == 0
            || self.of_bits.contains(&&row.arm)
            || self.cells.iter().any(|cell| cell.metric == row.metric && cell.tokens == row.tokens)
            || (row.tokens == self.experiment.verdict.tokens && self.ends_at(&row.arm, row.step, row.site))
    }

    fn has_dimension(&self, row: &DimensionRow) -> bool {
        self.of_bits.contains(&&row.arm) || self.ends_at(&row.arm, row.step, row.site)
    }

    /// Whether that is the last step of an arm, and the verdict's site in it.
    fn ends_at(&self, arm: &RunName, step: u64, site: basislab_config::Site) -> bool {
        let cell = self.experiment.verdict.cell();
        self.forms(arm).any(|arm| arm.run.train.steps == step && self.experiment.site(&cell, arm) == site)
    }

    /// The arm, and what it becomes with the values of a grid that it may choose.
    fn forms(&self, name: &RunName) -> impl Iterator<Item = &Arm> {
        let sweeps = self.experiment.sweeps.iter().filter(|sweep| sweep.choose.is_some() && sweep.arm == *name);
        let points = sweeps.flat_map(|sweep| &sweep.points).filter_map(|point| self.experiment.arm(&point.arm));
        self.experiment.arm(name).into_iter().chain(points)
    }
}
