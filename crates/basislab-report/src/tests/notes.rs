//! Sentences follow from what is known of a claim, never from the text of its note.

use crate::fixture::{effect, experiment, rows, write_part};
use crate::{Answer, Beside, read_answer, report_so_far};
use basislab_config::Experiment;
use basislab_tables::{VerdictRow, read_table, write_table};
use std::path::Path;
use tempfile::TempDir;

/// A report on complete runs, and a sentence for each claim.
fn written(experiment: &Experiment) -> (TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    for arm in &experiment.arms {
        for &seed in &arm.seeds {
            write_part(dir.path(), &arm.name, seed, rows(experiment, &arm.name, seed, effect(&arm.name, seed)));
        }
    }
    let made = sentences(&report_so_far(dir.path(), experiment, Beside::default()).unwrap());
    (dir, made)
}

/// The sentences where the note of a claim has been replaced in `verdicts.csv`.
fn with_note(dir: &Path, experiment: &Experiment, claim: &str, note: &str) -> Vec<String> {
    let mut rows: Vec<VerdictRow> = read_table(dir).unwrap();
    rows.iter_mut().find(|row| row.claim == claim).unwrap().note = note.to_owned();
    write_table(dir, &rows).unwrap();
    sentences(&read_answer(dir, experiment, None).unwrap())
}

fn sentences(answer: &Answer) -> Vec<String> {
    answer.verdicts.iter().map(|line| line.sentence.clone()).collect()
}

#[test]
fn a_note_of_other_words_makes_no_control_and_no_rise() {
    let experiment = experiment(2);
    let (dir, before) = written(&experiment);
    let claim = "adam-differs-from-its-null";
    for note in ["without exact symmetry", "rises from arm to arm in 2 of 2 seeds", "nothing is missing; seen twice"] {
        let after = with_note(dir.path(), &experiment, claim, note);
        let changed: Vec<(&String, &String)> = before.iter().zip(&after).filter(|(a, b)| a != b).collect();
        let [(was, is)] = changed[..] else { panic!("{note}: {changed:?}") };
        // The recorded text stands there whole, and nothing else follows from it.
        let (before, after) = was.split_once("; p = ").unwrap();
        let numbers = before.split(", below all").next().unwrap().split(", above all").next().unwrap();
        let p = after.split("; ").next().unwrap();
        assert_eq!(*is, format!("{numbers}; p = {p}; {note}"));
    }
}

#[test]
fn what_is_recorded_alike_is_known_again() {
    let experiment = experiment(8);
    let (dir, made) = written(&experiment);
    let read = read_answer(dir.path(), &experiment, None).unwrap();
    assert!(
        made.iter().any(|sentence| sentence.contains("settled by symmetry (adam-rotated is adam in another basis)"))
    );
    assert_eq!(sentences(&read), made);
}
