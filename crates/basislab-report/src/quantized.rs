//! The report on a directory of `basislab quantize`: figures and sentences, from its tables alone.

mod display;
mod sentences;

use crate::figures::{Beside, Drawing, quantized_figure_names, quantized_figures, with_those_beside, write_figures};
use crate::page::{PAGE, Plain, Provenance};
use crate::report::write_package;
use basislab_stats::{Granularity, Levels};
use basislab_tables::{
    ModelRow, PACKAGE, QuantizationRow, Quantized, QuantizedModelRow, SpecialDimensions, Table, TableError, TableRow,
    read_table,
};
use serde::Serialize;
use std::path::Path;

/// What rounding did to models, for the terminal ([`std::fmt::Display`]) and as JSON ([`Serialize`]).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuantizedAnswer {
    /// One per row of `models.csv`, in its order.
    pub models: Vec<QuantizedModel>,
    /// What is said of several models together.
    pub sentences: Vec<String>,
    /// The directory.
    pub directory: String,
    /// Files worth opening, relative to it.
    pub files: Vec<String>,
    /// What to do next.
    pub next: Vec<String>,
}

/// One model, or one checkpoint of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuantizedModel {
    /// Its row of `models.csv`.
    pub model: ModelRow,
    /// Its row of `quantized_models.csv`.
    pub stream: QuantizedModelRow,
    /// Its rows of `quantization.csv`.
    pub rows: Vec<QuantizationRow>,
    /// What was found, and what was left out and why.
    pub sentences: Vec<String>,
}

impl QuantizedModel {
    fn read(dir: &Path) -> Result<Vec<Self>, TableError> {
        let (streams, rows): (Vec<QuantizedModelRow>, Vec<QuantizationRow>) = (read_table(dir)?, read_table(dir)?);
        let is_of = |model: &ModelRow, name: &str, step: u64| model.model == *name && model.step == step;
        let of_model = |model: ModelRow| {
            let stream = streams.iter().find(|row| is_of(&model, &row.model, row.step))?.clone();
            let rows = rows.iter().filter(|row| is_of(&model, &row.model, row.step)).cloned().collect();
            let mut all = Self { model, stream, rows, sentences: Vec::new() };
            all.sentences = sentences::of_one(&all);
            Some(all)
        };
        Ok(read_table(dir)?.into_iter().filter_map(of_model).collect())
    }

    /// `smollm2`, with the step where there is one.
    pub(crate) fn name(&self) -> String {
        match self.model.step {
            0 => self.model.model.to_string(),
            step => format!("{}, step {step}", self.model.model),
        }
    }

    pub(crate) fn has_loss(&self) -> bool {
        self.model.predicted_tokens > 0
    }

    /// The row of a variant, where it was run.
    pub(crate) fn row(
        &self,
        quantized: Quantized,
        how: Option<(Levels, Granularity)>,
        treatment: Treatment,
    ) -> Option<&QuantizationRow> {
        let is_it = |row: &&QuantizationRow| {
            row.quantized == quantized
                && row.levels == how.map(|how| how.0)
                && row.granularity == how.map(|how| how.1)
                && (row.rotated, row.special) == treatment.cells()
        };
        self.rows.iter().find(is_it)
    }

    /// What rounding costs in a row: the increase of the loss over the same model, rotated or ablated alike, with nothing rounded,
    /// nats per token; without a head the relative error of the last stream at later tokens, in which ablating is included.
    pub(crate) fn cost(&self, row: &QuantizationRow) -> Option<f64> {
        if self.has_loss() { row.loss_increase_alike } else { row.relative_error_later }
    }
}

/// What is done to the model before its numbers are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    Plain,
    Rotated,
    Kept,
    Ablated,
}

impl Treatment {
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::Rotated, Self::Kept, Self::Ablated];

    fn cells(self) -> (bool, SpecialDimensions) {
        match self {
            Self::Plain => (false, SpecialDimensions::Plain),
            Self::Rotated => (true, SpecialDimensions::Plain),
            Self::Kept => (false, SpecialDimensions::Kept),
            Self::Ablated => (false, SpecialDimensions::Ablated),
        }
    }

    /// For the head of a column and for a legend.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Plain => "as it is",
            Self::Rotated => "rotated",
            Self::Kept => "special in 16 bits",
            Self::Ablated => "special ablated",
        }
    }
}

/// The ways to round activations and weights, from few scales to many.
pub(crate) const WAYS: [(Quantized, &[Granularity]); 2] = [
    (Quantized::Activations, &[Granularity::Tensor, Granularity::Channel, Granularity::Token]),
    (Quantized::Weights, &[Granularity::Tensor, Granularity::Channel, Granularity::Group128, Granularity::Group32]),
];

/// Reads `models.csv`, `quantized_models.csv` and `quantization.csv` of `dir`; writes figures with what is asked for beside
/// them, data package and page.
///
/// # Errors
/// The table that is wrong, with line and column, or the file that could not be written.
pub fn report_quantized(dir: &Path, beside: Beside, provenance: &Provenance) -> Result<QuantizedAnswer, TableError> {
    let models = QuantizedModel::read(dir)?;
    write_package(dir)?;
    let drawn = quantized_figures(&models);
    write_figures(dir, &drawn, beside)?;
    let figures = quantized_figure_names(&models).into_iter().map(|name| format!("figures/{name}"));
    let sentences = sentences::of_several(&models);
    let directory = dir.display().to_string();
    let mut answer = QuantizedAnswer { sentences, models, directory, files: Vec::new(), next: Vec::new() };
    page(&answer, drawn).write(dir, provenance)?;
    let tables = TABLES.map(|table| table.file.to_owned());
    let files = std::iter::once(PAGE.to_owned()).chain(figures).chain(tables).chain([PACKAGE.to_owned()]);
    answer.files = files.filter(|file| dir.join(file).exists()).collect();
    let figure = answer.files.iter().find(|file| file.ends_with(".svg"));
    answer.next = match (answer.files.iter().any(|file| file == PAGE), figure) {
        (true, _) => vec![format!("basislab open {}", answer.directory)],
        (false, figure) => figure.map(|figure| format!("open {}", dir.join(figure).display())).into_iter().collect(),
    };
    Ok(answer)
}

const TABLES: [&Table; 3] = [QuantizationRow::TABLE, QuantizedModelRow::TABLE, ModelRow::TABLE];

/// What was found of each model and of all together, the figures and the tables.
fn page(answer: &QuantizedAnswer, figures: Vec<(String, Option<Drawing>)>) -> Plain {
    let names: Vec<String> = answer.models.iter().map(QuantizedModel::name).collect();
    let mut sections: Vec<(String, String)> =
        names.iter().cloned().zip(answer.models.iter().map(ToString::to_string)).collect();
    if answer.models.len() > 1 {
        let together = format!("{}\n\n{}", answer.comparison(), answer.sentences.join("\n"));
        sections.insert(0, ("All models".to_owned(), together));
    }
    Plain { heading: format!("Rounded: {}", names.join("; ")), sections, figures, tables: TABLES.to_vec() }
}

/// Seals the directory, the last thing that is written there.
///
/// # Errors
/// A wrong table, a file that could not be read or written.
pub fn seal_quantized(dir: &Path) -> Result<(), TableError> {
    Ok(basislab_tables::seal_measured(dir, &with_those_beside(quantized_figure_names(&QuantizedModel::read(dir)?)))?)
}
