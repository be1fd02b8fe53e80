//! `basislab config explain`: the reference of all keys.

use crate::exit::Exit;
use crate::experiments::{BUILT_IN, find_plain};
use crate::terminal::{say, say_json};
use basislab_config::{KeyEntry, explained, nearest, reference};
use basislab_optim::RULES;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) fn explain(key: Option<&str>, as_json: bool) -> Result<(), Exit> {
    let rules: Vec<_> = RULES.iter().map(|rule| (&rule.keys, rule.about)).collect();
    let all = reference(&rules);
    let entries = match key {
        None => all.iter().collect(),
        Some(key) => explained(&all, key),
    };
    if let (true, Some(key)) = (entries.is_empty(), key) {
        return Err(unknown(key, &all));
    }
    let defaults = Defaults::of_built_in()?;
    if as_json {
        return say_json(&entries.iter().map(|entry| object(entry, &defaults)).collect::<Vec<_>>().into());
    }
    match key {
        None => say(list(&entries, &defaults)),
        Some(_) => say(entries.iter().map(|entry| details(entry, &defaults)).collect::<Vec<_>>().join("\n")),
    }
}

fn unknown(key: &str, all: &[KeyEntry]) -> Exit {
    // Below an arm or a grid, the keys of the shared tables are meant.
    let parts: Vec<&str> = key.split('.').collect();
    let shared = parts.iter().position(|part| SHARED.contains(part)).unwrap_or(0);
    let meant = parts[shared..].join(".");
    let last = |entry: &'_ KeyEntry| entry.path.rsplit('.').next().map(str::to_owned);
    let names: Vec<String> = all.iter().map(|entry| entry.path.clone()).chain(all.iter().filter_map(last)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let hint = nearest(&names, &meant).map_or_else(String::new, |name| format!("; did you mean {name:?}?"));
    Exit::usage(format!("no key {key:?}, expected one that `basislab config explain` lists{hint}"))
}

/// The tables that describe a run: arms and grids may change their keys.
const SHARED: [&str; 7] = ["model", "corpus", "train", "probe", "optimizer", "basis", "phases"];

/// The values of the first built-in experiment, which others start from.
struct Defaults {
    from: &'static str,
    values: BTreeMap<String, String>,
}

impl Defaults {
    fn of_built_in() -> Result<Self, Exit> {
        let (from, _) = BUILT_IN[0];
        let origins = find_plain(from, &[])?.loaded.origins;
        Ok(Self { from, values: origins.into_iter().map(|(path, value, _)| (path, value)).collect() })
    }

    /// What a file with this `base` gets; `None` where the base has a table of another kind. The question is its own.
    fn of(&self, entry: &KeyEntry) -> Option<&str> {
        let kind = || self.values.get(&format!("{}.kind", entry.path.rsplit_once('.')?.0));
        let has_it = |kind: &str| entry.kinds.iter().any(|(name, _)| *name == kind.trim_matches('"'));
        if entry.path == "question" || !entry.kinds.is_empty() && !kind().is_some_and(|kind| has_it(kind)) {
            return None;
        }
        self.values.get(&entry.path).map(String::as_str)
    }
}

/// The first part of a path: the table that the key is in. Empty for the keys at the top of a file.
fn table_of<'a>(entry: &'a KeyEntry, all: &[&KeyEntry]) -> &'a str {
    let first = entry.path.split('.').next().unwrap_or_default();
    let is_table = all.iter().any(|other| other.path.strip_prefix(first).is_some_and(|rest| rest.starts_with('.')));
    if is_table { first } else { "" }
}

/// How a table is written.
fn heading(table: &str) -> String {
    match table {
        "" => "top of the file".to_owned(),
        "arm" | "grid" | "claim" => format!("[[{table}]]"),
        "phases" => "phases = [{ ... }]".to_owned(),
        _ => format!("[{table}]"),
    }
}

