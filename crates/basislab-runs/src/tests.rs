//! Publishing, by two writers of the same run.

use crate::error::RunsErrorKind;
use crate::recorder::{new_folder, publish};
use basislab_tables::{Ending, RunEnd, Shard};
use std::fs;
use std::path::{Path, PathBuf};

/// A writer's folder of a run that ended at `step`.
fn writer(work: &Path, step: u64) -> (PathBuf, RunEnd) {
    let own = new_folder(work).unwrap();
    let tables = Shard::create(&own).unwrap().sync().unwrap();
    let end = RunEnd { state: Ending::Complete, step, tensor: None, tables };
    end.write(&own).unwrap();
    (own, end)
}

#[test]
fn two_writers_without_locks_publish_the_same_run_once() {
    let dir = tempfile::tempdir().unwrap();
    let (part, work) = (dir.path().join("arm/0"), dir.path().join("arm/0.work"));
    let [(first, end), (second, same)] = [writer(&work, 6), writer(&work, 6)];
    publish(&first, &part, &end, false).unwrap();
    assert!(second.is_dir(), "the other one still works there");
    publish(&second, &part, &same, false).unwrap();
    assert_eq!(RunEnd::read(&part).unwrap(), Some(end));
    assert!(!work.exists(), "the last one leaves nothing");
}

#[test]
fn a_writer_with_other_tables_changes_nothing_and_keeps_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (part, work) = (dir.path().join("arm/0"), dir.path().join("arm/0.work"));
    let [(first, end), (second, other)] = [writer(&work, 6), writer(&work, 7)];
    publish(&first, &part, &end, false).unwrap();
    let error = publish(&second, &part, &other, false).unwrap_err();
    assert_eq!(error.kind, RunsErrorKind::Identity);
    assert!(error.to_string().contains("has published other tables of the same run"), "{error}");
    assert_eq!(RunEnd::read(&part).unwrap(), Some(end));
    assert_eq!(RunEnd::read(&second).unwrap(), Some(other));
}

#[test]
fn what_an_earlier_process_left_without_an_end_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (part, work) = (dir.path().join("arm/0"), dir.path().join("arm/0.work"));
    fs::create_dir_all(&part).unwrap();
    fs::write(part.join("steps.csv"), "left").unwrap();
    let (own, end) = writer(&work, 6);
    publish(&own, &part, &end, false).unwrap();
    assert_eq!(RunEnd::read(&part).unwrap(), Some(end));
    assert!(!work.exists(), "nobody works in what was put aside");
}
