//! Changes that the command line makes to an experiment file: `--set`, `--arm`, `--sweep`.

use crate::document::{ARM_KEYS, arm_tables, arms, only};
use crate::error::{ConfigError, Origin, one_of};
use crate::experiment::Experiment;
use crate::keys::{Key, Kind};
use crate::merge::{Rules, preset};
use crate::number::split_list;
use crate::optimizer::Role;
use crate::run::RunSpec;
use crate::tree::{Entry, Node, Value};

/// A change on the command line.
#[derive(Debug, Clone)]
pub struct Change {
    /// What the user typed, for messages and the record.
    pub typed: String,
    kind: ChangeKind,
}

#[derive(Debug, Clone)]
enum ChangeKind {
    /// A dotted path (arms and claims are addressed by name: `arm.adam.optimizer.lr`) and a TOML value. Where the key holds
    /// text, the value is a quoted TOML string or the text itself.
    Set { path: String, value: String },
    /// A new arm like another one, and paths below it with their values.
    Arm { name: String, like: String, sets: Vec<(String, String)> },
    /// A grid over one key.
    Sweep { path: String, values: Vec<String> },
    /// In every grid, the values of a key that counts become these counts, smallest first, and stay distinct.
    Shrink { key: String, from: i64 },
}

impl Change {
    /// Sets a key.
    pub fn set(path: &str, value: &str, typed: &str) -> Self {
        let kind = ChangeKind::Set { path: path.to_owned(), value: value.to_owned() };
        Self { typed: typed.to_owned(), kind }
    }

    /// Sets a key that holds text to exactly this text, quotes included.
    pub fn literal(path: &str, text: &str, typed: &str) -> Self {
        Self::set(path, &toml::Value::String(text.to_owned()).to_string(), typed)
    }

    /// `KEY=VALUE`, as `--set` takes it.
    ///
    /// # Errors
    /// What was found and what was expected.
    pub fn parse_set(text: &str) -> Result<Self, String> {
        let (path, value) = assignment(text).ok_or_else(|| {
            format!("--set {text}: found no '=', expected KEY=VALUE, for example train.batch_size=32")
        })?;
        Ok(Self::set(path, value, &format!("--set {text}")))
    }

    /// `NAME=LIKE,KEY=VALUE,...`, as `--arm` takes it.
    ///
    /// # Errors
    /// What was found and what was expected.
    pub fn parse_arm(text: &str) -> Result<Self, String> {
        let form = "expected NAME=ARM,KEY=VALUE,..., for example adamw=adam,optimizer.kind=adamw";
        let fail = |found: &str| format!("--arm {text}: {found}, {form}");
        let (name, rest) = assignment(text).ok_or_else(|| fail("found no '='"))?;
        let mut parts = split_list(rest).into_iter();
        let like = parts.next().map(str::trim).filter(|like| !like.is_empty() && !like.contains('='));
        let like = like.ok_or_else(|| fail("found no arm that it is like"))?;
        let set = |part: &str| {
            let (path, value) = assignment(part).ok_or_else(|| fail(&format!("found no '=' in {part:?}")))?;
            Ok((path.to_owned(), value.to_owned()))
        };
        let sets = parts.map(set).collect::<Result<_, String>>()?;
        let kind = ChangeKind::Arm { name: name.to_owned(), like: like.to_owned(), sets };
        Ok(Self { typed: format!("--arm {text}"), kind })
    }

    /// `KEY=VALUE,VALUE,...`, as `--sweep` takes it.
    ///
    /// # Errors
    /// What was found and what was expected.
    pub fn parse_sweep(text: &str) -> Result<Self, String> {
        let form = "expected KEY=VALUE,VALUE,..., for example arm.adam.optimizer.lr=1e-3,3e-3,1e-2";
        let (path, values) = assignment(text).ok_or_else(|| format!("--sweep {text}: found no '=', {form}"))?;
        let values: Vec<String> = split_list(values).into_iter().map(|value| value.trim().to_owned()).collect();
        if values.len() < 2 || values.iter().any(String::is_empty) {
            return Err(format!("--sweep {text}: found fewer than two values, {form}"));
        }
        Ok(Self { typed: format!("--sweep {text}"), kind: ChangeKind::Sweep { path: path.to_owned(), values } })
    }

    /// Replaces the values that grids give to `key`, a count, by `from`, `from + 1` and so on, in their order of size.
    pub fn shrink_grids(key: &str, from: i64, typed: &str) -> Self {
        Self { typed: typed.to_owned(), kind: ChangeKind::Shrink { key: key.to_owned(), from } }
    }

