//! Whether a rule was fixed before its runs began.

use crate::Beside;
use crate::fixture::{effect, experiment, name, rows, write_part};
use crate::outliers::StandingOut;
use crate::recorded::Recorded;
use crate::records::Records;
use crate::report::rebuild;
use crate::report_so_far;
use basislab_config::{Claim, Experiment};
use basislab_tables::{Identity, Registration, RunRecord, VerdictRow, part_dir, read_table, read_tables};
use std::fs;
use std::path::Path;

const ALONE: &str = "sgd-equals-its-null";

fn of<'a>(experiment: &'a Experiment, claim: &str) -> &'a Claim {
    experiment.claims.iter().find(|known| known.name == claim).unwrap()
}

/// Writes every run, recorded as begun when `planned` was the plan.
fn write_runs(dir: &Path, experiment: &Experiment, planned: impl Fn(&str, u64) -> (Experiment, bool)) {
    for arm in &experiment.arms {
        for &seed in &arm.seeds {
            write_part(dir, &arm.name, seed, rows(experiment, &arm.name, seed, effect(&arm.name, seed)));
            let (then, reused) = planned(&arm.name, seed);
            let text = String::new;
            let record = RunRecord {
                identity: Identity { run: text(), seed, corpus: text(), backend: text(), numerics: 1 },
                experiment: text(),
                registered: then.claims.iter().map(|claim| then.rule_hash(claim)).collect(),
                seeds: then.arm(&arm.name).unwrap().seeds.clone(),
                reused,
                builds: Vec::new(),
            };
            record.write(&part_dir(dir, &name(&arm.name), seed)).unwrap();
        }
    }
}

/// What the report says of one claim: the cell, and its note.
fn registration(
    experiment: &Experiment,
    planned: impl Fn(&str, u64) -> (Experiment, bool),
) -> (Option<Registration>, String) {
    let dir = tempfile::tempdir().unwrap();
    write_runs(dir.path(), experiment, planned);
    let answer = report_so_far(dir.path(), experiment, Beside::default()).unwrap();
    let rows: Vec<VerdictRow> = read_table(dir.path()).unwrap();
    let row = rows.into_iter().find(|row| row.claim == ALONE).unwrap();
    // Whatever was decided, the sentence about it has the mark.
    let sentence = &answer.verdicts.iter().find(|line| line.claim == ALONE).unwrap().sentence;
    let marks = [(Registration::PostHoc, "post hoc"), (Registration::Extended, "seeds were added")];
    for (mark, text) in marks {
        assert_eq!(sentence.contains(text), row.registration == Some(mark), "{sentence}");
    }
    (row.registration, row.note)
}

#[test]
fn a_rule_is_registered_with_the_runs_that_it_reads() {
    let now = experiment(3);
    let (found, note) = registration(&now, |_, _| (now.clone(), false));
    assert_eq!(found, Some(Registration::Registered));
    assert!(note.ends_with("is the same in every basis): agrees"), "{note}");
    // Another margin is another rule, a word is not.
    let mut other = now.clone();
    other.verdict.equivalence_margin = 0.2;
    let post_hoc = "post hoc: the rule was not fixed when its runs began";
    let (found, note) = registration(&now, |_, _| (other.clone(), false));
    assert_eq!(found, Some(Registration::PostHoc));
    assert!(note.ends_with(&format!("; {post_hoc}")), "{note}");
    let mut reworded = now.clone();
    reworded.question = "Why?".to_owned();
    assert_eq!(registration(&now, |_, _| (reworded.clone(), false)).0, Some(Registration::Registered));
    // One run that began under the other rule is enough; runs that the claim does not read do not count.
    let one = |arm: &str, seed| (if (arm, seed) == ("sgd", 2) { other.clone() } else { now.clone() }, false);
    assert_eq!(registration(&now, one).0, Some(Registration::PostHoc));
    let elsewhere = |arm: &str, _| (if arm == "adam" { other.clone() } else { now.clone() }, false);
    assert_eq!(registration(&now, elsewhere).0, Some(Registration::Registered));
    assert_eq!(of(&now, ALONE).test.arms().len(), 1);
}

#[test]
fn added_seeds_and_runs_of_another_experiment_are_told_apart() {
    let (now, fewer) = (experiment(4), experiment(2));
    let (found, note) = registration(&now, |_, seed| (if seed < 2 { fewer.clone() } else { now.clone() }, false));
    assert_eq!(found, Some(Registration::Extended));
    assert!(note.contains("; extended: the seeds are not those that were planned"), "{note}");
    let mut none = now.clone();
    none.claims.clear();
    let (found, note) =
        registration(&now, |_, seed| if seed == 1 { (none.clone(), true) } else { (now.clone(), false) });
    assert_eq!(found, Some(Registration::ExistingRuns));
    assert!(note.contains("; on existing runs"), "{note}");
    // A run that another experiment trained under the same rule.
    assert_eq!(registration(&now, |_, _| (now.clone(), true)).0, Some(Registration::Registered));
}

/// How a run of the arm that [`ALONE`] reads began, or what is left of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    /// Under the rule.
    Ok,
    /// Under the rule, with other seeds.
    Seeds,
    /// Under another rule.
    Other,
    /// Copied, trained under the rule.
    Copy,
    /// Copied, trained under another rule.
    CopyOther,
    /// `run.json` was deleted.
    Missing,
    /// `run.json` is not what a run writes.
    Malformed,
}

