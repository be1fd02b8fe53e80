//! The page of what is no experiment: models that were measured or rounded, and a comparison. The words are the printed ones.

use super::figures::{Shown, data};
use super::markup::{escaped, folded, paragraphs, table};
use super::{PAGE, Provenance, origin, whole};
use crate::figures::{Drawing, digits};
use basislab_store::{FileError, is_read_only, write_if_changed};
use basislab_tables::{Table, TableError, for_each_record};
use std::path::Path;

/// What such a page shows.
pub(crate) struct Plain {
    /// What it is about.
    pub(crate) heading: String,
    /// Each with its own heading, as printed.
    pub(crate) sections: Vec<(String, String)>,
    pub(crate) figures: Vec<(String, Option<Drawing>)>,
    /// The tables of the directory that are shown, as far as they are there.
    pub(crate) tables: Vec<&'static Table>,
}

impl Plain {
    /// Writes the page into a directory that can be written. Whether it is there.
    ///
    /// # Errors
    /// A table that is wrong, the file that could not be written.
    pub(crate) fn write(self, dir: &Path, provenance: &Provenance) -> Result<bool, TableError> {
        match write_if_changed(&dir.join(PAGE), self.html(dir, provenance)?.as_bytes()) {
            Err(FileError { source, .. }) if is_read_only(&source) => Ok(false),
            written => Ok(written.map(|()| true)?),
        }
    }

    fn html(self, dir: &Path, provenance: &Provenance) -> Result<String, TableError> {
        let mut tables = String::new();
        for table in self.tables.iter().filter(|table| dir.join(table.file).is_file()) {
            tables += &of_file(dir, table)?;
        }
        let section = |(heading, text): &(String, String)| {
            format!("<section>\n<h2>{}</h2>\n{}</section>\n", escaped(heading), printed(text))
        };
        let mut sections: String = self.sections.iter().map(section).collect();
        let made_by = paragraphs("said", &provenance.builds) + &origin::list(&provenance.versions);
        sections += &format!("<section>\n<h2>What made it</h2>\n{made_by}</section>\n");
        let figure = |(name, drawing)| match drawing {
            Some(Drawing::Figure(figure)) => Some((name, figure)),
            Some(Drawing::Matrix(_)) | None => None,
        };
        let data = data(&Shown::of(self.figures.into_iter().filter_map(figure).collect(), Vec::new(), None));
        let heading = escaped(&self.heading);
        Ok(whole(&[
            ("title", &heading),
            ("question", &heading),
            ("data", &data),
            ("sections", &sections),
            ("dimensions", ""),
            ("tables", &tables),
        ]))
    }
}

/// Printed text: paragraphs, and as they stand the tables, which are aligned by spaces.
pub(super) fn printed(text: &str) -> String {
    let is_table = |line: &&str| line.trim_end().contains("  ") || line.starts_with(' ');
    let mut out = String::new();
    for block in text.split("\n\n") {
        let lines: Vec<&str> = block.lines().filter(|line| !line.trim().is_empty()).collect();
        for part in lines.chunk_by(|a, b| is_table(a) == is_table(b)) {
            match part.iter().any(is_table) {
                true => out += &format!("<pre tabindex=\"0\">{}</pre>\n", escaped(&part.join("\n"))),
                false => out += &paragraphs("said", &part.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>()),
            }
        }
    }
    out
}

/// A table of the directory, folded up.
fn of_file(dir: &Path, file: &Table) -> Result<String, TableError> {
    let header: Vec<String> = file.columns.iter().map(|column| column.name.to_owned()).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for_each_record::<TableError>(dir, file, |_, record| {
        rows.push(record.iter().map(cell).collect());
        Ok(())
    })?;
    let is_number = |place: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(place)).filter(|cell| !cell.is_empty()).peekable();
        cells.peek().is_some() && cells.all(|cell| cell.parse::<f64>().is_ok())
    };
    Ok(folded(file.file, file.about(), &table(&header, &rows, is_number)))
}

/// Not more digits than a reader can use.
fn cell(text: &str) -> String {
    match text.parse::<f64>() {
        Ok(value) if text.contains(['.', 'e']) && value.is_finite() => digits(value),
        _ => text.to_owned(),
    }
}