    pub(crate) fn apply(&self, root: &mut Node, rules: Rules<'_>) -> Result<(), ConfigError> {
        let origin = Origin::CommandLine(self.typed.clone());
        match &self.kind {
            ChangeKind::Set { path, value } => set(root, path, Given::Text(value), &origin, rules),
            ChangeKind::Arm { name, like, sets } => {
                add_arm(root, name, like, &origin)?;
                let mut sets = sets.iter();
                sets.try_for_each(|(path, value)| {
                    set(root, &format!("arm.{name}.{path}"), Given::Text(value), &origin, rules)
                })
            }
            ChangeKind::Shrink { key, from } => {
                if let Some(Value::Array(grids)) = root.get_mut("grid").map(|node| &mut node.value) {
                    grids.iter_mut().for_each(|grid| shrink(grid, key, *from, &origin));
                }
                Ok(())
            }
            ChangeKind::Sweep { path, values } => {
                let (arm, key) = match &split_path(root, path)[..] {
                    [list, arm, key @ ..] if list == "arm" && !key.is_empty() => (Some(arm.clone()), key.join(".")),
                    _ => (None, path.clone()),
                };
                let mut grid = Node { value: Value::Table(Vec::new()), origin: origin.clone() };
                let listed = |items: Vec<Node>| Node { value: Value::Array(items), origin: origin.clone() };
                if let Some(arm) = arm {
                    grid.insert("arms", listed(vec![Node::string(&arm, &origin)]));
                }
                grid.insert(&key, listed(values.iter().map(|value| Node::parse_value(value, &origin)).collect()));
                match root.get_mut("grid").map(|node| &mut node.value) {
                    Some(Value::Array(grids)) => grids.push(grid),
                    _ => root.insert("grid", listed(vec![grid])),
                }
                Ok(())
            }
        }
    }
}

