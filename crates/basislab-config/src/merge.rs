//! Changes to a table: keys replace keys, and another `kind` replaces the whole table by that kind's preset.

use crate::error::Origin;
use crate::keys::{Key, Kind};
use crate::number::fits;
use crate::optimizer::RuleKeys;
use crate::tree::{Entry, Node, Value};

/// The update rules there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a>(pub(crate) &'a [&'static RuleKeys]);

impl Rules<'_> {
    pub(crate) fn find(self, name: &str) -> Option<&'static RuleKeys> {
        self.0.iter().copied().find(|rule| rule.name == name)
    }

    pub(crate) fn names(self) -> Vec<&'static str> {
        self.0.iter().map(|rule| rule.name).collect()
    }

    /// The kinds that a tagged table may have.
    pub(crate) fn kinds(self, kind: &Kind) -> Vec<&'static str> {
        match kind {
            Kind::Tagged(variants) => variants.iter().map(|variant| variant.name).collect(),
            _ => self.names(),
        }
    }

    /// The keys of a tagged table of the kind `name`; `None` where there is no such kind.
    pub(crate) fn keys_of(self, kind: &Kind, name: &str) -> Option<&'static [Key]> {
        match kind {
            Kind::Tagged(variants) => variants.iter().find(|variant| variant.name == name).map(|variant| variant.keys),
            Kind::Optimizer => self.find(name).map(|rule| rule.keys),
            _ => None,
        }
    }
}

/// `base` with the changes that `patch` makes. Where they do not fit `kind` the patch is taken as it is: checks come later.
pub(crate) fn merge(base: Option<&Node>, patch: &Node, kind: &Kind, rules: Rules<'_>) -> Node {
    match kind {
        Kind::Table(keys) => merge_table(base, patch, keys, rules),
        Kind::Tagged(_) | Kind::Optimizer => {
            if let Some(name) = patch.as_str() {
                return preset(kind, name, &patch.origin, rules).unwrap_or_else(|| patch.clone());
            }
            if let (Kind::Optimizer, Some(groups)) = (kind, patch.get("groups")) {
                return merge_groups(base, patch, groups, rules);
            }
            let own = patch.get("kind").and_then(Node::as_str);
            let before = base.and_then(|base| base.get("kind")).and_then(Node::as_str);
            let start = match own {
                Some(name) if own != before && base.is_some() => preset(kind, name, &patch.origin, rules),
                _ => base.cloned(),
            };
            let name = own.or(before).unwrap_or_default();
            let keys = rules.keys_of(kind, name).unwrap_or_default();
            merge_table(start.as_ref(), patch, keys, rules)
        }
        _ => widened(patch, kind),
    }
}

/// The integer `1` as `1.0`, where a key holds numbers that need not be whole: it is the same value.
fn widened(node: &Node, kind: &Kind) -> Node {
    let mut node = node.clone();
    if let Value::Leaf(toml::Value::Integer(integer)) = node.value
        && !matches!(kind, Kind::Integer(..) | Kind::Step)
        && fits(kind, &toml::Value::Integer(integer))
    {
        node.value = Value::Leaf(toml::Value::Float(integer as f64));
    }
    node
}

/// [`merge`] of a table with these keys.
pub(crate) fn merge_table(base: Option<&Node>, patch: &Node, keys: &[Key], rules: Rules<'_>) -> Node {
    let (Some(changes), Some(mut merged)) = (patch.entries(), base.cloned().or_else(|| Some(patch.emptied()))) else {
        return patch.clone();
    };
    if merged.entries().is_none() {
        return patch.clone();
    }
    for change in changes {
        let kind = keys.iter().find(|key| key.name == change.key).map(|key| &key.kind);
        let before = merged.get(&change.key);
        let node = kind.map_or_else(|| change.node.clone(), |kind| merge(before, &change.node, kind, rules));
        merged.insert_entry(Entry { node, ..change.clone() });
    }
    merged
}

/// Groups change one by one where there were groups before; they replace a single rule.
fn merge_groups(base: Option<&Node>, patch: &Node, groups: &Node, rules: Rules<'_>) -> Node {
    let mut all = base.and_then(|base| base.get("groups")).cloned().unwrap_or_else(|| groups.emptied());
    for change in groups.entries().unwrap_or_default() {
        let before = all.get(&change.key);
        // A new group may name its rule alone, as where a rule is replaced.
        let nothing = change.node.emptied();
        let mut node = merge(Some(before.unwrap_or(&nothing)), &change.node, &Kind::Optimizer, rules);
        if let Some(roles) = change.node.get("roles").or_else(|| before?.get("roles")) {
            node.insert("roles", roles.clone());
        }
        all.insert_entry(Entry { node, ..change.clone() });
    }
    let mut merged = patch.clone();
    merged.insert("groups", if groups.entries().is_some() { all } else { groups.clone() });
    merged
}

/// The table of that kind with the preset of every key that has one.
pub(crate) fn preset(kind: &Kind, name: &str, origin: &Origin, rules: Rules<'_>) -> Option<Node> {
    let keys = rules.keys_of(kind, name)?;
    let from = Origin::Preset(format!("kind {name}"));
    let mut table = Node { value: Value::Table(Vec::new()), origin: origin.clone() };
    table.insert("kind", Node::string(name, origin));
    for key in keys {
        if let Some(text) = key.preset {
            table.insert(key.name, Node::parse_value(text, &from));
        }
    }
    Some(table)
}
