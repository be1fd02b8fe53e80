//! Grids: arms made from arms by other values of some keys.

use crate::change::{Given, add_arm, set};
use crate::check::Check;
use crate::document::arms;
use crate::error::{ConfigError, count, one_of};
use crate::experiment::{Choose, Sweep, SweepPoint};
use crate::keys::{Key, Kind, keys};
use crate::merge::Rules;
use crate::name::RunName;
use crate::tree::{Entry, Node, Value, join};

/// The keys of a grid that are not keys of arms.
pub(crate) const KEYS: &[Key] = keys! {
    /// The arms that are swept; all of them where this is left out.
    arms: Vec<RunName> = Kind::Names(1), optional;
    /// Keys whose lists advance together. The lists have one length.
    zip: Vec<String> = Kind::Table(&[]), optional;
    /// Lets each swept arm take over the values of its best point.
    choose: Choose = Kind::Table(Choose::KEYS), optional;
};

/// Adds the arms of all grids to the document. An arm that two grids make is made once.
pub(crate) fn expand(root: &mut Node, rules: Rules<'_>) -> Result<Vec<Sweep>, ConfigError> {
    let grids = root.get("grid").cloned();
    let mut sweeps = Vec::new();
    for (index, grid) in grids.iter().flat_map(Node::items).enumerate() {
        sweeps.extend(expand_one(root, grid, &join("grid", &index.to_string()), rules)?);
    }
    Ok(sweeps)
}

/// Some keys with a value each.
type Point<'a> = Vec<(&'a str, &'a Node)>;

fn expand_one(root: &mut Node, grid: &Node, path: &str, rules: Rules<'_>) -> Result<Vec<Sweep>, ConfigError> {
    let fail = |at: &Node, path: &str, what: String| Err(ConfigError::new(&at.origin, path, what));
    let Some(entries) = grid.entries() else {
        return fail(grid, path, format!("found {}, expected a table", grid.found()));
    };
    let own = |entry: &&Entry| KEYS.iter().any(|key| key.name == entry.key);
    let mut swept: Vec<&Entry> = entries.iter().filter(|entry| !own(entry)).collect();
    swept.sort_by_key(|entry| &entry.key);
    let not_own: Vec<&str> = swept.iter().map(|entry| entry.key.as_str()).chain(["zip"]).collect();
    let mut check = Check::new(rules);
    check.table(grid, KEYS, &not_own, path)?;
    check.finish()?;
    let zipped = grid.get("zip").map_or(&[][..], |zip| zip.entries().unwrap_or_default());
    for entry in swept.iter().copied().chain(zipped) {
        if entry.node.items().is_empty() {
            let at = join(path, &entry.key);
            return fail(&entry.node, &at, format!("found {}, expected a list of values", entry.node.found()));
        }
    }
    for entry in &swept {
        let values: Vec<toml::Value> = entry.node.items().iter().map(Node::to_toml).collect();
        if let Some(again) = (1..values.len()).find(|&at| values[..at].contains(&values[at])) {
            let at = join(path, &entry.key);
            return fail(&entry.node, &at, format!("found {} twice, expected different values", values[again]));
        }
    }
    let lengths: Vec<usize> = zipped.iter().map(|entry| entry.node.items().len()).collect();
    if let Some(other) = lengths.iter().position(|length| *length != lengths[0]) {
        let what = format!("found {} and {}, expected lists of one length", lengths[0], count(lengths[other], "value"));
        return fail(&zipped[other].node, &join(path, "zip"), what);
    }
    if swept.is_empty() && zipped.is_empty() {
        return fail(
            grid,
            path,
            "found no key to sweep, expected one such as \"optimizer.lr\" = [1e-3, 1e-2]".to_owned(),
        );
    }
    let mut points = crossed(&swept, zipped);
    // Names do not depend on the order in which keys are written.
    points.iter_mut().for_each(|point| point.sort_by_key(|(key, _)| *key));
    if points.len() > MOST_POINTS {
        return fail(grid, path, format!("found {}, expected at most {MOST_POINTS}", count(points.len(), "point")));
    }
    let choose: Option<Choose> = grid.get("choose").map(|node| node.to_toml().try_into().expect("checked"));
    let all: Vec<String> = arms(root).iter().filter_map(Node::name).map(str::to_owned).collect();
    let named: Option<Vec<String>> =
        grid.get("arms").map(|arms| arms.items().iter().filter_map(Node::as_str).map(str::to_owned).collect());
    let mut sweeps = Vec::new();
    for arm in named.unwrap_or_else(|| all.clone()) {
        if !all.contains(&arm) {
            let known: Vec<&str> = all.iter().map(String::as_str).collect();
            let at = grid.get("arms").unwrap_or(grid);
            return fail(at, &join(path, "arms"), format!("found {arm:?}, expected {}", one_of(&known, Some(&arm))));
        }
        let mut made = Vec::new();
        for point in &points {
            made.push(add_point(root, grid, &arm, point, choose.as_ref(), rules)?);
        }
        let keys = points[0].iter().map(|(key, _)| (*key).to_owned()).collect();
        let arm = RunName::new(&arm).map_err(|expected| {
            ConfigError::new(&grid.origin, path, format!("found arm {arm:?}, expected {expected}"))
        })?;
        sweeps.push(Sweep { arm, keys, points: made, choose: choose.clone() });
    }
    Ok(sweeps)
}

