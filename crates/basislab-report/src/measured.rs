//! The report on a directory of `basislab measure`: summary, figures and sentences, from its tables alone.

pub(crate) mod display;
mod lines;
mod readings;

use crate::figures::{Beside, Drawing, measured_figure_names, measured_figures, with_those_beside, write_figures};
use crate::page::{PAGE, Plain, Provenance};
use crate::report::write_package;
use crate::summary::{compare_with_null, summary_row};
use basislab_config::{Basis, RunName};
use basislab_stats::{METRICS, metric};
use basislab_tables::{
    DimensionRow, DominantTokenRow, InterventionRow, MassiveRow, ModelRow, PACKAGE, ResidualRow, SpecialDimensionRow,
    SummaryRow, Table, TableError, TableRow, read_optional, read_table, write_table,
};
pub(crate) use lines::over_null;
pub use lines::{CheckpointLine, DimensionLine, DominantLine, SiteLine};
pub(crate) use readings::{Reading, Readings};
use serde::Serialize;
use std::path::Path;

/// The metric that sentences and figures are about.
pub(crate) const KURTOSIS: &str = "token_kurtosis";

/// What was found in models that were measured, for the terminal ([`std::fmt::Display`]) and as JSON ([`Serialize`]).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeasuredAnswer {
    /// One per model name, in the order of `models.csv`.
    pub models: Vec<MeasuredModel>,
    /// The directory.
    pub directory: String,
    /// Files worth opening, relative to it.
    pub files: Vec<String>,
    /// What to do next.
    pub next: Vec<String>,
}

/// One model. Its sites, dimensions and tokens are those of the last checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeasuredModel {
    /// What interventions did; the rest is of the model with them.
    pub interventions: Option<InterventionRow>,
    /// Every checkpoint, in the order of their training steps.
    pub checkpoints: Vec<CheckpointLine>,
    /// Every site, in the order of the forward pass.
    pub sites: Vec<SiteLine>,
    /// Every dimension that stands out somewhere, the one at most `resid_post` sites first.
    pub dimensions: Vec<DimensionLine>,
    /// Largest number of massive activations at any site (magnitude above 100 and at least 1000 times the median), with that
    /// site; `None` where they were not counted.
    pub massive_activations: Option<(f64, String)>,
    /// The largest values at first tokens, then at others, the same token in the same dimension once, at its most extreme site.
    pub largest: Vec<MassiveRow>,
    /// What share of the sum of squares all first tokens hold, site by site: `(site, share)`.
    pub first_token_share: Vec<(String, f64)>,
    /// Tokens other than first ones with the largest share of what such tokens hold, each token once, at its most extreme site.
    pub dominant: Vec<DominantLine>,
}

/// The tables of a directory of `basislab measure`.
#[derive(Debug, Default)]
pub(crate) struct MeasuredTables {
    pub(crate) models: Vec<ModelRow>,
    pub(crate) residual: Vec<ResidualRow>,
    pub(crate) special: Vec<SpecialDimensionRow>,
    pub(crate) massive: Vec<MassiveRow>,
    pub(crate) dominant: Vec<DominantTokenRow>,
    pub(crate) interventions: Vec<InterventionRow>,
}

impl MeasuredTables {
    fn read(dir: &Path) -> Result<Self, TableError> {
        Ok(Self {
            models: read_table(dir)?,
            residual: read_table(dir)?,
            special: read_optional(dir)?,
            massive: read_optional(dir)?,
            dominant: read_optional(dir)?,
            interventions: read_optional(dir)?,
        })
    }

    /// The checkpoints of each model, by training step; models in the order of the file.
    pub(crate) fn by_name(&self) -> Vec<(&RunName, Vec<&ModelRow>)> {
        let mut models: Vec<(&RunName, Vec<&ModelRow>)> = Vec::new();
        for row in &self.models {
            match models.iter_mut().find(|(name, _)| **name == row.model) {
                Some((_, checkpoints)) => checkpoints.push(row),
                None => models.push((&row.model, vec![row])),
            }
        }
        models.iter_mut().for_each(|(_, checkpoints)| checkpoints.sort_by_key(|row| row.step));
        models
    }
}

/// Reads `models.csv`, `residual.csv` and, where they exist, `special_dimensions.csv`, `massive.csv`, `dominant_tokens.csv` and
/// `interventions.csv` of `dir`; writes `summary.csv`, figures with what is asked for beside them, data package and page.
///
/// # Errors
/// The table that is wrong, with line and column, or the file that could not be written.
pub fn report_measured(dir: &Path, beside: Beside, provenance: &Provenance) -> Result<MeasuredAnswer, TableError> {
    let tables = MeasuredTables::read(dir)?;
    let readings = Readings::of(&tables.residual);
    write_table(dir, &summarise(&tables, &readings))?;
    write_package(dir)?;
    let figures = measured_figures(&tables, &readings);
    write_figures(dir, &figures, beside)?;
    page(&answer(&tables, &readings, dir), figures).write(dir, provenance)?;
    Ok(answer(&tables, &readings, dir))
}

/// What [`report_measured`] says of a directory, from its tables alone: nothing is written.
///
/// # Errors
/// The table that is wrong, with line and column.
pub fn read_measured(dir: &Path) -> Result<MeasuredAnswer, TableError> {
    let tables = MeasuredTables::read(dir)?;
    Ok(answer(&tables, &Readings::of(&tables.residual), dir))
}

