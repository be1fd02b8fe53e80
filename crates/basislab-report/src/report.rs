//! Everything that follows from the recorded rows.

use crate::figures::draw_figures;
use crate::files::{FileError, merge, write_atomic, write_table};
use crate::read::{ReadError, read_tables};
use crate::schema::schema;
use crate::summary::summarise;
use crate::verdicts::decide_claims;
use crate::words::{Answer, answer};
use basislab_config::Experiment;
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

/// The same while runs are under way: joins the parts that exist, complete or not, and reports on the complete ones.
///
/// # Errors
/// As [`rebuild`], and a part that could not be joined.
pub fn first_picture(dir: &Path, experiment: &Experiment) -> Result<Answer, ReportError> {
    merge(dir, experiment)?;
    rebuild(dir, experiment)
}
