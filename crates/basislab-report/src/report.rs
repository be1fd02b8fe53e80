//! Everything that follows from the recorded rows.
//!
//! A report never replaces better numbers by worse. Where all parts are there, everything is made again; where parts are
//! gone or were never there, what was recorded is read and nothing that exists is written.

use crate::answer::{Answer, answer};
use crate::atlas::Profiles;
use crate::figures::{Beside, Drawing, copies, figure_names, figures, with_those_beside, write_absent, write_figures};
use crate::narrative::{OutlierLine, outlier_lines};
use crate::needed::{read_for_page, read_needed};
use crate::note::{Gaps, Lack};
use crate::outliers::{StandingOut, outliers};
use crate::page::{PAGE, Page};
use crate::privilege::privileges;
use crate::recorded::Recorded;
use crate::records::Records;
use crate::registration::register;
use crate::selection::{choice_sentences, choose, resolve};
use crate::summary::summarise;
use crate::verdicts::{Decision, decide_claims};
use basislab_config::{Experiment, RunName, count};
use basislab_store::{FileError, is_read_only, write_if_changed};
use basislab_tables::{
    OutlierRow, PACKAGE, Part, PrivilegeRow, Remedy, Seal, SelectionRow, StepRow, SummaryRow, TableError, TableRow,
    Tables, VerdictRow, check_parts, data_package, is_sealed, merge, merge_parts, parts, read_rows_if_any, read_table,
    write_table,
};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// What [`report`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Nothing: the answer is the recorded one.
    Nothing,
    /// Summary or verdicts.
    Report,
    /// The report on complete parts, which is to be sealed.
    Whole,
}

/// Reads the tables at the top of `dir` and writes selection, summary, verdicts, data package and figures where they are not
/// what follows from the tables, with what is asked for beside figures. Arms whose values are chosen from a grid are read with the chosen values. Runs may still be missing: their claims come out as inconclusive, by name.
///
/// # Errors
/// The table that is wrong, with line and column, or the file that could not be written.
pub fn rebuild(dir: &Path, experiment: &Experiment, beside: Beside) -> Result<Answer, TableError> {
    Ok(made_again(dir, experiment, &Records::read(dir, experiment), beside)?.0)
}

fn made_again(
    dir: &Path,
    experiment: &Experiment,
    records: &Records,
    beside: Beside,
) -> Result<(Answer, Page), TableError> {
    let (tables, standing_out, profiles) = read_for_page(dir, experiment)?;
    let derived = Derived::of(dir, experiment, records, &tables, &standing_out);
    if experiment.choices().next().is_some() {
        write_table(dir, &derived.selection)?;
    }
    write_table(dir, &derived.summary)?;
    write_table(dir, &derived.rows())?;
    if !derived.privilege.is_empty() {
        write_table(dir, &derived.privilege)?;
    }
    if let Some(outliers) = &derived.outliers {
        write_table(dir, outliers)?;
    }
    write_package(dir)?;
    let figures = derived.figures(&tables);
    write_figures(dir, &figures, beside)?;
    Ok((derived.answer(records, &tables, dir), derived.page(&tables, profiles, figures)))
}

/// What follows from the tables.
pub(crate) struct Derived {
    /// With the chosen values, where a choice was made.
    pub(crate) experiment: Experiment,
    pub(crate) selection: Vec<SelectionRow>,
    pub(crate) summary: Vec<SummaryRow>,
    pub(crate) verdicts: Vec<Decision>,
    pub(crate) privilege: Vec<PrivilegeRow>,
    /// `None` where the tables do not tell.
    pub(crate) outliers: Option<Vec<OutlierRow>>,
}

impl Derived {
    fn of(dir: &Path, experiment: &Experiment, records: &Records, tables: &Tables, standing_out: &StandingOut) -> Self {
        Self::with(dir, experiment, records, (tables, standing_out), choose(experiment, tables), &[])
    }

