//! `report.html`: the answer, figures that can be asked, and the tables in one file that loads nothing else.
//!
//! The words are those of [`Answer`], the figures are those that are written as SVG. Everything that a configuration may hold is
//! escaped; the only script and the only style are ours, and a policy in the page forbids all others.

mod atlas;
mod figures;
mod markup;
mod origin;
mod plain;
#[cfg(test)]
mod plain_tests;
#[cfg(test)]
mod tests;

use crate::answer::Answer;
use crate::atlas::Profiles;
use crate::figures::{Drawing, moving};
use crate::index::{RunState, Runs};
use atlas::{Mark, section};
use basislab_config::{Experiment, Site};
use basislab_store::{FileError, is_read_only, sha256, write_if_changed};
use basislab_tables::{OutlierRow, SummaryRow, Tables, VerdictRow};
use figures::{Shown, data};
use markup::{
    escaped, filled, folded, links, list, outlier_table, paragraphs, rules, summary_table, verdict_items, verdict_table,
};
pub(crate) use plain::Plain;
use std::path::Path;

/// The file's name. It is not sealed: it names builds, as the manifest does.
pub const PAGE: &str = "report.html";

/// The most bytes of the configuration that the page shows.
const MOST_CONFIGURATION: usize = 200_000;

const TEMPLATE: &str = include_str!("page/page.html");
const SCRIPT: &str = concat!(include_str!("page/page.js"), include_str!("page/atlas.js"));
const STYLE: &str = concat!(include_str!("page/page.css"), include_str!("page/atlas.css"));
const EXPERIMENT: &str = include_str!("page/experiment.html");

/// What the manifest tells of a directory, in words.
#[derive(Debug, Clone, Default)]
pub struct Provenance {
    /// The experiment.
    pub name: String,
    /// Which builds made runs and report, a sentence each.
    pub builds: Vec<String>,
    /// The rest: `(what, which)`.
    pub versions: Vec<(String, String)>,
}

/// The parts of the page that follow from the tables.
#[derive(Debug)]
pub struct Page {
    experiment: Experiment,
    /// The figures as JSON.
    data: String,
    summary: Vec<SummaryRow>,
    verdicts: Vec<VerdictRow>,
    /// `None` where the tables do not tell.
    outliers: Option<Vec<OutlierRow>>,
    /// The figures for which the tables here have no rows.
    not_drawn: Vec<String>,
    /// The figures that are files alone.
    matrices: Vec<String>,
    /// The section on single dimensions.
    dimensions: String,
}

impl Page {
    pub(crate) fn of(
        experiment: &Experiment,
        tables: &Tables,
        (summary, verdicts, outliers): (&[SummaryRow], Vec<VerdictRow>, Option<&[OutlierRow]>),
        drawings: Vec<(String, Option<Drawing>)>,
    ) -> Self {
        let (moments, at_loss) = moving(experiment, tables, &verdicts);
        let (mut figures, mut not_drawn, mut matrices) = (Vec::new(), Vec::new(), Vec::new());
        for (name, drawing) in drawings {
            match drawing {
                Some(Drawing::Figure(figure)) => figures.push((name, figure)),
                Some(Drawing::Matrix(_)) => matrices.push(format!("figures/{name}")),
                None => not_drawn.push(format!("figures/{name}")),
            }
        }
        let data = data(&Shown::of(figures, moments, at_loss));
        let (experiment, summary, outliers) = (experiment.clone(), summary.to_vec(), outliers.map(<[_]>::to_vec));
        Self { experiment, data, summary, verdicts, outliers, not_drawn, matrices, dimensions: String::new() }
    }

    /// With the section on single dimensions of complete runs.
    pub(crate) fn with_dimensions(
        mut self,
        tables: &Tables,
        mut profiles: Profiles,
        outliers: Option<&[OutlierRow]>,
    ) -> Self {
        let runs = Runs::of(&self.experiment, tables);
        profiles.retain(|arm, seed| runs.state(arm, seed) == RunState::Complete);
        let marks: Option<Vec<Mark<'_>>> = outliers.map(|rows| rows.iter().map(Mark::from).collect());
        // A post-norm model has what its norms read as sites.
        let is_post =
            |arm: &str| self.experiment.arm(arm).is_some_and(|arm| arm.run.model.sites().contains(&Site::EmbedSum));
        self.dimensions = section(&profiles, marks.as_deref(), is_post);
        self
    }

