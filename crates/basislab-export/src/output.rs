//! Folders that an export writes: whole or not at all, and never over what it did not write.

use crate::error::ExportError;
use basislab_store::{FileError, is_link, read_capped, write_atomic};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// The list of what an export wrote into its folder.
const LIST: &str = "export.json";

/// Makes the folder `out`: `write` fills an empty one, which then takes its place. `about` says what it is of. An earlier export
/// is replaced as long as nothing else is in its folder. Returns what `write` does: the names of the files.
///
/// # Errors
/// A folder that an export did not write, or a file that cannot be written.
pub fn write_folder<E: From<ExportError>>(
    out: &Path,
    about: &Value,
    write: impl FnOnce(&Path) -> Result<Vec<String>, E>,
) -> Result<Vec<String>, E> {
    let is_there = is_own(out)?;
    let parent = match out.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let fail = |doing, path: &Path| {
        let path = path.to_owned();
        move |error| ExportError::from(FileError::new(doing, &path, error))
    };
    fs::create_dir_all(parent).map_err(fail("create", parent))?;
    // The folder itself would be readable for its owner alone.
    let temporary = tempfile::Builder::new().prefix(".basislab-").tempdir_in(parent).map_err(fail("create", parent))?;
    let inner = temporary.path().join("export");
    fs::create_dir(&inner).map_err(fail("create", &inner))?;
    let files = write(&inner)?;
    let list = json!({ "basislab_export": about, "files": files });
    write_atomic(&inner.join(LIST), format!("{list:#}\n").as_bytes()).map_err(ExportError::from)?;
    if is_there {
        fs::rename(out, temporary.path().join("before")).map_err(fail("replace", out))?;
    }
    fs::rename(&inner, out).map_err(fail("write", out))?;
    Ok(files)
}

/// Whether an earlier export is there, and nothing besides.
fn is_own(out: &Path) -> Result<bool, ExportError> {
    let at = out.display();
    let foreign = |what: &str| ExportError::Foreign(format!("{at}: found {what}; choose another --out"));
    if !is_link(out) && !out.exists() {
        return Ok(false);
    }
    if is_link(out) || !out.is_dir() {
        return Err(foreign("something that is no folder, expected none or one of an earlier export"));
    }
    let list =
        read_capped(&out.join(LIST), 1 << 26).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let names =
        list.as_ref().filter(|list| list["basislab_export"].is_object()).and_then(|list| list["files"].as_array());
    let Some(names) = names else {
        return if is_empty(out)? {
            Ok(true)
        } else {
            Err(foreign(&format!("files but no {LIST} of an earlier export, expected an empty folder or none")))
        };
    };
    let known: Vec<&str> = names.iter().filter_map(Value::as_str).chain([LIST]).collect();
    match first_other(out, out, &known)? {
        Some(other) => Err(foreign(&format!("{other:?}, which the earlier export did not write"))),
        None => Ok(true),
    }
}

fn is_empty(folder: &Path) -> Result<bool, ExportError> {
    let mut entries = fs::read_dir(folder).map_err(|error| FileError::new("read", folder, error))?;
    Ok(entries.next().is_none())
}

/// A file at any depth that is not in the list, by its path from `root`.
fn first_other(root: &Path, folder: &Path, known: &[&str]) -> Result<Option<String>, ExportError> {
    let fail = |error| FileError::new("read", folder, error);
    for entry in fs::read_dir(folder).map_err(fail)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))).map_err(fail)?;
        let parts = path.strip_prefix(root).unwrap_or(&path).iter();
        let name = parts.map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
        let other =
            if kind.is_dir() { first_other(root, &path, known)? } else { (!known.contains(&&*name)).then_some(name) };
        if other.is_some() {
            return Ok(other);
        }
    }
    Ok(None)
}
