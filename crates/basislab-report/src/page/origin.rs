//! What was run: configuration, data, backend, seeds, versions.

use super::Provenance;
use super::markup::escaped;
use basislab_config::{Arm, Experiment};
use basislab_tables::SummaryRow;
use std::collections::BTreeMap;

/// The most arms that are listed; the configuration has all.
const MOST_ARMS: usize = 200;

/// Of more arms than this the list is folded.
const MOST_OPEN: usize = 8;

/// A list of terms, and one of arms.
pub(super) fn lists(experiment: &Experiment, summary: &[SummaryRow], provenance: &Provenance) -> String {
    let shared = experiment.shared.settings();
    let mut all = vec![("experiment".to_owned(), provenance.name.clone())];
    let tables = [("data", "corpus."), ("model", "model."), ("training", "train."), ("probes", "probe.")];
    all.extend(tables.map(|(what, table)| (what.to_owned(), of_table(&shared, table))));
    let mut made_on: Vec<&str> = Vec::new();
    for place in summary.iter().map(|row| row.made_on.as_str()).filter(|place| !place.is_empty()) {
        if !made_on.contains(&place) {
            made_on.push(place);
        }
    }
    all.push(("backend and device".to_owned(), made_on.join("; ")));
    all.extend(provenance.versions.iter().cloned());
    let count = experiment.arms.len();
    let arms = experiment.arms.iter().take(MOST_ARMS);
    let mut arms: Vec<(String, String)> = arms.map(|arm| (arm.name.to_string(), of_arm(arm, &shared))).collect();
    if count > MOST_ARMS {
        arms.push(("more arms".to_owned(), format!("{} are in the configuration", count - MOST_ARMS)));
    }
    let open = if count > MOST_OPEN { "" } else { " open" };
    let summary =
        format!("<summary>{}: seeds, and what they do not share</summary>", basislab_config::count(count, "arm"));
    format!("{}<details{open}>{summary}\n{}</details>\n", list(&all), list(&arms))
}

/// Terms with what they are, but for those that are nothing.
pub(super) fn list(rows: &[(String, String)]) -> String {
    let row = |(what, which): &(String, String)| format!("<dt>{}</dt><dd>{}</dd>\n", escaped(what), escaped(which));
    let rows: String = rows.iter().filter(|(_, which)| !which.is_empty()).map(row).collect();
    format!("<dl>\n{rows}</dl>\n")
}

/// The keys of a table with their values.
fn of_table(settings: &BTreeMap<String, String>, table: &str) -> String {
    let keys = settings.iter().filter_map(|(key, value)| Some(format!("{} = {value}", key.strip_prefix(table)?)));
    keys.collect::<Vec<_>>().join(", ")
}

/// The seeds of an arm, its optimizer, and what else it does not share.
fn of_arm(arm: &Arm, shared: &BTreeMap<String, String>) -> String {
    let settings = arm.run.settings();
    let named = ["optimizer.kind", "optimizer.lr"];
    let own = settings.iter().filter(|(key, value)| named.contains(&key.as_str()) || shared.get(*key) != Some(value));
    let own: Vec<String> = own.map(|(key, value)| format!("{key} = {value}")).collect();
    let seeds: Vec<String> = arm.seeds.iter().map(u64::to_string).collect();
    format!("seeds {}; {}", seeds.join(", "), own.join(", "))
}