/// The values of a key in one grid, crossed or zipped, by their rank.
fn shrink(grid: &mut Node, key: &str, from: i64, origin: &Origin) {
    if let Some(zip) = grid.get_mut("zip") {
        shrink(zip, key, from, origin);
    }
    let Some(list) = grid.get_mut(key) else { return };
    let size = |node: &Node| if let Value::Leaf(value) = &node.value { value.as_integer() } else { None };
    let mut sizes: Vec<i64> = list.items().iter().filter_map(size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let Value::Array(items) = &mut list.value else { return };
    for item in items {
        if let Some(rank) = size(item).and_then(|size| sizes.binary_search(&size).ok()) {
            *item = Node { value: Value::Leaf(toml::Value::Integer(from + rank as i64)), origin: origin.clone() };
        }
    }
}

/// `KEY=VALUE` at its first equals sign. In `KEY = VALUE`, as in a file, the spaces belong to the sign; else they belong to
/// the value.
fn assignment(text: &str) -> Option<(&str, &str)> {
    let (path, value) = text.split_once('=')?;
    Some((path.trim(), if path.ends_with(' ') { value.trim() } else { value }))
}

/// Adds an arm with the changes of another one.
pub(crate) fn add_arm(root: &mut Node, name: &str, like: &str, origin: &Origin) -> Result<(), ConfigError> {
    let names: Vec<&str> = arms(root).iter().filter_map(Node::name).collect();
    let fail = |what: String| Err(ConfigError::new(origin, "", what));
    let Some(model) = arms(root).iter().find(|arm| arm.name() == Some(like)) else {
        return fail(format!("no such arm {like:?}, expected {}", one_of(&names, Some(like))));
    };
    if names.contains(&name) {
        return fail(format!("there is an arm {name:?} already, expected another name"));
    }
    let mut arm = model.clone();
    arm.origin = origin.clone();
    arm.insert_entry(Entry { key: "name".to_owned(), key_origin: origin.clone(), node: Node::string(name, origin) });
    if let Some(Value::Array(arms)) = root.get_mut("arm").map(|node| &mut node.value) {
        arms.push(arm);
    }
    Ok(())
}

/// A value as it comes.
pub(crate) enum Given<'a> {
    /// From the command line.
    Text(&'a str),
    /// From a file.
    Node(&'a Node),
}

/// Sets one value. A `kind` brings the presets of its table, and bytes bring their vocabulary.
pub(crate) fn set(
    root: &mut Node,
    path: &str,
    given: Given<'_>,
    origin: &Origin,
    rules: Rules<'_>,
) -> Result<(), ConfigError> {
    let fail = |what: String| ConfigError::new(origin, "", what);
    let parts = split_path(root, path);
    let Some((last, parents)) = parts.split_last().filter(|(last, _)| !last.is_empty()) else {
        return Err(fail("expected PATH=VALUE, for example train.steps=100".to_owned()));
    };
    // Which keys a table has depends on its kind, which an arm may share with the others.
    if parents.is_empty() && ["base", "only"].contains(&last.as_str()) {
        return Err(fail(format!(
            "{last} is a key of files alone; `basislab run --only ARM` trains a part of an experiment"
        )));
    }
    let complete = completed(root, &parts, rules)?;
    let mut at = Some(&complete);
    let mut shape = Shape::Root;
    let mut node = root;
    for part in parents {
        shape = shape.descend(at, part, rules).map_err(&fail)?;
        at = at.and_then(|at| at.find(std::slice::from_ref(part)));
        node = step_into(node, part, origin).ok_or_else(|| fail(format!("there is no {part:?} to set a key of")))?;
        // An optimizer or a basis that is written as a name: a key of it is set in the table that the name stands for.
        if let (Value::Leaf(_), Some(named)) = (&node.value, at.filter(|at| at.entries().is_some())) {
            *node = named.clone();
        }
    }
    if let (Shape::Tagged(kind), "kind") = (&shape, last.as_str()) {
        let value = given.text(origin);
        if let (Some(kind), Some(before)) = (value.as_str(), at.and_then(|at| at.get("kind")))
            && before.as_str() == Some(kind)
        {
            // It is of that kind already, and keeps its other keys.
            return Ok(());
        }
        let table = value.as_str().and_then(|name| preset(kind, name, origin, rules));
        let mut table = table.ok_or_else(|| {
            fail(format!("found {}, expected {}", value.found(), one_of(&rules.kinds(kind), value.as_str())))
        })?;
        if let Some(roles) = node.get("roles") {
            table.insert("roles", roles.clone());
        }
        *node = table;
        return Ok(());
    }
    let value = match shape.descend(at, last, rules).map_err(&fail)? {
        Shape::Leaf(Kind::Text(_)) => given.literal(origin),
        Shape::Leaf(kind) if kind.is_text() => given.text(origin),
        _ => given.value(origin),
    };
    if !matches!(node.value, Value::Table(_)) {
        return Err(fail(format!("cannot set {last:?} there: not a table")));
    }
    if matches!(parents.last(), Some(parent) if parent == "corpus")
        && last == "tokenizer"
        && value.as_str() == Some("bytes")
    {
        node.insert("d_vocab", Node::parse_value("256", &Origin::Preset("corpus.tokenizer=bytes".to_owned())));
    }
    let entry = Entry { key: last.clone(), key_origin: origin.clone(), node: value };
    node.insert_entry(entry);
    Ok(())
}

impl Given<'_> {
    fn literal(&self, origin: &Origin) -> Node {
        match self {
            Self::Text(text) => Node::text(text, origin),
            Self::Node(node) => (*node).clone(),
        }
    }

    fn text(&self, origin: &Origin) -> Node {
        match self {
            Self::Text(text) => Node::text(text.trim(), origin),
            Self::Node(node) => (*node).clone(),
        }
    }

    fn value(&self, origin: &Origin) -> Node {
        match self {
            Self::Text(text) => Node::parse_value(text.trim(), origin),
            Self::Node(node) => (*node).clone(),
        }
    }
}

/// The document with the arm that a path leads into in full.
fn completed(root: &Node, parts: &[String], rules: Rules<'_>) -> Result<Node, ConfigError> {
    let named =
        |arm: &&Node| parts.first().is_some_and(|list| list == "arm") && arm.name() == parts.get(1).map(String::as_str);
    let Some(arm) = arms(root).iter().find(named) else { return Ok(root.clone()) };
    let (tables, mut arm) = (arm_tables(root, arm, rules)?, arm.clone());
    tables.entries().unwrap_or_default().iter().for_each(|entry| arm.insert_entry(entry.clone()));
    // Of the arms this one alone: a grid sets keys of thousands.
    let mut complete = only(root, |key| key != "arm");
    let origin = arm.origin.clone();
    complete.insert("arm", Node { value: Value::Array(vec![arm]), origin });
    Ok(complete)
}

/// Splits at dots, but keeps the dots of an arm's or claim's own name.
pub(crate) fn split_path(root: &Node, path: &str) -> Vec<String> {
    for list in ["arm", "claim"] {
        let Some(rest) = path.strip_prefix(list).and_then(|rest| rest.strip_prefix('.')) else { continue };
        let names = root.get(list).map_or(&[][..], Node::items).iter().filter_map(Node::name);
        let named = names.filter_map(|name| Some((name, rest.strip_prefix(name)?.strip_prefix('.')?)));
        // Of `adam` and `adam.1`, the longer one.
        if let Some((name, tail)) = named.max_by_key(|(name, _)| name.len()) {
            let head = [list.to_owned(), name.to_owned()];
            return head.into_iter().chain(tail.split('.').map(str::to_owned)).collect();
        }
    }
    path.split('.').map(str::to_owned).collect()
}

/// The node below, which is made where a table may go without it.
fn step_into<'a>(node: &'a mut Node, part: &str, origin: &Origin) -> Option<&'a mut Node> {
    if matches!(node.value, Value::Table(_)) && node.get(part).is_none() {
        node.insert(part, Node { value: Value::Table(Vec::new()), origin: origin.clone() });
    }
    match &mut node.value {
        Value::Array(items) => {
            let by_name = items.iter().position(|item| item.name() == Some(part));
            items.get_mut(by_name.or_else(|| part.parse().ok())?)
        }
        Value::Table(entries) => entries.iter_mut().find(|entry| entry.key == part).map(|entry| &mut entry.node),
        Value::Leaf(_) => None,
    }
}

