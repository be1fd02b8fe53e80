//! Selection, summary and verdicts as they were recorded, beside those that the tables give.

use crate::answer::Answer;
use crate::outliers::StandingOut;
use crate::records::Records;
use crate::report::Derived;
use crate::selection::choose;
use crate::verdicts::Decision;
use basislab_config::Experiment;
use basislab_tables::{OutlierRow, TableError, TableRow, Tables, VerdictRow, parse_table, read_table, table_bytes};
use std::path::Path;

/// Selection, summary and verdicts as they were recorded; where there is no file, as they follow from the tables.
pub(crate) struct Recorded {
    pub(crate) derived: Derived,
    /// Claims whose row would be another one, made from the tables that are here.
    others: Vec<String>,
    /// Other files that would be other ones.
    files: Vec<&'static str>,
}

impl Recorded {
    pub(crate) fn read(
        dir: &Path,
        experiment: &Experiment,
        records: &Records,
        (tables, standing_out): (&Tables, &StandingOut),
        thinned: Option<&str>,
    ) -> Result<Self, TableError> {
        let mut files = Vec::new();
        let mut selection = choose(experiment, tables);
        if !selection.is_empty() {
            (selection, _) = recorded(dir, selection, &mut files)?;
        }
        let known = if dir.join(VerdictRow::TABLE.file).exists() { read_table::<VerdictRow>(dir)? } else { Vec::new() };
        let derived = Derived::with(dir, experiment, records, (tables, standing_out), selection, &known);
        let rows = derived.rows();
        let Derived { experiment, selection, summary, verdicts: made, mut privilege, outliers } = derived;
        let (summary, _) = recorded(dir, summary, &mut files)?;
        if !privilege.is_empty() {
            (privilege, _) = recorded(dir, privilege, &mut files)?;
        }
        // Sites and probes that were left out would be missing.
        let outliers = match outliers.filter(|_| thinned.is_none()) {
            Some(outliers) => Some(recorded(dir, outliers, &mut files)?.0),
            None if dir.join(OutlierRow::TABLE.file).exists() => Some(read_table(dir)?),
            None => None,
        };
        let (verdicts, again) = recorded(dir, rows, &mut Vec::new())?;
        let names = verdicts.iter().chain(&again).map(|row| row.claim.to_string());
        let row_in = |rows: &[VerdictRow], claim: &str| rows.iter().find(|row| row.claim == claim).cloned();
        let mut others: Vec<String> = Vec::new();
        for name in names.filter(|name| row_in(&verdicts, name) != row_in(&again, name)) {
            if !others.contains(&name) {
                others.push(name);
            }
        }
        let decision = |row: VerdictRow| {
            let same = made.iter().find(|decision| decision.row.claim == row.claim);
            let notes = same.filter(|_| !others.contains(&row.claim.to_string()));
            Decision { notes: notes.and_then(|decision| decision.notes.clone()), row }
        };
        let verdicts = verdicts.into_iter().map(decision).collect();
        Ok(Self { derived: Derived { experiment, selection, summary, verdicts, privilege, outliers }, others, files })
    }

    pub(crate) fn answer(&self, dir: &Path, records: &Records, tables: &Tables, thinned: Option<&str>) -> Answer {
        let mut answer = self.derived.answer(records, tables, dir);
        let mut others = Vec::new();
        if !self.others.is_empty() {
            others.push(format!("the rows of these claims would differ: {}", self.others.join(", ")));
        }
        others.extend(self.files.iter().map(|file| format!("{file} would differ")));
        if let Some(thinned) = thinned {
            answer.notes.push(format!(
                "the tables here are a part of the run's ({thinned}); summary and verdicts were made from all of them and are \
                 shown as recorded"
            ));
        } else if !others.is_empty() {
            answer.notes.push(format!(
                "summary and verdicts are shown as recorded; made again from the tables here, {}; the tables are a part of the \
                 run's, or another build recorded the report, or it was edited",
                others.join("; ")
            ));
        }
        answer
    }
}

/// The rows of a file and `made` as it would be read back; `made` twice where there is no file. A file that differs is noted.
fn recorded<R: TableRow + PartialEq + Clone>(
    dir: &Path,
    made: Vec<R>,
    differing: &mut Vec<&'static str>,
) -> Result<(Vec<R>, Vec<R>), TableError> {
    let file = R::TABLE.file;
    if !dir.join(file).exists() {
        return Ok((made.clone(), made));
    }
    let again: Vec<R> = parse_table(file, &table_bytes(&dir.join(file), &made)?)?;
    let rows: Vec<R> = read_table(dir)?;
    if rows != again {
        differing.push(file);
    }
    Ok((rows, again))
}
