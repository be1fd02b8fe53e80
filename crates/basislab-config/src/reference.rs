//! The reference of all keys, made from their declarations.

use crate::check::expected;
use crate::document::ARM_KEYS;
use crate::error::one_of;
use crate::experiment::Experiment;
use crate::grid;
use crate::keys::{Choice, Key, Kind};
use crate::optimizer::{Role, RuleKeys};
use crate::run::RunSpec;
use crate::tree::join;

/// A key of the configuration, as it is declared.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyEntry {
    /// Its path. `NAME` stands for the name of an arm, claim or group, and `N` for a position in a list, from 0.
    pub path: String,
    /// Its meaning.
    pub about: String,
    /// Type and range.
    pub expected: String,
    /// Its values with their meanings, where it has a few.
    pub choices: Vec<(&'static str, String)>,
    /// The kinds of its table that have the key, each with the value that it gets where only the kind is named. Empty
    /// where the table has no kind.
    pub kinds: Vec<(&'static str, Option<&'static str>)>,
    /// Whether it may be left out.
    pub optional: bool,
}

/// Every key, in the order of the declarations. `rules` are the update rules with a line about each.
pub fn reference(rules: &[(&'static RuleKeys, &'static str)]) -> Vec<KeyEntry> {
    let mut reference = Reference { rules, all: Vec::new() };
    Experiment::KEYS.iter().chain(RunSpec::KEYS).for_each(|key| reference.add(key, "", None));
    reference.all
}

struct Reference<'a> {
    rules: &'a [(&'static RuleKeys, &'static str)],
    all: Vec<KeyEntry>,
}

impl Reference<'_> {
    /// Adds a key and what is below it. `kind` is that of its table.
    fn add(&mut self, key: &Key, table: &str, kind: Option<&'static str>) {
        let path = join(table, key.name);
        self.push(KeyEntry {
            path: path.clone(),
            about: sentence(key.about),
            expected: expected(&key.kind),
            choices: meanings(&key.kind),
            kinds: kind.map(|kind| (kind, key.preset)).into_iter().collect(),
            optional: key.optional,
        });
        // The optimizer and the basis of a phase have the keys of the shared tables.
        if !table.is_empty() && is_shared(key.name) {
            return;
        }
        match &key.kind {
            Kind::Table(keys) => keys.iter().for_each(|key| self.add(key, &path, None)),
            Kind::Named(keys) => keys.iter().for_each(|key| self.add(key, &join(&path, "NAME"), None)),
            Kind::List(keys) => keys.iter().for_each(|key| self.add(key, &join(&path, "N"), None)),
            Kind::Arms => ARM_KEYS.iter().for_each(|key| self.add(key, &join(&path, "NAME"), None)),
            Kind::Grids => grid::KEYS.iter().for_each(|key| self.add(key, &join(&path, "N"), None)),
            Kind::Tagged(variants) => {
                self.add_kind(&path, variants.iter().map(|variant| (variant.name, variant.about)).collect());
                for variant in *variants {
                    variant.keys.iter().for_each(|key| self.add(key, &path, Some(variant.name)));
                }
            }
            Kind::Optimizer => {
                let rules = self.rules;
                self.add_kind(&path, rules.iter().map(|(rule, about)| (rule.name, *about)).collect());
                for (rule, _) in rules {
                    rule.keys.iter().for_each(|key| self.add(key, &path, Some(rule.name)));
                }
                GROUP_KEYS.iter().for_each(|key| self.add(key, &path, None));
            }
            _ => {}
        }
    }

    fn add_kind(&mut self, table: &str, kinds: Vec<(&'static str, &'static str)>) {
        let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
        self.push(KeyEntry {
            path: join(table, "kind"),
            about: "The kind of the table, which decides its other keys. Another kind replaces the whole table by its preset."
                .to_owned(),
            expected: one_of(&names, None),
            choices: kinds.into_iter().map(|(name, about)| (name, sentence(about))).collect(),
            kinds: Vec::new(),
            optional: false,
        });
    }

    /// Adds an entry; a key that several kinds of a table declare alike is one entry.
    fn push(&mut self, entry: KeyEntry) {
        let alike = |known: &&mut KeyEntry| {
            (&known.path, &known.about, &known.expected) == (&entry.path, &entry.about, &entry.expected)
        };
        match self.all.iter_mut().find(alike) {
            Some(known) => {
                let new: Vec<_> = entry.kinds.into_iter().filter(|kind| !known.kinds.contains(kind)).collect();
                known.kinds.extend(new);
            }
            None => self.all.push(entry),
        }
    }
}

