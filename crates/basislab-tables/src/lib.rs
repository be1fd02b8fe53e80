//! The CSV files of an experiment: what their columns mean, how runs write them, how they are joined and read back.
//!
//! Runs append rows to their own files ([`Shard`]); [`merge`] joins them at the top of the directory; [`read_tables`] reads
//! them strictly. Nothing here trains, measures, decides or draws.

mod cell;
mod dimension;
mod dimension_rows;
mod error;
mod follow;
mod measured;
mod measured_rows;
mod merge;
mod numbers;
mod outlier_rows;
mod packed;
mod quantized_rows;
mod read;
mod record;
mod rows;
mod schema;
mod seal;
mod shard;

pub use cell::{CellType, CellValue};
pub use dimension_rows::DimensionStepRow;
pub use error::TableError;
pub use follow::{Follow, NewLines};
pub use measured::{MeasuredTokens, special_rows};
pub use measured_rows::{DominantTokenRow, InterventionRow, MassiveRow, ModelRow, SpecialDimensionRow, Verified};
pub use merge::{Part, check_parts, guessable, merge, merge_parts, parts};
pub use numbers::Numbers;
pub use outlier_rows::OutlierRow;
pub use packed::{Residual, ResidualKind, ResidualRows};
pub use quantized_rows::{QuantizationRow, Quantized, QuantizedModelRow, SpecialDimensions};
pub use read::{
    ReadError, Tables, for_each_record, for_each_row, parse_table, read_optional, read_residual, read_rows,
    read_rows_if_any, read_table, read_tables,
};
pub use record::{FAILED, Failure, Identity, RunRecord, cpu_class};
pub use rows::{
    DimensionRow, EvalRow, PrivilegeRow, RUN_TABLES, Registration, ResidualRow, Row, SelectionRow, Split, Status,
    StepRow, SummaryRow, TABLES, TimingRow, VerdictRow, repeats_its_bits,
};
pub use schema::{Column, PACKAGE, Table, TableRow, data_package, resource};
pub use seal::{Remedy, SUMS, Seal, is_sealed, seal, seal_measured};
pub use shard::{
    Ending, LineDifference, RunEnd, Shard, compare_run, is_published, last_step, part_dir, table_bytes, tables_reach,
    work_dir, write_table, write_timing,
};