    pub(crate) fn with(
        dir: &Path,
        experiment: &Experiment,
        records: &Records,
        (tables, standing_out): (&Tables, &StandingOut),
        selection: Vec<SelectionRow>,
        recorded: &[VerdictRow],
    ) -> Self {
        let experiment = resolve(experiment, &selection);
        let summary = summarise(&experiment, tables);
        let verdicts = register(dir, &experiment, records, tables, decide_claims(&experiment, tables), recorded);
        let privilege = privileges(&experiment, tables);
        let outliers = outliers(&experiment, tables, standing_out);
        Self { experiment, selection, summary, verdicts, privilege, outliers }
    }

    /// The rows of `verdicts.csv`.
    pub(crate) fn rows(&self) -> Vec<VerdictRow> {
        self.verdicts.iter().map(|decision| decision.row.clone()).collect()
    }

    fn figures(&self, tables: &Tables) -> Vec<(String, Option<Drawing>)> {
        figures(&self.experiment, tables, &self.rows(), &self.selection, self.outliers.as_deref())
    }

    /// Of all arms but those that are another's copy, bit for bit.
    fn outlier_lines(&self, tables: &Tables) -> Vec<OutlierLine> {
        let rows = self.rows();
        let copies = copies(&self.experiment, &rows);
        outlier_lines(&self.experiment, tables, self.outliers.as_deref(), |arm| !copies.contains(&arm))
    }

    fn page(&self, tables: &Tables, profiles: Profiles, figures: Vec<(String, Option<Drawing>)>) -> Page {
        let outliers = self.outliers.as_deref();
        Page::of(&self.experiment, tables, (&self.summary, self.rows(), outliers), figures)
            .with_dimensions(tables, profiles, outliers)
    }

    pub(crate) fn answer(&self, records: &Records, tables: &Tables, dir: &Path) -> Answer {
        let mut answer = answer(&self.experiment, tables, &self.summary, &self.verdicts, dir);
        answer.choices = choice_sentences(&self.experiment, &self.selection);
        answer.outliers = self.outlier_lines(tables);
        answer.notes.extend(records.notes(&self.experiment));
        answer
    }
}

/// The answer on some arms alone, as far as the tables at the top go. Claims about other arms are left out, and that is
/// said; corrected p-values stay those of the whole family. Writes nothing.
///
/// # Errors
/// The table that is wrong.
pub fn answer_about(dir: &Path, experiment: &Experiment, arms: &[String]) -> Result<Answer, TableError> {
    let (records, (tables, standing_out)) = (Records::read(dir, experiment), read_needed(dir, experiment)?);
    let derived = Derived::of(dir, experiment, &records, &tables, &standing_out);
    let outliers = derived.outlier_lines(&tables);
    let Derived { experiment: whole, selection, summary, verdicts, .. } = derived;
    let keeps = |name: &RunName| arms.iter().any(|arm| *name == arm.as_str());
    let mut kept = whole.clone();
    kept.arms.retain(|arm| keeps(&arm.name));
    kept.claims.retain(|claim| claim.test.arms().into_iter().all(keeps));
    let is_kept = |decision: &Decision| kept.claims.iter().any(|claim| claim.name == decision.row.claim);
    let (verdicts, dropped): (Vec<Decision>, Vec<Decision>) = verdicts.into_iter().partition(is_kept);
    let mut about = answer(&kept, &tables, &summary, &verdicts, dir);
    about.choices = choice_sentences(&kept, &selection);
    about.outliers = outliers.into_iter().filter(|line| arms.contains(&line.arm)).collect();
    about.notes.extend(records.notes(&kept));
    let all = answer(&whole, &tables, &summary, &[], dir);
    about.notes.push(format!(
        "{} of {} of the whole experiment {} complete",
        all.runs_complete,
        count(all.runs_planned, "run"),
        if all.runs_complete == 1 { "is" } else { "are" }
    ));
    if !dropped.is_empty() {
        let names: Vec<&str> = dropped.iter().map(|decision| decision.row.claim.as_str()).collect();
        about.notes.push(format!("claims about other arms are dropped here: {}", names.join(", ")));
    }
    Ok(about)
}

pub(crate) fn write_package(dir: &Path) -> Result<(), FileError> {
    write_if_changed(&dir.join(PACKAGE), format!("{:#}\n", data_package(dir)).as_bytes())
}

