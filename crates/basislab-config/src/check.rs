//! From text and overrides to a checked [`Experiment`].

use crate::name::{NAME, RunName};
use crate::number::{advice, fits};
use crate::overrides::apply;
use crate::schema::{Key, Kind, MAX_SEED, MAX_SEEDS, ROOT, Variant};
use crate::spec::Experiment;
use crate::tree::{Node, Value};
use crate::whole::check_whole;
use std::collections::BTreeSet;
use std::fmt;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a file, 1-based.
    File {
        /// As the user named it.
        file: String,
        /// 1-based.
        line: usize,
        /// 1-based, in characters.
        column: usize,
    },
    /// On the command line, e.g. `--set train.steps=10`.
    CommandLine(String),
    /// By another `--set` that leaves it no choice: the preset of `X.kind=K`, or `corpus.tokenizer=bytes`.
    Preset(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::CommandLine(text) => write!(f, "{text}"),
            Self::Preset(kind) => write!(f, "preset of {kind}"),
        }
    }
}

/// A config that cannot be used: where, which key, what was found, what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}:{what}")]
pub struct ConfigError {
    place: String,
    what: String,
}

impl ConfigError {
    pub(crate) fn new(origin: &Origin, path: &str, what: impl fmt::Display) -> Self {
        let path = if path.is_empty() { String::new() } else { format!(" {path}:") };
        Self { place: on_one_line(&origin.to_string()), what: on_one_line(&format!("{path} {what}")) }
    }
}

/// Whatever the user's text held.
fn on_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// `--set PATH=VALUE`, or another flag that amounts to one.
#[derive(Debug, Clone)]
pub struct Override {
    /// Dotted path; arms and claims are addressed by name: `arm.adam.optimizer.lr`.
    pub path: String,
    /// A TOML value. Where the key holds text, a quoted TOML string or the text itself.
    pub value: String,
    /// What the user typed, for messages and the record.
    pub typed: String,
}

impl Override {
    /// Sets a key that holds text to exactly this text, quotes included.
    pub fn literal(path: &str, text: &str, typed: &str) -> Self {
        let value = toml::Value::String(text.to_owned()).to_string();
        Self { path: path.to_owned(), value, typed: typed.to_owned() }
    }
}

/// An experiment and the origin of each of its values.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The checked experiment.
    pub experiment: Experiment,
    /// `(dotted path, value as TOML, where it was written)`, in the order of the file.
    pub origins: Vec<(String, String, Origin)>,
}

/// Parses, overrides and checks an experiment. `file` is what errors call the text.
///
/// # Errors
/// One line naming place, key, what was found and what was expected.
pub fn load(text: &str, file: &str, overrides: &[Override]) -> Result<Loaded, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (root, misspelt) = Node::parse(text, file)?;
    let all: Vec<&Override> = overrides.iter().collect();
    let loaded = changed(&root, &all).map_err(|error| attribute(error, &root, overrides))?;
    misspelt.map_or(Ok(loaded), Err)
}

/// The document with these changes, checked.
fn changed(root: &Node, overrides: &[&Override]) -> Result<Loaded, ConfigError> {
    let mut root = root.clone();
    for change in overrides {
        apply(&mut root, change)?;
    }
    check_table(&root, ROOT, "", false)?;
    let experiment: Experiment = root
        .to_toml()
        .try_into()
        .map_err(|error| ConfigError::new(&root.origin, "", format!("{error}").replace('\n', " ")))?;
    check_whole(&experiment, &root)?;
    let mut origins = Vec::new();
    collect_origins(&root, "", &mut origins);
    Ok(Loaded { experiment, origins })
}

