//! The two stages of an experiment: runs with all their values, then those of arms whose values are chosen from a grid.

use crate::commands::run::ready::choices;
use crate::exit::Exit;
use basislab_config::Experiment;
use basislab_report::resolve;
use basislab_runs::{Job, PlanFile, PlanLine};
use std::path::Path;

/// The stages of a plan.
pub(crate) const STAGES: [u8; 2] = [1, 2];

/// Lines of one stage, and the experiment in which their arms have all values.
pub(crate) struct Decided<'p> {
    pub(crate) experiment: Experiment,
    lines: Vec<&'p PlanLine>,
    /// Lines of arms whose values cannot be chosen yet.
    pub(crate) waiting: usize,
}

impl<'p> Decided<'p> {
    /// By the runs that have ended in the directory.
    pub(crate) fn of(dir: &Path, planned: &Experiment, lines: &[&'p PlanLine], stage: u8) -> Result<Self, Exit> {
        let mut experiment = planned.clone();
        let mut lines: Vec<&PlanLine> = lines.iter().copied().filter(|line| line.stage == stage).collect();
        let all = lines.len();
        if stage == 2 && all > 0 {
            let rows = choices(dir, planned)?;
            experiment = resolve(planned, &rows);
            let is_chosen =
                |line: &&PlanLine| rows.iter().any(|row| row.chosen && row.arm == planned.arms[line.arm].name);
            lines.retain(is_chosen);
        }
        let waiting = all - lines.len();
        Ok(Self { experiment, lines, waiting })
    }

    /// The runs.
    pub(crate) fn jobs(&self) -> Vec<Job<'_>> {
        self.lines.iter().map(|line| PlanFile::job(line, &self.experiment)).collect()
    }
}
