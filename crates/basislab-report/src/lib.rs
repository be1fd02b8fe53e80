//! From rows to an answer.
//!
//! Runs append rows to their own CSV files ([`Shard`]); [`merge`] joins them; [`rebuild`] reads the joined files and
//! writes everything that follows from them: summary, verdicts, figures and data package. Nothing here trains or measures.

mod bits;
mod evidence;
mod figures;
mod files;
mod merge;
mod read;
mod report;
mod rows;
mod schema;
mod seal;
mod select;
mod sentences;
mod summary;
mod verdicts;
mod words;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use files::{Difference, Ending, RunEnd, Shard, compare_run, is_published, part_dir, write_table, write_timing};
pub use merge::merge;
pub use read::{ReadError, Tables, parse_table, read_table, read_tables};
pub use report::{ReportError, Written, is_finished, read_answer, read_unsealed, rebuild, report, report_so_far};
pub use rows::{DimensionRow, EvalRow, ResidualRow, Row, StepRow, SummaryRow, TimingRow, VerdictRow};
pub use schema::{Cell, Column, TABLES, Table, TableRow, data_package};
pub use seal::{SUMS, seal};
pub use summary::summarise;
pub use verdicts::decide_claims;
pub use words::{Answer, ArmLine, VerdictLine, answer};
