//! Whether a document is what the declarations of its keys say.

use crate::error::{ConfigError, count, one_of};
use crate::keys::{Choice, Key, Kind, MAX_SEED, MAX_SEEDS, Variant};
use crate::merge::Rules;
use crate::name::{NAME, RunName};
use crate::number::{advice, fits};
use crate::optimizer::Role;
use crate::tree::{Node, Value, join};
use crate::{Site, SitePattern};
use std::collections::BTreeSet;

/// Checks tables against their keys and collects what is missing, so that all of it is told at once.
pub(crate) struct Check<'a> {
    pub(crate) rules: Rules<'a>,
    /// The place, the path, and what was expected there.
    missing: Vec<(ConfigError, String)>,
}

type Checked = Result<(), ConfigError>;

impl<'a> Check<'a> {
    pub(crate) fn new(rules: Rules<'a>) -> Self {
        Self { rules, missing: Vec::new() }
    }

    /// An error that names every missing key, if there is one.
    pub(crate) fn finish(self) -> Checked {
        let mut missing = self.missing.into_iter();
        let Some((first, _)) = missing.next() else { return Ok(()) };
        let others: Vec<String> = missing.map(|(_, path)| path).collect();
        if others.is_empty() {
            return Err(first);
        }
        let what = format!("{}; also missing: {}", first.what, others.join(", "));
        Err(ConfigError { what, ..first })
    }

    fn miss(&mut self, node: &Node, path: String, what: String) {
        self.missing.push((ConfigError::new(&node.origin, &path, what), path));
    }

    /// Every entry of a table is one of `keys` (or of `others`, which somebody else checks), and none is missing.
    pub(crate) fn table(&mut self, node: &Node, keys: &[Key], others: &[&str], path: &str) -> Checked {
        let Some(entries) = node.entries() else {
            return Err(ConfigError::new(&node.origin, path, format!("found {}, expected a table", node.found())));
        };
        for entry in entries.iter().filter(|entry| !others.contains(&entry.key.as_str())) {
            let path = join(path, &entry.key);
            let Some(key) = keys.iter().find(|key| key.name == entry.key) else {
                let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
                let expected =
                    if names.is_empty() { "no further key".to_owned() } else { one_of(&names, Some(&entry.key)) };
                return Err(ConfigError::new(&entry.key_origin, &path, format!("unknown key, expected {expected}")));
            };
            self.value(&entry.node, &key.kind, &path)?;
        }
        for key in keys.iter().filter(|key| !key.optional && node.get(key.name).is_none()) {
            let what = format!("missing, expected {} ({})", self.expected(&key.kind), key.about());
            self.miss(node, join(path, key.name), what);
        }
        Ok(())
    }

    fn value(&mut self, node: &Node, kind: &Kind, path: &str) -> Checked {
        let wrong = |expected: String| {
            let what = format!("found {}, expected {expected}", node.found());
            Err(ConfigError::new(&node.origin, path, what))
        };
        let text = node.as_str();
        let fits = match (kind, &node.value) {
            (
                Kind::Integer(..) | Kind::Float(..) | Kind::FloatBelow(..) | Kind::Positive(_) | Kind::Finite,
                Value::Leaf(leaf),
            ) => fits(kind, leaf),
            (Kind::Bool, Value::Leaf(toml::Value::Boolean(_))) => true,
            (Kind::Text(most), _) => text
                .is_some_and(|text| !text.trim().is_empty() && text.chars().count() <= *most && !text.contains('\0')),
            (Kind::Name, _) => match text.map(RunName::new) {
                Some(Err(expected)) => return wrong(expected),
                name => name.is_some(),
            },
            (Kind::Names(least), Value::Array(items)) if items.len() >= *least => {
                return items.iter().try_for_each(|item| self.value(item, &Kind::Name, path));
            }
            (Kind::NameLists, Value::Array(items)) if !items.is_empty() => {
                return items.iter().try_for_each(|item| self.value(item, &Kind::Names(1), path));
            }
            (Kind::Site, _) => text.is_some_and(|text| text.parse::<SitePattern>().is_ok_and(is_reachable)),
            (Kind::Sites, Value::Array(items)) => {
                return items.iter().try_for_each(|item| self.value(item, &Kind::Site, path));
            }
            (Kind::Step, Value::Leaf(toml::Value::Integer(_))) => {
                return self.value(node, &Kind::Integer(0, 1 << 40), path);
            }
            (Kind::Step, _) => text == Some("last"),
            (Kind::Choice(choices), _) => match text {
                Some(name) if choices.iter().any(|choice| choice.name == name) => true,
                name => return wrong(one_of(&names_of(choices), name)),
            },
            (Kind::Choices(choices), Value::Array(items)) if !items.is_empty() => {
                return items.iter().try_for_each(|item| self.value(item, &Kind::Choice(choices), path));
            }
            (Kind::Seeds, Value::Array(items)) => return self.seeds(node, items, path),
            (Kind::Table(keys), _) => return self.table(node, keys, &[], path),
            (Kind::Tagged(variants), Value::Table(_)) => return self.tagged(node, variants, path),
            (Kind::Optimizer, Value::Table(_)) => return self.optimizer(node, path),
            (Kind::Named(keys), Value::Array(items)) => return self.named(items, keys, &[], path),
            (Kind::Arms | Kind::Grids, Value::Array(items)) if !items.is_empty() => return Ok(()),
            (Kind::List(keys), Value::Array(items)) => {
                let mut items = items.iter().enumerate();
                return items.try_for_each(|(at, item)| self.table(item, keys, &[], &join(path, &at.to_string())));
            }
            _ => false,
        };
        if fits {
            return Ok(());
        }
        let advice = if let Value::Leaf(leaf) = &node.value { advice(kind, leaf) } else { String::new() };
        wrong(self.expected(kind) + &advice)
    }

