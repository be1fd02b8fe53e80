//! From text and overrides to a checked [`Experiment`].

use crate::schema::{Key, Kind, ROOT, Variant};
use crate::spec::{
    Arm, BasisSpec, ClaimKind, CorpusSpec, Experiment, OptimizerSpec, RotatedAxes, RotationSpec, TokenizerKind,
};
use crate::tree::{Node, Value};
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
    /// By the preset of a `--set X.kind=K`.
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
#[error("{message}")]
pub struct ConfigError {
    message: String,
}

impl ConfigError {
    pub(crate) fn new(origin: &Origin, path: &str, what: impl fmt::Display) -> Self {
        let path = if path.is_empty() { String::new() } else { format!(" {path}:") };
        let message = format!("{origin}:{path} {what}");
        // One line, whatever the user's text held.
        Self { message: message.chars().map(|c| if c.is_control() { '?' } else { c }).collect() }
    }
}

/// `--set PATH=VALUE`, or another flag that amounts to one.
#[derive(Debug, Clone)]
pub struct Override {
    /// Dotted path; arms and claims are addressed by name: `arm.adam.optimizer.lr`.
    pub path: String,
    /// A TOML value, or bare text.
    pub value: String,
    /// What the user typed, for messages and the record.
    pub typed: String,
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
    let mut root = Node::parse(text, file)?;
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

// ---- overrides -------------------------------------------------------------------------------------------------------

fn apply(root: &mut Node, change: &Override) -> Result<(), ConfigError> {
    let origin = Origin::CommandLine(change.typed.clone());
    let fail = |what: String| ConfigError::new(&origin, "", what);
    let value = Node::parse_value(&change.value, &origin);
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
        let variant = value.as_str().and_then(|name| variants.iter().find(|variant| variant.name == name));
        let names: Vec<&str> = variants.iter().map(|variant| variant.name).collect();
        let variant = variant
            .ok_or_else(|| fail(format!("found {}, expected {}", value.found(), one_of(&names, value.as_str()))))?;
        *node = preset_table(variant, &change.path, value);
        return Ok(());
    }
    keys.descend(node, last).map_err(&fail)?;
    match &mut node.value {
        Value::Table(_) => node.insert(last, value),
        _ => return Err(fail(format!("cannot set {last:?} there: not a table"))),
    }
    Ok(())
}

/// Splits at dots, but keeps the dots of an arm's or claim's own name.
fn split_path(root: &Node, path: &str) -> Vec<String> {
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
    Leaf,
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
            Self::Variants(_) if part == "kind" => Ok(Self::Leaf),
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
            Self::Leaf => Err(format!("there is nothing below it to call {part:?}")),
        }
    }
}