fn remove_file(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::new("remove", path, error)),
        _ => Ok(()),
    }
}

/// [`rebuild`] from the parts that exist, complete or not: joins them first, and reports on the complete runs.
///
/// # Errors
/// As [`rebuild`], and a part that could not be joined or was changed.
pub fn report_so_far(dir: &Path, experiment: &Experiment, beside: Beside) -> Result<Answer, TableError> {
    merge(dir, experiment)?;
    // That of fewer runs, or of a finished directory that has grown.
    remove_file(&dir.join(PAGE))?;
    rebuild(dir, experiment, beside)
}

/// The report on a directory that others may have touched. With parts that are whole, or of an unfinished experiment,
/// everything is made from them. Without, it is read as it was recorded, and only what is wholly absent is made; `thinned`
/// says what was left out of such a directory, and `records` are those of its runs. The caller writes the page, if there is one
/// to write, and after [`Written::Whole`] seals the directory.
///
/// # Errors
/// As [`report_so_far`], and a sealed file that was changed.
pub fn report(
    dir: &Path,
    experiment: &Experiment,
    records: &Records,
    thinned: Option<&str>,
    beside: Beside,
) -> Result<(Answer, Written, Option<Page>), TableError> {
    if !dir.join("parts").is_dir() {
        return published(dir, experiment, records, thinned, beside);
    }
    let sealed = Seal::read(dir)?;
    let parts = parts(dir, experiment)?;
    let lost = lost(dir, sealed.is_some(), &parts)?;
    if !lost.is_empty() {
        check_parts(&parts)?;
        let mut answer = read_answer(dir, experiment, thinned)?;
        answer.notes.push(format!(
            "parts of complete runs are gone or have not ended here ({lost}); the recorded answer is shown, and nothing was \
             changed; `basislab run` makes them again"
        ));
        return Ok((answer, Written::Nothing, None));
    }
    if parts.iter().any(|part| part.end.is_none()) {
        merge_parts(dir, &parts)?;
        let (answer, page) = made_again(dir, experiment, records, beside)?;
        return Ok((answer, Written::Report, Some(page)));
    }
    let mut recorded = Vec::new();
    if let Some(seal) = sealed {
        seal.check(dir, Remedy::MakeAgain, true)?;
        recorded = read_table::<VerdictRow>(dir).unwrap_or_default();
    }
    merge_parts(dir, &parts)?;
    let (mut answer, page) = made_again(dir, experiment, records, beside)?;
    answer.note_changes(&recorded);
    let written =
        if is_sealed(dir, &with_those_beside(figure_names(experiment)))? { Written::Nothing } else { Written::Whole };
    Ok((answer, written, Some(page)))
}

