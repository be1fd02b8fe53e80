//! `--save SITE=FILE` and `--patch SITE=FILE`.

use crate::exit::Exit;
use basislab_config::Site;
use basislab_store::{Dtype, MatrixFile, NamedTensor, encode, npy_bytes, write_atomic};
use std::fs::File;
use std::path::{Path, PathBuf};

/// What is saved, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// The token ids, `[sequences, tokens]`.
    Tokens,
    /// The values at a site, `[sequences x tokens, width]`.
    Site(Site),
}

/// A `NAME=FILE` of the command line.
pub(super) fn parse(option: &str, text: &str) -> Result<(What, PathBuf), Exit> {
    let wrong = |what: String| Exit::usage(format!("{option} {text}: {what}"));
    let Some((name, file)) = text.split_once('=') else {
        return Err(wrong("expected SITE=FILE, e.g. blocks.0.resid_post=x.npy".to_owned()));
    };
    let file = PathBuf::from(file);
    let ending = file.extension().map(|ending| ending.to_string_lossy().into_owned());
    if !matches!(ending.as_deref(), Some("npy" | "safetensors")) {
        return Err(wrong(format!(
            "found {:?}, expected a name that ends with .npy or .safetensors",
            file.display().to_string()
        )));
    }
    let what = if name == "tokens" { What::Tokens } else { What::Site(name.parse().map_err(wrong)?) };
    Ok((what, file))
}

/// Refuses a file in a folder that is not there (`out` will be made), and a file of a model that is to be
/// measured. Found only after the model has run, either would be late.
pub(super) fn check_target(file: &Path, models: &[PathBuf], out: Option<&Path>) -> Result<(), Exit> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() && out != Some(folder) {
        let what = format!("--save: there is no folder {}; make it first", folder.display());
        return Err(Exit::write(what));
    }
    let is_of = |model: &PathBuf| match (file.canonicalize(), model.canonicalize()) {
        (Ok(file), Ok(model)) => file.starts_with(model),
        _ => false,
    };
    match models.iter().find(|model| is_of(model)) {
        Some(model) => {
            let what = format!("--save: {} is a file of the model {}", file.display(), model.display());
            Err(Exit::usage(format!("{what}, which would be overwritten; choose another name")))
        }
        None => Ok(()),
    }
}

/// Writes float32 values.
pub(super) fn write(path: &Path, name: &str, shape: [usize; 2], values: &[f32]) -> Result<(), Exit> {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    write_bytes(path, name, ("<f4", Dtype::F32), shape, bytes)
}

/// Writes token ids as int32.
pub(in crate::commands) fn write_tokens(path: &Path, shape: [usize; 2], tokens: &[u32]) -> Result<(), Exit> {
    let bytes = tokens.iter().flat_map(|&token| (token as i32).to_le_bytes()).collect();
    write_bytes(path, "tokens", ("<i4", Dtype::I32), shape, bytes)
}

fn write_bytes(path: &Path, name: &str, dtype: (&str, Dtype), shape: [usize; 2], bytes: Vec<u8>) -> Result<(), Exit> {
    let is_npy = path.extension().is_some_and(|ending| ending == "npy");
    let file = match is_npy {
        true => npy_bytes(dtype.0, shape, &bytes),
        false => encode(&[NamedTensor { name: name.to_owned(), dtype: dtype.1, shape: shape.to_vec(), bytes }]),
    };
    Ok(write_atomic(path, &file)?)
}

/// Reads `[tokens, width]` values for a patch.
pub(super) fn read(path: &Path, shape: [usize; 2]) -> Result<Vec<f32>, Exit> {
    let at = path.display();
    let file = File::open(path).map_err(|error| Exit::data(format!("{at}: cannot read: {error}")))?;
    let is_npy = path.extension().is_some_and(|ending| ending == "npy");
    let matrix = if is_npy { MatrixFile::npy(file) } else { MatrixFile::safetensors(file, None) };
    let mut matrix = matrix.map_err(|what| Exit::data(format!("{at}: {what}")))?;
    if matrix.shape() != shape {
        let what = format!("found shape {:?}, expected {shape:?}: tokens and width at the site", matrix.shape());
        return Err(Exit::data(format!("{at}: {what}")));
    }
    let values = matrix.read().map_err(|error| Exit::data(format!("{at}: cannot read: {error}")))?;
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => {
            Err(Exit::data(format!("{at}: found {} at index {index}, expected finite numbers", values[index])))
        }
        None => Ok(values.into_iter().map(|value| value as f32).collect()),
    }
}
