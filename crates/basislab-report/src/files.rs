//! Writing: a run's own files, atomic replacement, and the merge of all runs.

use crate::rows::{DimensionRow, EvalRow, ResidualRow, Row, StepRow, TimingRow};
use crate::schema::{Table, TableRow, header};
use basislab_config::Experiment;
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct FileError {
    /// `read`, `write`, ...
    pub doing: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl FileError {
    pub(crate) fn new(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self { doing, path: path.to_owned(), source: source.into() }
    }
}

/// Where one run writes: `DIR/parts/ARM/SEED`.
pub fn part_dir(dir: &Path, arm: &str, seed: u64) -> PathBuf {
    dir.join("parts").join(arm).join(seed.to_string())
}

/// The four files that one run appends to. Lines reach the disk at [`Shard::commit_probe`], so that a crash between
/// two looks leaves whole lines up to the last look.
#[derive(Debug)]
pub struct Shard {
    files: [Appender; 4],
}

impl Shard {
    /// Starts afresh in `part` (see [`part_dir`]): headers only, whatever was there before.
    ///
    /// # Errors
    /// The file that could not be written.
    pub fn create(part: &Path) -> Result<Self, FileError> {
        fs::create_dir_all(part).map_err(|error| FileError::new("create", part, error))?;
        let files = shard_tables().map(|table| Appender::create(part, table));
        let mut shard = Self::collect(files)?;
        shard.commit_probe()?;
        Ok(shard)
    }

    /// Adds one row to its file's buffer.
    ///
    /// # Errors
    /// The file that could not be written, or whose row holds a number that is not finite.
    pub fn push(&mut self, row: Row) -> Result<(), FileError> {
        let [steps, evals, residual, dimensions] = &mut self.files;
        match row {
            Row::Step(row) => steps.push(&row),
            Row::Eval(row) => evals.push(&row),
            Row::Residual(row) => residual.push(&row),
            Row::Dimension(row) => dimensions.push(&row),
        }
    }

    /// Writes all buffered lines.
    ///
    /// # Errors
    /// The file that could not be written.
    pub fn commit_probe(&mut self) -> Result<(), FileError> {
        self.files.iter_mut().try_for_each(Appender::flush)
    }

    /// Writes all buffered lines, waits until the disk has them, and closes the files.
    ///
    /// # Errors
    /// The file that could not be written.
    pub fn finish(mut self) -> Result<(), FileError> {
        self.commit_probe()?;
        for file in &self.files {
            file.file.sync_all().map_err(|error| FileError::new("write", &file.path, error))?;
        }
        Ok(())
    }

    fn collect(files: [Result<Appender, FileError>; 4]) -> Result<Self, FileError> {
        let [steps, evals, residual, dimensions] = files;
        Ok(Self { files: [steps?, evals?, residual?, dimensions?] })
    }
}

/// Writes the run's single line of timing beside its shard.
///
/// # Errors
/// The file that could not be written.
pub fn write_timing(part: &Path, row: &TimingRow) -> Result<(), FileError> {
    write_table(part, std::slice::from_ref(row))
}

/// Writes a whole table into `dir`, atomically.
///
/// # Errors
/// The file that could not be written, or whose row holds a number that is not finite.
pub fn write_table<R: TableRow>(dir: &Path, rows: &[R]) -> Result<(), FileError> {
    let path = dir.join(R::TABLE.file);
    let mut bytes = format!("{}\n", header(R::TABLE)).into_bytes();
    for row in rows {
        bytes.extend(line(row).map_err(|error| FileError::new("write", &path, error))?);
    }
    write_atomic(&path, &bytes)
}

/// Replaces a file in one go: a reader sees the old bytes or the new ones.
///
/// # Errors
/// The file that could not be written.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let fail = |error| FileError::new("write", path, error);
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".basislab-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    Ok(())
}

/// Joins the parts of all runs into the files at the top: arms and seeds in the configuration's order, lines in the
/// order of their file. Runs without a part are left out.
///
/// # Errors
/// The file that could not be read or written, or whose header is not this version's.
pub fn merge(dir: &Path, experiment: &Experiment) -> Result<(), FileError> {
    for table in shard_tables().into_iter().chain([TimingRow::TABLE]) {
        let mut bytes = format!("{}\n", header(table)).into_bytes();
        for arm in &experiment.arms {
            for &seed in experiment.seeds_of(arm) {
                append_part(&part_dir(dir, &arm.name, seed).join(table.file), table, &mut bytes)?;
            }
        }
        write_atomic(&dir.join(table.file), &bytes)?;
    }
    Ok(())
}

fn append_part(path: &Path, table: &Table, bytes: &mut Vec<u8>) -> Result<(), FileError> {
    let part = match fs::read(path) {
        Ok(part) => part,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FileError::new("read", path, error)),
    };
    // A line that a crash cut short is not a line.
    let whole = part.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    if whole == 0 {
        return Ok(());
    }
    let expected = format!("{}\n", header(table));
    let Some(lines) = part[..whole].strip_prefix(expected.as_bytes()) else {
        let message = format!("its header is not {}", header(table));
        return Err(FileError::new("merge", path, io::Error::new(io::ErrorKind::InvalidData, message)));
    };
    bytes.extend_from_slice(lines);
    Ok(())
}

#[derive(Debug)]
struct Appender {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
}

impl Appender {
    fn create(part: &Path, table: &Table) -> Result<Self, FileError> {
        let path = part.join(table.file);
        let file = File::create(&path).map_err(|error| FileError::new("write", &path, error))?;
        Ok(Self { path, file, buffer: format!("{}\n", header(table)).into_bytes() })
    }

    fn push(&mut self, row: &impl Serialize) -> Result<(), FileError> {
        let line = line(row).map_err(|error| FileError::new("write", &self.path, error))?;
        self.buffer.extend(line);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), FileError> {
        self.file.write_all(&self.buffer).map_err(|error| FileError::new("write", &self.path, error))?;
        self.buffer.clear();
        Ok(())
    }
}

fn line(row: &impl Serialize) -> Result<Vec<u8>, io::Error> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.serialize(row).map_err(io::Error::other)?;
    writer.into_inner().map_err(|error| io::Error::other(error.to_string()))
}

fn shard_tables() -> [&'static Table; 4] {
    [StepRow::TABLE, EvalRow::TABLE, ResidualRow::TABLE, DimensionRow::TABLE]
}
