//! `run.json`: what a run is, and how it came to be. `failed.json`: why it could not be trained.

use basislab_store::{FileError, read_capped, remove, write_atomic};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io;
use std::path::Path;

/// What decides the numbers of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// SHA-256 of its configuration, seed and corpus left out.
    pub run: String,
    /// The seed.
    pub seed: u64,
    /// SHA-256 of the corpus.
    pub corpus: String,
    /// The backend, e.g. `flex`.
    pub backend: String,
    /// The version of the numbers.
    pub numerics: u32,
}

/// What a run is, and how it came to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// What decides its numbers.
    pub identity: Identity,
    /// The experiment that it was trained for.
    pub experiment: String,
    /// The seeds that were planned for its arm when it began.
    pub seeds: Vec<u64>,
    /// SHA-256 of the rules of the claims that were fixed when it began.
    pub registered: Vec<String>,
    /// Whether it was trained in another directory and copied here.
    pub reused: bool,
    /// The builds and machines that trained it, each once.
    pub builds: Vec<Value>,
}

const FILE: &str = "run.json";

impl RunRecord {
    /// Of the run in `part`; `None` where there is none.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what [`RunRecord::write`] writes.
    pub fn read(part: &Path) -> Result<Option<Self>, FileError> {
        read(&part.join(FILE))
    }

    /// Into `part`, atomically.
    ///
    /// # Errors
    /// The file that could not be written.
    pub fn write(&self, part: &Path) -> Result<(), FileError> {
        let text = serde_json::to_string_pretty(self).expect("strings and integers");
        write_atomic(&part.join(FILE), format!("{text}\n").as_bytes())
    }
}

/// How a run failed that no process is training now: it is not taken again unless that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The error, in one line.
    pub reason: String,
    /// The time, as in RFC 3339.
    pub when: String,
    /// The computer.
    pub host: String,
    /// The process there.
    pub process: u32,
}

/// The name of a [`Failure`] in a run's folder of unfinished work.
pub const FAILED: &str = "failed.json";

impl Failure {
    /// Of the run whose unfinished work is in `work`; `None` where it did not fail.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what [`Failure::write`] writes.
    pub fn read(work: &Path) -> Result<Option<Self>, FileError> {
        read(&work.join(FAILED))
    }

    /// Into `work`, atomically.
    ///
    /// # Errors
    /// The file that could not be written.
    pub fn write(&self, work: &Path) -> Result<(), FileError> {
        let text = serde_json::to_string_pretty(self).expect("strings and an integer");
        write_atomic(&work.join(FAILED), format!("{text}\n").as_bytes())
    }

    /// Removes what [`Failure::write`] wrote, if it is there.
    ///
    /// # Errors
    /// The file that could not be removed.
    pub fn forget(work: &Path) -> Result<(), FileError> {
        remove(&work.join(FAILED))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    match read_capped(path, 1 << 20) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(bytes) => {
            let parsed = serde_json::from_slice(&bytes).map(Some);
            parsed.map_err(|error| FileError::new("read", path, io::Error::from(error)))
        }
    }
}

/// The class of a CPU with these of the features that `run.json` lists. It chooses the instructions of kernels, and with them
/// how sums are rounded: on a CPU backend, equal runs give equal bits on CPUs of one class.
pub fn cpu_class(features: &[&str]) -> &'static str {
    let has = |feature| features.contains(&feature);
    match (has("avx512f"), has("avx2") && has("fma")) {
        (true, _) => "avx512",
        (false, true) => "avx2",
        (false, false) => "scalar",
    }
}
