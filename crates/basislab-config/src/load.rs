//! From text and changes to a checked [`Experiment`].

use crate::change::Change;
use crate::check::Check;
use crate::consistency;
use crate::document::{ARM_KEYS, arm_tables, arms, on_base, shared};
use crate::error::{ConfigError, Origin, on_one_line};
use crate::experiment::{Arm, Experiment};
use crate::grid;
use crate::keys::Key;
use crate::merge::Rules;
use crate::optimizer::RuleKeys;
use crate::run::RunSpec;
use crate::symmetry::symmetry;
use crate::tree::{Node, Value, join};
use serde::de::DeserializeOwned;

/// Finds the file of an experiment by name: what errors call it, and its text.
pub type FindBase<'a> = &'a dyn Fn(&str) -> Result<(String, String), String>;

/// What a configuration may name.
#[derive(Clone, Copy)]
pub struct Library<'a> {
    /// The update rules.
    pub rules: &'a [&'static RuleKeys],
    /// The file of an experiment that another one names as its base.
    pub base: FindBase<'a>,
}

/// An experiment and the origin of each of its values.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The checked experiment.
    pub experiment: Experiment,
    /// `(dotted path, value as TOML, where it was written)`: the shared tables, what each arm changes, and the rest.
    pub origins: Vec<(String, String, Origin)>,
}

impl Loaded {
    /// Where a key of an arm was written: the arm's own, else the shared one.
    pub fn origin(&self, arm: &str, key: &str) -> Option<&Origin> {
        let at = |path: &str| self.origins.iter().find(|(known, ..)| known == path).map(|(.., origin)| origin);
        at(&format!("arm.{arm}.{key}")).or_else(|| at(key))
    }
}

/// Parses, changes, checks and resolves an experiment. `file` is what errors call the text.
///
/// # Errors
/// One line naming place, key, what was found and what was expected.
pub fn load(text: &str, file: &str, changes: &[Change], library: Library<'_>) -> Result<Loaded, ConfigError> {
    let rules = Rules(library.rules);
    let (root, misspelt) = read(text, file, library, 0)?;
    let all: Vec<&Change> = changes.iter().collect();
    let loaded = changed(&root, &all, rules).map_err(|error| attribute(error, &root, changes, rules))?;
    misspelt.map_or(Ok(loaded), Err)
}

/// A base of a base of a base ...
const MOST_BASES: usize = 8;

/// The document on top of its base.
fn read(
    text: &str,
    file: &str,
    library: Library<'_>,
    depth: usize,
) -> Result<(Node, Option<ConfigError>), ConfigError> {
    let (root, misspelt) = Node::parse(text.strip_prefix('\u{feff}').unwrap_or(text), file)?;
    let Some(named) = root.get("base") else {
        return match root.get("only") {
            Some(only) => Err(ConfigError::new(&only.origin, "only", "found it without base, expected base too")),
            None => Ok((root, misspelt)),
        };
    };
    let fail = |what: String| Err(ConfigError::new(&named.origin, "base", what));
    let Some(name) = named.as_str() else { return fail(format!("found {}, expected text", named.found())) };
    if depth == MOST_BASES {
        return fail(format!("found more than {MOST_BASES} bases of bases, expected fewer"));
    }
    match (library.base)(name) {
        Ok((file, text)) => {
            let (base, _) = read(&text, &file, library, depth + 1)?;
            Ok((on_base(&base, &root, Rules(library.rules))?, misspelt))
        }
        Err(what) => fail(what),
    }
}

