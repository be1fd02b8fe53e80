//! An experiment file as a document: shared tables, arms that change them, and where a dotted path leads.

use crate::error::{ConfigError, Origin};
use crate::keys::{Key, Kind, keys};
use crate::merge::{Rules, merge, merge_table, preset};
use crate::phase::Phase;
use crate::run::RunSpec;
use crate::tree::{Node, Value};

/// The keys of an arm that are not changes to shared tables.
pub(crate) const ARM_KEYS: &[Key] = keys! {
    /// Its name in files and tables.
    name: RunName = Kind::Name;
    /// Its seeds, where they are not those of the experiment.
    seeds: Vec<u64> = Kind::Seeds, optional;
};

/// The tables that an arm may take from another by its name.
const TAKEN_BY_NAME: [&str; 3] = ["optimizer", "basis", "corpus"];

/// The shared tables, complete.
pub(crate) fn shared(root: &Node, rules: Rules<'_>) -> Node {
    let tables = only(root, |key| RunSpec::KEYS.iter().any(|known| known.name == key));
    with_phases(merge_table(None, &tables, RunSpec::KEYS, rules), rules)
}

/// The arms as they are written.
pub(crate) fn arms(root: &Node) -> &[Node] {
    root.get("arm").map_or(&[], Node::items)
}

/// The tables of an arm: the shared ones with its changes.
pub(crate) fn arm_tables(root: &Node, arm: &Node, rules: Rules<'_>) -> Result<Node, ConfigError> {
    let shared = shared(root, rules);
    let mut changes = only(arm, |key| ARM_KEYS.iter().all(|own| own.name != key));
    for key in TAKEN_BY_NAME {
        if let Some(name) = changes.get(key).and_then(Node::as_str)
            && let Some(table) = table_of_arm(root, &shared, arm, key, name, rules)?
        {
            changes.insert(key, table);
        }
    }
    Ok(with_phases(merge_table(Some(&shared), &changes, RunSpec::KEYS, rules), rules))
}

/// The table that `key = "name"` takes over from the arm of that name; `None` where there is no such arm.
fn table_of_arm(
    root: &Node,
    shared: &Node,
    arm: &Node,
    key: &str,
    name: &str,
    rules: Rules<'_>,
) -> Result<Option<Node>, ConfigError> {
    let Some(other) = arms(root).iter().find(|other| other.name() == Some(name)) else { return Ok(None) };
    if other.name() == arm.name() {
        return Ok(None);
    }
    let own = other.get(key);
    if let Some(further) = own.and_then(Node::as_str).filter(|further| *further != name) {
        let kind = &RunSpec::KEYS.iter().find(|known| known.name == key).expect("a shared table").kind;
        return match preset(kind, further, &arm.origin, rules) {
            Some(table) => Ok(Some(table)),
            None => {
                let at = arm.get(key).map_or(&arm.origin, |node| &node.origin);
                let what = format!("found {name:?}, whose own {key} is that of {further:?}, expected {further:?}");
                Err(ConfigError::new(at, &format!("arm.{}.{key}", arm.name().unwrap_or_default()), what))
            }
        };
    }
    let changes = only(other, |own| own == key);
    Ok(merge_table(Some(shared), &changes, RunSpec::KEYS, rules).get(key).cloned())
}

/// Phases with optimizer and basis in full: what a phase leaves out is as before it.
fn with_phases(mut tables: Node, rules: Rules<'_>) -> Node {
    let (mut optimizer, mut basis) = (tables.get("optimizer").cloned(), tables.get("basis").cloned());
    let Some(Value::Array(phases)) = tables.get_mut("phases").map(|node| &mut node.value) else { return tables };
    for phase in phases.iter_mut().filter(|phase| phase.entries().is_some()) {
        for (key, before) in [("optimizer", &mut optimizer), ("basis", &mut basis)] {
            let kind = &Phase::KEYS.iter().find(|known| known.name == key).expect("a key of phases").kind;
            let after = match (phase.get(key), before.as_ref()) {
                (Some(change), before) => merge(before, change, kind, rules),
                (None, Some(before)) => before.clone(),
                (None, None) => continue,
            };
            phase.insert(key, after.clone());
            *before = Some(after);
        }
    }
    tables
}

/// The table with those entries alone.
pub(crate) fn only(table: &Node, keep: impl Fn(&str) -> bool) -> Node {
    match &table.value {
        Value::Table(entries) => {
            let entries = entries.iter().filter(|entry| keep(&entry.key)).cloned().collect();
            Node { value: Value::Table(entries), origin: table.origin.clone() }
        }
        _ => table.clone(),
    }
}