fn shape_of(kind: &Kind) -> Shape {
    match kind {
        Kind::Table(keys) => Shape::Keys(keys),
        Kind::Tagged(variants) => Shape::Variants(variants),
        Kind::Tables(keys) => Shape::Named(keys),
        _ => Shape::Leaf,
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

// ---- the schema ------------------------------------------------------------------------------------------------------

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
    let number = match &node.value {
        Value::Leaf(toml::Value::Integer(number)) => Some(*number as f64),
        Value::Leaf(toml::Value::Float(number)) => Some(*number),
        _ => None,
    };
    let fits = match (kind, &node.value) {
        (Kind::Integer(low, high), Value::Leaf(toml::Value::Integer(n))) => {
            u64::try_from(*n).is_ok_and(|n| (*low..=*high).contains(&n))
        }
        (Kind::Float(low, high), _) => number.is_some_and(|n| n >= *low && n <= *high),
        (Kind::FloatBelow(low, high), _) => number.is_some_and(|n| n >= *low && n < *high),
        (Kind::Positive(high), _) => number.is_some_and(|n| n > 0.0 && n <= *high),
        (Kind::Bool, Value::Leaf(toml::Value::Boolean(_))) => true,
        (Kind::Text(most), _) => node
            .as_str()
            .is_some_and(|text| !text.trim().is_empty() && text.chars().count() <= *most && !text.contains('\0')),
        (Kind::Name, _) => node.as_str().is_some_and(is_name),
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
        Err(ConfigError::new(&node.origin, path, format!("found {}, expected {}", node.found(), expected(kind))))
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
        let seed = match &item.value {
            Value::Leaf(toml::Value::Integer(n)) => u64::try_from(*n).ok().filter(|n| *n < 1 << 40),
            _ => None,
        };
        let seed = seed.ok_or_else(|| {
            ConfigError::new(&item.origin, path, format!("found {}, expected {}", item.found(), expected(&Kind::Seeds)))
        })?;
        if !seen.insert(seed) {
            return Err(ConfigError::new(
                &item.origin,
                path,
                format!("found seed {seed} twice, expected distinct seeds"),
            ));
        }
    }
    if seen.is_empty() || seen.len() > 4096 {
        return Err(ConfigError::new(&node.origin, path, format!("found {} seeds, expected 1 to 4096", seen.len())));
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        && text.len() <= 64
        && !text.contains("..")
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

fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Integer(low, high) => format!("an integer from {low} to {high}"),
        Kind::Float(low, high) => format!("a number from {low:?} to {high:?}"),
        Kind::FloatBelow(low, high) => format!("a number from {low:?} to below {high:?}"),
        Kind::Positive(high) => format!("a number above 0, at most {high:?}"),
        Kind::Bool => "true or false".to_owned(),
        Kind::Text(most) => format!("text of 1 to {most} characters"),
        Kind::Name => "a name of 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit".to_owned(),
        Kind::Site => "embed, blocks.N.resid_mid, blocks.N.resid_post (N may be last) or final".to_owned(),
        Kind::Choice(words) => one_of(words, None),
        Kind::Seeds => "a list of distinct integers from 0 to 1099511627775, e.g. [0, 1, 2]".to_owned(),
        Kind::Table(_) => "a table".to_owned(),
        Kind::Tagged(variants) => {
            let names: Vec<&str> = variants.iter().map(|variant| variant.name).collect();
            format!("a table whose kind is {}", one_of(&names, None))
        }
        Kind::Tables(_) => "at least one table".to_owned(),
    }
}

/// `one of a, b, c`, with a suggestion when `found` is close to one of them.
fn one_of(words: &[&str], found: Option<&str>) -> String {
    let list = words.join(", ");
    let best = found.and_then(|found| {
        let scored = words.iter().map(|word| (strsim::jaro_winkler(word, found), word));
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

// ---- what one key alone cannot show ----------------------------------------------------------------------------------

fn check_whole(experiment: &Experiment, root: &Node) -> Result<(), ConfigError> {
    let fail = |path: &str, what: String| {
        let at = find(root, path).map_or(&root.origin, |node| &node.origin);
        Err(ConfigError::new(at, path, what))
    };
    let Experiment { model, train, probe, verdict, .. } = experiment;
    if model.d_model % model.n_heads != 0 {
        return fail(
            "model.n_heads",
            format!("found {}, expected a divisor of model.d_model = {}", model.n_heads, model.d_model),
        );
    }
    let d_head = model.d_model / model.n_heads;
    if matches!(model.positions, crate::Positions::Rope { .. }) && d_head % 2 != 0 {
        return fail("model.positions", format!("found rope with heads of width {d_head}, expected an even width"));
    }
    if train.batch_size % train.micro_batches != 0 {
        return fail(
            "train.micro_batches",
            format!("found {}, expected a divisor of train.batch_size = {}", train.micro_batches, train.batch_size),
        );
    }
    if train.warmup_steps > train.steps {
        return fail(
            "train.warmup_steps",
            format!("found {}, expected at most train.steps = {}", train.warmup_steps, train.steps),
        );
    }
    if probe.residual_sequences > probe.loss_sequences {
        return fail(
            "probe.residual_sequences",
            format!(
                "found {}, expected at most probe.loss_sequences = {}",
                probe.residual_sequences, probe.loss_sequences
            ),
        );
    }
    if let Some(layer) = verdict
        .site
        .split('.')
        .nth(1)
        .and_then(|layer| layer.parse::<usize>().ok())
        .filter(|layer| *layer >= model.n_layers)
    {
        return fail(
            "verdict.site",
            format!("found block {layer}, expected a block below model.n_layers = {}", model.n_layers),
        );
    }
    match &experiment.corpus {
        CorpusSpec::Language(language) => {
            let tokens = language.d_vocab - usize::from(language.bos);
            if tokens < language.classes {
                return fail(
                    "corpus.classes",
                    format!("found {}, expected at most {tokens}, one token each", language.classes),
                );
            }
            let most = (language.classes - 1).max(1);
            if language.successors > most {
                return fail(
                    "corpus.successors",
                    format!("found {}, expected at most {most}, the other classes", language.successors),
                );
            }
            if language.bigram > 0.0 && language.bigram_fan > tokens {
                return fail("corpus.bigram_fan", format!("found {}, expected at most {tokens}", language.bigram_fan));
            }
            let taken = language.copy + language.burst + language.bigram;
            if taken >= 1.0 {
                return fail("corpus.copy", format!("copy + burst + bigram is {taken}, expected below 1"));
            }
        }
        CorpusSpec::Text(text) => {
            if text.tokenizer == TokenizerKind::Bytes && text.d_vocab != 256 {
                return fail(
                    "corpus.d_vocab",
                    format!("found {}, expected 256 for tokenizer = \"bytes\"", text.d_vocab),
                );
            }
        }
    }
    for arm in &experiment.arms {
        check_arm(experiment, arm, &fail)?;
    }
    check_claims(experiment, &fail)
}

type Fail<'a> = &'a dyn Fn(&str, String) -> Result<(), ConfigError>;

fn check_arm(experiment: &Experiment, arm: &Arm, fail: Fail<'_>) -> Result<(), ConfigError> {
    let path = format!("arm.{}", arm.name);
    if let OptimizerSpec::Sgd { momentum, nesterov: true, .. } = arm.optimizer
        && momentum == 0.0
    {
        return fail(
            &format!("{path}.optimizer.nesterov"),
            "found true with momentum 0, expected a momentum above 0".to_owned(),
        );
    }
    let rotation = match &arm.basis {
        BasisSpec::Standard {} => None,
        BasisSpec::RotatedOptimizer { rotation, .. } | BasisSpec::RotatedModel { rotation, .. } => Some(rotation),
    };
    if rotation == Some(&RotationSpec::Hadamard {}) {
        let d_model = experiment.model.d_model;
        let at = format!("{path}.basis.rotation");
        if !d_model.is_power_of_two() {
            return fail(&at, format!("found hadamard with model.d_model = {d_model}, expected a power of two"));
        }
        if matches!(arm.basis, BasisSpec::RotatedOptimizer { axes: RotatedAxes::Both, .. }) {
            return fail(
                &at,
                "found hadamard on both axes, expected axes = \"residual\" or another rotation".to_owned(),
            );
        }
    }
    if let Some(seed) = arm.seeds.iter().flatten().find(|seed| !experiment.seeds.contains(seed)) {
        return fail(&format!("{path}.seeds"), format!("found seed {seed}, expected seeds of the experiment"));
    }
    Ok(())
}

fn check_claims(experiment: &Experiment, fail: Fail<'_>) -> Result<(), ConfigError> {
    let names: Vec<&str> = experiment.arms.iter().map(|arm| arm.name.as_str()).collect();
    for claim in &experiment.claims {
        let path = format!("claim.{}.test", claim.name);
        let (arm, other, basis) = match &claim.test {
            ClaimKind::DiffersFromNull { arm, basis } | ClaimKind::EquivalentToNull { arm, basis } => {
                (arm, None, basis.as_str())
            }
            ClaimKind::ArmsDiffer { arm, other, .. }
            | ClaimKind::EqualLoss { arm, other }
            | ClaimKind::BitEqual { arm, other } => (arm, Some(other), "standard"),
        };
        for (key, name) in [("arm", Some(arm)), ("other", other)] {
            if let Some(name) = name.filter(|name| !names.contains(&name.as_str())) {
                return fail(
                    &format!("{path}.{key}"),
                    format!("found {name:?}, expected {}", one_of(&names, Some(name))),
                );
            }
        }
        if other == Some(arm) {
            return fail(&format!("{path}.other"), format!("found {arm:?} twice, expected two arms"));
        }
        if claim.primary
            && matches!(
                claim.test,
                ClaimKind::EqualLoss { .. } | ClaimKind::BitEqual { .. } | ClaimKind::EquivalentToNull { .. }
            )
        {
            return fail(
                &format!("claim.{}.primary", claim.name),
                "found true, expected false: equivalences have no p value to correct".to_owned(),
            );
        }
        if basis == "optimizer" && experiment.arm(arm).is_some_and(|arm| arm.basis.shared_rotation().is_none()) {
            return fail(
                &format!("{path}.basis"),
                format!("found optimizer, expected standard: {arm:?} has no single optimizer basis"),
            );
        }
    }
    Ok(())
}

/// The node at a dotted path, arms and claims by name.
fn find<'a>(root: &'a Node, path: &str) -> Option<&'a Node> {
    split_path(root, path).iter().try_fold(root, |node, part| match &node.value {
        Value::Array(items) => items.iter().find(|item| item.get("name").and_then(Node::as_str) == Some(part)),
        _ => node.get(part),
    })
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
