//! Writing: a run's own files, and whole tables.

use crate::merge::guessable;
use crate::rows::{EvalRow, RUN_TABLES, Row, StepRow, TimingRow, may_lack};
use crate::schema::{Table, TableRow};
use basislab_config::{RunName, count};
use basislab_store::{Extent, FileError, Hasher, read_capped, sync_folder, write_atomic, write_if_changed};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Where a run lies once it has ended: `DIR/parts/ARM/SEED`.
pub fn part_dir(dir: &Path, arm: &RunName, seed: u64) -> PathBuf {
    dir.join("parts").join(arm).join(seed.to_string())
}

/// Where processes work on a run that has not ended, each in a folder of its own: `DIR/parts/ARM/SEED.work`.
pub fn work_dir(dir: &Path, arm: &RunName, seed: u64) -> PathBuf {
    dir.join("parts").join(arm).join(format!("{seed}.work"))
}

/// Whether `dir` holds tables but not the parts they were made from. Such a directory is only read.
pub fn is_published(dir: &Path) -> bool {
    !dir.join("parts").is_dir() && RUN_TABLES.iter().any(|table| dir.join(table.file).is_file())
}

/// The files that one run appends to. Lines reach the files at [`Shard::commit`] and the disk at [`Shard::sync`].
#[derive(Debug)]
#[must_use = "rows that are not committed are lost"]
pub struct Shard {
    files: [RowWriter; RUN_TABLES.len()],
}

impl Shard {
    /// Starts afresh in `part` (see [`part_dir`]): headers only, whatever was there before.
    ///
    /// # Errors
    /// The file that could not be written.
    pub fn create(part: &Path) -> Result<Self, FileError> {
        fs::create_dir_all(part).map_err(|error| FileError::new("create", part, error))?;
        // DIR/parts/ARM/SEED.work/WRITER: every name on the way is on the disk before anything in it is.
        part.ancestors().take(5).filter(|folder| folder.is_dir()).try_for_each(sync_folder)?;
        let [a, b, c, d, e] = RUN_TABLES.map(|table| RowWriter::create(part, table));
        let mut shard = Self { files: [a?, b?, c?, d?, e?] };
        shard.commit()?;
        Ok(shard)
    }

    /// Resumes where `tables` ends (see [`Shard::sync`]) and cuts off what comes after; `None` where a file is not what
    /// it was then.
    ///
    /// # Errors
    /// The file that could not be read or cut.
    pub fn resume(part: &Path, tables: &BTreeMap<String, Extent>) -> Result<Option<Self>, FileError> {
        let [a, b, c, d, e] = RUN_TABLES.map(|table| RowWriter::resume(part, table, tables.get(table.file)));
        let (Some(a), Some(b), Some(c), Some(d), Some(e)) = (a?, b?, c?, d?, e?) else { return Ok(None) };
        Ok(Some(Self { files: [a, b, c, d, e] }))
    }

    /// Adds one row to its file's buffer.
    ///
    /// # Errors
    /// The file whose row holds a number that is not finite.
    pub fn push(&mut self, row: Row) -> Result<(), FileError> {
        let [steps, evals, residual, dimensions, dimension_steps] = &mut self.files;
        match row {
            Row::Step(row) => steps.push(&row),
            Row::Eval(row) => evals.push(&row),
            Row::Residual(row) => residual.push(&row),
            Row::Dimension(row) => dimensions.push(&row),
            Row::DimensionStep(row) => dimension_steps.push(&row),
        }
    }

    /// Writes all buffered lines.
    ///
    /// # Errors
    /// The file that could not be written.
    pub fn commit(&mut self) -> Result<(), FileError> {
        self.files.iter_mut().try_for_each(RowWriter::commit)
    }

    /// Writes all buffered lines, waits until the disk has them, and says how far each file goes.
    ///
    /// # Errors
    /// The file that could not be written.
    pub fn sync(&mut self) -> Result<BTreeMap<String, Extent>, FileError> {
        self.commit()?;
        let extent = |writer: &RowWriter| {
            writer.file.sync_all().map_err(|error| FileError::new("sync", &writer.path, error))?;
            Ok((writer.table.file.to_owned(), writer.written.extent()))
        };
        self.files.iter().map(extent).collect()
    }
}