/// The document with these changes, checked and resolved.
fn changed(root: &Node, changes: &[&Change], rules: Rules<'_>) -> Result<Loaded, ConfigError> {
    let mut root = root.clone();
    changes.iter().try_for_each(|change| change.apply(&mut root, rules))?;
    let mut check = Check::new(rules);
    let tables: Vec<&str> = RunSpec::KEYS.iter().map(|key| key.name).collect();
    check.table(&root, Experiment::KEYS, &tables, "")?;
    let base = shared(&root, rules);
    check.table(&base, RunSpec::KEYS, &[], "")?;
    check.finish()?;
    let sweeps = grid::expand(&mut root, rules)?;
    let mut check = Check::new(rules);
    check.named(arms(&root), ARM_KEYS, &tables, "arm")?;
    let mut resolved = Vec::new();
    for arm in arms(&root) {
        let tables = arm_tables(&root, arm, rules)?;
        check.table(&tables, RunSpec::KEYS, &[], &join("arm", arm.name().unwrap_or_default()))?;
        resolved.push(tables);
    }
    check.finish()?;
    let seeds: Vec<u64> = typed(root.get("seeds").expect("checked"))?;
    let mut all = Vec::new();
    for (arm, tables) in arms(&root).iter().zip(&resolved) {
        let own = arm.get("seeds").map(typed).transpose()?;
        let name = typed(arm.get("name").expect("checked"))?;
        all.push(Arm { name, seeds: own.unwrap_or_else(|| seeds.clone()), run: typed(tables)? });
    }
    let verdict = root.get("verdict").expect("checked");
    let claims = root.get("claim").map_or(&[][..], Node::items).iter().map(|claim| typed(&with_cell(claim, verdict)));
    let mut experiment = Experiment {
        question: typed(root.get("question").expect("checked"))?,
        seeds,
        shared: typed(&base)?,
        arms: all,
        verdict: typed(verdict)?,
        claims: claims.collect::<Result<_, _>>()?,
        sweeps,
        quantize: root.get("quantize").map(typed).transpose()?,
    };
    consistency::check(&experiment, &root, &base, &resolved, rules)?;
    let symmetries: Vec<_> = experiment.claims.iter().map(|claim| symmetry(&experiment, claim, rules)).collect();
    experiment.claims.iter_mut().zip(symmetries).for_each(|(claim, symmetry)| claim.symmetry = symmetry);
    Ok(Loaded { experiment, origins: origins(&root, &base) })
}

/// A claim with its cells in full.
fn with_cell(claim: &Node, verdict: &Node) -> Node {
    let full = |cell: Option<&Node>| {
        let mut cell = cell.cloned().unwrap_or_else(|| claim.emptied());
        for Key { name, .. } in crate::cell::Cell::KEYS {
            if let (None, Some(common)) = (cell.get(name), verdict.get(name)) {
                cell.insert(name, common.clone());
            }
        }
        cell
    };
    let mut whole = claim.clone();
    whole.insert("cell", full(claim.get("cell")));
    if let Some(test) = whole.get_mut("test")
        && let Some(with) = test.get("with")
    {
        let with = full(Some(with));
        test.insert("with", with);
    }
    whole
}

fn typed<T: DeserializeOwned>(node: &Node) -> Result<T, ConfigError> {
    node.to_toml().try_into().map_err(|error| ConfigError::new(&node.origin, "", format!("{error}").replace('\n', " ")))
}

/// The error at what was typed and brought it about: a check that ties several keys together finds it at any of them.
fn attribute(error: ConfigError, root: &Node, changes: &[Change], rules: Rules<'_>) -> ConfigError {
    let mut all: Vec<&str> = Vec::new();
    let mut cures = Vec::new();
    let mut alters = Vec::new();
    for change in changes {
        let typed = change.typed.as_str();
        if all.contains(&typed) {
            continue;
        }
        all.push(typed);
        let others: Vec<&Change> = changes.iter().filter(|other| other.typed != typed).collect();
        match changed(root, &others, rules) {
            Ok(_) => cures.push(typed),
            Err(other) if other.what != error.what => alters.push(typed),
            Err(_) => {}
        }
    }
    let in_the_file = || changed(root, &[], rules).is_err_and(|alone| alone.what == error.what);
    let causes = match (cures.is_empty(), alters.is_empty()) {
        (false, _) => cures,
        _ if in_the_file() => return error,
        (_, false) => alters,
        _ => all,
    };
    if causes.iter().any(|typed| on_one_line(typed) == error.place) {
        return error;
    }
    ConfigError { place: on_one_line(&causes.join(" ")), ..error }
}

/// Every value with its path and origin. Presets that a change of kind brought into an arm are not listed apart.
fn origins(root: &Node, shared: &Node) -> Vec<(String, String, Origin)> {
    let mut all = Vec::new();
    for entry in root.entries().unwrap_or_default() {
        // The shared tables are listed as they were completed.
        collect(shared.get(&entry.key).unwrap_or(&entry.node), &entry.key, &mut all);
    }
    all
}

fn collect(node: &Node, path: &str, into: &mut Vec<(String, String, Origin)>) {
    match &node.value {
        Value::Table(entries) => {
            entries.iter().for_each(|entry| collect(&entry.node, &join(path, &entry.key), into));
        }
        Value::Array(items) if items.iter().any(|item| item.entries().is_some()) => {
            for (index, item) in items.iter().enumerate() {
                let label = item.name().map_or_else(|| index.to_string(), str::to_owned);
                collect(item, &join(path, &label), into);
            }
        }
        _ => into.push((path.to_owned(), node.to_toml().to_string(), node.origin.clone())),
    }
}
