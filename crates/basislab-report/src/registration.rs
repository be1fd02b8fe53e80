//! Whether the rule of a claim was fixed before the runs that it reads began.

use crate::note::Note;
use crate::records::{Record, Records};
use crate::verdicts::Decision;
use basislab_config::{Arm, Claim, Experiment};
use basislab_tables::{Registration, Tables, VerdictRow};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Says of each verdict whether its rule was registered, from the records of the runs in `dir`. Where there are no parts, what
/// `recorded` says of the same claim is kept. A missing record never improves a mark.
pub(crate) fn register(
    dir: &Path,
    experiment: &Experiment,
    records: &Records,
    tables: &Tables,
    verdicts: Vec<Decision>,
    recorded: &[VerdictRow],
) -> Vec<Decision> {
    let has_parts = dir.join("parts").is_dir();
    let begun = Begun::of(experiment, records, tables);
    let register = |(claim, mut decision): (&Claim, Decision)| {
        let before = recorded.iter().find(|row| row.claim == claim.name).and_then(|row| row.registration);
        let (records, are_gone) = if has_parts { begun.of_claim(claim) } else { (Vec::new(), false) };
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

/// The record of a run, and whether its seeds are still those of its arm.
type Recorded<'a> = (Option<&'a Record>, bool);

/// How the runs of an experiment began.
struct Begun<'a> {
    experiment: &'a Experiment,
    records: &'a Records,
    /// The runs that the tables hold.
    in_tables: BTreeSet<(&'a str, u64)>,
    /// The arms by what they run.
    twins: BTreeMap<String, Vec<&'a Arm>>,
}

impl<'a> Begun<'a> {
    fn of(experiment: &'a Experiment, records: &'a Records, tables: &'a Tables) -> Self {
        let mut twins: BTreeMap<String, Vec<&Arm>> = BTreeMap::new();
        for arm in &experiment.arms {
            twins.entry(arm.run.hash()).or_default().push(arm);
        }
        let in_tables = tables.steps.iter().map(|row| (row.arm.as_str(), row.seed)).collect();
        Self { experiment, records, in_tables, twins }
    }

    /// The records of the runs that a claim reads, and whether the tables hold a run that has no part any more.
    fn of_claim(&self, claim: &Claim) -> (Vec<Recorded<'a>>, bool) {
        let (mut all, mut are_gone) = (Vec::new(), false);
        for arm in claim.test.arms().into_iter().filter_map(|name| self.experiment.arm(name)) {
            let mut seeds = arm.seeds.clone();
            seeds.sort_unstable();
            // The same run under the name of another arm: what one shows, the other has shown before.
            let same = self.twins.get(&arm.run.hash()).into_iter().flatten();
            let twins: Vec<&&Arm> = same.filter(|twin| twin.name != arm.name).collect();
            for &seed in &arm.seeds {
                let Some(record) = self.records.of_part(&arm.name, seed) else {
                    are_gone |= self.in_tables.contains(&(arm.name.as_str(), seed));
                    continue;
                };
                all.push((record, record.is_some_and(|record| *record.seeds == seeds)));
                let twins = twins.iter().filter(|twin| twin.seeds.contains(&seed));
                let known = twins.filter_map(|twin| self.records.of_run(&twin.name, seed));
                all.extend(known.map(|record| (Some(record), true)));
            }
        }
        (all, are_gone)
    }
}

/// `None` without any run.
fn of_claim(experiment: &Experiment, claim: &Claim, records: &[Recorded<'_>]) -> Option<Registration> {
    let rule = experiment.rule_hash(claim);
    let is_registered = |record: &Record| record.registered.contains(&rule);
    let others = || records.iter().filter(|(record, _)| !record.is_some_and(is_registered));
    let is_reused = |record: &Option<&Record>| record.is_some_and(|record| record.reused);
    let is_extended = |(record, is_same): &Recorded<'_>| record.is_some() && !is_same;
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
