//! A TOML document in which every value remembers where it came from.

use crate::error::{ConfigError, Origin};
use crate::number::meaning;
use std::cell::Cell;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// A value with its origin; an array or table has the origin of its first character.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Leaf(toml::Value),
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_origin: Origin,
    pub(crate) node: Node,
}

impl Node {
    /// Parses TOML text; `file` is what errors call it. Where nothing is wrong but numbers that TOML writes in another
    /// way, such as `.5`, they are taken as text and the error is handed out beside: the check of their keys knows more.
    pub(crate) fn parse(text: &str, file: &str) -> Result<(Self, Option<ConfigError>), ConfigError> {
        let place = |offset: usize| {
            let before = &text[..offset.min(text.len())];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |tail| tail.chars().count()) + 1;
            Origin::File { file: file.to_owned(), line, column }
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        let at: Vec<usize> = errors.iter().map(|error| error.span().map_or(0, |span| span.start)).collect();
        let explained = Cell::new(0);
        let misspelt = |span: Range<usize>| {
            let within = |range: &Range<usize>| at.iter().filter(|at| range.start <= **at && **at <= range.end).count();
            // The rest of the line first: there may be a comma inside the number.
            let line = text[span.start..].split(['\n', '#']).next().unwrap_or_default().trim_end();
            let spellings = [span.start..span.start + line.len(), span];
            let found = spellings.iter().find(|range| meaning(&text[(*range).clone()]).is_some() && within(range) > 0);
            found.map(|range| {
                explained.set(explained.get() + within(range));
                text[range.clone()].to_owned()
            })
        };
        let read =
            Source { place: &place, misspelt: if at.is_empty() || at.len() > 16 { &|_| None } else { &misspelt } };
        let root = Self { origin: place(0), value: from_table(table.get_ref(), &read) };
        let error = errors.first().map(|error| {
            ConfigError::new(&place(at[0]), "", format!("not TOML: {}", error.message().replace('\n', ", ")))
        });
        match error {
            Some(error) if explained.get() < errors.len() => Err(error),
            error => Ok((root, error)),
        }
    }

    /// Parses one TOML value, or takes the text as a string: `3`, `[1, 2]`.
    pub(crate) fn parse_value(text: &str, origin: &Origin) -> Self {
        let read = Source { place: &|_| origin.clone(), misspelt: &|_| None };
        match DeValue::parse(text) {
            Ok(value) => from_value(value.get_ref(), &read, 0..0),
            Err(_) => Self::string(text, origin),
        }
    }

    /// The text as it stands, or what a TOML string quotes: `adam`, `1984`, `"1984"`.
    pub(crate) fn text(text: &str, origin: &Origin) -> Self {
        match DeValue::parse(text.trim()).as_ref().map(|value| value.get_ref()) {
            Ok(DeValue::String(quoted)) => Self::string(quoted, origin),
            _ => Self::string(text, origin),
        }
    }

    pub(crate) fn string(text: &str, origin: &Origin) -> Self {
        Self { value: Value::Leaf(toml::Value::String(text.to_owned())), origin: origin.clone() }
    }

