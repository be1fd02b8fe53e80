//! The tables at the top of a directory: the parts of all runs, joined.

use crate::cell::CellType;
use crate::error::TableError;
use crate::rows::{EvalRow, RUN_TABLES, StepRow, TimingRow};
use crate::schema::{Column, Table, TableRow};
use crate::seal::Seal;
use crate::shard::{RunEnd, part_dir};
use basislab_config::Experiment;
use basislab_store::{Extent, FileError, Hasher, write_atomic_with};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Joins the parts of all runs into the files at the top: arms and seeds in the configuration's order, lines in the
/// order of their file (see [`guessable`]). Runs that have not ended are left out; the parts of the others must be what they
/// wrote, or nothing is touched. Files that hold the joined lines already are left alone, and so are sealed ones.
///
/// # Errors
/// The file that could not be read or written, whose header is not this version's, or that was changed.
pub fn merge(dir: &Path, experiment: &Experiment) -> Result<(), TableError> {
    let parts = parts(dir, experiment);
    let seal = Seal::read(dir)?;
    let mut stale = Vec::new();
    for (table, joined) in check_parts(dir, experiment)? {
        let path = dir.join(table.file);
        let there = fs::read(&path).ok();
        let sealed = there.is_some() && seal.as_ref().is_some_and(|seal| seal.lists(table.file));
        if !sealed && there.is_none_or(|bytes| Extent::of(&bytes) != joined) {
            stale.push((table, path));
        }
    }
    for (table, path) in stale {
        write_atomic_with(&path, |file| {
            join(&parts, table, &mut |bytes| {
                file.write_all(bytes).map_err(|error| FileError::new("write", &path, error))
            })
        })?;
    }
    Ok(())
}

/// Reads the parts of all ended runs against what they wrote, and says what each table is when joined.
///
/// # Errors
/// As [`merge`].
pub fn check_parts(dir: &Path, experiment: &Experiment) -> Result<Vec<(&'static Table, Extent)>, TableError> {
    let parts = parts(dir, experiment);
    let of_table = |table: &'static Table| {
        let mut joined = Hasher::default();
        join(&parts, table, &mut |bytes| {
            joined.update(bytes);
            Ok(())
        })?;
        Ok((table, joined.extent()))
    };
    RUN_TABLES.into_iter().chain([TimingRow::TABLE]).map(of_table).collect()
}

/// Where each planned run lies.
fn parts(dir: &Path, experiment: &Experiment) -> Vec<PathBuf> {
    let runs = experiment.arms.iter().flat_map(|arm| arm.seeds.iter().map(move |seed| (arm, *seed)));
    runs.map(|(arm, seed)| part_dir(dir, &arm.name, seed)).collect()
}

/// Hands one table, joined, to `write`.
fn join(
    parts: &[PathBuf],
    table: &Table,
    write: &mut dyn FnMut(&[u8]) -> Result<(), FileError>,
) -> Result<(), TableError> {
    write(format!("{}\n", table.header()).as_bytes())?;
    let mut first = true;
    for part in parts {
        let mut lines = part_lines(part, table)?;
        if first && !lines.is_empty() {
            lines = guessable(table, lines);
            first = false;
        }
        write(&lines)?;
    }
    Ok(())
}

/// Rows, with one brought to the front for each column of numbers whose first cells are all empty: programs that guess a
/// column's type from its first rows would take its numbers for text.
pub fn guessable(table: &Table, lines: Vec<u8>) -> Vec<u8> {
    // What polars reads before it decides.
    const GUESSED_FROM: usize = 100;
    let may_be_empty = |column: &Column| matches!(column.cell, CellType::MaybeInteger | CellType::MaybeNumber);
    let mut open: Vec<usize> = (0..table.columns.len()).filter(|&at| may_be_empty(&table.columns[at])).collect();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&lines[..]);
    let mut record = csv::ByteRecord::new();
    let mut forward = Vec::new();
    let mut number = 0;
    while !open.is_empty() {
        let start = reader.position().byte() as usize;
        if !reader.read_byte_record(&mut record).unwrap_or(false) {
            break;
        }
        let before = open.len();
        open.retain(|&at| record.get(at).is_none_or(<[u8]>::is_empty));
        if open.len() < before && number >= GUESSED_FROM {
            forward.push(start..reader.position().byte() as usize);
        }
        number += 1;
    }
    let mut rows = Vec::with_capacity(lines.len());
    forward.iter().for_each(|row| rows.extend(&lines[row.clone()]));
    let mut from = 0;
    for row in forward {
        rows.extend(&lines[from..row.start]);
        from = row.end;
    }
    rows.extend(&lines[from..]);
    rows
}

/// The lines of one table of one run, without the header; none while the run has not ended.
fn part_lines(part: &Path, table: &Table) -> Result<Vec<u8>, TableError> {
    let path = part.join(table.file);
    let Some(done) = RunEnd::read(part)? else { return Ok(Vec::new()) };
    let recorded = done.tables.get(table.file);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && recorded.is_none() => return Ok(Vec::new()),
        Err(error) => return Err(FileError::new("read", &path, error).into()),
    };
    if let Some(expected) = recorded {
        let found = Extent::of(&bytes);
        if found != *expected {
            let (found, expected) = (found.sha256, &expected.sha256);
            return Err(TableError::Changed(format!(
                "{}: changed since its run ended: found SHA-256 {found}, expected {expected}; restore it, or delete {} to run it again",
                path.display(),
                part.display()
            )));
        }
    }
    let expected = format!("{}\n", table.header());
    let Some(lines) = bytes.strip_prefix(expected.as_bytes()) else {
        let message = format!("its header is not {}", table.header());
        return Err(FileError::new("merge", &path, io::Error::new(io::ErrorKind::InvalidData, message)).into());
    };
    // The first update and the first probe of any run leave a row each.
    if lines.is_empty() && [StepRow::TABLE.file, EvalRow::TABLE.file].contains(&table.file) {
        return Err(TableError::Changed(format!(
            "{}: found no rows, expected those of a run that has ended; restore it, or delete {} to run it again",
            path.display(),
            part.display()
        )));
    }
    Ok(lines.to_vec())
}
