//! The files of figures: an SVG each, and beside it what else is asked for or was there before, so that no file shows what
//! another does not.

use super::mark::Figure;
use super::png::png;
use super::vega::vega;
use super::{Drawing, frame, outliers};
use basislab_store::{FileError, write_if_changed};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What is made of each figure beside its SVG file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beside {
    /// `NAME.png`, pixels.
    pub png: bool,
    /// `NAME.vl.json`, marks, axes and numbers as Vega-Lite.
    pub vega: bool,
}

const PNG: &str = "png";
const VEGA: &str = "vl.json";

/// The names of all files that figures can have.
pub(crate) fn with_those_beside(figures: Vec<String>) -> Vec<String> {
    let files = |name: String| [name.clone(), beside(&name, PNG), beside(&name, VEGA)];
    figures.into_iter().flat_map(files).collect()
}

fn beside(name: &str, ending: &str) -> String {
    format!("{}.{ending}", name.trim_end_matches(".svg"))
}

/// Writes the files of each drawing into `figures` in `dir`, and removes those of drawings that there are no data for.
///
/// # Errors
/// The figure that could not be drawn, the file that could not be written or removed.
pub(crate) fn write_figures(
    dir: &Path,
    drawings: &[(String, Option<Drawing>)],
    asked: Beside,
) -> Result<(), FileError> {
    let folder = Folder(dir.join("figures"));
    for (name, drawing) in drawings {
        match drawing {
            Some(drawing) => {
                let svg = drawing.svg(name)?;
                folder.write(name, svg.as_bytes())?;
                if asked.png || folder.has(&beside(name, PNG)) {
                    folder.write_png(name, &svg)?;
                }
                if asked.vega || folder.has(&beside(name, VEGA)) {
                    folder.write_vega(name, drawing)?;
                }
            }
            None => with_those_beside(vec![name.clone()]).iter().try_for_each(|file| folder.remove(file))?,
        }
    }
    Ok(())
}

/// Writes what is absent of each drawing. An image is one of the SVG file that is there.
///
/// # Errors
/// As [`write_figures`], and an SVG file that cannot be read.
pub(crate) fn write_absent(dir: &Path, drawings: &[(String, Option<Drawing>)], asked: Beside) -> Result<(), FileError> {
    let folder = Folder(dir.join("figures"));
    for (name, drawing) in drawings.iter().filter_map(|(name, drawing)| Some((name, drawing.as_ref()?))) {
        let is_there = folder.has(name);
        if !is_there {
            folder.write(name, drawing.svg(name)?.as_bytes())?;
        }
        if asked.png && !folder.has(&beside(name, PNG)) {
            let path = folder.0.join(name);
            let svg = fs::read_to_string(&path).map_err(|error| FileError::new("read", &path, error))?;
            folder.write_png(name, &svg)?;
        }
        if asked.vega && !folder.has(&beside(name, VEGA)) {
            folder.write_vega(name, drawing)?;
        }
    }
    Ok(())
}

impl Drawing {
    pub(crate) fn svg(&self, name: &str) -> Result<String, FileError> {
        let svg = match self {
            Self::Figure(figure) => frame::svg(figure),
            Self::Matrix(matrix) => outliers::svg(matrix),
        };
        svg.map_err(|error| not_drawn(name, error))
    }

    fn as_figure(&self) -> Option<&Figure> {
        if let Self::Figure(figure) = self { Some(figure) } else { None }
    }
}

fn not_drawn(name: &str, error: String) -> FileError {
    FileError::new("draw", Path::new(name), io::Error::other(error))
}

/// The folder of the figures.
struct Folder(PathBuf);

impl Folder {
    fn has(&self, name: &str) -> bool {
        fs::symlink_metadata(self.0.join(name)).is_ok()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        fs::create_dir_all(&self.0).map_err(|error| FileError::new("create", &self.0, error))?;
        write_if_changed(&self.0.join(name), bytes)
    }

    fn write_png(&self, name: &str, svg: &str) -> Result<(), FileError> {
        self.write(&beside(name, PNG), &png(svg).map_err(|error| not_drawn(name, error))?)
    }

    /// A matrix has no axes, and none is written.
    fn write_vega(&self, name: &str, drawing: &Drawing) -> Result<(), FileError> {
        match drawing.as_figure() {
            Some(figure) => self.write(&beside(name, VEGA), vega(figure).as_bytes()),
            None => Ok(()),
        }
    }

    fn remove(&self, name: &str) -> Result<(), FileError> {
        let path = self.0.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::new("remove", &path, error)),
            _ => Ok(()),
        }
    }
}