    pub(crate) fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Table(entries) => Some(entries),
            _ => None,
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries()?.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.value {
            Value::Table(entries) => entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.node),
            _ => None,
        }
    }

    pub(crate) fn insert(&mut self, key: &str, node: Node) {
        if let Some(old) = self.get_mut(key) {
            *old = node;
        } else if let Value::Table(entries) = &mut self.value {
            entries.push(Entry { key: key.to_owned(), key_origin: node.origin.clone(), node });
        }
    }

    /// Puts an entry in the place of one of that key, or last.
    pub(crate) fn insert_entry(&mut self, entry: Entry) {
        let Value::Table(entries) = &mut self.value else { return };
        match entries.iter_mut().find(|old| old.key == entry.key) {
            Some(old) => *old = entry,
            None => entries.push(entry),
        }
    }

    /// A table without entries in this one's place.
    pub(crate) fn emptied(&self) -> Self {
        Self { value: Value::Table(Vec::new()), origin: self.origin.clone() }
    }

    /// The items of a list; none where it is no list.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::Array(items) => items,
            _ => &[],
        }
    }

    /// What a table of a list is called.
    pub(crate) fn name(&self) -> Option<&str> {
        self.get("name")?.as_str()
    }

    /// The node at a path of keys, names and places.
    pub(crate) fn find(&self, parts: &[String]) -> Option<&Node> {
        parts.iter().try_fold(self, |node, part| match &node.value {
            Value::Array(items) => {
                let by_place = || part.parse::<usize>().ok().and_then(|at| items.get(at));
                items.iter().find(|item| item.name() == Some(part)).or_else(by_place)
            }
            _ => node.get(part),
        })
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Leaf(toml::Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn to_toml(&self) -> toml::Value {
        match &self.value {
            Value::Leaf(leaf) => leaf.clone(),
            Value::Array(items) => toml::Value::Array(items.iter().map(Self::to_toml).collect()),
            Value::Table(entries) => {
                toml::Value::Table(entries.iter().map(|entry| (entry.key.clone(), entry.node.to_toml())).collect())
            }
        }
    }

    /// What an error calls this value.
    pub(crate) fn found(&self) -> String {
        match &self.value {
            Value::Leaf(toml::Value::String(text)) => format!("text {text:?}"),
            Value::Leaf(toml::Value::Integer(number)) => format!("the integer {number}"),
            Value::Leaf(toml::Value::Float(number)) => format!("the number {number:?}"),
            Value::Leaf(toml::Value::Boolean(flag)) => format!("{flag}"),
            Value::Leaf(other) => format!("{other}"),
            Value::Array(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
        }
    }
}

/// What a parsed value does not say of itself.
struct Source<'a> {
    /// Where an offset lies.
    place: &'a dyn Fn(usize) -> Origin,
    /// What is written there, if it is a number that TOML writes in another way.
    misspelt: &'a dyn Fn(Range<usize>) -> Option<String>,
}

fn from_table(table: &DeTable<'_>, read: &Source<'_>) -> Value {
    let mut entries: Vec<(usize, Entry)> = table
        .iter()
        .map(|(key, value)| {
            let start = key.span().start;
            let node = from_value(value.get_ref(), read, value.span());
            (start, Entry { key: key.get_ref().to_string(), key_origin: (read.place)(start), node })
        })
        .collect();
    entries.sort_by_key(|(start, _)| *start);
    Value::Table(entries.into_iter().map(|(_, entry)| entry).collect())
}

fn from_value(value: &DeValue<'_>, read: &Source<'_>, span: Range<usize>) -> Node {
    let leaf = |value: toml::Value| Value::Leaf(value);
    let origin = (read.place)(span.start);
    if !matches!(value, DeValue::Array(_) | DeValue::Table(_))
        && let Some(text) = (read.misspelt)(span)
    {
        return Node { value: leaf(toml::Value::String(text)), origin };
    }
    let value = match value {
        DeValue::String(text) => leaf(toml::Value::String(text.to_string())),
        DeValue::Boolean(flag) => leaf(toml::Value::Boolean(*flag)),
        DeValue::Datetime(time) => leaf(toml::Value::Datetime(*time)),
        DeValue::Integer(number) => match i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()) {
            Ok(number) => leaf(toml::Value::Integer(number)),
            // Beyond i64: refused by every range.
            Err(_) => leaf(toml::Value::Float(number.as_str().replace('_', "").parse().unwrap_or(f64::INFINITY))),
        },
        DeValue::Float(number) => {
            leaf(toml::Value::Float(number.as_str().replace('_', "").parse().unwrap_or(f64::NAN)))
        }
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| from_value(item.get_ref(), read, item.span())).collect())
        }
        DeValue::Table(table) => from_table(table, read),
    };
    Node { value, origin }
}

pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
