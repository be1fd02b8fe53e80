//! Whether the rule of a claim was fixed before the runs that it reads began.

use crate::note::Note;
use crate::verdicts::Decision;
use basislab_config::{Arm, Claim, Experiment};
use basislab_tables::{Registration, RunRecord, Tables, VerdictRow, part_dir};
use std::path::{Path, PathBuf};

/// Says of each verdict whether its rule was registered, from the records of the runs in `dir`. Where there are no parts, what
/// `recorded` says of the same claim is kept. A missing record never improves a mark.
pub(crate) fn register(
    dir: &Path,
    experiment: &Experiment,
    tables: &Tables,
    verdicts: Vec<Decision>,
    recorded: &[VerdictRow],
) -> Vec<Decision> {
    let has_parts = dir.join("parts").is_dir();
    let register = |(claim, mut decision): (&Claim, Decision)| {
        let before = recorded.iter().find(|row| row.claim == claim.name).and_then(|row| row.registration);
        let (records, are_gone) = records(dir, experiment, claim, tables);
        decision.row.registration = match of_claim(experiment, claim, &records) {
            _ if !has_parts => before,
            found if are_gone => weakest(found, before.unwrap_or(Registration::PostHoc)),
            found => found,
        };
        match decision.row.registration {
            None | Some(Registration::Registered) => decision,
            Some(weaker) => decision.noting(Note::Registration(weaker)),
        }
    };
    experiment.claims.iter().zip(verdicts).map(register).collect()
}

/// What a reader must know of the records of an experiment's runs: how many runs were copied, and how many have no record.
pub(crate) fn record_notes(dir: &Path, experiment: &Experiment) -> Vec<String> {
    let runs = experiment.arms.iter().flat_map(|arm| arm.seeds.iter().map(move |seed| (arm, *seed)));
    let parts: Vec<PathBuf> = runs.map(|(arm, seed)| part_dir(dir, &arm.name, seed)).collect();
    let records: Vec<Option<RunRecord>> = parts.iter().filter(|part| part.is_dir()).map(|part| record(part)).collect();
    let copied = records.iter().flatten().filter(|record| record.reused).count();
    let missing = records.iter().filter(|record| record.is_none()).count();
    let of_all = |count: usize| format!("{count} of {} runs", parts.len());
    let copied = match copied {
        0 => None,
        1 => Some(format!("{} was copied from another directory (run.json names its build)", of_all(1))),
        count => Some(format!("{} were copied from other directories (run.json names their builds)", of_all(count))),
    };
    let missing = match missing {
        0 => None,
        count => Some(format!(
            "{} {} no readable run.json: claims about {} count as post hoc",
            of_all(count),
            if count == 1 { "has" } else { "have" },
            if count == 1 { "it" } else { "them" },
        )),
    };
    copied.into_iter().chain(missing).collect()
}

/// The record of a run; `None` where it is missing or cannot be read: then nothing is known of how the run began.
fn record(part: &Path) -> Option<RunRecord> {
    RunRecord::read(part).ok().flatten()
}

/// The record of a run, and the seeds of its arm now.
type Recorded = (Option<RunRecord>, Vec<u64>);

/// Those of the runs that a claim reads, and whether the tables hold a run that has no part any more.
fn records(dir: &Path, experiment: &Experiment, claim: &Claim, tables: &Tables) -> (Vec<Recorded>, bool) {
    let (mut all, mut are_gone) = (Vec::new(), false);
    for arm in claim.test.arms().into_iter().filter_map(|name| experiment.arm(name)) {
        let mut seeds = arm.seeds.clone();
        seeds.sort_unstable();
        for &seed in &arm.seeds {
            let part = part_dir(dir, &arm.name, seed);
            if part.is_dir() {
                all.push((record(&part), seeds.clone()));
                all.extend(twins(dir, experiment, arm, seed));
            } else {
                are_gone |= tables.steps.iter().any(|row| row.arm == arm.name && row.seed == seed);
            }
        }
    }
    (all, are_gone)
}

/// The records of the same run under the name of another arm: what one shows, the other has shown before.
fn twins(dir: &Path, experiment: &Experiment, arm: &Arm, seed: u64) -> Vec<Recorded> {
    let same = |twin: &&Arm| twin.name != arm.name && twin.seeds.contains(&seed) && twin.run.hash() == arm.run.hash();
    let of_twin = |twin: &Arm| {
        let known = record(&part_dir(dir, &twin.name, seed))?;
        let seeds = known.seeds.clone();
        Some((Some(known), seeds))
    };
    experiment.arms.iter().filter(same).filter_map(of_twin).collect()
}

/// `None` without any run.
fn of_claim(experiment: &Experiment, claim: &Claim, records: &[(Option<RunRecord>, Vec<u64>)]) -> Option<Registration> {
    let rule = experiment.rule_hash(claim);
    let is_registered = |record: &RunRecord| record.registered.contains(&rule);
    let others = || records.iter().filter(|(record, _)| !record.as_ref().is_some_and(is_registered));
    let is_reused = |record: &Option<RunRecord>| record.as_ref().is_some_and(|record| record.reused);
    let is_extended = |(record, seeds): &Recorded| record.as_ref().is_some_and(|record| record.seeds != *seeds);
    Some(match others().next() {
        _ if records.is_empty() => return None,
        None if records.iter().any(is_extended) => Registration::Extended,
        None => Registration::Registered,
        Some(_) if others().all(|(record, _)| is_reused(record)) => Registration::ExistingRuns,
        Some(_) => Registration::PostHoc,
    })
}

/// The weaker of two marks.
fn weakest(one: Option<Registration>, other: Registration) -> Option<Registration> {
    let strongest_first =
        [Registration::Registered, Registration::Extended, Registration::ExistingRuns, Registration::PostHoc];
    strongest_first.into_iter().rfind(|mark| one == Some(*mark) || other == *mark)
}
