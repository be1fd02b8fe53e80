//! `basislab export`: a directory of `basislab run` in a form that other programs read.

mod card;

use super::CommandResult;
use super::measure::checkpoint::{Own, open_own};
use super::measure::saved::write_tokens;
use crate::args::{ExportArgs, Form};
use crate::backend::Backend;
use crate::directories::expect_one;
use crate::exit::{Code, Exit};
use crate::experiments::library;
use crate::resources;
use crate::terminal::say;
use basislab_config::count as counted;
use basislab_export::{ExportError, write_bundle, write_events, write_folder, write_parquet};
use basislab_import::as_hugging_face;
use basislab_report::check_seal;
use basislab_runs::{Opened, open};
use basislab_store::{Dtype, NamedTensor, encode, write_atomic};
use basislab_tables::{SUMS, TABLES, part_dir};
use serde_json::{Value, json};
use std::path::Path;

pub(crate) fn export(args: &ExportArgs) -> CommandResult {
    let (dir, form) = (args.dir.as_path(), args.to);
    expect_one(dir)?;
    let opened = open(dir, library())?;
    let of_one_run = matches!(form, Form::Weights | Form::ModelCard);
    if !of_one_run && (args.arm.is_some() || args.seed.is_some()) {
        return Err(Exit::usage("--arm and --seed are for weights and model-card; the other forms hold every run"));
    }
    let name = name_of(dir);
    let beside = |ending: &str| {
        let parent = dir.canonicalize().ok().and_then(|dir| Some(dir.parent()?.to_owned()));
        let parent = if dir.file_name().is_some() { dir.parent().map(Path::to_owned) } else { parent };
        parent.unwrap_or_default().join(format!("{name}-{ending}"))
    };
    let out = |ending: &str| args.out.clone().unwrap_or_else(|| beside(ending));
    let about = json!({ "form": form_name(form), "of": name });
    match form {
        Form::Parquet => {
            let out = out("parquet");
            let written = write_folder(&out, &about, |folder| parquet(dir, folder))?;
            said(&out, &counted(written.len(), "table"))?;
        }
        Form::Tensorboard => {
            resources::check_tables(dir)?;
            let out = out("tensorboard");
            let written = write_folder(&out, &about, |folder| write_events(dir, folder))?;
            said(&out, &format!("{}; read with  tensorboard --logdir PATH", counted(written.len(), "run")))?;
        }
        Form::Bundle => {
            let out = out("bundle.zip");
            bundle(dir, &opened, &name, &out)?;
        }
        Form::Weights | Form::ModelCard => {
            let (Some(arm), Some(seed)) = (&args.arm, args.seed) else {
                let what = format!("--to {} is of one run: name it with --arm ARM --seed SEED", form_name(form));
                return Err(Exit::usage(what));
            };
            let own = own_run(dir, &opened, arm, seed)?;
            if form == Form::Weights {
                weights(&own, &out(&format!("{arm}-{seed}-weights")), &about)?;
            } else {
                model_card(dir, &opened.manifest, &own, &out(&format!("{arm}-{seed}")), &about)?;
            }
        }
    }
    Ok(None)
}

fn form_name(form: Form) -> &'static str {
    match form {
        Form::Parquet => "parquet",
        Form::Tensorboard => "tensorboard",
        Form::Bundle => "bundle",
        Form::Weights => "weights",
        Form::ModelCard => "model-card",
    }
}

