//! Everything that follows from the recorded rows.

use crate::figures::draw_figures;
use crate::files::{RunEnd, SUMS, changed_table, merge, part_dir, seal, write_table};
use crate::read::{ReadError, read_tables};
use crate::schema::schema;
use crate::summary::summarise;
use crate::verdicts::decide_claims;
use crate::words::{Answer, answer};
use basislab_config::Experiment;
use basislab_store::{FileError, write_atomic};
use std::path::Path;

/// A report that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A table is not what it should be.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is well-formed, but not what was written.
    #[error("{0}")]
    Changed(String),
}

/// Reads the tables at the top of `dir` and writes `summary.csv`, `verdicts.csv`, `schema.json` and `figures/*.svg`.
/// Runs may still be missing: their claims come out as inconclusive, by name.
///
/// # Errors
/// The table that is wrong, with line and column, or the file that could not be written.
pub fn rebuild(dir: &Path, experiment: &Experiment) -> Result<Answer, ReportError> {
    let tables = read_tables(dir)?;
    let summary = summarise(experiment, &tables);
    let verdicts = decide_claims(experiment, &tables);
    write_table(dir, &summary)?;
    write_table(dir, &verdicts)?;
    let path = dir.join("schema.json");
    write_atomic(&path, format!("{:#}\n", schema()).as_bytes())?;
    draw_figures(experiment, &tables, &verdicts, dir)?;
    Ok(answer(experiment, &tables, &summary, &verdicts, dir))
}

/// [`rebuild`] from the parts that exist, complete or not: joins them first, and reports on the complete runs.
///
/// # Errors
/// As [`rebuild`], and a part that could not be joined or was changed.
pub fn report_so_far(dir: &Path, experiment: &Experiment) -> Result<Answer, ReportError> {
    merge(dir, experiment)?;
    rebuild(dir, experiment)
}

/// [`report_so_far`] when all runs have ended: the directory is sealed.
///
/// # Errors
/// As [`report_so_far`].
pub fn finish(dir: &Path, experiment: &Experiment) -> Result<Answer, ReportError> {
    let answer = report_so_far(dir, experiment)?;
    seal(dir)?;
    Ok(answer)
}

/// The report on a directory that others may have touched: sealed tables must be what was written, and parts that are
/// there are joined again.
///
/// # Errors
/// As [`report_so_far`], and tables that were changed.
pub fn report(dir: &Path, experiment: &Experiment) -> Result<Answer, ReportError> {
    check_seal(dir)?;
    if !dir.join("parts").is_dir() {
        return rebuild(dir, experiment);
    }
    for arm in &experiment.arms {
        for &seed in experiment.seeds_of(arm) {
            if RunEnd::read(&part_dir(dir, &arm.name, seed))?.is_none() {
                return report_so_far(dir, experiment);
            }
        }
    }
    finish(dir, experiment)
}

/// The answer of a finished directory, whose tables must be what was written. Writes nothing.
///
/// # Errors
/// The table that is wrong or was changed.
pub fn read_answer(dir: &Path, experiment: &Experiment) -> Result<Answer, ReportError> {
    check_seal(dir)?;
    read_unsealed(dir, experiment)
}

/// The answer as far as the tables at the top go, while somebody else writes there. Writes nothing.
///
/// # Errors
/// The table that is wrong.
pub fn read_unsealed(dir: &Path, experiment: &Experiment) -> Result<Answer, ReportError> {
    let tables = read_tables(dir)?;
    let (summary, verdicts) = (summarise(experiment, &tables), decide_claims(experiment, &tables));
    Ok(answer(experiment, &tables, &summary, &verdicts, dir))
}

fn check_seal(dir: &Path) -> Result<(), ReportError> {
    if let Some(path) = changed_table(dir)? {
        // Malformed is the better message of the two: it has a line and a column.
        read_tables(dir)?;
        return Err(ReportError::Changed(format!(
            "{}: changed since it was written: its SHA-256 is not that of {SUMS}; restore it, or delete {SUMS} to report on it as it is",
            path.display()
        )));
    }
    Ok(())
}
