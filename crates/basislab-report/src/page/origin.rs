//! What was run: configuration, data, backend, seeds, versions.

use super::Provenance;
use super::markup::escaped;
use basislab_config::{Arm, Experiment};
use basislab_tables::SummaryRow;
use std::collections::BTreeMap;

/// The most arms that are listed; the configuration has all.
const MOST_ARMS: usize = 100;

/// A term and its description for each thing.
pub(super) fn rows(experiment: &Experiment, summary: &[SummaryRow], provenance: &Provenance) -> String {
    let shared = experiment.shared.settings();
    let mut all = vec![("experiment".to_owned(), provenance.name.clone())];
    let tables = [("data", "corpus."), ("model", "model."), ("training", "train."), ("probes", "probe.")];
    all.extend(tables.map(|(what, table)| (what.to_owned(), of_table(&shared, table))));
    let arms = experiment.arms.iter().take(MOST_ARMS);
    all.extend(arms.map(|arm| (format!("arm {}", arm.name), of_arm(arm, &shared))));
    if experiment.arms.len() > MOST_ARMS {
        all.push(("more arms".to_owned(), (experiment.arms.len() - MOST_ARMS).to_string()));
    }
    let mut made_on: Vec<&str> = Vec::new();
    for place in summary.iter().map(|row| row.made_on.as_str()).filter(|place| !place.is_empty()) {
        if !made_on.contains(&place) {
            made_on.push(place);
        }
    }
    all.push(("backend and device".to_owned(), made_on.join("; ")));
    all.extend(provenance.versions.iter().cloned());
    let row = |(what, which): &(String, String)| format!("<dt>{}</dt><dd>{}</dd>\n", escaped(what), escaped(which));
    all.iter().filter(|(_, which)| !which.is_empty()).map(row).collect()
}

/// The keys of a table with their values.
fn of_table(settings: &BTreeMap<String, String>, table: &str) -> String {
    let keys = settings.iter().filter_map(|(key, value)| Some(format!("{} = {value}", key.strip_prefix(table)?)));
    keys.collect::<Vec<_>>().join(", ")
}

/// The seeds of an arm, its optimizer, and what else it does not share.
fn of_arm(arm: &Arm, shared: &BTreeMap<String, String>) -> String {
    let settings = arm.run.settings();
    let own = settings.iter().filter(|(key, value)| key.starts_with("optimizer.") || shared.get(*key) != Some(value));
    let own: Vec<String> = own.map(|(key, value)| format!("{key} = {value}")).collect();
    let seeds: Vec<String> = arm.seeds.iter().map(u64::to_string).collect();
    format!("seeds {}; {}", seeds.join(", "), own.join(", "))
}