/// More would hardly be meant.
const MOST_POINTS: usize = 4096;

/// Every combination of the crossed lists with every place of the zipped ones, the first list slowest.
fn crossed<'a>(swept: &[&'a Entry], zipped: &'a [Entry]) -> Vec<Point<'a>> {
    let mut points: Vec<Point<'a>> = vec![Vec::new()];
    for entry in swept {
        let with_value = |point: &Point<'a>| -> Vec<Point<'a>> {
            let value = |value: &'a Node| point.iter().copied().chain([(entry.key.as_str(), value)]).collect();
            entry.node.items().iter().map(value).collect()
        };
        points = points.iter().flat_map(with_value).collect();
    }
    let Some(length) = zipped.first().map(|entry| entry.node.items().len()) else { return points };
    let at = |place: usize| zipped.iter().map(move |entry| (entry.key.as_str(), &entry.node.items()[place]));
    let with_place = |point: &Point<'a>| -> Vec<Point<'a>> {
        (0..length).map(|place| point.iter().copied().chain(at(place)).collect()).collect()
    };
    points.iter().flat_map(with_place).collect()
}

fn add_point(
    root: &mut Node,
    grid: &Node,
    arm: &str,
    point: &Point<'_>,
    choose: Option<&Choose>,
    rules: Rules<'_>,
) -> Result<SweepPoint, ConfigError> {
    let values: Vec<toml::Value> = point.iter().map(|(_, value)| value.to_toml()).collect();
    let part = |(key, value): &(&str, &Node)| format!("-{}-{}", key.rsplit('.').next().unwrap_or(key), short(value));
    let name = arm.to_owned() + &point.iter().map(part).collect::<String>();
    let origin = &grid.origin;
    let name = RunName::new(&name).map_err(|expected| {
        ConfigError::new(origin, "", format!("the arm would be called {name:?}, expected {expected}"))
    })?;
    let known = arms(root).iter().any(|other| other.name() == Some(&*name));
    if !known {
        add_arm(root, &name, arm, origin)?;
        for (key, value) in point {
            set(root, &format!("arm.{name}.{key}"), Given::Node(value), &value.origin, rules)?;
        }
        if let Some(choose) = choose {
            let seeds = choose
                .on_seeds
                .iter()
                .map(|seed| Node { value: Value::Leaf(toml::Value::Integer(*seed as i64)), origin: origin.clone() });
            let seeds = Node { value: Value::Array(seeds.collect()), origin: origin.clone() };
            let arms = root.get_mut("arm").map(|node| &mut node.value);
            if let Some(Value::Array(arms)) = arms
                && let Some(arm) = arms.last_mut()
            {
                arm.insert("seeds", seeds);
            }
        }
    }
    Ok(SweepPoint { arm: name, values })
}

/// A value as part of a name: `0.003`, `layernorm`.
fn short(value: &Node) -> String {
    match value.to_toml() {
        toml::Value::String(text) => text,
        toml::Value::Float(number) => format!("{number:?}"),
        toml::Value::Table(table) => table.get("kind").and_then(|kind| kind.as_str()).unwrap_or("table").to_owned(),
        other => other.to_string(),
    }
}