/// The page of a directory that is only read, where there is none: what [`read_measured`] says, with the figures as far as the
/// tables go.
///
/// # Errors
/// As [`read_measured`], and a page that cannot be written, though the directory can.
pub fn absent_page(dir: &Path, provenance: &Provenance) -> Result<(), TableError> {
    if !dir.join(PAGE).exists() {
        let tables = MeasuredTables::read(dir)?;
        let readings = Readings::of(&tables.residual);
        let figures = measured_figures(&tables, &readings);
        page(&answer(&tables, &readings, dir), figures).write(dir, provenance)?;
    }
    Ok(())
}

/// The tables that the page shows: all but those of single readings.
const TABLES_SHOWN: [&Table; 6] = [
    ModelRow::TABLE,
    SummaryRow::TABLE,
    SpecialDimensionRow::TABLE,
    MassiveRow::TABLE,
    DominantTokenRow::TABLE,
    InterventionRow::TABLE,
];

/// What was found, the figures, and the tables but those of single readings.
fn page(answer: &MeasuredAnswer, figures: Vec<(String, Option<Drawing>)>) -> Plain {
    let name = |model: &MeasuredModel| model.checkpoints.last().map(|line| line.model.model.to_string());
    let names: Vec<String> = answer.models.iter().filter_map(name).collect();
    let sections = names.iter().zip(&answer.models).map(|(name, model)| (name.clone(), model.to_string())).collect();
    Plain { heading: format!("Measured: {}", names.join(", ")), sections, figures, tables: TABLES_SHOWN.to_vec() }
}

/// Seals the directory, the last thing that is written there.
///
/// # Errors
/// A wrong `models.csv`, a file that could not be read or written.
pub fn seal_measured(dir: &Path) -> Result<(), TableError> {
    let tables = MeasuredTables { models: read_table(dir)?, ..MeasuredTables::default() };
    Ok(basislab_tables::seal_measured(dir, &with_those_beside(measured_figure_names(&tables)))?)
}

/// Per checkpoint: the loss, then each metric of the detailed tokens at each site, in the standard basis.
pub(crate) fn summarise(tables: &MeasuredTables, readings: &Readings<'_>) -> Vec<SummaryRow> {
    let mut rows = Vec::new();
    for model in &tables.models {
        let row = |metric: &str, value: Option<f64>| summary_row(&model.model, model.step, 1, metric, value.as_slice());
        rows.push(row("loss", model.loss));
        let tokens = readings.detailed(model);
        for &site in readings.sites(model) {
            for name in METRICS.iter().map(|metric| metric.name) {
                let Some(reading) = readings.get(model, site, tokens, name) else { continue };
                let mut row = row(name, reading.value());
                let pairs: Vec<(f64, &[f64])> =
                    reading.compared().map(|value| (value, &reading.draws[..])).into_iter().collect();
                let closed_form = metric(name)
                    .and_then(|metric| Some(metric.null?(model.d_model, usize::try_from(reading.tokens()).ok()?)));
                compare_with_null(&mut row, &[&reading.draws], &pairs, closed_form);
                (row.site, row.basis, row.tokens) = (Some(site), Some(Basis::Standard), Some(tokens));
                rows.push(row);
            }
        }
    }
    rows
}

fn answer(tables: &MeasuredTables, readings: &Readings<'_>, dir: &Path) -> MeasuredAnswer {
    let models = tables.by_name().into_iter().map(|(_, checkpoints)| model(tables, readings, &checkpoints)).collect();
    let figures = measured_figure_names(tables).into_iter().map(|name| format!("figures/{name}"));
    let tables = TABLES_SHOWN.into_iter().chain([ResidualRow::TABLE, DimensionRow::TABLE]);
    let files = std::iter::once(PAGE.to_owned()).chain(figures);
    let files = files.chain(tables.map(|table| table.file.to_owned())).chain([PACKAGE.to_owned()]);
    let files: Vec<String> = files.filter(|file| dir.join(file).exists()).collect();
    let directory = dir.display().to_string();
    let mut next = Vec::new();
    if files.iter().any(|file| file == PAGE) {
        next.push(format!("basislab open {directory}"));
    } else if let Some(figure) = files.iter().find(|file| file.ends_with(".svg")) {
        next.push(format!("open {}", dir.join(figure).display()));
    }
    next.push(format!("load every table with types: python scripts/load_run.py {directory}"));
    MeasuredAnswer { models, directory, files, next }
}

fn model(tables: &MeasuredTables, readings: &Readings<'_>, checkpoints: &[&ModelRow]) -> MeasuredModel {
    let line = |row: &&ModelRow| lines::checkpoint(tables, readings, row);
    let (checkpoints, last) = (checkpoints.iter().map(line).collect(), checkpoints.last());
    let sites = last.map_or_else(Vec::new, |row| lines::sites(readings, row));
    let dimensions = last.map_or_else(Vec::new, |row| lines::dimensions(tables, readings, row));
    let massive_activations = last.and_then(|row| lines::massive_activations(readings, row));
    let largest = last.map_or_else(Vec::new, |row| lines::largest(tables, row));
    let first_token_share = last.map_or_else(Vec::new, |row| lines::first_token_share(tables, row));
    let dominant = last.map_or_else(Vec::new, |row| lines::dominant(tables, row));
    let is_last = |row: &&InterventionRow| last.is_some_and(|last| last.model == row.model && last.step == row.step);
    let interventions = tables.interventions.iter().find(is_last).cloned();
    MeasuredModel {
        interventions,
        checkpoints,
        sites,
        dimensions,
        massive_activations,
        largest,
        first_token_share,
        dominant,
    }
}
