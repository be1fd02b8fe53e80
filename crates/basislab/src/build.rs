//! Which build on which machine makes the numbers.

use crate::backend::OpenDevice;
use basislab_config::ModelSpec;
use basislab_store::{Extent, sha256};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// What can change the bits of a result besides the experiment. `model` says what is multiplied.
pub(crate) fn build(place: &OpenDevice, model: &ModelSpec) -> Value {
    json!({
        "basislab": source(),
        "executable_sha256": executable(),
        "rustc": env!("BASISLAB_RUSTC"),
        "burn": env!("BASISLAB_BURN"),
        "cargo_lock_sha256": sha256(include_bytes!("../../../Cargo.lock")),
        "machine": { "os": std::env::consts::OS, "arch": std::env::consts::ARCH, "cpu": cpu(), "cpu_features": cpu_features() },
        "device": place.describe(model),
    })
}

fn source() -> Value {
    json!({ "version": env!("CARGO_PKG_VERSION"), "commit": env!("BASISLAB_COMMIT"), "dirty": env!("BASISLAB_DIRTY") })
}

/// What makes a report: it computes in f64 on the CPU, so that neither device nor machine matters.
pub(crate) fn reporter() -> Value {
    let mut reporter = source();
    reporter["executable_sha256"] = executable().into();
    reporter
}

/// The build that a manifest (or an entry of its `continued_by`) names, as [`reporter`] writes it.
pub(crate) fn builder(entry: &Value) -> Value {
    let mut builder = json!({ "executable_sha256": entry["executable_sha256"] });
    if let Value::Object(source) = &entry["basislab"] {
        source.iter().for_each(|(key, value)| builder[key] = value.clone());
    }
    builder
}

/// `basislab 0.0.0 (commit 7da29de213d1, modified, executable 2f71b447)`.
pub(crate) fn in_words(reporter: &Value) -> String {
    let of =
        |key: &str, digits: usize| reporter[key].as_str().unwrap_or("unknown").chars().take(digits).collect::<String>();
    let modified = if reporter["dirty"] == "true" { ", modified" } else { "" };
    let (version, commit, executable) = (of("version", 32), of("commit", 12), of("executable_sha256", 8));
    format!("basislab {version} (commit {commit}{modified}, executable {executable})")
}

/// What `there` (a manifest, or a [`build`]) and `here` disagree about: `machine.cpu: Xeon there, Ryzen here`.
pub(crate) fn differences(there: &Value, here: &Value) -> Vec<String> {
    let Value::Object(keys) = here else { return Vec::new() };
    // Kernels that are tuned anew may round otherwise; what counts is which precision the rounding is like.
    let comparable = |value: &Value| {
        let mut value = value.clone();
        value.pointer_mut("/products/relative_error").map(Value::take);
        value
    };
    let mut all = Vec::new();
    for (key, here) in keys {
        compare(key, &comparable(&there[key]), &comparable(here), &mut all);
    }
    all
}

/// Adds the values below `key` that differ.
fn compare(key: &str, there: &Value, here: &Value, into: &mut Vec<String>) {
    if there == here {
        return;
    }
    if let (Value::Object(known), Value::Object(found)) = (there, here) {
        let keys: BTreeSet<&String> = known.keys().chain(found.keys()).collect();
        keys.into_iter().for_each(|part| compare(&format!("{key}.{part}"), &there[part], &here[part], into));
    } else {
        into.push(format!("{key}: {} there, {} here", plain(there), plain(here)));
    }
}

/// A value without the signs of JSON. Of a hash, the first digits.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "unknown".to_owned(),
        Value::String(text) if text.is_empty() => "nothing".to_owned(),
        Value::String(text) if text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            text[..12].to_owned()
        }
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| format!("{key} {}", plain(value))).collect::<Vec<_>>().join(", ")
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Of the running program: two builds of one dirty tree differ here alone. It may be larger than all that a command needs, so it is
/// read in pieces.
fn executable() -> Option<String> {
    static EXECUTABLE: OnceLock<Option<String>> = OnceLock::new();
    let read = || Some(Extent::of_file(&std::env::current_exe().ok()?).ok()?.sha256);
    EXECUTABLE.get_or_init(read).clone()
}

/// The CPU's own name, where the system tells it.
pub(crate) fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The class of this machine's CPU: see [`cpu_class`](basislab_tables::cpu_class).
pub(crate) fn class_of_cpu() -> &'static str {
    basislab_tables::cpu_class(&cpu_features())
}

fn cpu_features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let found = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512_bf16", is_x86_feature_detected!("avx512bf16")),
        ];
        found.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}
