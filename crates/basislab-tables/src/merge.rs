//! The tables at the top of a directory: the parts of all runs, joined.

use crate::cell::CellType;
use crate::error::TableError;
use crate::rows::{EvalRow, RUN_TABLES, StepRow, TimingRow, may_lack};
use crate::schema::{Column, Table, TableRow};
use crate::seal::Seal;
use crate::shard::{RunEnd, part_dir};
use basislab_config::{Experiment, RunName};
use basislab_store::{Extent, FileError, Hasher, write_atomic_with};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A planned run.
#[derive(Debug)]
pub struct Part<'a> {
    /// Its arm.
    pub arm: &'a RunName,
    /// Its seed.
    pub seed: u64,
    /// Where it lies once it has ended.
    pub folder: PathBuf,
    /// How it ended; `None` while it has not.
    pub end: Option<RunEnd>,
}

/// The planned runs in the configuration's order, and how they ended.
///
/// # Errors
/// A `done.json` that is not what a run writes.
pub fn parts<'a>(dir: &Path, experiment: &'a Experiment) -> Result<Vec<Part<'a>>, FileError> {
    let runs = experiment.arms.iter().flat_map(|arm| arm.seeds.iter().map(move |seed| (&arm.name, *seed)));
    let part = |(arm, seed)| {
        let folder = part_dir(dir, arm, seed);
        RunEnd::read(&folder).map(|end| Part { arm, seed, folder, end })
    };
    runs.map(part).collect()
}

/// Joins the parts of all runs into the files at the top: arms and seeds in the configuration's order, lines in the
/// order of their file (see [`guessable`]). Runs that have not ended are left out; the parts of the others must be what they
/// wrote, or nothing is touched. Files that hold the joined lines already are left alone, and so are sealed ones.
///
/// # Errors
/// The file that could not be read or written, whose header is not this version's, or that was changed.
pub fn merge(dir: &Path, experiment: &Experiment) -> Result<(), TableError> {
    merge_parts(dir, &parts(dir, experiment)?)
}

/// [`merge`] of these parts.
///
/// # Errors
/// As [`merge`].
pub fn merge_parts(dir: &Path, parts: &[Part<'_>]) -> Result<(), TableError> {
    let seal = Seal::read(dir)?;
    let mut stale = Vec::new();
    for (table, joined) in check_parts(parts)? {
        let path = dir.join(table.file);
        let is_sealed = seal.as_ref().is_some_and(|seal| seal.lists(table.file)) && path.is_file();
        if !is_sealed && Extent::of_file(&path).map_or(true, |there| there != joined) {
            stale.push((table, path));
        }
    }
    for (table, path) in stale {
        write_atomic_with(&path, |file| {
            join(parts, table, &mut |bytes| {
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
pub fn check_parts(parts: &[Part<'_>]) -> Result<Vec<(&'static Table, Extent)>, TableError> {
    let of_table = |table: &'static Table| {
        let mut joined = Hasher::default();
        join(parts, table, &mut |bytes| {
            joined.update(bytes);
            Ok(())
        })?;
        Ok((table, joined.extent()))
    };
    let tables = RUN_TABLES.into_iter().filter(|table| !(may_lack(table) && all_lack(parts, table)));
    tables.chain([TimingRow::TABLE]).map(of_table).collect()
}

/// Whether runs have ended, and an earlier version made them all.
fn all_lack(parts: &[Part<'_>], table: &Table) -> bool {
    let mut ended = parts.iter().filter_map(|part| part.end.as_ref()).peekable();
    ended.peek().is_some() && ended.all(|end| !end.tables.contains_key(table.file))
}

/// Hands one table, joined, to `write`.
fn join(
    parts: &[Part<'_>],
    table: &Table,
    write: &mut dyn FnMut(&[u8]) -> Result<(), FileError>,
) -> Result<(), TableError> {
    write(format!("{}\n", table.header()).as_bytes())?;
    let mut first = true;
    for Part { folder, end, .. } in parts {
        let Some(end) = end else { continue };
        let mut lines = part_lines(folder, end, table)?;
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

/// The lines of one table of a run that has ended, without the header.
fn part_lines(part: &Path, end: &RunEnd, table: &Table) -> Result<Vec<u8>, TableError> {
    let path = part.join(table.file);
    let recorded = end.tables.get(table.file);
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
    let expected = format!("{}\n", table.header());
    if !bytes.starts_with(expected.as_bytes()) {
        let message = format!("its header is not {}", table.header());
        return Err(FileError::new("merge", &path, io::Error::new(io::ErrorKind::InvalidData, message)).into());
    }
    bytes.drain(..expected.len());
    // The first update and the first probe of any run leave a row each.
    if bytes.is_empty() && [StepRow::TABLE.file, EvalRow::TABLE.file].contains(&table.file) {
        return Err(TableError::Changed(format!(
            "{}: found no rows, expected those of a run that has ended; restore it, or delete {} to run it again",
            path.display(),
            part.display()
        )));
    }
    Ok(bytes)
}