/// Writes all runs, those of the arm that [`ALONE`] reads as told, and reports on them.
fn write_arm(dir: &Path, now: &Experiment, runs: [Run; 3]) {
    let (mut other, mut fewer) = (now.clone(), now.clone());
    other.verdict.equivalence_margin = 0.2;
    fewer.arms.iter_mut().for_each(|arm| arm.seeds.truncate(1));
    let arm = of(now, ALONE).test.arms()[0].clone();
    write_runs(dir, now, |of_arm, seed| match runs[seed as usize] {
        _ if of_arm != arm.as_str() => (now.clone(), false),
        Run::Ok | Run::Missing | Run::Malformed => (now.clone(), false),
        Run::Seeds => (fewer.clone(), false),
        Run::Other => (other.clone(), false),
        Run::Copy => (now.clone(), true),
        Run::CopyOther => (other.clone(), true),
    });
    for (seed, run) in runs.iter().enumerate() {
        let path = part_dir(dir, &arm, seed as u64).join("run.json");
        match run {
            Run::Missing => fs::remove_file(path).unwrap(),
            Run::Malformed => fs::write(path, "{}").unwrap(),
            _ => {}
        }
    }
    report_so_far(dir, now, Beside::default()).unwrap();
}

/// The mark of [`ALONE`] as the directory's verdicts have it, and as it would be read from the directory as it is.
fn marks(dir: &Path, now: &Experiment) -> [Option<Registration>; 2] {
    let of_rows = |rows: Vec<VerdictRow>| rows.into_iter().find(|row| row.claim == ALONE).unwrap().registration;
    let tables = (&read_tables(dir).unwrap(), &StandingOut::default());
    let read = Recorded::read(dir, now, &Records::read(dir, now), tables, None).unwrap();
    [of_rows(read_table(dir).unwrap()), of_rows(read.derived.rows())]
}

#[test]
fn a_missing_record_never_improves_a_mark() {
    use Registration::{ExistingRuns, Extended, PostHoc, Registered};
    use Run::{Copy, CopyOther, Malformed, Missing, Ok, Other, Seeds};
    let now = experiment(3);
    for (runs, expected) in [
        ([Ok, Ok, Ok], Registered),
        ([Ok, Copy, Ok], Registered),
        ([Seeds, Ok, Ok], Extended),
        ([Copy, Seeds, Ok], Extended),
        ([CopyOther, Ok, Ok], ExistingRuns),
        ([CopyOther, Seeds, Copy], ExistingRuns),
        ([CopyOther, CopyOther, CopyOther], ExistingRuns),
        ([Other, Ok, Ok], PostHoc),
        ([Other, CopyOther, Ok], PostHoc),
        ([Missing, Ok, Ok], PostHoc),
        ([Ok, Ok, Malformed], PostHoc),
        ([Missing, Seeds, Ok], PostHoc),
        ([Missing, CopyOther, Ok], PostHoc),
        ([CopyOther, CopyOther, Malformed], PostHoc),
        ([Missing, Copy, Copy], PostHoc),
        ([Missing, Missing, Missing], PostHoc),
        ([Malformed, Malformed, Malformed], PostHoc),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write_arm(dir.path(), &now, runs);
        assert_eq!(marks(dir.path(), &now), [Some(expected); 2], "{runs:?}");
    }
}

#[test]
fn runs_whose_parts_are_gone_never_improve_a_mark() {
    use Registration::{ExistingRuns, PostHoc, Registered};
    use Run::{CopyOther, Ok, Other};
    let now = experiment(3);
    let arm = of(&now, ALONE).test.arms()[0].clone();
    for (runs, expected) in [
        ([Ok, Ok, Ok], Registered),
        ([Other, Ok, Ok], PostHoc),
        ([CopyOther, Ok, Ok], ExistingRuns),
        ([Ok, Ok, Other], PostHoc),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write_arm(dir.path(), &now, runs);
        // The first run of the arm, then all of it, then all parts: what was recorded stays.
        let parts = dir.path().join("parts");
        for gone in [part_dir(dir.path(), &arm, 0), parts.join(arm.as_str()), parts] {
            fs::remove_dir_all(&gone).unwrap();
            assert_eq!(marks(dir.path(), &now), [Some(expected); 2], "{runs:?} without {}", gone.display());
        }
    }
    // Without a recorded mark nothing is known of a run that is gone.
    for all in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        write_arm(dir.path(), &now, [Ok, Ok, Ok]);
        fs::remove_dir_all(if all { dir.path().join("parts").join(&arm) } else { part_dir(dir.path(), &arm, 1) })
            .unwrap();
        fs::remove_file(dir.path().join("verdicts.csv")).unwrap();
        rebuild(dir.path(), &now, Beside::default()).unwrap();
        assert_eq!(marks(dir.path(), &now), [Some(PostHoc); 2]);
    }
}

#[test]
fn copied_runs_and_missing_records_are_named() {
    let now = experiment(3);
    let notes = |runs: [Run; 3]| {
        let dir = tempfile::tempdir().unwrap();
        write_arm(dir.path(), &now, runs);
        report_so_far(dir.path(), &now, Beside::default()).unwrap().notes
    };
    let planned: usize = now.arms.iter().map(|arm| arm.seeds.len()).sum();
    assert_eq!(notes([Run::Ok, Run::Seeds, Run::Other]), [] as [&str; 0]);
    let one = format!("1 of {planned} runs was copied from another directory (run.json names its build)");
    assert_eq!(notes([Run::Copy, Run::Ok, Run::Ok]), [one]);
    let two = format!("2 of {planned} runs were copied from other directories (run.json names their builds)");
    let missing = format!("1 of {planned} runs has no readable run.json: claims about it count as post hoc");
    assert_eq!(notes([Run::Copy, Run::CopyOther, Run::Missing]), [two, missing]);
    let missing = format!("2 of {planned} runs have no readable run.json: claims about them count as post hoc");
    assert_eq!(notes([Run::Malformed, Run::Ok, Run::Missing]), [missing]);
}