/// What may stand below a node.
enum Shape {
    Root,
    Arms,
    Arm,
    Keys(&'static [Key]),
    /// A table whose keys depend on its `kind`.
    Tagged(&'static Kind),
    Groups,
    Named(&'static [Key]),
    Leaf(&'static Kind),
}

impl Shape {
    fn of(kind: &'static Kind) -> Self {
        match kind {
            Kind::Table(keys) => Self::Keys(keys),
            Kind::Tagged(_) | Kind::Optimizer => Self::Tagged(kind),
            Kind::Named(keys) | Kind::List(keys) => Self::Named(keys),
            Kind::Arms => Self::Arms,
            leaf => Self::Leaf(leaf),
        }
    }

    /// What `part` is, below a table of this shape that holds what is `at` it.
    fn descend(&self, at: Option<&Node>, part: &str, rules: Rules<'_>) -> Result<Self, String> {
        let among = |keys: &[&'static Key]| match keys.iter().find(|key| key.name == part) {
            Some(key) => Ok(Self::of(&key.kind)),
            None if keys.is_empty() => Err(format!("unknown key {part:?}, expected no further key")),
            None => {
                let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
                Err(format!("unknown key {part:?}, expected {}", one_of(&names, Some(part))))
            }
        };
        let named = |below: Self| {
            let items = at.map_or(&[][..], Node::items);
            let names: Vec<&str> = items.iter().filter_map(Node::name).collect();
            let by_place = names.is_empty() && part.parse::<usize>().is_ok_and(|place| place < items.len());
            if names.contains(&part) || by_place {
                return Ok(below);
            }
            Err(format!("no such name {part:?}, expected {}", one_of(&names, Some(part))))
        };
        match self {
            Self::Root => among(&Experiment::KEYS.iter().chain(RunSpec::KEYS).collect::<Vec<_>>()),
            Self::Arms => named(Self::Arm),
            Self::Arm => among(&ARM_KEYS.iter().chain(RunSpec::KEYS).collect::<Vec<_>>()),
            Self::Keys(keys) => among(&keys.iter().collect::<Vec<_>>()),
            Self::Tagged(_) if part == "kind" => Ok(Self::Leaf(&Kind::Name)),
            Self::Tagged(Kind::Optimizer) if part == "groups" => Ok(Self::Groups),
            Self::Tagged(Kind::Optimizer) if part == "roles" && at.is_some_and(|at| at.get("roles").is_some()) => {
                Ok(Self::Leaf(&Kind::Choices(Role::CHOICES)))
            }
            Self::Tagged(kind) => {
                let name = at.and_then(|at| at.get("kind")).and_then(Node::as_str).unwrap_or_default();
                among(&rules.keys_of(kind, name).unwrap_or_default().iter().collect::<Vec<_>>())
            }
            Self::Groups => Ok(Self::Tagged(&Kind::Optimizer)),
            Self::Named(keys) => named(Self::Keys(keys)),
            Self::Leaf(_) => Err(format!("there is nothing below it to call {part:?}")),
        }
    }
}
