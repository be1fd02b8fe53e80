use serde::Serialize;
use sha2::{Digest, Sha256};

/// SHA-256 over a value as TOML, lower-case hex.
pub(crate) fn sha256_of(value: &impl Serialize) -> String {
    let text = toml::to_string(value).expect("configurations hold only strings, numbers, lists and tables");
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
