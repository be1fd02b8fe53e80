//! `--set` on a parsed document: where a dotted path leads, how its value is read, and what else it decides.

use crate::check::{ConfigError, Origin, Override, one_of};
use crate::schema::{Key, Kind, ROOT, Variant};
use crate::tree::{Node, Value};

/// Sets one value. A `kind` brings the presets of its table, and bytes bring their vocabulary.
pub(crate) fn apply(root: &mut Node, change: &Override) -> Result<(), ConfigError> {
    let origin = Origin::CommandLine(change.typed.clone());
    let fail = |what: String| ConfigError::new(&origin, "", what);
    let parts = split_path(root, &change.path);
    let Some((last, parents)) = parts.split_last() else {
        return Err(fail("expected PATH=VALUE, for example train.steps=100".to_owned()));
    };
    let mut node = root;
    let mut keys: Shape = Shape::Keys(ROOT);
    for part in parents {
        keys = keys.descend(node, part).map_err(&fail)?;
        node = step_into(node, part).ok_or_else(|| fail(format!("there is no {part:?} to set a key of")))?;
    }
    if last == "kind"
        && let Shape::Variants(variants) = &keys
    {
        let value = Node::text(change.value.trim(), &origin);
        let variant = value.as_str().and_then(|name| variants.iter().find(|variant| variant.name == name));
        let names: Vec<&str> = variants.iter().map(|variant| variant.name).collect();
        let variant = variant
            .ok_or_else(|| fail(format!("found {}, expected {}", value.found(), one_of(&names, value.as_str()))))?;
        *node = preset_table(variant, &change.path, value);
        return Ok(());
    }
    let value = match keys.descend(node, last).map_err(&fail)? {
        Shape::Leaf(Kind::Text(_)) => Node::text(&change.value, &origin),
        Shape::Leaf(kind) if kind.is_text() => Node::text(change.value.trim(), &origin),
        _ => Node::parse_value(change.value.trim(), &origin),
    };
    if !matches!(node.value, Value::Table(_)) {
        return Err(fail(format!("cannot set {last:?} there: not a table")));
    }
    if change.path == "corpus.tokenizer" && value.as_str() == Some("bytes") {
        let forced = Origin::Preset("corpus.tokenizer=bytes".to_owned());
        node.insert("d_vocab", Node::parse_value("256", &forced));
    }
    node.insert(last, value);
    Ok(())
}

/// Splits at dots, but keeps the dots of an arm's or claim's own name.
pub(crate) fn split_path(root: &Node, path: &str) -> Vec<String> {
    for list in ["arm", "claim"] {
        let Some(rest) = path.strip_prefix(list).and_then(|rest| rest.strip_prefix('.')) else { continue };
        let Some(Value::Array(items)) = root.get(list).map(|node| &node.value) else { continue };
        for name in items.iter().filter_map(|item| item.get("name")?.as_str()) {
            if let Some(tail) = rest.strip_prefix(name).and_then(|tail| tail.strip_prefix('.')) {
                let head = [list.to_owned(), name.to_owned()];
                return head.into_iter().chain(tail.split('.').map(str::to_owned)).collect();
            }
        }
    }
    path.split('.').map(str::to_owned).collect()
}

fn step_into<'a>(node: &'a mut Node, part: &str) -> Option<&'a mut Node> {
    match &mut node.value {
        Value::Array(items) => items.iter_mut().find(|item| item.get("name").and_then(Node::as_str) == Some(part)),
        Value::Table(entries) => entries.iter_mut().find(|entry| entry.key == part).map(|entry| &mut entry.node),
        Value::Leaf(_) => None,
    }
}

/// What may stand below a node.
enum Shape {
    Keys(&'static [Key]),
    Variants(&'static [Variant]),
    Named(&'static [Key]),
    Leaf(&'static Kind),
}

impl Shape {
    fn descend(&self, node: &Node, part: &str) -> Result<Self, String> {
        let in_keys = |keys: &'static [Key]| {
            let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
            let key = keys.iter().find(|key| key.name == part);
            key.map(|key| shape_of(&key.kind))
                .ok_or_else(|| format!("unknown key {part:?}, expected {}", one_of(&names, Some(part))))
        };
        match self {
            Self::Keys(keys) => in_keys(keys),
            Self::Variants(_) if part == "kind" => Ok(Self::Leaf(&Kind::Name)),
            Self::Variants(variants) => {
                let kind = node.get("kind").and_then(Node::as_str).unwrap_or_default();
                in_keys(variants.iter().find(|variant| variant.name == kind).map_or(&[], |variant| variant.keys))
            }
            Self::Named(keys) => {
                let Value::Array(items) = &node.value else { return Err("expected a list of tables".to_owned()) };
                let names: Vec<&str> = items.iter().filter_map(|item| item.get("name")?.as_str()).collect();
                if names.contains(&part) {
                    Ok(Self::Keys(keys))
                } else {
                    Err(format!("no such name {part:?}, expected {}", one_of(&names, Some(part))))
                }
            }
            Self::Leaf(_) => Err(format!("there is nothing below it to call {part:?}")),
        }
    }
}

fn shape_of(kind: &'static Kind) -> Shape {
    match kind {
        Kind::Table(keys) => Shape::Keys(keys),
        Kind::Tagged(variants) => Shape::Variants(variants),
        Kind::Tables(keys) => Shape::Named(keys),
        leaf => Shape::Leaf(leaf),
    }
}

fn preset_table(variant: &Variant, path: &str, kind: Node) -> Node {
    let origin = Origin::Preset(format!("{path}={}", variant.name));
    let mut table = Node { value: Value::Table(Vec::new()), origin: kind.origin.clone() };
    table.insert("kind", kind);
    for key in variant.keys {
        if let Some(text) = key.preset {
            table.insert(key.name, Node::parse_value(text, &origin));
        }
    }
    table
}
