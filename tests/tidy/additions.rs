//! What ARCHITECTURE.md says is to be touched for an addition: of everything that is there already, each member is named
//! in the files of its row and in no other source file. Tests, comments and documents do not count.

use super::{files, root};
use basislab_config::{
    Activation, Attention, Branches, Key, Kind, Mask, Mlp, NormKind, NormPlace, RopePairs, RunSpec, Variant,
};
use std::collections::{BTreeMap, BTreeSet};

/// Every source file of the crates: its path, and its lines without comments and tests.
fn sources() -> Vec<(String, String)> {
    let crates = root().join("crates");
    let mut all = Vec::new();
    for file in files(&crates, ".rs") {
        let path = file.strip_prefix(&crates).unwrap().to_string_lossy().replace('\\', "/");
        let is_test = ["/tests/", "tests.rs", "fixture.rs"].iter().any(|part| path.contains(part));
        if path.contains("/src/") && !is_test {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            all.push((format!("/crates/{path}/"), lines.collect::<Vec<_>>().join("\n")));
        }
    }
    all
}

/// The row of an addition in ARCHITECTURE.md: what it names as code.
fn row(what: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("| {what} |")));
    let line = line.unwrap_or_else(|| panic!("ARCHITECTURE.md has no row for {what}"));
    line.split('`').skip(1).step_by(2).map(|name| name.trim_end_matches('/').to_owned()).collect()
}