/// The keys of an optimizer with groups, besides those of the groups' rules.
const GROUP_KEYS: &[Key] = crate::keys::keys! {
    /// One rule per group of parameters instead of one rule for all; `groups.NAME` has the keys of its rule.
    groups: BTreeMap<String, GroupSpec> = Kind::Named(crate::keys::keys! {
        /// The roles of the parameters that are in the group. Every role that the model has is in exactly one group.
        roles: Vec<Role> = Kind::Choices(Role::CHOICES);
    }), optional;
};

/// A meaning with a capital and a full stop.
fn sentence(about: &str) -> String {
    let about = about.trim().trim_end_matches('.');
    let mut letters = about.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect::<String>() + ".")
}

fn is_shared(name: &str) -> bool {
    RunSpec::KEYS.iter().any(|shared| shared.name == name)
}

fn meanings(kind: &Kind) -> Vec<(&'static str, String)> {
    let meaning = |choice: &Choice| (choice.name, sentence(choice.about));
    match kind {
        Kind::Choice(choices) | Kind::Choices(choices) => choices.iter().map(meaning).collect(),
        _ => Vec::new(),
    }
}

/// The entries that a key means: a path as `config show` prints it, a table with all its keys, or the end of a path. None
/// where there is no such key.
pub fn explained<'a>(entries: &'a [KeyEntry], key: &str) -> Vec<&'a KeyEntry> {
    let parts: Vec<&str> = key.trim_matches(['[', ']', ' ']).split('.').collect();
    let found = by_path(entries, &parts);
    if !found.is_empty() {
        return found;
    }
    let ends_so = |entry: &&KeyEntry| {
        let pattern: Vec<&str> = entry.path.split('.').collect();
        (1..pattern.len()).any(|from| matches(&pattern[from..], &parts))
    };
    entries.iter().filter(ends_so).collect()
}

fn by_path<'a>(entries: &'a [KeyEntry], parts: &[&str]) -> Vec<&'a KeyEntry> {
    let is_it = |entry: &&KeyEntry| matches(&entry.path.split('.').collect::<Vec<_>>(), parts);
    if let Some(found) = entries.iter().find(is_it) {
        let is_below = |path: &str| path.strip_prefix(&found.path).is_some_and(|rest| rest.starts_with('.'));
        return entries.iter().filter(|entry| is_it(entry) || is_below(&entry.path)).collect();
    }
    match parts {
        // An arm and a grid have the keys of the shared tables. The name of an arm may hold dots.
        ["arm" | "grid", rest @ ..] => {
            let shared =
                (1..rest.len()).filter(|from| is_shared(rest[*from])).map(|from| by_path(entries, &rest[from..]));
            shared.into_iter().find(|found| !found.is_empty()).unwrap_or_default()
        }
        ["phases", _, rest @ ..] if !rest.is_empty() => by_path(entries, rest),
        ["optimizer", "groups", _, rest @ ..] if !rest.is_empty() => by_path(entries, &[&["optimizer"], rest].concat()),
        _ => Vec::new(),
    }
}

/// Whether `parts` is a path of that pattern, in which a name or position may be left out.
fn matches(pattern: &[&str], parts: &[&str]) -> bool {
    match (pattern, parts) {
        ([], parts) => parts.is_empty(),
        (["NAME", rest @ ..], _) => (0..=parts.len()).any(|of_name| matches(rest, &parts[of_name..])),
        (["N", rest @ ..], [position, after @ ..]) if *position == "N" || position.parse::<usize>().is_ok() => {
            matches(rest, after)
        }
        (["N", rest @ ..], _) => matches(rest, parts),
        ([first, rest @ ..], [part, after @ ..]) => first == part && matches(rest, after),
        _ => false,
    }
}
