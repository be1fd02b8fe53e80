//! Whether a rule was fixed before its runs began.

use crate::fixture::{effect, experiment, name, rows, write_part};
use crate::report_so_far;
use basislab_config::{Claim, Experiment};
use basislab_tables::{Identity, Registration, RunRecord, VerdictRow, part_dir, read_table};
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
    report_so_far(dir.path(), experiment).unwrap();
    let rows: Vec<VerdictRow> = read_table(dir.path()).unwrap();
    let row = rows.into_iter().find(|row| row.claim == ALONE).unwrap();
    (row.registration, row.note)
}

#[test]
fn a_rule_is_registered_with_the_runs_that_it_reads() {
    let now = experiment(3);
    let (found, note) = registration(&now, |_, _| (now.clone(), false));
    assert_eq!((found, note.as_str()), (Some(Registration::Registered), ""));
    // Another margin is another rule, a word is not.
    let mut other = now.clone();
    other.verdict.equivalence_margin = 0.2;
    let post_hoc = "post hoc: the rule was not fixed when its runs began";
    let (found, note) = registration(&now, |_, _| (other.clone(), false));
    assert_eq!((found, note.as_str()), (Some(Registration::PostHoc), post_hoc));
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
    assert!(note.starts_with("extended: the seeds are not those that were planned"), "{note}");
    let mut none = now.clone();
    none.claims.clear();
    let (found, note) =
        registration(&now, |_, seed| if seed == 1 { (none.clone(), true) } else { (now.clone(), false) });
    assert_eq!(found, Some(Registration::ExistingRuns));
    assert!(note.starts_with("on existing runs"), "{note}");
    // A run that another experiment trained under the same rule.
    assert_eq!(registration(&now, |_, _| (now.clone(), true)).0, Some(Registration::Registered));
}
