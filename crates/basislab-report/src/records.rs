//! How the runs of an experiment came to be, by the `run.json` of each. Every file is read once, and what runs have in
//! common is kept once: with thousands of seeds, the list of them alone is most of each file.

use basislab_config::{Experiment, count};
use basislab_tables::{RunRecord, cpu_class, part_dir, repeats_its_bits};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

/// What `run.json` says of a run, without its identity.
#[derive(Debug, Clone)]
pub struct Record {
    /// The seeds that were planned for its arm when it began.
    pub(crate) seeds: Rc<Vec<u64>>,
    /// SHA-256 of the rules of the claims that were fixed when it began.
    pub(crate) registered: Rc<Vec<String>>,
    /// Whether it was trained in another directory and copied here.
    pub(crate) reused: bool,
    /// The builds and machines that trained it, each once.
    pub builds: Rc<Vec<Value>>,
    /// Whether its backend gives the same bits again on CPUs of one class.
    on_cpu: bool,
}

/// The records of planned runs that have a part; `None` where there is none or it cannot be read: then nothing is known of how
/// the run began.
#[derive(Debug, Default)]
pub struct Records(BTreeMap<(String, u64), Option<Record>>);

impl Records {
    /// Those in `dir`.
    pub fn read(dir: &Path, experiment: &Experiment) -> Self {
        let (mut seeds, mut registered, mut builds) = (Vec::new(), Vec::new(), Vec::new());
        let mut all = BTreeMap::new();
        for arm in &experiment.arms {
            for &seed in &arm.seeds {
                let part = part_dir(dir, &arm.name, seed);
                let record = RunRecord::read(&part).ok().flatten().map(|record| Record {
                    seeds: shared(record.seeds, &mut seeds),
                    registered: shared(record.registered, &mut registered),
                    reused: record.reused,
                    builds: shared(record.builds, &mut builds),
                    on_cpu: repeats_its_bits(&record.identity.backend),
                });
                if record.is_some() || part.is_dir() {
                    all.insert((arm.name.to_string(), seed), record);
                }
            }
        }
        Self(all)
    }

    /// The record of a run; `None` where the run has no part.
    pub(crate) fn of_part(&self, arm: &str, seed: u64) -> Option<Option<&Record>> {
        self.0.get(&(arm.to_owned(), seed)).map(Option::as_ref)
    }

    /// The record of a run.
    pub fn of_run(&self, arm: &str, seed: u64) -> Option<&Record> {
        self.of_part(arm, seed).flatten()
    }

    /// What a reader must know of the runs of an experiment: how many were copied, how many have no record, and on CPUs of
    /// which classes they were made.
    pub(crate) fn notes(&self, experiment: &Experiment) -> Vec<String> {
        let runs = || experiment.arms.iter().flat_map(|arm| arm.seeds.iter().map(move |seed| (arm, *seed)));
        let records: Vec<Option<&Record>> = runs().filter_map(|(arm, seed)| self.of_part(&arm.name, seed)).collect();
        let copied = records.iter().flatten().filter(|record| record.reused).count();
        let missing = records.iter().filter(|record| record.is_none()).count();
        let of_all = |count: usize| format!("{count} of {} runs", runs().count());
        let copied = match copied {
            0 => None,
            1 => Some(format!("{} was copied from another directory (run.json names its build)", of_all(1))),
            count => {
                Some(format!("{} were copied from other directories (run.json names their builds)", of_all(count)))
            }
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
        copied.into_iter().chain(missing).chain(classes(records.into_iter().flatten())).collect()
    }
}

/// The list itself, or the same one that another run has.
fn shared<T: PartialEq>(list: Vec<T>, known: &mut Vec<Rc<Vec<T>>>) -> Rc<Vec<T>> {
    // The run before has it, as a rule.
    if let Some(known) = known.iter().rev().find(|known| ***known == list) {
        return known.clone();
    }
    known.push(Rc::new(list));
    known[known.len() - 1].clone()
}

/// On CPUs of which classes the runs were made, where that is more than one: equal bits are promised within a class. A run
/// that was continued on another class is of both.
fn classes<'a>(records: impl Iterator<Item = &'a Record>) -> Option<String> {
    let mut runs: Vec<(String, usize)> = Vec::new();
    for record in records.filter(|record| record.on_cpu) {
        let mut classes: Vec<&str> = Vec::new();
        for features in record.builds.iter().filter_map(|build| build["machine"]["cpu_features"].as_array()) {
            let class = cpu_class(&features.iter().filter_map(Value::as_str).collect::<Vec<_>>());
            if !classes.contains(&class) {
                classes.push(class);
            }
        }
        let class = classes.join(" and then ");
        match runs.iter_mut().find(|(known, _)| *known == class) {
            Some((_, runs)) => *runs += 1,
            None if class.is_empty() => {}
            None => runs.push((class, 1)),
        }
    }
    runs.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let is_mixed = runs.len() > 1 || runs.iter().any(|(class, _)| class.contains(' '));
    let counts = runs.iter().enumerate().map(|(at, (class, runs))| match at {
        0 => format!("{class}: {}", count(*runs, "run")),
        _ => format!("{class}: {runs}"),
    });
    is_mixed.then(|| {
        format!(
            "runs were made on CPUs of different classes ({}), which round differently: arms are compared across them as across \
             seeds, not bit for bit",
            counts.collect::<Vec<_>>().join(", ")
        )
    })
}
