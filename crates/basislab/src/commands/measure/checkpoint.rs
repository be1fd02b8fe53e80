//! A run of our own as a model to measure: its newest checkpoint, on the held-out sequences of its corpus.

use super::model::{Model, run_name};
use crate::backend::OpenDevice;
use crate::exit::Exit;
use crate::experiments::{check_corpora, library};
use basislab_config::{CorpusSpec, Dtype, ModelSpec, Role};
use basislab_measure::Sequences;
use basislab_report::resolve;
use basislab_runs::{Opened, open};
use basislab_store::{Checkpoint, FileError, newest};
use basislab_tables::{RunRecord, SelectionRow, read_optional};
use basislab_train::{State, Trainee};
use serde_json::json;
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

/// The newest checkpoint of a run. Of `several` each has its seed in its name.
pub(super) fn read(path: &Path, several: bool, device: &OpenDevice) -> Result<Model, Exit> {
    let at = path.display();
    let Some((dir, arm, seed)) = place(path) else { return Err(Exit::data(format!("{at}: no run"))) };
    let Opened { experiment, manifest } = open(dir, library())?;
    let experiment = resolve(&experiment, &read_optional::<SelectionRow>(dir)?);
    let Some(arm) = experiment.arm(arm) else {
        return Err(Exit::data(format!("{at}: found no arm {arm:?} in {}", dir.join("config.toml").display())));
    };
    let corpora = check_corpora(dir, &experiment, &manifest)?;
    let (run, corpus) = (&arm.run, corpora.of(&arm.run));
    let record = RunRecord::read(path)?.ok_or_else(|| Exit::data(format!("{at}: run.json is missing")))?;
    let owner = serde_json::to_value(&record.identity).map_err(|error| Exit::data(format!("{at}: {error}")))?;
    let fits = &mut |_: &Checkpoint| Ok::<_, FileError>(None);
    let found = newest(&path.join("checkpoints"), &owner, fits, &mut |_| {});
    let found = found.map_err(|error| Exit::data(error.to_string()))?;
    let Some(checkpoint) = found else {
        return Err(Exit::data(format!("{at}: has no checkpoint; only finished runs have one here")));
    };
    let (step, files) = (checkpoint.step, checkpoint.files);
    let sums: Vec<_> = files.iter().map(|(name, bytes)| json!([name, basislab_store::sha256(bytes)])).collect();
    let mut trainee = Trainee::new(run, seed, corpus.d_vocab(), &device.device);
    trainee.restore(run, seed, &State { step, files })?;
    let sequences = corpus.held_out(seed, run.probe.residual_sequences, run.model.n_ctx + 1);
    let sequences = Sequences::of_next_tokens(&sequences);
    let text = |token: &u32| corpus.decode(&[*token]);
    let is_text = matches!(run.corpus, CorpusSpec::Text(_));
    let bytes_of = |token: &u32| if is_text { text(token).len() as u64 } else { 0 };
    let predicted_bytes = sequences.predicted().iter().map(bytes_of).sum();
    let texts = sequences.tokens.iter().map(text).collect();
    let weights = weights(&trainee);
    let parameters = weights.values().map(|values| values.len() as u64).sum();
    // Weights of other types are widened or rounded to it.
    let spec = ModelSpec { param_dtype: Dtype::F32, compute_dtype: Dtype::F32, ..run.model.clone() };
    Ok(Model {
        name: if several { run_name(&format!("{}-{seed}", arm.name)) } else { arm.name.clone() },
        step,
        format: "checkpoint",
        architecture: "Transformer".to_owned(),
        d_vocab: corpus.d_vocab(),
        has_head: true,
        parameters,
        sequences,
        texts,
        predicted_bytes,
        datasheet: json!({ "run": at.to_string(), "seed": seed, "step": step, "of_run": owner, "sha256": sums, "spec": spec }),
        spec,
        stored_as_integers: None,
        weights: Box::new(move |path: &str, shape: [usize; 2]| match weights.get(path) {
            Some(values) if values.len() == shape[0] * shape[1] => Ok(values.clone()),
            _ => Err(Exit::data(format!("the checkpoint has no {path} of shape {shape:?}"))),
        }),
    })
}

/// Every parameter in the coordinates of the stream: a rotated model's are turned back.
fn weights(trainee: &Trainee) -> BTreeMap<String, Vec<f32>> {
    let mut all = BTreeMap::new();
    trainee.model.without_autodiff().for_each(&mut |path, role, weight| {
        let value = match role {
            Role::Read | Role::Head => weight.out_of_stream(),
            Role::Write | Role::Embedding | Role::Vector => weight.in_stream(),
            Role::Other => weight.value.clone(),
        };
        all.insert(path.to_owned(), value.into_data().iter::<f32>().collect());
    });
    all
}