/// The name of a directory, also of `.`.
fn name_of(dir: &Path) -> String {
    let whole = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let name = dir.file_name().or(whole.file_name());
    name.map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn said(out: &Path, what: &str) -> Result<(), Exit> {
    say(format!("{}: {what}\n", out.display()))
}

fn parquet(dir: &Path, folder: &Path) -> Result<Vec<String>, ExportError> {
    let mut names = Vec::new();
    for table in TABLES.iter().filter(|table| dir.join(table.file).is_file()) {
        let name = table.file.replace(".csv", ".parquet");
        write_parquet(dir, table, &folder.join(&name))?;
        names.push(name);
    }
    Ok(names)
}

/// A bundle has no parts, from which a report could be made: its report must have been made before.
fn bundle(dir: &Path, opened: &Opened, name: &str, out: &Path) -> Result<(), Exit> {
    if !dir.join(SUMS).is_file() {
        let what = format!(
            "has no {SUMS}, expected a finished directory; `basislab report {}` tells what is missing",
            dir.display()
        );
        return Err(Exit::data(format!("{}: {what}", dir.display())));
    }
    check_seal(dir, &opened.experiment)?;
    let written = write_bundle(dir, name, out)?;
    said(out, &counted(written.len(), "file"))
}

/// A finished run with its weights.
fn own_run(dir: &Path, opened: &Opened, arm: &str, seed: u64) -> Result<Own, Exit> {
    let Some(arm) = opened.experiment.arm(arm) else {
        let known: Vec<&str> = opened.experiment.arms.iter().map(|arm| arm.name.as_str()).collect();
        return Err(Exit::usage(format!("--arm: found {arm:?}, expected {}", known.join(" or "))));
    };
    let part = part_dir(dir, &arm.name, seed);
    if !part.is_dir() {
        let what = "holds no finished run with weights; train it, or choose another --arm or --seed";
        return Err(Exit::data(format!("{}: {what}", part.display())));
    }
    open_own(&part, &Backend::Cpu.open(0)?)
}

/// A run's weights in f32, with the keys of its model and the text of every token.
fn weights(own: &Own, out: &Path, about: &Value) -> Result<(), Exit> {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensor = |(name, (shape, values)): (&String, &([usize; 2], Vec<f32>))| NamedTensor {
        name: name.clone(),
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        bytes: bytes(values),
    };
    let tensors: Vec<NamedTensor> = own.weights.iter().map(tensor).collect();
    let corpus = own.corpus();
    let texts: Vec<String> = (0..corpus.d_vocab() as u32).map(|token| corpus.decode(&[token])).collect();
    let model = json!({
        "arm": own.arm, "seed": own.seed, "step": own.step, "of_run": own.identity, "d_vocab": corpus.d_vocab(),
        "model": own.run.model, "texts": texts,
    });
    write_folder(out, about, |folder| {
        write_atomic(&folder.join("model.json"), format!("{model:#}\n").as_bytes())?;
        write_atomic(&folder.join("weights.safetensors"), &encode(&tensors))?;
        write_held_out(own, &folder.join(HELD_OUT))?;
        Ok::<_, Exit>(["model.json", "weights.safetensors", HELD_OUT].map(str::to_owned).to_vec())
    })?;
    said(out, &format!("{} in float32", counted(tensors.len(), "tensor")))
}

/// A run's weights as `transformers` loads them, and their card.
fn model_card(dir: &Path, manifest: &Value, own: &Own, out: &Path, about: &Value) -> Result<(), Exit> {
    let weight = |path: &str| own.weights.get(path).map(|(_, values)| values.clone());
    let files = as_hugging_face(&own.run.model, own.corpus().d_vocab(), &weight);
    let files = files.map_err(|what| {
        let other = "--to weights has no such limit";
        Exit::data(format!("{} seed {}: {what}; {other}", own.arm, own.seed))
    })?;
    let card = card::card(dir, manifest, own, &files)?;
    write_folder(out, about, |folder| {
        write_atomic(&folder.join("config.json"), format!("{:#}\n", files.config).as_bytes())?;
        write_atomic(&folder.join("model.safetensors"), &encode(&files.tensors))?;
        write_atomic(&folder.join("README.md"), card.as_bytes())?;
        write_held_out(own, &folder.join(HELD_OUT))?;
        Ok::<_, Exit>(["config.json", "model.safetensors", "README.md", HELD_OUT].map(str::to_owned).to_vec())
    })?;
    said(out, &format!("{}, which transformers loads with from_pretrained", files.architecture))
}

/// The tokens on which the loss of `evals.csv` was measured.
const HELD_OUT: &str = "held_out_tokens.npy";

/// The sequences whose loss is in `evals.csv`, `[sequences, positions + 1]`: each token but the first is predicted.
fn write_held_out(own: &Own, path: &Path) -> Result<(), Exit> {
    let length = own.run.model.n_ctx + 1;
    let sequences = own.corpus().held_out(own.seed, own.run.probe.loss_sequences, length);
    write_tokens(path, [sequences.len(), length], &sequences.concat())
}

impl From<ExportError> for Exit {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Table(error) => error.into(),
            ExportError::File(error) => error.into(),
            ExportError::Foreign(what) => Self::new(Code::Identity, what),
        }
    }
}
