//! Which build on which machine makes the numbers.

use crate::backend::Place;
use basislab_config::ModelSpec;
use basislab_store::sha256;
use serde_json::{Value, json};

/// What can change the bits of a result besides the experiment.
pub(crate) fn build(place: &Place, model: &ModelSpec) -> Value {
    json!({
        "basislab": { "version": env!("CARGO_PKG_VERSION"), "commit": env!("BASISLAB_COMMIT"), "dirty": env!("BASISLAB_DIRTY") },
        "executable_sha256": executable(),
        "rustc": env!("BASISLAB_RUSTC"),
        "burn": env!("BASISLAB_BURN"),
        "cargo_lock_sha256": sha256(include_bytes!("../../../Cargo.lock")),
        "machine": { "os": std::env::consts::OS, "arch": std::env::consts::ARCH, "cpu": cpu(), "cpu_features": cpu_features() },
        "device": place.describe(model),
    })
}

/// What `there` (a manifest, or a [`build`]) and `here` disagree about.
pub(crate) fn differences(there: &Value, here: &Value) -> Vec<String> {
    let Value::Object(keys) = here else { return Vec::new() };
    // Kernels that are tuned anew may round otherwise; that is told, and what counts is what the rounding is like.
    let comparable = |value: &Value| {
        let mut value = value.clone();
        value.pointer_mut("/products/relative_error").map(Value::take);
        value
    };
    let differs = |(key, here): (&String, &Value)| {
        let there = &there[key];
        (comparable(there) != comparable(here)).then(|| format!("{key}: {there} there, {here} here"))
    };
    keys.iter().filter_map(differs).collect()
}

/// Of the running program: two builds of one dirty tree differ here alone.
fn executable() -> Option<String> {
    Some(sha256(&std::fs::read(std::env::current_exe().ok()?).ok()?))
}

/// The CPU's own name, where the system tells it.
pub(crate) fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn cpu_features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let found = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
        ];
        found.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}
