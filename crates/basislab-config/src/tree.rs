//! A TOML document in which every value remembers where it came from.

use crate::check::{ConfigError, Origin};
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
    /// Parses TOML text; `file` is what errors call it.
    pub(crate) fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let place = |offset: usize| {
            let before = &text[..offset.min(text.len())];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |tail| tail.chars().count()) + 1;
            Origin::File { file: file.to_owned(), line, column }
        };
        let table = DeTable::parse(text).map_err(|error| {
            let origin = place(error.span().map_or(0, |span| span.start));
            ConfigError::new(&origin, "", format!("not TOML: {}", error.message().replace('\n', ", ")))
        })?;
        Ok(Self { origin: place(0), value: from_table(table.get_ref(), &place) })
    }

    /// Parses one TOML value, or takes the text as a string: `3`, `[1, 2]`, `adam`, `data/plays.txt`.
    pub(crate) fn parse_value(text: &str, origin: &Origin) -> Self {
        let same = |_: usize| origin.clone();
        match DeValue::parse(text) {
            Ok(value) => from_value(value.get_ref(), &same, 0),
            Err(_) => Self { value: Value::Leaf(toml::Value::String(text.to_owned())), origin: origin.clone() },
        }
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
            Value::Leaf(toml::Value::Float(number)) => format!("the number {number}"),
            Value::Leaf(toml::Value::Boolean(flag)) => format!("{flag}"),
            Value::Leaf(other) => format!("{other}"),
            Value::Array(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
        }
    }
}

fn from_table(table: &DeTable<'_>, place: &dyn Fn(usize) -> Origin) -> Value {
    let mut entries: Vec<(usize, Entry)> = table
        .iter()
        .map(|(key, value)| {
            let start = key.span().start;
            let node = from_value(value.get_ref(), place, value.span().start);
            (start, Entry { key: key.get_ref().to_string(), key_origin: place(start), node })
        })
        .collect();
    entries.sort_by_key(|(start, _)| *start);
    Value::Table(entries.into_iter().map(|(_, entry)| entry).collect())
}

fn from_value(value: &DeValue<'_>, place: &dyn Fn(usize) -> Origin, start: usize) -> Node {
    let leaf = |value: toml::Value| Value::Leaf(value);
    let value = match value {
        DeValue::String(text) => leaf(toml::Value::String(text.to_string())),
        DeValue::Boolean(flag) => leaf(toml::Value::Boolean(*flag)),
        DeValue::Datetime(time) => leaf(toml::Value::Datetime(*time)),
        DeValue::Integer(number) => match i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()) {
            Ok(number) => leaf(toml::Value::Integer(number)),
            Err(_) => leaf(toml::Value::Float(f64::INFINITY)), // beyond i64: refused by every range
        },
        DeValue::Float(number) => {
            leaf(toml::Value::Float(number.as_str().replace('_', "").parse().unwrap_or(f64::NAN)))
        }
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| from_value(item.get_ref(), place, item.span().start)).collect())
        }
        DeValue::Table(table) => from_table(table, place),
    };
    Node { value, origin: place(start) }
}