/// Of the runs whose parts have not ended, those that had ended once: the tables at the top hold rows of them, or are sealed.
fn lost(dir: &Path, sealed: bool, parts: &[Part<'_>]) -> Result<Gaps, TableError> {
    let mut lost = Gaps::default();
    let mut in_tables = BTreeSet::new();
    if !sealed && parts.iter().any(|part| part.end.is_none()) {
        read_rows_if_any(dir, |row: &StepRow| {
            in_tables.insert((row.arm.clone(), row.seed));
            false
        })?;
    }
    for Part { arm, seed, folder, .. } in parts.iter().filter(|part| part.end.is_none()) {
        if sealed || in_tables.contains(&((*arm).clone(), *seed)) {
            lost.add(arm, *seed, if folder.is_dir() { Lack::NotEnded } else { Lack::Gone });
        }
    }
    Ok(lost)
}

/// Whether the directory holds a whole report: nothing of it is missing, whatever its bytes.
///
/// # Errors
/// A seal that cannot be read.
pub fn is_finished(dir: &Path) -> Result<bool, TableError> {
    Ok(Seal::read(dir)?.is_some_and(|seal| seal.is_whole(dir)))
}

/// The answer as it was recorded; sealed files must be what was written. Writes nothing.
///
/// # Errors
/// The file that is wrong or was changed.
pub fn read_answer(dir: &Path, experiment: &Experiment, thinned: Option<&str>) -> Result<Answer, TableError> {
    check_seal(dir, experiment)?;
    let (records, (tables, standing_out)) = (Records::read(dir, experiment), read_needed(dir, experiment)?);
    let recorded = Recorded::read(dir, experiment, &records, (&tables, &standing_out), thinned)?;
    Ok(recorded.answer(dir, &records, &tables, thinned))
}

/// Expects sealed files to be what was written.
///
/// # Errors
/// The file that was changed.
pub fn check_seal(dir: &Path, experiment: &Experiment) -> Result<(), TableError> {
    let Some(seal) = Seal::read(dir)? else { return Ok(()) };
    let has_ended = |part: &Part<'_>| part.end.is_some();
    let whole = dir.join("parts").is_dir() && parts(dir, experiment)?.iter().all(has_ended);
    seal.check(dir, if whole { Remedy::MakeAgain } else { Remedy::Restore }, false)
}

/// The answer as far as the tables at the top go, while somebody else writes there. Writes nothing.
///
/// # Errors
/// The table that is wrong.
pub fn read_unsealed(dir: &Path, experiment: &Experiment) -> Result<Answer, TableError> {
    let (records, (tables, standing_out)) = (Records::read(dir, experiment), read_needed(dir, experiment)?);
    Ok(Derived::of(dir, experiment, &records, &tables, &standing_out).answer(&records, &tables, dir))
}

/// A directory without parts is only read. What is absent altogether, and not sealed, is made if it can be written.
fn published(
    dir: &Path,
    experiment: &Experiment,
    records: &Records,
    thinned: Option<&str>,
    beside: Beside,
) -> Result<(Answer, Written, Option<Page>), TableError> {
    if let Some(seal) = Seal::read(dir)? {
        seal.check(dir, Remedy::Restore, false)?;
    }
    let (tables, standing_out, profiles) = read_for_page(dir, experiment)?;
    let recorded = Recorded::read(dir, experiment, records, (&tables, &standing_out), thinned)?;
    let (written, page) = match make_absent(dir, &tables, profiles, &recorded.derived, beside) {
        Err(TableError::File(error)) if is_read_only(&error.source) => (Written::Nothing, None),
        made => made?,
    };
    Ok((recorded.answer(dir, records, &tables, thinned), written, page))
}

fn make_absent(
    dir: &Path,
    tables: &Tables,
    profiles: Profiles,
    recorded: &Derived,
    beside: Beside,
) -> Result<(Written, Option<Page>), TableError> {
    let absent = |file: &str| fs::symlink_metadata(dir.join(file)).is_err();
    let mut written = Written::Nothing;
    if !recorded.selection.is_empty() && absent(SelectionRow::TABLE.file) {
        write_table(dir, &recorded.selection)?;
        written = Written::Report;
    }
    if absent(SummaryRow::TABLE.file) {
        write_table(dir, &recorded.summary)?;
        written = Written::Report;
    }
    if absent(VerdictRow::TABLE.file) {
        write_table(dir, &recorded.rows())?;
        written = Written::Report;
    }
    if !recorded.privilege.is_empty() && absent(PrivilegeRow::TABLE.file) {
        write_table(dir, &recorded.privilege)?;
        written = Written::Report;
    }
    if let Some(outliers) = recorded.outliers.as_ref().filter(|_| absent(OutlierRow::TABLE.file)) {
        write_table(dir, outliers)?;
        written = Written::Report;
    }
    if absent(PACKAGE) {
        write_package(dir)?;
    }
    let figures = recorded.figures(tables);
    write_absent(dir, &figures, beside)?;
    Ok((written, absent(PAGE).then(|| recorded.page(tables, profiles, figures))))
}

/// Seals a directory with a finished report on the experiment: the last thing that is written there.
///
/// # Errors
/// The file that could not be read or written.
pub fn seal(dir: &Path, experiment: &Experiment) -> Result<(), FileError> {
    basislab_tables::seal(dir, &with_those_beside(figure_names(experiment)))
}