    fn tagged(&mut self, node: &Node, variants: &[Variant], path: &str) -> Checked {
        let names: Vec<&str> = variants.iter().map(|variant| variant.name).collect();
        let Some(kind) = self.kind(node, &names, path) else { return Ok(()) };
        match variants.iter().find(|variant| Some(variant.name) == kind.as_str()) {
            Some(variant) => self.table(node, variant.keys, &["kind"], path),
            None => Err(unknown_kind(kind, &names, path)),
        }
    }

    /// The `kind` of a table; where there is none, that is noted.
    fn kind<'n>(&mut self, node: &'n Node, names: &[&str], path: &str) -> Option<&'n Node> {
        let kind = node.get("kind");
        if kind.is_none() {
            self.miss(node, join(path, "kind"), format!("missing, expected {}", one_of(names, None)));
        }
        kind
    }

    fn optimizer(&mut self, node: &Node, path: &str) -> Checked {
        let Some(groups) = node.get("groups") else { return self.rule(node, &[], path) };
        self.table(node, &[], &["groups"], path)?;
        let path = join(path, "groups");
        let Some(entries) = groups.entries().filter(|entries| !entries.is_empty()) else {
            let what = format!("found {}, expected a table of groups", groups.found());
            return Err(ConfigError::new(&groups.origin, &path, what));
        };
        let mut taken: BTreeSet<&str> = BTreeSet::new();
        for entry in entries {
            let path = join(&path, &entry.key);
            if let Err(expected) = RunName::new(&entry.key) {
                return Err(ConfigError::new(
                    &entry.key_origin,
                    &path,
                    format!("found that name, expected {expected}"),
                ));
            }
            if entry.node.entries().is_none() {
                let what = format!("found {}, expected a table with roles and kind", entry.node.found());
                return Err(ConfigError::new(&entry.node.origin, &path, what));
            }
            self.rule(&entry.node, &["roles"], &path)?;
            let at = join(&path, "roles");
            let Some(roles) = entry.node.get("roles") else {
                self.miss(&entry.node, at, format!("missing, expected a list of {}", one_of(Role::NAMES, None)));
                continue;
            };
            self.value(roles, &Kind::Choices(Role::CHOICES), &at)?;
            for role in roles.items().iter().filter_map(Node::as_str) {
                if !taken.insert(role) {
                    let what = format!("found role {role} a second time, expected each role in one group");
                    return Err(ConfigError::new(&roles.origin, &at, what));
                }
            }
        }
        Ok(())
    }

    fn rule(&mut self, node: &Node, others: &[&str], path: &str) -> Checked {
        let names = self.rules.names();
        let Some(kind) = self.kind(node, &names, path) else { return Ok(()) };
        match kind.as_str().and_then(|name| self.rules.find(name)) {
            Some(rule) => self.table(node, rule.keys, &[&["kind"], others].concat(), path),
            None => Err(unknown_kind(kind, &names, path)),
        }
    }

    /// Tables that are told apart by `name`; `others` are keys that somebody else checks.
    pub(crate) fn named(&mut self, items: &[Node], keys: &[Key], others: &[&str], path: &str) -> Checked {
        let mut taken = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let label = item.name().map_or_else(|| format!("[{index}]"), str::to_owned);
            self.table(item, keys, others, &join(path, &label))?;
            // On some file systems names that differ in case only are one directory.
            if !taken.insert(label.to_lowercase()) {
                let at = item.get("name").map_or(&item.origin, |name| &name.origin);
                let what = "found a second one of that name, expected distinct names";
                return Err(ConfigError::new(at, &join(path, &label), what));
            }
        }
        Ok(())
    }

    fn seeds(&mut self, node: &Node, items: &[Node], path: &str) -> Checked {
        let mut taken = BTreeSet::new();
        for item in items {
            self.value(item, &Kind::Integer(0, MAX_SEED), path)?;
            if !taken.insert(item.to_toml().as_integer()) {
                let what = format!("found seed {} twice, expected distinct seeds", item.to_toml());
                return Err(ConfigError::new(&item.origin, path, what));
            }
        }
        if taken.is_empty() || taken.len() > MAX_SEEDS {
            let what = format!("found {}, expected 1 to {MAX_SEEDS}", count(taken.len(), "seed"));
            return Err(ConfigError::new(&node.origin, path, what));
        }
        Ok(())
    }

    fn expected(&self, kind: &Kind) -> String {
        match kind {
            Kind::Optimizer => format!("a table whose kind is {}, or with groups", one_of(&self.rules.names(), None)),
            kind => expected(kind),
        }
    }
}

