//! A finished directory as one zip file, from which `basislab report` gives the same answer.

use crate::error::ExportError;
use basislab_store::{Extent, FileError, is_link, write_atomic_with};
use basislab_tables::{PACKAGE, SUMS, TABLES};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

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
