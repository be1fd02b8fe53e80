//! Taking runs, and publishing by two writers of the same run.

use crate::error::RunsErrorKind;
use crate::held::{HeldRun, Taken};
use basislab_config::RunName;
use basislab_store::Lock;
use basislab_tables::{Ending, Failure, RunEnd, Shard, part_dir, work_dir};
use std::fs;
use std::path::{Path, PathBuf};

const SEED: u64 = 4;

fn arm() -> RunName {
    RunName::new("arm").unwrap()
}

/// Where the run is published, and where processes work on it.
fn folders(dir: &Path) -> (PathBuf, PathBuf) {
    (part_dir(dir, &arm(), SEED), work_dir(dir, &arm(), SEED))
}

fn take(dir: &Path, locks: bool, retry_failed: bool) -> Taken {
    HeldRun::take(dir, (&arm(), SEED), locks, retry_failed).unwrap()
}

fn held(dir: &Path, locks: bool) -> HeldRun {
    let taken = take(dir, locks, false);
    let Taken::Free(held) = taken else { panic!("{taken:?}") };
    held
}

/// Writes a run that ended at `step` into a folder of its own.
fn write(held: &HeldRun, step: u64) -> (PathBuf, RunEnd) {
    let own = held.folder().unwrap();
    let tables = Shard::create(&own).unwrap().sync().unwrap();
    let end = RunEnd { state: Ending::Complete, step, tensor: None, tables };
    end.write(&own).unwrap();
    (own, end)
}

#[test]
fn two_writers_without_locks_publish_the_same_run_once() {
    let dir = tempfile::tempdir().unwrap();
    let (part, work) = folders(dir.path());
    let [first, second] = [held(dir.path(), false), held(dir.path(), false)];
    let [(own, end), (other, same)] = [write(&first, 6), write(&second, 6)];
    first.publish(&own, &end).unwrap();
    first.end().unwrap();
    assert!(other.is_dir(), "the other one still works there");
    second.publish(&other, &same).unwrap();
    second.end().unwrap();
    assert_eq!(RunEnd::read(&part).unwrap(), Some(end));
    assert!(!work.exists(), "the last one leaves nothing");
}

#[test]
fn a_writer_with_other_tables_changes_nothing_and_keeps_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (part, _) = folders(dir.path());
    let [first, second] = [held(dir.path(), false), held(dir.path(), false)];
    let [(own, end), (own_of_second, other)] = [write(&first, 6), write(&second, 7)];
    first.publish(&own, &end).unwrap();
    let error = second.publish(&own_of_second, &other).unwrap_err();
    assert_eq!(error.kind, RunsErrorKind::Identity);
    assert!(error.to_string().contains("has published other tables of the same run"), "{error}");
    assert_eq!(RunEnd::read(&part).unwrap(), Some(end));
    assert_eq!(RunEnd::read(&own_of_second).unwrap(), Some(other));
}

#[test]
fn what_an_earlier_process_left_without_an_end_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (part, work) = folders(dir.path());
    fs::create_dir_all(&part).unwrap();
    fs::write(part.join("steps.csv"), "left").unwrap();
    let held = held(dir.path(), false);
    let (own, end) = write(&held, 6);
    held.publish(&own, &end).unwrap();
    held.end().unwrap();
    assert_eq!(RunEnd::read(&part).unwrap(), Some(end));
    assert!(!work.exists(), "nobody works in what was put aside");
}

#[test]
fn a_run_is_taken_by_one_and_nothing_is_made_for_one_that_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (_, work) = folders(dir.path());
    let first = held(dir.path(), true);
    assert!(first.is_locked());
    let Taken::Busy(owner) = take(dir.path(), true, true) else { panic!("two have it") };
    assert!(owner.starts_with(&format!("process {} on ", std::process::id())), "{owner}");
    // It gives the run up: another one takes it, with what the first one left.
    let (left, _) = write(&first, 6);
    drop(first);
    let second = held(dir.path(), true);
    assert!(left.is_dir());
    let (own, end) = write(&second, 6);
    second.publish(&own, &end).unwrap();
    assert!(matches!(take(dir.path(), true, true), Taken::Ended));
    second.end().unwrap();
    assert!(!work.exists());
    assert!(matches!(take(dir.path(), true, true), Taken::Ended));
    assert!(!work.exists(), "nothing is made again");
}

#[test]
fn a_failed_run_says_why_until_it_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (_, work) = folders(dir.path());
    held(dir.path(), true).fail("the disk\nis full");
    for _ in 0..2 {
        let Taken::Failed(failure) = take(dir.path(), true, false) else { panic!("it is not taken") };
        assert_eq!((failure.reason.as_str(), failure.process), ("the disk; is full", std::process::id()));
        assert_eq!(Failure::read(&work).unwrap(), Some(failure));
    }
    // Whoever has it may be trying again.
    let lock = Lock::take(&work).unwrap();
    assert!(matches!(take(dir.path(), true, true), Taken::Busy(_)));
    drop(lock);
    let Taken::Free(again) = take(dir.path(), true, true) else { panic!("it is taken") };
    assert_eq!(Failure::read(&work).unwrap(), None, "it has not failed yet");
    drop(again);
    assert!(matches!(take(dir.path(), true, false), Taken::Free(_)), "a run that was given up has not failed");
    // A file that no process wrote is named, and a new attempt replaces it.
    fs::write(work.join("failed.json"), "{").unwrap();
    let error = HeldRun::take(dir.path(), (&arm(), SEED), true, false).unwrap_err();
    assert_eq!(error.kind, RunsErrorKind::Data);
    assert!(error.to_string().contains("4.work/failed.json: cannot read"), "{error}");
    assert!(matches!(take(dir.path(), true, true), Taken::Free(_)));
}