/// Checks that `members` are named, somewhere, and only in files or folders of the row.
fn only_in_its_row(what: &str, members: &[String]) {
    let (row, sources) = (row(what), sources());
    let belongs = |path: &str| row.iter().any(|name| path.contains(&format!("/{name}/")));
    assert!(!members.is_empty(), "{what}");
    for form in members {
        let naming = |(_, code): &&(String, String)| code.contains(form);
        let found: Vec<&str> = sources.iter().filter(naming).map(|(path, _)| path.as_str()).collect();
        let others: Vec<&&str> = found.iter().filter(|path| !belongs(path)).collect();
        assert!(!found.is_empty(), "{what}: {form} is nowhere");
        assert!(others.is_empty(), "{what}: {form} is in {others:?}, and the row in ARCHITECTURE.md is of {row:?}");
    }
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// Lines of the form `NAME: ` at the start, as fields are declared.
fn declared(text: &str, name: &str) -> usize {
    text.lines().filter(|line| line.trim_start().starts_with(&format!("{name}: "))).count()
}

#[test]
fn an_experiment_is_one_file() {
    let names = files(&root().join("configs"), ".toml").into_iter();
    // The program's name for it is its file's, which no code repeats.
    let paths: Vec<String> = names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let (row, sources) = (row("an experiment"), sources());
    for name in &paths {
        let others = sources.iter().filter(|(path, _)| !row.iter().any(|file| path.contains(&format!("/{file}/"))));
        let others: Vec<&String> = others.filter(|(_, code)| code.contains(name)).map(|(path, _)| path).collect();
        assert!(others.is_empty(), "{name}: {others:?}");
    }
}

#[test]
fn an_optimizer_is_one_file_and_two_lines() {
    let rules = read("crates/basislab-optim/src/rules.rs");
    let folder = files(&root().join("crates/basislab-optim/src/rules"), ".rs");
    assert_eq!(folder.len(), basislab_optim::RULES.len());
    for file in folder {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        assert_eq!(rules.matches(&format!("mod {name};")).count(), 1, "{name}");
        assert_eq!(rules.matches(&format!("&{name}::{}", name.to_uppercase())).count(), 1, "{name}");
        only_in_its_row("an optimizer", &[quoted(&name), format!("&{name}::")]);
    }
}

#[test]
fn a_metric_is_one_entry() {
    let names: Vec<String> = basislab_stats::METRICS.iter().map(|metric| quoted(metric.name)).collect();
    only_in_its_row("a metric", &names);
    let topics = ["kurtosis", "outliers", "spread"];
    let text = topics.map(|topic| read(&format!("crates/basislab-stats/src/metrics/{topic}.rs"))).concat();
    let list = read("crates/basislab-stats/src/metrics.rs");
    for metric in basislab_stats::METRICS {
        let (name, constant) = (metric.name, metric.name.to_uppercase());
        assert_eq!(text.matches(&format!("name: \"{name}\"")).count(), 1, "{name}");
        assert_eq!(list.matches(&format!("::{constant},")).count(), 1, "{name}");
    }
}

/// Tables with the names of their keys: a key is declared as often as there are tables that have it.
fn tables(name: &str, keys: &[Key], all: &mut BTreeSet<(String, Vec<&'static str>)>) {
    all.insert((name.to_owned(), keys.iter().map(|key| key.name).collect()));
    for key in keys {
        match key.kind {
            Kind::Table(keys) | Kind::List(keys) => tables(key.name, keys, all),
            Kind::Tagged(variants) => variants.iter().for_each(|Variant { name, keys, .. }| tables(name, keys, all)),
            _ => {}
        }
    }
}

/// The keys that a table may be without.
fn optional_keys(keys: &[Key], all: &mut BTreeSet<&'static str>) {
    for key in keys {
        if key.optional {
            all.insert(key.name);
        }
        if let Kind::Table(keys) = key.kind {
            optional_keys(keys, all);
        }
    }
}

#[test]
fn a_key_is_declared_once_and_written_in_the_default_experiment() {
    let mut all = BTreeSet::new();
    tables("", RunSpec::KEYS, &mut all);
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    // A document, `[verdict]` and cells have keys of the same names.
    let others = ["base", "basis", "basis", "tokens", "tokens"];
    all.iter().flat_map(|(_, keys)| keys).chain(&others).for_each(|key| *count.entry(key).or_default() += 1);
    assert!(count.len() > 60, "only {} keys", count.len());
    let (row, sources) = (row("a config key"), sources());
    for (key, expected) in count {
        let is_declared = |line: &&str| {
            line.trim_start().starts_with(&format!("{key}: ")) && line.contains(" = ") && line.ends_with(';')
        };
        let declarations = |code: &String| code.lines().filter(is_declared).count();
        let (own, others): (Vec<_>, Vec<_>) =
            sources.iter().partition(|(path, _)| row.iter().any(|name| path.contains(&format!("/{name}/"))));
        assert_eq!(own.iter().map(|(_, code)| declarations(code)).sum::<usize>(), expected, "{key}");
        let others: Vec<&String> =
            others.iter().filter(|(_, code)| declarations(code) > 0).map(|(path, _)| path).collect();
        assert!(others.is_empty(), "{key}: {others:?}");
    }
    let default = read("configs/adam-vs-sgd.toml");
    let mut optional = BTreeSet::new();
    optional_keys(RunSpec::KEYS, &mut optional);
    for (name, keys) in all {
        let header = format!("[{name}]");
        // The default experiment's corpus is a language.
        if ["model", "train", "probe", "language"].contains(&name.as_str()) {
            let table = default.split(if name == "language" { "[corpus]" } else { &header }).nth(1).unwrap();
            let table = table.split("\n[").next().unwrap();
            let is_written = |key: &&&str| table.lines().any(|line| line.starts_with(&format!("{key} = ")));
            let missing: Vec<_> = keys.iter().filter(|key| !is_written(key) && !optional.contains(**key)).collect();
            assert!(missing.is_empty(), "configs/adam-vs-sgd.toml: {name} lacks {missing:?}");
        }
    }
}

#[test]
fn a_column_is_one_field() {
    let rows = ["rows", "dimension_rows", "outlier_rows", "measured_rows", "quantized_rows"]
        .map(|file| read(&format!("crates/basislab-tables/src/{file}.rs")))
        .concat();
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    let columns = basislab_tables::TABLES.iter().flat_map(|table| table.columns);
    columns.for_each(|column| *count.entry(column.name).or_default() += 1);
    assert!(count.len() > 50, "only {} columns", count.len());
    for (column, expected) in count {
        assert_eq!(declared(&rows, column), expected, "{column}");
    }
    // A value by default would be made where the compiler does not name it.
    assert!(!rows.contains("Default"));
}

#[test]
fn a_claim_kind_is_one_variant_and_what_matches_name() {
    let text = read("crates/basislab-config/src/claim.rs");
    let kinds = text.split("pub enum ClaimKind {").nth(1).unwrap().split("\n    }\n").next().unwrap();
    let names: Vec<String> =
        kinds.lines().filter_map(|line| line.split_once(" = \"")?.1.strip_suffix("\" {")).map(quoted).collect();
    assert!(names.len() >= 10, "{names:?}");
    only_in_its_row("a claim kind", &names);
}

#[test]
fn a_figure_is_one_file_and_three_lines() {
    let text = read("crates/basislab-report/src/figures.rs");
    let headline = text.split("const HEADLINE").nth(1).unwrap().split(';').nth(1).unwrap();
    // A name is text, or a constant of it.
    let named = |entry: &str| {
        let text =
            text.split(&format!("const {entry}: &str =")).nth(1).map_or(entry, |rest| rest.split(';').next().unwrap());
        text.trim().trim_matches('"').to_owned()
    };
    let list = headline.split('[').nth(1).unwrap().split(']').next().unwrap();
    let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let names: Vec<String> = entries.map(named).collect();
    only_in_its_row("a figure", &names);
    let mut drawn = 0;
    for file in files(&root().join("crates/basislab-report/src/figures"), ".rs") {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        if name == "sweep" || !std::fs::read_to_string(&file).unwrap().contains("fn figure(") {
            continue;
        }
        drawn += 1;
        assert_eq!(text.matches(&format!("\nmod {name};")).count(), 1, "{name}");
        assert_eq!(text.matches(&format!("{name}::figure(")).count(), 1, "{name}");
        only_in_its_row("a figure", &[format!("{name}::figure(")]);
    }
    assert_eq!(drawn, names.len());
}

/// The variants of a tagged enum, as it is written in a file of the configuration: `(Rust's name, the configuration's)`.
fn variants(file: &str, name: &str) -> Vec<(String, String)> {
    let text = read(&format!("crates/basislab-config/src/{file}"));
    let body = text.split(&format!("pub enum {name} {{")).nth(1).unwrap().split("\n    }\n").next().unwrap();
    let variant = |line: &str| {
        let (rust, rest) = line.trim().split_once(" = \"")?;
        Some((rust.to_owned(), rest.split_once("\" {")?.0.to_owned()))
    };
    body.lines().filter_map(variant).collect()
}

#[test]
fn an_architecture_option_is_where_its_row_says() {
    let mut names: Vec<String> = Vec::new();
    names.extend(Activation::ALL.iter().map(|option| format!("Activation::{option:?}")));
    names.extend(NormKind::ALL.iter().map(|option| format!("NormKind::{option:?}")));
    names.extend(Attention::ALL.iter().map(|option| format!("Attention::{option:?}")));
    let positions = variants("model.rs", "Positions");
    assert_eq!(positions.len(), 2);
    names.extend(positions.iter().map(|(rust, _)| format!("Positions::{rust}")));
    names.extend(Mlp::ALL.iter().map(|option| format!("Mlp::{option:?}")));
    names.extend(Branches::ALL.iter().map(|option| format!("Branches::{option:?}")));
    names.extend(NormPlace::ALL.iter().map(|option| format!("NormPlace::{option:?}")));
    names.extend(Mask::ALL.iter().map(|option| format!("Mask::{option:?}")));
    names.extend(RopePairs::ALL.iter().map(|option| format!("RopePairs::{option:?}")));
    names.extend([".tied_head", ".biases", ".qk_norm", ".qkv_biases"].map(str::to_owned));
    only_in_its_row("an architecture option", &names);
    // A key or value that kernels pass over is seen by the combinations of tests/fused.
}

#[test]
fn a_rotation_is_where_its_row_says() {
    let rotations = variants("basis.rs", "RotationSpec");
    assert!(rotations.len() >= 4, "{rotations:?}");
    let forms = rotations.iter().flat_map(|(rust, name)| [format!("RotationSpec::{rust}"), quoted(name)]);
    only_in_its_row("a rotation", &forms.collect::<Vec<_>>());
}

#[test]
fn a_backend_is_one_variant_and_one_feature() {
    let text = read("crates/basislab/src/backend.rs");
    let all = text.split("const ALL").nth(1).unwrap().split(';').nth(1).unwrap();
    let names: Vec<String> =
        all.split("Backend::").skip(1).map(|rest| rest.split([',', ']']).next().unwrap().to_owned()).collect();
    assert!(names.len() >= 4, "{names:?}");
    let manifest = read("crates/basislab/Cargo.toml");
    for name in &names {
        let feature = name.to_lowercase();
        assert_eq!(manifest.matches(&format!("\n{feature} = [")).count(), 1, "{feature}");
        only_in_its_row("a backend", &[format!("Backend::{name}"), quoted(&feature)]);
    }
}

#[test]
fn an_engine_is_one_variant_a_template_and_a_case() {
    let text = read("crates/basislab/src/args/plan_script.rs");
    let list = text.split("enum Engine {").nth(1).unwrap().split("\n}").next().unwrap();
    let names: Vec<&str> = list.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
    assert!(names.len() >= 5, "{names:?}");
    for name in names {
        only_in_its_row("an engine of plans", &[format!("Engine::{name}")]);
        let templates = std::fs::read_dir(root().join("crates/basislab/src/commands/plan/scripts")).unwrap();
        let name = format!("{}.", name.to_lowercase());
        let of = templates.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with(&name));
        assert_eq!(of.count(), 1, "{name}");
    }
}
