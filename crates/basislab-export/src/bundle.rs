//! A finished directory as one zip file, from which `basislab report` gives the same answer.

use crate::error::ExportError;
use basislab_store::{Extent, FileError, Hasher, is_link, write_atomic_with};
use basislab_tables::{PACKAGE, SUMS, TABLES};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

/// The comment at the end of the file, from which a bundle is known.
const COMMENT: &str = "a bundle of basislab";

/// Checksums of everything else in the bundle.
pub(crate) const ALL_SUMS: &str = "BUNDLE_SHA256SUMS";

/// What to cite.
pub(crate) const BIBTEX: &str = include_str!("cite.bib");

/// Writes the files of a directory at its top and in `figures`, and what to cite, into the folder `name` of a zip file. Returns
/// the names of the files. Equal files give equal bytes: their times are left out.
///
/// # Errors
/// A file that cannot be read or written, or another file in its place.
pub fn write_bundle(dir: &Path, name: &str, path: &Path) -> Result<Vec<String>, ExportError> {
    if !is_own(path) {
        let what =
            "found a file that is no bundle of basislab, expected none or an earlier bundle; choose another --out";
        return Err(ExportError::Foreign(format!("{}: {what}", path.display())));
    }
    let files = files(dir)?;
    let mut sums = String::new();
    for file in &files {
        let path = dir.join(file);
        let extent = Extent::of_file(&path).map_err(|error| FileError::new("read", &path, error))?;
        sums += &format!("{}  {file}\n", extent.sha256);
    }
    sums += &format!("{}  cite.bib\n", basislab_store::sha256(BIBTEX.as_bytes()));
    write_atomic_with(path, |buffer| {
        // The writer of the zip goes back to fill in sizes.
        buffer.flush().map_err(|error| FileError::new("write", path, error))?;
        let fail = |error: io::Error| ExportError::write(path, error);
        let mut zip = ZipWriter::new(*buffer.get_mut());
        for file in &files {
            let from = dir.join(file);
            let failed = |error| ExportError::from(FileError::new("read", &from, error));
            let mut source = File::open(&from).map_err(failed)?;
            let bytes = source.metadata().map_err(failed)?.len();
            zip.start_file(format!("{name}/{file}"), options(bytes)).map_err(|error| fail(error.into()))?;
            io::copy(&mut source, &mut zip).map_err(fail)?;
        }
        for (file, text) in [("cite.bib", BIBTEX), (ALL_SUMS, &sums)] {
            zip.start_file(format!("{name}/{file}"), options(text.len() as u64)).map_err(|error| fail(error.into()))?;
            zip.write_all(text.as_bytes()).map_err(fail)?;
        }
        zip.set_comment(COMMENT).map_err(|error| fail(error.into()))?;
        zip.finish().map_err(|error| fail(error.into()))?;
        Ok::<_, ExportError>(())
    })?;
    Ok(files.into_iter().chain(["cite.bib".to_owned(), ALL_SUMS.to_owned()]).collect())
}

/// Sizes of 4 GB and more need wider fields.
fn options(bytes: u64) -> SimpleFileOptions {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    options.last_modified_time(DateTime::default()).unix_permissions(0o644).large_file(bytes >= 1 << 32)
}

/// What a bundle holds of a directory, as far as it is there: configuration, manifest, tables, seal, figures, report.
fn files(dir: &Path) -> Result<Vec<String>, ExportError> {
    let tables = TABLES.iter().map(|table| table.file);
    let others = ["config.toml", "manifest.json", "report.html"];
    let top = others.into_iter().chain([PACKAGE]).chain(tables).chain([SUMS]);
    let is_file = |file: &str| dir.join(file).is_file() && !is_link(&dir.join(file));
    let mut all: Vec<String> = top.filter(|file| is_file(file)).map(str::to_owned).collect();
    let folder = dir.join("figures");
    if folder.is_dir() {
        let fail = |error| FileError::new("read", &folder, error);
        let mut figures = Vec::new();
        for entry in fs::read_dir(&folder).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
            figures.push(format!("figures/{name}"));
        }
        figures.sort();
        all.extend(figures.into_iter().filter(|file| !file.contains("/.") && is_file(file)));
    }
    Ok(all)
}

/// Whether nothing is there, or a file that ends as bundles do.
fn is_own(path: &Path) -> bool {
    if !is_link(path) && !path.exists() {
        return true;
    }
    let ends = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-(COMMENT.len() as i64)))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        Ok::<_, io::Error>(end == COMMENT.as_bytes())
    };
    !is_link(path) && path.is_file() && ends().unwrap_or(false)
}

/// Writes the files of a bundle into `folder`; returns the directory that it was made from. Every file must be what its checksum
/// says, and nothing else is written, whatever paths the zip holds.
///
/// # Errors
/// A file that is no bundle or was changed or cut, or a folder that cannot be written to.
pub fn unpack_bundle(path: &Path, folder: &Path) -> Result<PathBuf, ExportError> {
    let damaged = |what: String| ExportError::Foreign(format!("{}: {what}", path.display()));
    let file = File::open(path).map_err(|error| FileError::new("read", path, error))?;
    let no_bundle = || damaged("found a file, expected a directory or a bundle of `basislab export`".to_owned());
    let mut zip = ZipArchive::new(file).map_err(|_| no_bundle())?;
    let first = zip.file_names().next().and_then(|name| Some(name.ok()?.split_once('/')?.0.to_owned()));
    let name = first.filter(|first| is_plain(first) && zip.comment() == COMMENT.as_bytes()).ok_or_else(no_bundle)?;
    let mut sums = String::new();
    let entry = zip.by_name(&format!("{name}/{ALL_SUMS}")).map_err(|_| damaged(format!("found no {ALL_SUMS}")))?;
    entry.take(MOST_SUMS).read_to_string(&mut sums).map_err(|error| damaged(format!("{ALL_SUMS}: {error}")))?;
    let dir = folder.join(&name);
    for line in sums.lines() {
        let (sum, file) = line.split_once("  ").ok_or_else(|| damaged(format!("{ALL_SUMS}: found {line:?}")))?;
        if !file.strip_prefix("figures/").unwrap_or(file).split('/').all(is_plain) {
            return Err(damaged(format!("found the file {file:?}, expected one at the top or in figures")));
        }
        let mut entry = zip.by_name(&format!("{name}/{file}")).map_err(|error| damaged(format!("{file}: {error}")))?;
        let to = dir.join(file);
        let fail = |error| FileError::new("write", &to, error);
        to.parent().map_or(Ok(()), fs::create_dir_all).map_err(fail)?;
        let (mut written, mut hasher, mut piece) = (File::create(&to).map_err(fail)?, Hasher::default(), [0; 1 << 14]);
        loop {
            let length = entry.read(&mut piece).map_err(|error| damaged(format!("{file}: {error}")))?;
            if length == 0 {
                break;
            }
            hasher.update(&piece[..length]);
            written.write_all(&piece[..length]).map_err(fail)?;
        }
        if hasher.extent().sha256 != sum {
            return Err(damaged(format!("{file} is not what was packed: its checksum differs")));
        }
    }
    Ok(dir)
}

/// The most bytes of [`ALL_SUMS`] that are read: a million lines, hundreds of times what a directory has.
const MOST_SUMS: u64 = 100_000_000;

/// Whether a name is that of a file in a folder, and no way out of it.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':'])
}
