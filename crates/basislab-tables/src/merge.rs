//! The tables at the top of a directory: the parts of all runs, joined.

use crate::cell::Cell;
use crate::error::TableError;
use crate::rows::{EvalRow, RUN_TABLES, TimingRow};
use crate::schema::{Column, Table, TableRow};
use crate::seal::Seal;
use crate::shard::{RunEnd, part_dir};
use basislab_config::Experiment;
use basislab_store::{Extent, FileError, Hasher, write_atomic_with};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Joins the parts of all runs into the files at the top: arms and seeds in the configuration's order, lines in the
/// order of their file (see [`guessable`]). Runs without a part are left out; those of an ended run must be what it wrote,
/// or nothing is touched. Files that hold the joined lines already are left alone, and so are sealed ones.
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

/// Reads every part, those of ended runs against what they wrote, and says what each table is when joined.
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

/// Where each planned run writes, and its last update.
fn parts(dir: &Path, experiment: &Experiment) -> Vec<(PathBuf, u64)> {
    let runs = experiment.arms.iter().flat_map(|arm| arm.seeds.iter().map(move |seed| (arm, *seed)));
    runs.map(|(arm, seed)| (part_dir(dir, &arm.name, seed), arm.run.train.steps)).collect()
}

/// Hands one table, joined, to `write`.
fn join(
    parts: &[(PathBuf, u64)],
    table: &Table,
    write: &mut dyn FnMut(&[u8]) -> Result<(), FileError>,
) -> Result<(), TableError> {
    write(format!("{}\n", table.header()).as_bytes())?;
    let mut first = true;
    for (part, last) in parts {
        let mut lines = part_lines(part, table, *last)?;
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
    let may_be_empty = |column: &Column| matches!(column.cell, Cell::MaybeInteger | Cell::MaybeNumber);
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

/// The whole lines of one table of one run, without the header. A run that has not ended has no line of update `last`: it
/// must not pass for a complete one.
fn part_lines(part: &Path, table: &Table, last: u64) -> Result<Vec<u8>, TableError> {
    let path = part.join(table.file);
    // In this order: a run that ends in between is read as one that has not.
    let done = RunEnd::read(part)?;
    let recorded = done.as_ref().and_then(|done| done.tables.get(table.file));
    let mut bytes = match fs::read(&path) {
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
    // A line that a crash cut short is not a line.
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    bytes.truncate(whole);
    if bytes.is_empty() {
        return Ok(bytes);
    }
    let expected = format!("{}\n", table.header());
    let Some(lines) = bytes.strip_prefix(expected.as_bytes()) else {
        let message = format!("its header is not {}", table.header());
        return Err(FileError::new("merge", &path, io::Error::new(io::ErrorKind::InvalidData, message)).into());
    };
    if done.is_some() || table.file != EvalRow::TABLE.file {
        return Ok(lines.to_vec());
    }
    let last = last.to_string();
    let is_last = |line: &&[u8]| line.split(|byte| *byte == b',').nth(2) == Some(last.as_bytes());
    Ok(lines.split_inclusive(|byte| *byte == b'\n').filter(|line| !is_last(line)).flatten().copied().collect())
}
