//! The manifest: everything about a directory that is not a measurement.

use crate::backend::OpenDevice;
use crate::build::{build, reporter};
use crate::experiments::Named;
use basislab_config::Origin;
use serde_json::{Value, json};

/// The manifest of a new directory. Holds no wall-clock time: equal runs have equal manifests.
pub(crate) fn manifest(named: &Named, device: &OpenDevice, certificates: Value) -> Value {
    let experiment = &named.loaded.experiment;
    let origin = |(path, value, origin): &(String, String, Origin)| json!([path, value, origin.to_string()]);
    let origins: Vec<Value> = named.loaded.origins.iter().map(origin).collect();
    let mut manifest = json!({ "experiment": named.name });
    let rest = json!({ "certificates": certificates, "origins": origins, "report": reporter() });
    for part in [build(device, &experiment.shared.model), rest] {
        if let (Value::Object(all), Value::Object(part)) = (&mut manifest, part) {
            all.extend(part);
        }
    }
    if named.smoke {
        manifest["smoke"] = true.into();
    }
    manifest
}

/// What a reader must know of numbers that `--smoke` made.
pub(crate) fn smoke_note(manifest: &Value) -> Option<&'static str> {
    (manifest["smoke"] == true).then_some(
        "these runs are a smoke test (--smoke): training and probes were cut to a few updates and sequences, so the numbers \
         mean nothing",
    )
}

/// Whether the manifest holds a law that was measured and did not hold.
pub(crate) fn broken_law(manifest: &Value) -> bool {
    let optimizers = manifest["certificates"]["optimizers"].as_array();
    let laws = optimizers.into_iter().flatten().filter_map(|optimizer| optimizer["laws"].as_array()).flatten();
    laws.into_iter().any(|law| law["holds"] == false)
}

/// What was left out of the tables of a published directory, as `scripts/thin_run.py` says it.
pub(crate) fn thinned(manifest: &Value) -> Option<&str> {
    manifest["thinned"].as_str()
}
