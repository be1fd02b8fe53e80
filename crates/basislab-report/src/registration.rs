//! Whether the rule of a claim was fixed before the runs that it reads began.

use crate::note::Note;
use crate::verdicts::Decision;
use basislab_config::{Claim, Experiment};
use basislab_store::FileError;
use basislab_tables::{Registration, RunRecord, VerdictRow, part_dir};
use std::path::Path;

/// Says of each verdict whether its rule was registered, from the records of the runs in `dir`. Where there are no records
/// (a directory without parts), what `recorded` says of the same claim is kept.
///
/// # Errors
/// A record that cannot be read.
pub(crate) fn register(
    dir: &Path,
    experiment: &Experiment,
    verdicts: Vec<Decision>,
    recorded: &[VerdictRow],
) -> Result<Vec<Decision>, FileError> {
    let register = |(claim, mut decision): (&Claim, Decision)| {
        let of_runs = of_claim(experiment, claim, &records(dir, experiment, claim)?);
        let kept = || recorded.iter().find(|row| row.claim == claim.name).and_then(|row| row.registration);
        decision.row.registration = of_runs.or_else(kept);
        Ok(match decision.row.registration {
            None | Some(Registration::Registered) => decision,
            Some(weaker) => decision.noting(Note::Registration(weaker)),
        })
    };
    experiment.claims.iter().zip(verdicts).map(register).collect()
}

/// The record of a run (`None` where it has ended without one), and the seeds of its arm now.
type Recorded = (Option<RunRecord>, Vec<u64>);

/// Those of the runs that a claim reads.
fn records(dir: &Path, experiment: &Experiment, claim: &Claim) -> Result<Vec<Recorded>, FileError> {
    let mut all = Vec::new();
    for arm in claim.test.arms().into_iter().filter_map(|name| experiment.arm(name)) {
        let mut seeds = arm.seeds.clone();
        seeds.sort_unstable();
        for &seed in &arm.seeds {
            let part = part_dir(dir, &arm.name, seed);
            if part.is_dir() {
                all.push((RunRecord::read(&part)?, seeds.clone()));
            }
        }
    }
    Ok(all)
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
        Some(_) if others().any(|(record, _)| is_reused(record)) => Registration::ExistingRuns,
        Some(_) => Registration::PostHoc,
    })
}
