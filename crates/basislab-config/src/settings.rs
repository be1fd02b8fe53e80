//! The configuration as a flat list of keys and values, to compare two of them.

use crate::claim::Claim;
use crate::corpus::CorpusSpec;
use crate::experiment::{Experiment, Sweep};
use crate::run::RunSpec;
use crate::selection::value_text;
use serde::Serialize;
use std::collections::BTreeMap;
use toml::Value;

impl RunSpec {
    /// Every key of the run with its value as TOML: `optimizer.lr` and `0.01`. The path of a text is left out.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let mut run = self.clone();
        if let CorpusSpec::Text(text) = &mut run.corpus {
            text.path.clear();
        }
        let mut all = settings_of(&run, "");
        if matches!(run.corpus, CorpusSpec::Text(_)) {
            all.remove("corpus.path");
        }
        all
    }
}

impl Experiment {
    /// Every key with its value as TOML, besides those of arms ([`RunSpec::settings`]) and claims ([`Claim::settings`]): the
    /// question, the seeds, the rule, and grids by the arm and key that they sweep.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let mut all = settings_of(&self.verdict, "verdict");
        all.insert("question".to_owned(), Value::String(self.question.clone()).to_string());
        collect(&value_of(&self.seeds), "seeds", &mut all);
        for sweep in &self.sweeps {
            for (key, value) in sweep.settings() {
                // A second grid over the same key of the same arm.
                let free = (1..).map(|n| if n == 1 { key.clone() } else { format!("{key} ({n})") });
                if let Some(key) = free.into_iter().find(|key| !all.contains_key(key)) {
                    all.insert(key, value);
                }
            }
        }
        all
    }
}

impl Claim {
    /// Every key of the claim but its name, with its value as TOML.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let mut all = settings_of(self, "");
        all.remove("name");
        all
    }
}

impl Sweep {
    fn settings(&self) -> Vec<(String, String)> {
        let path = |key: &str| format!("grid.{}.{key}", self.arm);
        let list = |place: usize| self.values_at(place).into_iter().map(value_text).collect::<Vec<_>>().join(", ");
        let mut all: Vec<(String, String)> =
            self.keys.iter().enumerate().map(|(place, key)| (path(key), format!("[{}]", list(place)))).collect();
        if let Some(choose) = &self.choose {
            all.extend(settings_of(choose, &path("choose")));
        }
        all
    }
}

fn value_of(value: &impl Serialize) -> Value {
    Value::try_from(value).expect("strings, numbers, lists and tables")
}

fn settings_of(value: &impl Serialize, path: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    collect(&value_of(value), path, &mut all);
    all
}

fn collect(value: &Value, path: &str, into: &mut BTreeMap<String, String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Table(table) => table.iter().for_each(|(key, value)| collect(value, &below(key), into)),
        Value::Array(items) if items.iter().any(Value::is_table) => {
            items.iter().enumerate().for_each(|(place, item)| collect(item, &below(&place.to_string()), into));
        }
        leaf => _ = into.insert(path.to_owned(), leaf.to_string()),
    }
}
