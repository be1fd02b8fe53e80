//! Everything that follows from the recorded rows.

use crate::figures::draw_figures;
use crate::files::{Done, SUMS, changed_table, merge, part_dir, seal, write_table};
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

/// The answer of a finished directory, whose tables must be what was written. Writes nothing.
///
/// # Errors
/// The table that is wrong or was changed.
pub fn read_answer(dir: &Path, experiment: &Experiment) -> Result<Answer, ReportError> {
    check(dir)?;
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

/// [`rebuild`] for a directory that others may have touched: tables must be what the runs wrote, and parts that are there
/// are joined again.
///
/// # Errors
/// As [`rebuild`], and tables or parts that were changed.
pub fn report(dir: &Path, experiment: &Experiment) -> Result<Answer, ReportError> {
    check(dir)?;
    if !dir.join("parts").is_dir() {
        return rebuild(dir, experiment);
    }
    let mut runs =
        experiment.arms.iter().flat_map(|arm| experiment.seeds_of(arm).iter().map(|seed| (&arm.name, *seed)));
    let ended = |(arm, seed)| Ok::<bool, FileError>(Done::read(&part_dir(dir, arm, seed))?.is_some());
    let all = runs.try_fold(true, |all, run| Ok::<bool, FileError>(all && ended(run)?))?;
    if all { finish(dir, experiment) } else { first_picture(dir, experiment) }
}

/// Joins all parts, reports on them, and seals the directory.
///
/// # Errors
/// As [`first_picture`].
pub fn finish(dir: &Path, experiment: &Experiment) -> Result<Answer, ReportError> {
    let answer = first_picture(dir, experiment)?;
    seal(dir)?;
    Ok(answer)
}

fn check(dir: &Path) -> Result<(), ReportError> {
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

/// The same while runs are under way: joins the parts that exist, complete or not, and reports on the complete ones.
///
/// # Errors
/// As [`rebuild`], and a part that could not be joined.
pub fn first_picture(dir: &Path, experiment: &Experiment) -> Result<Answer, ReportError> {
    merge(dir, experiment)?;
    rebuild(dir, experiment)
}
