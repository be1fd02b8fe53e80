//! A run of our own as a model to measure: its newest checkpoint, on the held-out sequences of its corpus.

use super::model::{Model, run_name};
use crate::backend::OpenDevice;
use crate::exit::Exit;
use crate::experiments::{check_corpora, library};
use basislab_config::{CorpusSpec, Dtype, ModelSpec, Role, RunName, RunSpec};
use basislab_data::Corpus;
use basislab_measure::Sequences;
use basislab_report::resolve;
use basislab_runs::{Corpora, Opened, open};
use basislab_store::{Checkpoint, FileError, newest};
use basislab_tables::{RunRecord, SelectionRow, read_optional};
use basislab_train::{State, Trainee};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The run's directory, the arm and the seed of `RUN_DIR/parts/ARM/SEED`.
fn place(path: &Path) -> Option<(&Path, &str, u64)> {
    let seed = path.file_name()?.to_str()?.parse().ok()?;
    let arm = path.parent()?;
    let parts = arm.parent().filter(|parts| parts.file_name().is_some_and(|name| name == "parts"))?;
    let run = parts.parent().filter(|run| !run.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some((run, arm.file_name()?.to_str()?, seed))
}

/// Whether the path is that of a run of ours.
pub(super) fn is_own(path: &Path) -> bool {
    place(path).is_some() && path.is_dir()
}

/// A run of our own: its configuration, its corpus and the weights of its newest checkpoint.
pub(in crate::commands) struct Own {
    pub(in crate::commands) arm: RunName,
    pub(in crate::commands) seed: u64,
    pub(in crate::commands) run: RunSpec,
    corpora: Corpora,
    /// What decided the numbers of the run.
    pub(in crate::commands) identity: Value,
    /// Updates made.
    pub(in crate::commands) step: u64,
    /// The files of the checkpoint with their SHA-256.
    pub(in crate::commands) sums: Vec<Value>,
    /// Every parameter by its path with its shape, row-major `[in, out]`, in the coordinates of the stream.
    pub(in crate::commands) weights: BTreeMap<String, ([usize; 2], Vec<f32>)>,
}

/// Reads a run of our own at `RUN_DIR/parts/ARM/SEED`.
pub(in crate::commands) fn open_own(path: &Path, device: &OpenDevice) -> Result<Own, Exit> {
    let at = path.display();
    let Some((dir, arm, seed)) = place(path) else { return Err(Exit::data(format!("{at}: no run"))) };
    let Opened { experiment, manifest } = open(dir, library())?;
    let experiment = resolve(&experiment, &read_optional::<SelectionRow>(dir)?);
    let Some(arm) = experiment.arm(arm) else {
        return Err(Exit::data(format!("{at}: found no arm {arm:?} in {}", dir.join("config.toml").display())));
    };
    let corpora = check_corpora(dir, &experiment, &manifest)?;
    let run = &arm.run;
    let record = RunRecord::read(path)?.ok_or_else(|| Exit::data(format!("{at}: run.json is missing")))?;
    let identity = serde_json::to_value(&record.identity).map_err(|error| Exit::data(format!("{at}: {error}")))?;
    let fits = &mut |_: &Checkpoint| Ok::<_, FileError>(None);
    let found = newest(&path.join("checkpoints"), &identity, fits, &mut |_| {});
    let found = found.map_err(|error| Exit::data(error.to_string()))?;
    let Some(checkpoint) = found else {
        return Err(Exit::data(format!("{at}: has no checkpoint; only finished runs have one here")));
    };
    let (step, files) = (checkpoint.step, checkpoint.files);
    let sums = files.iter().map(|(name, bytes)| json!([name, basislab_store::sha256(bytes)])).collect();
    let mut trainee = Trainee::new(run, seed, corpora.of(run).d_vocab(), &device.device);
    trainee.restore(run, seed, &State { step, files })?;
    let weights = weights(&trainee);
    let (arm, run) = (arm.name.clone(), run.clone());
    Ok(Own { arm, seed, run, corpora, identity, step, sums, weights })
}

impl Own {
    /// What it was trained on.
    pub(in crate::commands) fn corpus(&self) -> &Corpus {
        self.corpora.of(&self.run)
    }
}

/// The newest checkpoint of a run. Of `several` each has its seed in its name.
pub(super) fn read(path: &Path, several: bool, device: &OpenDevice) -> Result<Model, Exit> {
    let Own { arm, seed, run, corpora, identity, step, sums, weights } = open_own(path, device)?;
    let corpus = corpora.of(&run);
    let sequences = corpus.held_out(seed, run.probe.residual_sequences, run.model.n_ctx + 1);
    let sequences = Sequences::of_next_tokens(&sequences);
    let text = |token: &u32| corpus.decode(&[*token]);
    let is_text = matches!(run.corpus, CorpusSpec::Text(_));
    let bytes_of = |token: &u32| if is_text { text(token).len() as u64 } else { 0 };
    let predicted_bytes = sequences.predicted().iter().map(bytes_of).sum();
    let texts = sequences.tokens.iter().map(text).collect();
    let parameters = weights.values().map(|(_, values)| values.len() as u64).sum();
    // Weights of other types are widened or rounded to it.
    let spec = ModelSpec { param_dtype: Dtype::F32, compute_dtype: Dtype::F32, ..run.model.clone() };
    let at = path.display().to_string();
    Ok(Model {
        name: if several { run_name(&format!("{arm}-{seed}")) } else { arm },
        step,
        format: "checkpoint",
        architecture: "Transformer".to_owned(),
        d_vocab: corpus.d_vocab(),
        has_head: true,
        parameters,
        sequences,
        texts,
        predicted_bytes,
        datasheet: json!({ "run": at, "seed": seed, "step": step, "of_run": identity, "sha256": sums, "spec": spec }),
        spec,
        stored_as_integers: None,
        weights: Box::new(move |path: &str, shape: [usize; 2]| match weights.get(path) {
            Some((found, values)) if *found == shape => Ok(values.clone()),
            _ => Err(Exit::data(format!("the checkpoint has no {path} of shape {shape:?}"))),
        }),
    })
}

/// Every parameter in the coordinates of the stream: a rotated model's are turned back.
fn weights(trainee: &Trainee) -> BTreeMap<String, ([usize; 2], Vec<f32>)> {
    let mut all = BTreeMap::new();
    trainee.model.without_autodiff().for_each(&mut |path, role, weight| {
        let value = match role {
            Role::Read | Role::Head => weight.out_of_stream(),
            Role::Write | Role::Embedding | Role::Vector => weight.in_stream(),
            Role::Other => weight.value.clone(),
        };
        all.insert(path.to_owned(), (value.dims(), value.into_data().iter::<f32>().collect()));
    });
    all
}