    /// Writes the page into a directory that can be written, and names it in the answer.
    ///
    /// # Errors
    /// The file that could not be written.
    pub fn write(&self, dir: &Path, answer: &mut Answer, provenance: &Provenance) -> Result<(), FileError> {
        // Files that were made from more rows than there are here.
        let not_drawn: Vec<String> = self.not_drawn.iter().filter(|file| dir.join(file).exists()).cloned().collect();
        match write_if_changed(&dir.join(PAGE), self.html(answer, provenance, &not_drawn).as_bytes()) {
            Err(error) if is_read_only(&error.source) => return Ok(()),
            written => written?,
        }
        answer.note_page(&self.experiment);
        Ok(())
    }

    fn html(&self, answer: &Answer, provenance: &Provenance, not_drawn: &[String]) -> String {
        let title = if provenance.name.is_empty() { "basislab" } else { &provenance.name };
        let (header, rows) = answer.arm_cells();
        let arms = markup::table(&header, &rows, |place| place >= 2);
        // A reader who stops here must know what is missing.
        let is_whole = answer.runs_complete == answer.runs_planned && !answer.self_test_failed();
        let remarks = if is_whole { &[][..] } else { &answer.remarks };
        let limits = [&answer.notes, remarks].concat();
        let notes = list("notes", "What limits these numbers", &limits);
        let sections = filled(
            EXPERIMENT,
            &[
                ("notes", &notes),
                ("arms", &arms),
                ("verdicts", &verdict_items(&answer.verdicts)),
                ("rules", &rules(&answer.verdicts)),
                ("sentences", &paragraphs("said", &answer.sentences())),
                ("builds", &paragraphs("said", &provenance.builds)),
                ("origin", &origin::lists(&self.experiment, &self.summary, provenance)),
                ("configuration", &escaped(&shortened(self.experiment.to_toml()))),
            ],
        );
        let summary = folded("summary.csv", "each metric at the last step", &summary_table(&self.summary));
        let verdicts = folded("verdicts.csv", "the decisions in numbers", &verdict_table(&self.verdicts));
        let outliers = self.outliers.as_deref().map_or_else(String::new, outlier_table);
        whole(&[
            ("title", &escaped(title)),
            ("question", &escaped(&answer.question)),
            ("finding", &paragraphs("finding", std::slice::from_ref(&answer.finding))),
            ("sections", &sections),
            ("dimensions", &self.dimensions),
            ("data", &self.data),
            ("not_drawn", &links("The tables here lack the rows of these figures, which are files:", not_drawn)),
            ("matrices", &links("The dimensions that stand out of random bases are drawn in a file:", &self.matrices)),
            ("tables", &[summary, verdicts, outliers].concat()),
        ])
    }
}

/// The template with these parts, the script, the style and the policy.
fn whole(parts: &[(&str, &str)]) -> String {
    let policy = policy();
    filled(TEMPLATE, &[parts, &[("policy", &policy), ("style", STYLE), ("script", SCRIPT)]].concat())
}

/// A configuration, or the beginning of a very long one.
fn shortened(mut text: String) -> String {
    if text.len() > MOST_CONFIGURATION {
        text.truncate((0..=MOST_CONFIGURATION).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0));
        text += "\n... (config.toml has the rest)";
    }
    text
}

/// Only the script and the style of the page may be used, and nothing may be loaded.
fn policy() -> String {
    let of = |text: &str| format!("'sha256-{}'", base64(&sha256(text.as_bytes())));
    format!(
        "default-src 'none'; script-src {}; style-src {}; base-uri 'none'; form-action 'none'",
        of(SCRIPT),
        of(STYLE)
    )
}

/// The bytes that hexadecimal digits stand for, in base 64.
fn base64(hex: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = |digit: char| digit.to_digit(16).unwrap_or(0) as usize;
    let digits: Vec<usize> = hex.chars().map(bits).collect();
    let mut text = String::new();
    // Three hexadecimal digits are two of base 64.
    for three in digits.chunks(3) {
        let at = |place: usize| three.get(place).copied().unwrap_or(0);
        let value = at(0) << 8 | at(1) << 4 | at(2);
        text.push(char::from(DIGITS[value >> 6]));
        if three.len() > 1 {
            text.push(char::from(DIGITS[value & 63]));
        }
    }
    text + &"=".repeat((4 - (hex.len() * 2).div_ceil(3) % 4) % 4)
}
