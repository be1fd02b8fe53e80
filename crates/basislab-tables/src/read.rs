//! Reading the files back, strictly: they may have been edited by hand.

use crate::dimension_rows::DimensionStepRow;
use crate::packed::ResidualRows;
use crate::rows::{DimensionRow, EvalRow, ResidualRow, StepRow, TimingRow};
use crate::schema::{Table, TableRow};
use basislab_config::count;
use basislab_store::FileError;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// What the runs of an experiment recorded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tables {
    /// `steps.csv`.
    pub steps: Vec<StepRow>,
    /// `evals.csv`.
    pub evals: Vec<EvalRow>,
    /// `residual.csv`.
    pub residual: ResidualRows,
    /// `dimensions.csv`; no rows where the file is missing.
    pub dimensions: Vec<DimensionRow>,
    /// `dimension_steps.csv`; no rows where the file is missing.
    pub dimension_steps: Vec<DimensionStepRow>,
    /// `timing.csv`; no rows where the file is missing.
    pub timing: Vec<TimingRow>,
}

/// A file that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A cell, line or header is wrong.
    #[error("{file}:{line}:{column}: found {found}, expected {expected}")]
    Cell {
        /// The file.
        file: String,
        /// 1-based.
        line: u64,
        /// 1-based, in characters.
        column: usize,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
    },
}

/// Reads the tables at the top of an experiment directory.
///
/// # Errors
/// The first thing that is wrong, with file, line and column.
pub fn read_tables(dir: &Path) -> Result<Tables, ReadError> {
    Ok(Tables {
        steps: read_table(dir)?,
        evals: read_table(dir)?,
        residual: read_residual(dir, |_| true)?,
        dimensions: read_optional(dir)?,
        dimension_steps: read_optional(dir)?,
        timing: read_optional(dir)?,
    })
}

/// Reads one table from `dir`. Columns after the known ones are ignored, and so is a last line without newline.
///
/// # Errors
/// The first thing that is wrong, with file, line and column.
pub fn read_table<R: TableRow>(dir: &Path) -> Result<Vec<R>, ReadError> {
    read_rows(dir, |_| true)
}

/// [`read_table`] of the rows to keep. All rows are checked; the others take no memory.
///
/// # Errors
/// As [`read_table`].
pub fn read_rows<R: TableRow>(dir: &Path, mut keep: impl FnMut(&R) -> bool) -> Result<Vec<R>, ReadError> {
    let mut rows = Vec::new();
    for_each_row(dir, |row| {
        if keep(&row) {
            rows.push(row);
        }
    })?;
    rows.shrink_to_fit();
    Ok(rows)
}

/// The rows of `residual.csv` to keep. All rows are checked; the others take no memory.
///
/// # Errors
/// As [`read_table`].
pub fn read_residual(dir: &Path, mut keep: impl FnMut(&ResidualRow) -> bool) -> Result<ResidualRows, ReadError> {
    let mut rows = ResidualRows::default();
    for_each_row(dir, |row| {
        if keep(&row) {
            rows.push(row);
        }
    })?;
    rows.shrink();
    Ok(rows)
}

/// Reads a table without keeping it: `visit` gets each row.
///
/// # Errors
/// As [`read_table`].
pub fn for_each_row<R: TableRow>(dir: &Path, mut visit: impl FnMut(R)) -> Result<(), ReadError> {
    let path = dir.join(R::TABLE.file);
    let file = path.display().to_string();
    for_each_record(dir, R::TABLE, |line, record| {
        visit(parsed(&file, line, record)?);
        Ok(())
    })
}

/// Reads a table cell by cell, without keeping it: `visit` gets the line and the cells of each row, one for each of the table's
/// columns, after they have been checked.
///
/// # Errors
/// As [`read_table`], and what `visit` returns.
pub fn for_each_record<E: From<ReadError>>(
    dir: &Path,
    table: &Table,
    visit: impl FnMut(u64, &csv::StringRecord) -> Result<(), E>,
) -> Result<(), E> {
    let path = dir.join(table.file);
    let fail = |error| ReadError::from(FileError::new("read", &path, error));
    let mut file = File::open(&path).map_err(fail)?;
    let mut start = Vec::new();
    (&mut file).take(START).read_to_end(&mut start).map_err(fail)?;
    let whole = whole_lines(&mut file).map_err(fail)?;
    file.rewind().map_err(fail)?;
    records(&path.display().to_string(), table, &start, file.take(whole), visit)
}

/// [`read_tables`] without keeping a row.
///
/// # Errors
/// As [`read_tables`].
pub(crate) fn check_tables(dir: &Path) -> Result<(), ReadError> {
    for_each_row::<StepRow>(dir, drop)?;
    for_each_row::<EvalRow>(dir, drop)?;
    for_each_row::<ResidualRow>(dir, drop)?;
    if dir.join(DimensionRow::TABLE.file).exists() {
        for_each_row::<DimensionRow>(dir, drop)?;
    }
    if dir.join(DimensionStepRow::TABLE.file).exists() {
        for_each_row::<DimensionStepRow>(dir, drop)?;
    }
    if dir.join(TimingRow::TABLE.file).exists() {
        for_each_row::<TimingRow>(dir, drop)?;
    }
    Ok(())
}