/// Whether the tables in `part` begin with what `tables` says (see [`Shard::sync`]).
///
/// # Errors
/// The file that could not be read.
pub fn tables_reach(part: &Path, tables: &BTreeMap<String, Extent>) -> Result<bool, FileError> {
    for table in RUN_TABLES {
        let Some(extent) = tables.get(table.file) else { return Ok(false) };
        if prefix(&part.join(table.file), extent)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The hash of the first bytes of a file, which are those that `extent` says; `None` where they are others, or there is no
/// file.
fn prefix(path: &Path, extent: &Extent) -> Result<Option<Hasher>, FileError> {
    let fail = |error| FileError::new("resume", path, error);
    // A pipe would be waited for.
    if !path.is_file() {
        return Ok(None);
    }
    let file = File::open(path).map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(extent.bytes).read_to_end(&mut bytes).map_err(fail)?;
    let mut written = Hasher::default();
    written.update(&bytes);
    Ok((written.extent() == *extent).then_some(written))
}

/// Appends rows to one file. A row counts only with its newline, and only what was committed exists.
#[derive(Debug)]
struct RowWriter {
    table: &'static Table,
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    written: Hasher,
}

impl RowWriter {
    fn create(part: &Path, table: &'static Table) -> Result<Self, FileError> {
        let path = part.join(table.file);
        let file = File::create(&path).map_err(|error| FileError::new("write", &path, error))?;
        let buffer = format!("{}\n", table.header()).into_bytes();
        Ok(Self { table, path, file, buffer, written: Hasher::default() })
    }

    fn resume(part: &Path, table: &'static Table, extent: Option<&Extent>) -> Result<Option<Self>, FileError> {
        let path = part.join(table.file);
        let fail = |error| FileError::new("resume", &path, error);
        let Some(extent) = extent else { return Ok(None) };
        let Some(written) = prefix(&path, extent)? else { return Ok(None) };
        let mut file = File::options().read(true).write(true).open(&path).map_err(fail)?;
        file.set_len(extent.bytes).map_err(fail)?;
        file.seek(SeekFrom::Start(extent.bytes)).map_err(fail)?;
        Ok(Some(Self { table, path, file, buffer: Vec::new(), written }))
    }

    fn push(&mut self, row: &impl Serialize) -> Result<(), FileError> {
        let line = line(row).map_err(|error| FileError::new("write", &self.path, error))?;
        self.buffer.extend(line);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), FileError> {
        let fail = |error: io::Error| {
            let message = format!("{error} ({} to write)", count(self.buffer.len(), "byte"));
            FileError::new("write", &self.path, io::Error::new(error.kind(), message))
        };
        self.file.write_all(&self.buffer).map_err(fail)?;
        self.written.update(&self.buffer);
        // A file that was removed or replaced takes writes without an error, and they are lost.
        let expected = self.written.extent().bytes;
        let found = fs::metadata(&self.path).map_err(fail)?.len();
        if found != expected {
            return Err(fail(io::Error::other(format!(
                "found {}, expected {expected}: another process writes here",
                count(found, "byte")
            ))));
        }
        self.buffer.clear();
        Ok(())
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// All updates were made.
    Complete,
    /// A number was not finite.
    Diverged,
}

/// The last thing a run writes, `done.json`: from here on it is not run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunEnd {
    /// How it ended.
    pub state: Ending,
    /// The last update, or the one that was not made.
    pub step: u64,
    /// What was not finite first.
    pub tensor: Option<String>,
    /// Length and hash of every table.
    pub tables: BTreeMap<String, Extent>,
}

impl RunEnd {
    /// Of the run in `part`; `None` while it has not ended.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what [`RunEnd::write`] writes.
    pub fn read(part: &Path) -> Result<Option<Self>, FileError> {
        let path = part.join("done.json");
        match read_capped(&path, 1 << 16) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(bytes) => Self::parse(&bytes).map(Some).map_err(|error| FileError::new("read", &path, error)),
        }
    }

    /// Whether the tables in `part` reach the step at which the run ended: the last update and its probe of a complete run, the
    /// update that was not made of a diverged one.
    ///
    /// # Errors
    /// The file that could not be read.
    pub fn matches_tables(&self, part: &Path) -> Result<bool, FileError> {
        let steps = last_step(&part.join(StepRow::TABLE.file))?;
        let evals = last_step(&part.join(EvalRow::TABLE.file))?;
        Ok(match self.state {
            Ending::Complete => steps == Some(self.step) && evals == Some(self.step),
            Ending::Diverged => steps == Some(self.step),
        })
    }

    /// From the bytes of `done.json`.
    ///
    /// # Errors
    /// Anything but what [`RunEnd::write`] writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, io::Error> {
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Into `part`, atomically.
    ///
    /// # Errors
    /// The file that could not be written.
    pub fn write(&self, part: &Path) -> Result<(), FileError> {
        let text = serde_json::to_string(self).expect("strings and integers");
        write_atomic(&part.join("done.json"), format!("{text}\n").as_bytes())
    }
}

/// The step in the last whole line of a table, which is its third column; `None` where there is none.
///
/// # Errors
/// A file that cannot be read.
pub fn last_step(path: &Path) -> Result<Option<u64>, FileError> {
    // More than a line of these tables has.
    const TAIL: u64 = 4096;
    let read = || {
        let mut file = File::open(path)?;
        let from = file.metadata()?.len().saturating_sub(TAIL);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        io::Result::Ok(bytes)
    };
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = read().map_err(|error| FileError::new("read", path, error))?;
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    let text = String::from_utf8_lossy(&bytes[..whole]);
    Ok(text.lines().last().and_then(|line| line.split(',').nth(2)?.parse().ok()))
}

/// A line that is not what the run writes: `(file, found, expected)`.
pub type LineDifference = (PathBuf, String, String);

/// Compares a run's tables in `dir`, up to update `last`, with what the same run wrote into `again`: how many lines were
/// compared (none of a run that has not ended), or the first that differs. Published results (without parts) may have left rows out, but hold no others.
///
/// # Errors
/// A file that could not be read.
pub fn compare_run(
    dir: &Path,
    (arm, seed): (&RunName, u64),
    again: &Path,
    last: u64,
) -> Result<Result<usize, LineDifference>, FileError> {
    let text = |path: &Path| fs::read_to_string(path).map_err(|error| FileError::new("read", path, error));
    let published = is_published(dir);
    let part = if published { dir.to_owned() } else { part_dir(dir, arm, seed) };
    let key = format!("{arm},{seed},");
    let step = |line: &str| line.get(key.len()..)?.split(',').next()?.parse::<u64>().ok();
    let of_run = |text: &str| -> Vec<String> {
        let wanted = |line: &&str| line.starts_with(&key) && step(line).is_some_and(|step| step <= last);
        text.lines().filter(wanted).map(str::to_owned).collect()
    };
    if !published && RunEnd::read(&part)?.is_none() {
        return Ok(Ok(0));
    }
    let mut compared = 0;
    for table in RUN_TABLES {
        let path = part.join(table.file);
        if may_lack(table) && !path.exists() {
            continue;
        }
        let (recorded, again) = (of_run(&text(&path)?), of_run(&text(&again.join(table.file))?));
        compared += recorded.len();
        let differs = if published {
            let missing = recorded.iter().find(|line| !again.contains(line));
            missing.map(|line| (line.clone(), "a line that the run writes".to_owned()))
        } else {
            let line = |lines: &'_ [String], at: usize| lines.get(at).map_or("nothing", String::as_str).to_owned();
            let mut places = 0..recorded.len().max(again.len());
            places.find(|at| recorded.get(*at) != again.get(*at)).map(|at| (line(&recorded, at), line(&again, at)))
        };
        if let Some((found, expected)) = differs {
            return Ok(Err((path, found, expected)));
        }
    }
    Ok(Ok(compared))
}

/// Writes the run's single line of timing beside its shard.
///
/// # Errors
/// The file that could not be written.
pub fn write_timing(part: &Path, row: &TimingRow) -> Result<(), FileError> {
    write_table(part, std::slice::from_ref(row))
}

/// Makes `dir` hold a whole table. A file that holds it already is not touched.
///
/// # Errors
/// The file that could not be written, or whose row holds a number that is not finite.
pub fn write_table<R: TableRow>(dir: &Path, rows: &[R]) -> Result<(), FileError> {
    let path = dir.join(R::TABLE.file);
    write_if_changed(&path, &table_bytes(&path, rows)?)
}

/// What [`write_table`] writes to `path`.
pub fn table_bytes<R: TableRow>(path: &Path, rows: &[R]) -> Result<Vec<u8>, FileError> {
    let mut lines = Vec::new();
    for row in rows {
        lines.extend(line(row).map_err(|error| FileError::new("write", path, error))?);
    }
    Ok([format!("{}\n", R::TABLE.header()).into_bytes(), guessable(R::TABLE, lines)].concat())
}

fn line(row: &impl Serialize) -> Result<Vec<u8>, io::Error> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.serialize(row).map_err(io::Error::other)?;
    writer.into_inner().map_err(|error| io::Error::other(error.to_string()))
}