fn list(entries: &[&KeyEntry], defaults: &Defaults) -> String {
    let mut tables: Vec<&str> = Vec::new();
    for entry in entries {
        let table = table_of(entry, entries);
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    let mut text = String::new();
    for table in tables {
        let about = entries.iter().find(|entry| entry.path == table).map_or("", |entry| first_sentence(&entry.about));
        text += format!("{}  {about}", heading(table)).trim_end();
        text += "\n";
        for entry in entries.iter().filter(|entry| table_of(entry, entries) == table && entry.path != table) {
            let key = entry.path.strip_prefix(table).unwrap_or(&entry.path).trim_start_matches('.');
            let key = key.strip_prefix("NAME.").or_else(|| key.strip_prefix("N.")).unwrap_or(key);
            let default = default_text(entry, defaults);
            let meaning = first_sentence(&entry.about);
            text += format!("  {key:<24} {default:<26} {meaning}{}", of_kinds(entry, entries)).trim_end();
            text += "\n";
        }
        text += "\n";
    }
    text + &format!(
        "The second column is the value in {}, else the preset of the kinds in parentheses.\n",
        defaults.from
    ) + "Arms and grids may change the keys of [model], [corpus], [train], [probe], [optimizer], [basis] and phases.\n\n\
           Details:  basislab config explain KEY, for example optimizer.lr, model or claim.test\n"
}

/// The kinds that have a key, where other kinds of its table do not have it or declare it otherwise.
fn of_kinds(entry: &KeyEntry, all: &[&KeyEntry]) -> String {
    let kinds: Vec<&str> = entry.kinds.iter().map(|(kind, _)| *kind).collect();
    let of_table = entry.path.rsplit_once('.').map(|(table, _)| format!("{table}.kind"));
    let of_table = all.iter().find(|other| Some(&other.path) == of_table.as_ref());
    match of_table {
        Some(kind) if !kinds.is_empty() && kinds.len() < kind.choices.len() => format!(" ({})", kinds.join(", ")),
        _ => String::new(),
    }
}

/// The value of the built-in experiment, the preset where all kinds have one, or whether the key may be left out.
fn default_text(entry: &KeyEntry, defaults: &Defaults) -> String {
    if let Some(value) = defaults.of(entry) {
        return value.to_owned();
    }
    let mut presets: Vec<&str> = entry.kinds.iter().filter_map(|(_, preset)| *preset).collect();
    presets.dedup();
    match presets[..] {
        [preset] => preset.to_owned(),
        _ if entry.optional => "optional".to_owned(),
        _ => String::new(),
    }
}

/// A sentence ends with a full stop before another one, or at the end.
fn first_sentence(about: &str) -> &str {
    let ends = about.match_indices(". ").find(|(at, _)| about[at + 2..].starts_with(char::is_uppercase));
    about[..ends.map_or(about.len(), |(at, _)| at)].trim_end_matches('.')
}

fn details(entry: &KeyEntry, defaults: &Defaults) -> String {
    let mut rows: Vec<(&str, String)> = vec![("meaning", entry.about.clone()), ("type", entry.expected.clone())];
    rows.extend(entry.choices.iter().enumerate().map(|(at, (name, about))| {
        let label = if at == 0 { "values" } else { "" };
        (label, format!("{name:<18} {about}").trim_end().to_owned())
    }));
    if let Some(value) = defaults.of(entry) {
        rows.push(("default", format!("{value} (base = \"{}\")", defaults.from)));
    }
    let presets = entry.kinds.iter().filter_map(|(kind, preset)| preset.map(|preset| format!("{preset} ({kind})")));
    let presets: Vec<String> = presets.collect();
    if !presets.is_empty() {
        rows.push(("preset", presets.join(", ")));
    }
    if !entry.kinds.is_empty() {
        rows.push(("kinds", entry.kinds.iter().map(|(kind, _)| *kind).collect::<Vec<_>>().join(", ")));
    }
    let required = match (entry.optional, presets.is_empty()) {
        (true, _) => "no",
        (false, true) => "yes, in the file or its base",
        (false, false) => "yes, in the file or its base, or by the preset of the kind",
    };
    rows.push(("required", required.to_owned()));
    rows.push(("tables", tables(&entry.path).join(", ")));
    let body: String = rows.iter().map(|(label, text)| format!("  {label:<9} {text}\n")).collect();
    format!("{}\n{body}", entry.path)
}

/// The tables in which a key may be written.
fn tables(path: &str) -> Vec<String> {
    let first = path.split('.').next().unwrap_or_default();
    let mut all = Vec::new();
    match path.rsplit_once('.') {
        None => all.push(heading("")),
        Some((table, _)) if ["arm", "grid", "claim", "phases"].contains(&first) => {
            let below = table.split('.').skip(2).collect::<Vec<_>>().join(".");
            let below = if below.is_empty() { below } else { format!(", table {below}") };
            all.push(heading(first) + &below);
        }
        Some((table, _)) => all.push(format!("[{table}]")),
    }
    if SHARED.contains(&first) {
        all.extend(["[[arm]]".to_owned(), "[[grid]]".to_owned()]);
    }
    if path.contains('.') && ["optimizer", "basis"].contains(&first) {
        all.push("phases".to_owned());
    }
    if first == "optimizer" && path.contains('.') && !path.contains("groups") {
        all.push("[optimizer.groups.NAME]".to_owned());
    }
    all
}

fn object(entry: &KeyEntry, defaults: &Defaults) -> Value {
    let choices = entry.choices.iter().map(|(name, about)| json!({ "value": name, "meaning": about }));
    let kinds = entry.kinds.iter().map(|(kind, preset)| json!({ "kind": kind, "preset": preset }));
    json!({
        "key": entry.path, "meaning": entry.about, "type": entry.expected, "values": choices.collect::<Vec<_>>(),
        "default": defaults.of(entry), "kinds": kinds.collect::<Vec<_>>(), "optional": entry.optional,
        "tables": tables(&entry.path),
    })
}