/// [`read_rows`], without rows where there is no file.
///
/// # Errors
/// As [`read_table`].
pub fn read_rows_if_any<R: TableRow>(dir: &Path, keep: impl FnMut(&R) -> bool) -> Result<Vec<R>, ReadError> {
    if dir.join(R::TABLE.file).exists() { read_rows(dir, keep) } else { Ok(Vec::new()) }
}

/// [`read_table`], without rows where there is no file.
///
/// # Errors
/// As [`read_table`].
pub fn read_optional<R: TableRow>(dir: &Path) -> Result<Vec<R>, ReadError> {
    read_rows_if_any(dir, |_| true)
}

/// Rows of a table from its bytes; `file` is its name in errors.
///
/// # Errors
/// As [`read_table`].
pub fn parse_table<R: TableRow>(file: &str, bytes: &[u8]) -> Result<Vec<R>, ReadError> {
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    let mut all = Vec::new();
    records(file, R::TABLE, bytes, &bytes[..whole], |line, record| {
        all.push(parsed(file, line, record)?);
        Ok::<_, ReadError>(())
    })?;
    Ok(all)
}

/// Bytes from which a file that is no table is known.
const START: u64 = 256;

/// Bytes of a file up to its last newline.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    const BLOCK: u64 = 1 << 16;
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        (&mut *file).take(end - start).read_to_end(&mut block)?;
        if let Some(last) = block.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Hands each row of `source`, which has whole lines, to `visit`; `start` is its beginning.
fn records<E: From<ReadError>>(
    file: &str,
    table: &Table,
    start: &[u8],
    source: impl Read,
    mut visit: impl FnMut(u64, &csv::StringRecord) -> Result<(), E>,
) -> Result<(), E> {
    if start.starts_with("\u{feff}".as_bytes()) {
        let found = "a byte order mark (re-saved by a spreadsheet?)".to_owned();
        return Err(wrong(file, 1, 1, found, table.header()).into());
    }
    if basislab_store::is_lfs_pointer(start) {
        return Err(wrong(file, 1, 1, basislab_store::LFS_POINTER.to_owned(), table.header()).into());
    }
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).buffer_capacity(1 << 16).from_reader(source);
    let mut record = csv::StringRecord::new();
    let mut first = true;
    while read_record(file, &mut reader, &mut record)? {
        let line = record.position().map_or(0, csv::Position::line);
        if first {
            check_header(file, table, &record)?;
            first = false;
            continue;
        }
        check_cells(file, line, table, &record)?;
        record.truncate(table.columns.len());
        visit(line, &record)?;
    }
    if first {
        return Err(wrong(file, 1, 1, "no header".to_owned(), table.header()).into());
    }
    Ok(())
}

/// A row of checked cells.
pub(crate) fn parsed<R: TableRow>(file: &str, line: u64, record: &csv::StringRecord) -> Result<R, ReadError> {
    record.deserialize(None).map_err(|error| wrong(file, line, 1, error.to_string(), "a row".to_owned()))
}

fn read_record(
    file: &str,
    reader: &mut csv::Reader<impl Read>,
    record: &mut csv::StringRecord,
) -> Result<bool, ReadError> {
    let line = reader.position().line();
    reader.read_record(record).map_err(|error| match error.into_kind() {
        csv::ErrorKind::Io(error) => FileError::new("read", Path::new(file), error).into(),
        _ => wrong(file, line, 1, "bytes that are not UTF-8".to_owned(), "text".to_owned()),
    })
}

fn check_header(file: &str, table: &Table, found: &csv::StringRecord) -> Result<(), ReadError> {
    if found.get(0).is_some_and(|first| first.contains([';', '\t'])) {
        let found = "columns that no comma separates (re-saved by a spreadsheet?)".to_owned();
        return Err(wrong(file, 1, 1, found, table.header()));
    }
    for (index, column) in table.columns.iter().enumerate() {
        if found.get(index) != Some(column.name) {
            let what = found.get(index).map_or("the end of the header".to_owned(), |name| format!("{name:?}"));
            return Err(wrong(file, 1, character(found, index), what, format!("the column {}", column.name)));
        }
    }
    Ok(())
}

pub(crate) fn check_cells(file: &str, line: u64, table: &Table, record: &csv::StringRecord) -> Result<(), ReadError> {
    for (index, column) in table.columns.iter().enumerate() {
        let Some(text) = record.get(index) else {
            let expected = format!("{} ({} is missing)", count(table.columns.len(), "cell"), column.name);
            return Err(wrong(file, line, character(record, index), count(record.len(), "cell"), expected));
        };
        if !column.cell.accepts(text) {
            let expected = format!("{} in {}", column.cell.expected(), column.name);
            return Err(wrong(file, line, character(record, index), format!("{text:?}"), expected));
        }
    }
    Ok(())
}

/// Where a cell starts, as long as no earlier cell of its line is quoted (arms, sites and metrics are not).
fn character(record: &csv::StringRecord, index: usize) -> usize {
    1 + record.iter().take(index).map(|cell| cell.chars().count() + 1).sum::<usize>()
}

fn wrong(file: &str, line: u64, column: usize, found: String, expected: String) -> ReadError {
    ReadError::Cell { file: file.to_owned(), line, column, found, expected }
}