fn unknown_kind(kind: &Node, names: &[&str], path: &str) -> ConfigError {
    let what = format!("found {}, expected {}", kind.found(), one_of(names, kind.as_str()));
    ConfigError::new(&kind.origin, &join(path, "kind"), what)
}

/// No model has this many blocks.
fn is_reachable(site: SitePattern) -> bool {
    !matches!(site, SitePattern::At(site) if site.layer().is_some_and(|layer| layer > usize::from(u16::MAX)) || site == Site::EveryResidPost)
}

fn names_of(choices: &[Choice]) -> Vec<&'static str> {
    choices.iter().map(|choice| choice.name).collect()
}

pub(crate) fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Integer(low, high) => format!("an integer from {low} to {high}"),
        Kind::Float(low, high) => format!("a number from {low:?} to {high:?}"),
        Kind::FloatBelow(low, high) => format!("a number from {low:?} to below {high:?}"),
        Kind::Positive(high) => format!("a number above 0, at most {high:?}"),
        Kind::Finite => "a finite number".to_owned(),
        Kind::Bool => "true or false".to_owned(),
        Kind::Text(most) => format!("text of 1 to {most} characters"),
        Kind::Name => NAME.to_owned(),
        Kind::Names(0 | 1) => "a list of names".to_owned(),
        Kind::Names(least) => format!("a list of at least {least} names"),
        Kind::NameLists => "a list of lists of names, e.g. [[\"a\", \"b\"], [\"c\"]]".to_owned(),
        Kind::Site => "embed, blocks.N.resid_mid, blocks.N.resid_post (N may be last) or final".to_owned(),
        Kind::Sites => "a list of sites, e.g. [\"blocks.last.resid_post\"]".to_owned(),
        Kind::Step => "\"last\" or an integer from 0".to_owned(),
        Kind::Choice(choices) => one_of(&names_of(choices), None),
        Kind::Choices(choices) => format!("a list of any of {}", names_of(choices).join(", ")),
        Kind::Seeds => format!("a list of distinct integers from 0 to {MAX_SEED}, e.g. [0, 1, 2]"),
        Kind::Table(_) => "a table".to_owned(),
        Kind::Tagged(variants) => {
            let names: Vec<&str> = variants.iter().map(|variant| variant.name).collect();
            format!("a table whose kind is {}", one_of(&names, None))
        }
        Kind::Optimizer => "a table with kind or groups, or the name of an arm or rule".to_owned(),
        Kind::Named(_) => "tables, each with a name".to_owned(),
        Kind::List(_) => "a list of tables".to_owned(),
        Kind::Arms | Kind::Grids => "at least one table".to_owned(),
    }
}
