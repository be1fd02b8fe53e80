//! `SHA256SUMS`, the seal of a finished directory: what was written there, so that nothing else is reported.

use crate::error::TableError;
use crate::outlier_rows::OutlierRow;
use crate::read::check_tables;
use crate::rows::{PrivilegeRow, RUN_TABLES, SelectionRow, SummaryRow, TABLES, TimingRow, VerdictRow, may_lack};
use crate::schema::{PACKAGE, Table, TableRow};
use basislab_store::{Extent, FileError, LFS_POINTER, is_lfs_pointer, read_capped, write_if_changed};
use std::fs;
use std::io;
use std::path::{Component, Path};

/// The file's name. It is in the format of `sha256sum` and written last of all.
pub const SUMS: &str = "SHA256SUMS";

/// Made from the tables of runs, where there is something to make them from.
const TABLES_THAT_MAY_BE: [&Table; 3] = [SelectionRow::TABLE, PrivilegeRow::TABLE, OutlierRow::TABLE];

/// The sealed files and their SHA-256.
#[derive(Debug)]
pub struct Seal(Vec<(String, String)>);

/// What can be done about a sealed file that was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// All parts are there: whatever follows from them can be made again.
    MakeAgain,
    /// Nothing here can make it again.
    Restore,
}

impl Seal {
    /// The seal of `dir`; `None` where there is none.
    ///
    /// # Errors
    /// A seal that is not what [`seal`] writes.
    pub fn read(dir: &Path) -> Result<Option<Self>, TableError> {
        let path = dir.join(SUMS);
        let bytes = match read_capped(&path, 1 << 16) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let place = path.display();
        if is_lfs_pointer(&bytes) {
            return Err(TableError::Changed(format!("{place}: found {LFS_POINTER}")));
        }
        let mut all: Vec<(String, String)> = Vec::new();
        for (number, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
            let entry = parse(line).ok_or_else(|| {
                let expected = "a SHA-256, two spaces and the name of a file here; restore it";
                TableError::Changed(format!("{place}:{}: found {line:?}, expected {expected}", number + 1))
            })?;
            all.push(entry);
        }
        let mut expected = RUN_TABLES.iter().filter(|table| !may_lack(table));
        match expected.find(|table| all.iter().all(|(file, _)| file != table.file)) {
            Some(table) => Err(TableError::Changed(format!(
                "{place}: found no line for {}, expected one for each table; restore it",
                table.file
            ))),
            None => Ok(Some(Self(all))),
        }
    }

    /// Whether a file is sealed.
    pub fn lists(&self, file: &str) -> bool {
        self.0.iter().any(|(sealed, _)| sealed == file)
    }

    /// Whether all files of a finished report are listed and there.
    pub fn is_whole(&self, dir: &Path) -> bool {
        let derived = [SummaryRow::TABLE.file, VerdictRow::TABLE.file, PACKAGE];
        derived.iter().all(|file| self.lists(file)) && self.0.iter().all(|(file, _)| dir.join(file).is_file())
    }

    /// Expects every listed file to be what was sealed. Where parts are whole and `only_tables` is asked for, the files that
    /// are made from tables may differ, and a missing table is made again.
    ///
    /// # Errors
    /// The file that was changed or is missing, or that cannot be read.
    pub fn check(&self, dir: &Path, remedy: Remedy, only_tables: bool) -> Result<(), TableError> {
        for (file, sum) in &self.0 {
            let is_table = RUN_TABLES.iter().any(|table| table.file == file);
            if only_tables && !is_table {
                continue;
            }
            let path = dir.join(file);
            let what = match Extent::of_file(&path) {
                Ok(found) if found.sha256 == *sum => continue,
                Ok(_) => format!("changed since it was written: its SHA-256 is not that of {SUMS}"),
                Err(error) if error.kind() == io::ErrorKind::NotFound && only_tables => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => format!("missing, and {SUMS} lists it"),
                Err(error) => return Err(FileError::new("read", &path, error).into()),
            };
            if is_table && path.exists() {
                // Malformed is the better message of the two: it has a line and a column.
                check_tables(dir)?;
            }
            let again = format!("`basislab report {}` makes it again", dir.display());
            let next = match (remedy, is_table) {
                (Remedy::MakeAgain, false) => again,
                (Remedy::MakeAgain, true) => format!("restore it, or delete it and {again}"),
                (Remedy::Restore, _) => {
                    let tables = TABLES_THAT_MAY_BE.map(|table| table.file).into_iter();
                    let others: String =
                        tables.filter(|file| self.lists(file)).map(|file| format!("{file}, ")).collect();
                    format!(
                        "restore it; to report on the tables as they are, delete {SUMS}, {others}summary.csv, \
                         verdicts.csv and figures"
                    )
                }
            };
            return Err(TableError::Changed(format!("{}: {what}; {next}", path.display())));
        }
        Ok(())
    }
}

