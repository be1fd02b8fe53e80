//! A table as a Parquet file: its columns under their names, text as UTF-8, an empty cell as a null.

use crate::error::ExportError;
use basislab_store::write_atomic_with;
use basislab_tables::{CellType, Table, for_each_record, resource};
use csv::StringRecord;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// Rows in memory at a time; each such group can be read alone.
pub(crate) const GROUP: usize = 1 << 16;

/// The key of the file's metadata under which the table is described as in `datapackage.json`.
pub(crate) const ABOUT: &str = "datapackage.resource";

/// The cells of a column: only those that are not empty, and for each row 1 where it has one.
struct Cells {
    values: Values,
    present: Vec<i16>,
}

enum Values {
    Text(Vec<ByteArray>),
    Integers(Vec<i64>),
    Numbers(Vec<f64>),
    Booleans(Vec<bool>),
}

/// Writes a table of the directory to `path` and returns the number of its rows.
///
/// # Errors
/// A table that is not what it should be, and a file that cannot be written.
pub fn write_parquet(dir: &Path, table: &Table, path: &Path) -> Result<u64, ExportError> {
    let fail = |error: ParquetError| ExportError::write(path, error);
    let schema = schema(table).map_err(fail)?;
    let about = KeyValue::new(ABOUT.to_owned(), resource(table).to_string());
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by("basislab".to_owned())
        .set_key_value_metadata(Some(vec![about]))
        .build();
    let mut rows = 0;
    write_atomic_with(path, |file| {
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).map_err(fail)?;
        let mut group: Vec<Cells> = table.columns.iter().map(|column| Cells::new(column.cell)).collect();
        for_each_record(dir, table, |_, record| {
            add(&mut group, record).map_err(|what| ExportError::write(path, what))?;
            rows += 1;
            if rows % GROUP as u64 == 0 { flush(&mut writer, &mut group).map_err(fail) } else { Ok(()) }
        })?;
        if rows % GROUP as u64 != 0 {
            flush(&mut writer, &mut group).map_err(fail)?;
        }
        writer.close().map_err(fail)?;
        Ok::<_, ExportError>(())
    })?;
    Ok(rows)
}

fn schema(table: &Table) -> Result<TypePtr, ParquetError> {
    let field = |column: &basislab_tables::Column| {
        let kind = match Cells::new(column.cell).values {
            Values::Text(_) => Physical::BYTE_ARRAY,
            Values::Integers(_) => Physical::INT64,
            Values::Numbers(_) => Physical::DOUBLE,
            Values::Booleans(_) => Physical::BOOLEAN,
        };
        let repetition = if is_optional(column.cell) { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let text = (kind == Physical::BYTE_ARRAY).then_some(LogicalType::String);
        let field = Type::primitive_type_builder(column.name, kind).with_repetition(repetition);
        field.with_logical_type(text).build().map(Arc::new)
    };
    let fields = table.columns.iter().map(field).collect::<Result<Vec<_>, _>>()?;
    Type::group_type_builder("schema").with_fields(fields).build().map(Arc::new)
}

/// Whether a cell may be empty.
fn is_optional(cell: CellType) -> bool {
    cell.accepts("") && cell != CellType::Name
}

impl Cells {
    fn new(cell: CellType) -> Self {
        let values = match cell {
            CellType::Text | CellType::Name | CellType::Names(_) | CellType::Basis | CellType::Numbers => {
                Values::Text(Vec::new())
            }
            CellType::Integer | CellType::MaybeInteger => Values::Integers(Vec::new()),
            CellType::Number | CellType::MaybeNumber => Values::Numbers(Vec::new()),
            CellType::Boolean => Values::Booleans(Vec::new()),
        };
        Self { values, present: Vec::new() }
    }
}

/// Adds a row, whose cells have been checked.
fn add(group: &mut [Cells], record: &StringRecord) -> Result<(), String> {
    for (cells, text) in group.iter_mut().zip(record) {
        cells.present.push(i16::from(!text.is_empty()));
        if text.is_empty() {
            continue;
        }
        let wrong = || format!("found {text:?}, expected a number that Parquet has");
        match &mut cells.values {
            Values::Text(all) => all.push(ByteArray::from(text)),
            Values::Integers(all) => all.push(text.parse().map_err(|_| wrong())?),
            Values::Numbers(all) => all.push(text.parse().map_err(|_| wrong())?),
            Values::Booleans(all) => all.push(text == "true"),
        }
    }
    Ok(())
}

/// Writes the rows so far as a group of their own.
fn flush<W: Write + Send>(writer: &mut SerializedFileWriter<W>, group: &mut [Cells]) -> Result<(), ParquetError> {
    let mut rows = writer.next_row_group()?;
    for cells in group {
        let Some(mut column) = rows.next_column()? else { break };
        let present = Some(&cells.present[..]);
        match &mut cells.values {
            Values::Text(all) => {
                column.typed::<ByteArrayType>().write_batch(all, present, None)?;
                all.clear();
            }
            Values::Integers(all) => {
                column.typed::<Int64Type>().write_batch(all, present, None)?;
                all.clear();
            }
            Values::Numbers(all) => {
                column.typed::<DoubleType>().write_batch(all, present, None)?;
                all.clear();
            }
            Values::Booleans(all) => {
                column.typed::<BoolType>().write_batch(all, present, None)?;
                all.clear();
            }
        }
        cells.present.clear();
        column.close()?;
    }
    rows.close()?;
    Ok(())
}