/// Attributes the error to the override that caused it: a check that ties several keys together finds it at any of them.
fn attribute(error: ConfigError, root: &Node, overrides: &[Override]) -> ConfigError {
    let mut all: Vec<&str> = Vec::new();
    let mut cures = Vec::new();
    let mut changes = Vec::new();
    for change in overrides {
        let typed = change.typed.as_str();
        if all.contains(&typed) {
            continue;
        }
        all.push(typed);
        let others: Vec<&Override> = overrides.iter().filter(|other| other.typed != typed).collect();
        match changed(root, &others) {
            Ok(_) => cures.push(typed),
            Err(other) if other.what != error.what => changes.push(typed),
            Err(_) => {}
        }
    }
    let in_the_file = || changed(root, &[]).is_err_and(|alone| alone.what == error.what);
    let causes = match (cures.is_empty(), changes.is_empty()) {
        (false, _) => cures,
        _ if in_the_file() => return error,
        (_, false) => changes,
        _ => all,
    };
    if causes.iter().any(|typed| on_one_line(typed) == error.place) {
        return error;
    }
    ConfigError { place: on_one_line(&causes.join(" ")), ..error }
}

fn collect_origins(node: &Node, path: &str, into: &mut Vec<(String, String, Origin)>) {
    match &node.value {
        Value::Table(entries) => {
            entries.iter().for_each(|entry| collect_origins(&entry.node, &join(path, &entry.key), into))
        }
        Value::Array(items) if items.iter().any(|item| item.entries().is_some()) => {
            for (index, item) in items.iter().enumerate() {
                let label = item.get("name").and_then(Node::as_str).map_or_else(|| index.to_string(), str::to_owned);
                collect_origins(item, &join(path, &label), into);
            }
        }
        _ => into.push((path.to_owned(), node.to_toml().to_string(), node.origin.clone())),
    }
}

// ---- the schema -----------------------------------------------------------------------------------------------------

fn check_table(node: &Node, keys: &[Key], path: &str, tagged: bool) -> Result<(), ConfigError> {
    let Some(entries) = node.entries() else {
        return Err(ConfigError::new(&node.origin, path, format!("found {}, expected a table", node.found())));
    };
    let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
    for entry in entries {
        if tagged && entry.key == "kind" {
            continue;
        }
        let path = join(path, &entry.key);
        let Some(key) = keys.iter().find(|key| key.name == entry.key) else {
            let expected =
                if names.is_empty() { "no further key".to_owned() } else { one_of(&names, Some(&entry.key)) };
            return Err(ConfigError::new(&entry.key_origin, &path, format!("unknown key, expected {expected}")));
        };
        check_value(&entry.node, &key.kind, &path)?;
    }
    match keys.iter().find(|key| !key.optional && node.get(key.name).is_none()) {
        Some(key) => {
            let what = format!("missing, expected {} ({})", expected(&key.kind), key.about);
            Err(ConfigError::new(&node.origin, &join(path, key.name), what))
        }
        None => Ok(()),
    }
}

fn check_value(node: &Node, kind: &Kind, path: &str) -> Result<(), ConfigError> {
    let fits = match (kind, &node.value) {
        (Kind::Integer(..) | Kind::Float(..) | Kind::FloatBelow(..) | Kind::Positive(_), Value::Leaf(leaf)) => {
            fits(kind, leaf)
        }
        (Kind::Bool, Value::Leaf(toml::Value::Boolean(_))) => true,
        (Kind::Text(most), _) => node
            .as_str()
            .is_some_and(|text| !text.trim().is_empty() && text.chars().count() <= *most && !text.contains('\0')),
        (Kind::Name, _) => match node.as_str().map(RunName::new) {
            Some(Err(expected)) => {
                let what = format!("found {}, expected {expected}", node.found());
                return Err(ConfigError::new(&node.origin, path, what));
            }
            name => name.is_some(),
        },
        (Kind::Site, _) => node.as_str().is_some_and(is_site),
        (Kind::Choice(words), _) => match node.as_str() {
            Some(word) if words.contains(&word) => true,
            word => {
                return Err(ConfigError::new(
                    &node.origin,
                    path,
                    format!("found {}, expected {}", node.found(), one_of(words, word)),
                ));
            }
        },
        (Kind::Seeds, Value::Array(items)) => return check_seeds(node, items, path),
        (Kind::Table(keys), _) => return check_table(node, keys, path, false),
        (Kind::Tagged(variants), Value::Table(_)) => return check_tagged(node, variants, path),
        (Kind::Tables(keys), Value::Array(items)) if !items.is_empty() => return check_named(items, keys, path),
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        let advice = if let Value::Leaf(leaf) = &node.value { advice(kind, leaf) } else { String::new() };
        let what = format!("found {}, expected {}{advice}", node.found(), expected(kind));
        Err(ConfigError::new(&node.origin, path, what))
    }
}