/// A line of the seal as `(file, SHA-256)`. Names lead nowhere else.
fn parse(line: &str) -> Option<(String, String)> {
    let (sum, name) = line.split_once("  ").or_else(|| line.split_once(" *"))?;
    let is_sum = sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut parts = Path::new(name).components();
    let stays = !name.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)));
    (is_sum && stays).then(|| (name.to_owned(), sum.to_ascii_lowercase()))
}

/// The seal that fits the directory as it is: its run tables, summary, verdicts, data package, and, where they exist, the
/// selection, the test of each run's basis, the outliers and `figures`. Timing, manifest and configuration are left out: equal runs have equal seals, and the manifest
/// holds the configuration's hash.
fn sums(dir: &Path, figures: &[String]) -> Result<String, FileError> {
    let tables = RUN_TABLES.into_iter().filter(|table| !may_lack(table) || dir.join(table.file).exists());
    let tables = tables.map(|table| table.file.to_owned());
    let derived = [SummaryRow::TABLE.file, VerdictRow::TABLE.file, PACKAGE].map(str::to_owned);
    let figures = figures.iter().map(|name| format!("figures/{name}"));
    let tables_that_may_be = TABLES_THAT_MAY_BE.map(|table| table.file.to_owned());
    let others = tables_that_may_be.into_iter().chain(figures).filter(|file| dir.join(file).exists());
    lines(dir, tables.into_iter().chain(derived).chain(others))
}

/// A line for each file.
fn lines(dir: &Path, files: impl Iterator<Item = String>) -> Result<String, FileError> {
    let mut lines = String::new();
    for file in files {
        let path = dir.join(&file);
        let found = Extent::of_file(&path).map_err(|error| FileError::new("read", &path, error))?;
        lines += &format!("{}  {file}\n", found.sha256);
    }
    Ok(lines)
}

/// Seals a directory of `basislab measure`: the tables but the timing, the data package and the `figures`, as far as they are
/// there. The last thing that is written there.
///
/// # Errors
/// The file that could not be read or written.
pub fn seal_measured(dir: &Path, figures: &[String]) -> Result<(), FileError> {
    let figures = figures.iter().map(|name| format!("figures/{name}"));
    let tables = TABLES.iter().map(|table| table.file).filter(|file| *file != TimingRow::TABLE.file);
    let files = tables.chain([PACKAGE]).map(str::to_owned).chain(figures);
    let sums = lines(dir, files.filter(|file| dir.join(file).exists()))?;
    write_if_changed(&dir.join(SUMS), sums.as_bytes())
}

/// Whether the seal is there and fits every file as it is. `figures` are the names of all figures that the experiment can
/// have.
///
/// # Errors
/// The file that could not be read.
pub fn is_sealed(dir: &Path, figures: &[String]) -> Result<bool, FileError> {
    let Ok(there) = fs::read(dir.join(SUMS)) else { return Ok(false) };
    Ok(there == sums(dir, figures)?.as_bytes())
}

/// Seals a finished directory: the last thing that is written there. `figures` are as for [`is_sealed`].
///
/// # Errors
/// The file that could not be read or written.
pub fn seal(dir: &Path, figures: &[String]) -> Result<(), FileError> {
    write_if_changed(&dir.join(SUMS), sums(dir, figures)?.as_bytes())
}