/// A file on top of the one that it names as its base: tables are merged, arms and claims by name, and the rest is replaced.
pub(crate) fn on_base(base: &Node, file: &Node, rules: Rules<'_>) -> Result<Node, ConfigError> {
    let mut root = base.clone();
    for entry in file.entries().unwrap_or_default() {
        let shared = RunSpec::KEYS.iter().find(|known| known.name == entry.key).map(|known| &known.kind);
        let before = root.get(&entry.key);
        let node = match (entry.key.as_str(), shared) {
            ("base" | "only", _) => continue,
            ("arm" | "claim", _) => by_name(before, &entry.node, &entry.key, rules)?,
            ("grid", _) => {
                let mut all = before.map_or_else(Vec::new, |before| before.items().to_vec());
                all.extend(entry.node.items().iter().cloned());
                if entry.node.items().is_empty() { entry.node.clone() } else { list(all, &entry.node.origin) }
            }
            ("verdict", _) => merge(before, &entry.node, &Kind::Table(&[]), rules),
            (_, Some(kind)) => merge(before, &entry.node, kind, rules),
            _ => entry.node.clone(),
        };
        root.insert_entry(crate::tree::Entry { node, ..entry.clone() });
    }
    if let Some(kept) = file.get("only") {
        keep_only(&mut root, file, kept, rules)?;
    }
    Ok(root)
}

/// Leaves out the base's arms that `only` does not name, and claims and grids about them.
fn keep_only(root: &mut Node, file: &Node, kept: &Node, rules: Rules<'_>) -> Result<(), ConfigError> {
    let mut names: Vec<&str> = kept.items().iter().filter_map(Node::as_str).collect();
    let all: Vec<String> = arms(root).iter().filter_map(Node::name).map(str::to_owned).collect();
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|arm| arm == *name)) {
        let known: Vec<&str> = all.iter().map(String::as_str).collect();
        let what = format!("found {unknown:?}, expected {}", crate::error::one_of(&known, Some(unknown)));
        return Err(ConfigError::new(&kept.origin, "only", what));
    }
    names.extend(arms(file).iter().filter_map(Node::name));
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let keeps = |name: &str| names.iter().any(|kept| kept == name);
    take_over(root, keeps, rules)?;
    let own_claims: Vec<&str> = file.get("claim").map_or(&[][..], Node::items).iter().filter_map(Node::name).collect();
    if let Some(Value::Array(claims)) = root.get_mut("claim").map(|node| &mut node.value) {
        claims.retain(|claim| {
            let named = ["arm", "other"].into_iter().filter_map(|key| claim.get("test")?.get(key)?.as_str());
            let listed = claim.get("test").and_then(|test| test.get("arms")).map_or(&[][..], Node::items);
            let mut all = named.chain(listed.iter().filter_map(Node::as_str));
            claim.name().is_some_and(|name| own_claims.contains(&name)) || all.all(keeps)
        });
    }
    if let Some(Value::Array(arms)) = root.get_mut("arm").map(|node| &mut node.value) {
        arms.retain(|arm| arm.name().is_none_or(keeps));
    }
    if let Some(Value::Array(grids)) = root.get_mut("grid").map(|node| &mut node.value) {
        for grid in grids.iter_mut() {
            if let Some(Value::Array(swept)) = grid.get_mut("arms").map(|node| &mut node.value) {
                swept.retain(|arm| arm.as_str().is_none_or(keeps));
            }
        }
        grids.retain(|grid| grid.get("arms").is_none_or(|arms| !arms.items().is_empty()));
    }
    Ok(())
}

/// Tables that kept arms take from others by name, written out: the others may go.
fn take_over(root: &mut Node, keeps: impl Fn(&str) -> bool, rules: Rules<'_>) -> Result<(), ConfigError> {
    let (shared, before) = (shared(root, rules), root.clone());
    let Some(Value::Array(arms)) = root.get_mut("arm").map(|node| &mut node.value) else { return Ok(()) };
    for arm in arms.iter_mut().filter(|arm| arm.name().is_some_and(&keeps)) {
        for key in TAKEN_BY_NAME {
            let Some(name) = arm.get(key).and_then(Node::as_str) else { continue };
            if let Some(table) = table_of_arm(&before, &shared, arm, key, name, rules)? {
                arm.insert(key, table);
            }
        }
    }
    Ok(())
}

/// Lists of named tables, merged by name; new ones come last.
fn by_name(base: Option<&Node>, file: &Node, list_key: &str, rules: Rules<'_>) -> Result<Node, ConfigError> {
    let mut all = base.map_or_else(Vec::new, |base| base.items().to_vec());
    if file.items().is_empty() {
        return Ok(file.clone());
    }
    for (index, item) in file.items().iter().enumerate() {
        let Some(name) = item.name() else { continue };
        if file.items()[..index].iter().any(|other| other.name() == Some(name)) {
            let what = format!("found {name:?} a second time in this file, expected distinct names");
            return Err(ConfigError::new(&item.origin, list_key, what));
        }
    }
    let keys: &[Key] = if list_key == "arm" { RunSpec::KEYS } else { crate::claim::Claim::KEYS };
    for item in file.items() {
        match all.iter_mut().find(|old| old.name().is_some() && old.name() == item.name()) {
            // A change to a change: kinds are completed when the arm is.
            Some(old) => *old = merge_table(Some(old), item, keys, rules),
            None => all.push(item.clone()),
        }
    }
    Ok(list(all, &file.origin))
}

fn list(items: Vec<Node>, origin: &Origin) -> Node {
    Node { value: Value::Array(items), origin: origin.clone() }
}