fn check_tagged(node: &Node, variants: &[Variant], path: &str) -> Result<(), ConfigError> {
    let names: Vec<&str> = variants.iter().map(|variant| variant.name).collect();
    let at = join(path, "kind");
    let Some(kind) = node.get("kind") else {
        return Err(ConfigError::new(&node.origin, &at, format!("missing, expected {}", one_of(&names, None))));
    };
    match variants.iter().find(|variant| Some(variant.name) == kind.as_str()) {
        Some(variant) => check_table(node, variant.keys, path, true),
        None => Err(ConfigError::new(
            &kind.origin,
            &at,
            format!("found {}, expected {}", kind.found(), one_of(&names, kind.as_str())),
        )),
    }
}

fn check_named(items: &[Node], keys: &[Key], path: &str) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let label = item.get("name").and_then(Node::as_str).map_or_else(|| format!("[{index}]"), str::to_owned);
        check_table(item, keys, &join(path, &label), false)?;
        // On some file systems names that differ in case only are one directory.
        if !seen.insert(label.to_lowercase()) {
            let at = item.get("name").map_or(&item.origin, |name| &name.origin);
            return Err(ConfigError::new(
                at,
                &join(path, &label),
                "found a second one of that name, expected distinct names",
            ));
        }
    }
    Ok(())
}

fn check_seeds(node: &Node, items: &[Node], path: &str) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    for item in items {
        check_value(item, &Kind::Integer(0, MAX_SEED), path)?;
        let seed = item.to_toml().as_integer();
        if !seen.insert(seed) {
            return Err(ConfigError::new(
                &item.origin,
                path,
                format!("found seed {} twice, expected distinct seeds", item.to_toml()),
            ));
        }
    }
    if seen.is_empty() || seen.len() > MAX_SEEDS {
        let what = format!("found {} seeds, expected 1 to {MAX_SEEDS}", seen.len());
        return Err(ConfigError::new(&node.origin, path, what));
    }
    Ok(())
}

fn is_site(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    match parts[..] {
        ["embed" | "final"] => true,
        ["blocks", layer, "resid_mid" | "resid_post"] => {
            layer == "last" || layer.parse::<u16>().is_ok_and(|n| n.to_string() == layer)
        }
        _ => false,
    }
}

pub(crate) fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Integer(low, high) => format!("an integer from {low} to {high}"),
        Kind::Float(low, high) => format!("a number from {low:?} to {high:?}"),
        Kind::FloatBelow(low, high) => format!("a number from {low:?} to below {high:?}"),
        Kind::Positive(high) => format!("a number above 0, at most {high:?}"),
        Kind::Bool => "true or false".to_owned(),
        Kind::Text(most) => format!("text of 1 to {most} characters"),
        Kind::Name => NAME.to_owned(),
        Kind::Site => "embed, blocks.N.resid_mid, blocks.N.resid_post (N may be last) or final".to_owned(),
        Kind::Choice(words) => one_of(words, None),
        Kind::Seeds => format!("a list of distinct integers from 0 to {MAX_SEED}, e.g. [0, 1, 2]"),
        Kind::Table(_) => "a table".to_owned(),
        Kind::Tagged(variants) => {
            let names: Vec<&str> = variants.iter().map(|variant| variant.name).collect();
            format!("a table whose kind is {}", one_of(&names, None))
        }
        Kind::Tables(_) => "at least one table".to_owned(),
    }
}

/// `one of a, b, c`, with `; did you mean ..?` when `found` is close to one of them.
pub fn one_of(words: &[&str], found: Option<&str>) -> String {
    let list = words.join(", ");
    let best = found.and_then(|found| {
        let scored = words.iter().map(|word| {
            let part = found.len() >= 4 && word.contains(found);
            (if part { 0.99 } else { strsim::jaro_winkler(word, found) }, word)
        });
        scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > 0.75)
    });
    match best {
        Some((_, word)) => format!("one of {list}; did you mean {word:?}?"),
        None => format!("one of {list}"),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
