//! `basislab quantize`: what rounding weights and activations costs finished models.

use super::CommandResult;
use super::measure::model::{Chosen, Model, Text, default_out, open_all};
use super::measure::{expect_same, model_row, sites};
use super::report::provenance;
use crate::args::{DeviceArgs, FigureArgs, QuantizeArgs};
use crate::backend::OpenDevice;
use crate::build::build;
use crate::exit::{Code, Exit};
use crate::progress::Progress;
use crate::resources;
use crate::terminal::{say, say_json};
use basislab_config::{Experiment, QuantizeSpec};
use basislab_measure::{Bases, Panel, Plan, Subject, why_not_rotated};
use basislab_report::{Beside, report_quantized, seal_quantized};
use basislab_runs::{FORMAT, create_output_dir, finished, jobs, lock, read_manifest, write_manifest};
use basislab_store::{remove, sha256};
use basislab_tables::{
    Ending, MeasuredTokens, ModelRow, QuantizationRow, QuantizedModelRow, SUMS, TableRow, part_dir, write_table,
};
use serde_json::{Value, json};
use std::path::Path;

/// Random bases, and tokens that are measured in them, to find special dimensions.
const BASES: usize = 8;
const NULL_TOKENS: usize = 512;
/// Tokens that a run of an experiment is rounded on at most.
const TOKENS: u64 = 512;
/// A rotated model with nothing rounded that differs by more has wrongly folded weights.
const MOST_DIFFERENCE: f64 = 1e-3;

/// What was found of one model.
struct Found {
    model: ModelRow,
    stream: QuantizedModelRow,
    rows: Vec<QuantizationRow>,
    difference_of_rotated: Option<f64>,
}

pub(crate) fn quantize(args: &QuantizeArgs) -> CommandResult {
    quantize_on(args, &args.on.open()?, false)
}

/// What `[quantize]` of an experiment asks of its runs, into `quantization` in its directory: those that ended well.
pub(super) fn of_experiment(
    dir: &Path,
    experiment: &Experiment,
    (on, figures, quiet, json): (DeviceArgs, FigureArgs, bool, bool),
    device: &OpenDevice,
) -> CommandResult {
    let Some(QuantizeSpec { arms }) = &experiment.quantize else { return Ok(None) };
    let (jobs, mut models) = (jobs(experiment), Vec::new());
    for job in jobs.iter().filter(|job| arms.contains(&job.arm.name) && experiment.seeds.contains(&job.seed)) {
        if finished(dir, job)?.is_some_and(|end| end.state == Ending::Complete) {
            models.push(part_dir(dir, &job.arm.name, job.seed));
        }
    }
    if models.is_empty() {
        return Ok(None);
    }
    let out = Some(dir.join("quantization"));
    let (text, tokenizer, window) = (None, None, None);
    quantize_on(
        &QuantizeArgs { models, text, tokenizer, on, window, tokens: TOKENS, seed: 0, out, figures, quiet, json },
        device,
        true,
    )
}

/// `of_experiment`: the directory lies in that of an experiment. It is made anew where that has other runs now, and where the
/// experiment's answer was JSON, nothing follows it.
fn quantize_on(args: &QuantizeArgs, device: &OpenDevice, of_experiment: bool) -> CommandResult {
    let print = (!(of_experiment && args.json)).then_some(args.json);
    let text = args.text.as_deref().map(Text::open).transpose()?;
    let models = open_all(&Chosen::from(args), text.as_ref(), device)?;
    // What cannot be done leaves no directory.
    for model in &models {
        resources::require(memory(model), model.name.as_str(), "use a smaller --tokens or --window")?;
    }
    let manifest = manifest(args, &models, text.as_ref(), device);
    let identity = manifest["measured"]["hash"].as_str().unwrap_or_default().to_owned();
    let dir = args.out.clone().unwrap_or_else(|| default_out("quantize", &models, &identity));
    if of_experiment && expect_same(&dir, &identity).is_err() {
        remove(&dir)?;
    }
    create_output_dir(&dir)?;
    let _lock = lock(&dir, false)?;
    expect_same(&dir, &identity)?;
    if dir.join(SUMS).exists() {
        write_report(&dir, args.figures.beside(), print)?;
        return Ok(None);
    }
    // Without the seal the directory counts as unfinished.
    remove(&dir.join(SUMS))?;
    write_manifest(&dir, &manifest)?;
    let progress = Progress::new(args.quiet);
    // How many passes follow is known once special dimensions are.
    progress.plan(models.iter().map(sites).sum());
    let mut found = Vec::new();
    for model in &models {
        found.push(device.work(|| one(model, args, device, &progress))?);
    }
    progress.finish();
    write_table(&dir, &found.iter().map(|found| found.model.clone()).collect::<Vec<_>>())?;
    write_table(&dir, &found.iter().map(|found| found.stream.clone()).collect::<Vec<_>>())?;
    write_table(&dir, &found.iter().flat_map(|found| found.rows.clone()).collect::<Vec<_>>())?;
    write_report(&dir, args.figures.beside(), print)?;
    rotation_result(&found)
}

/// Makes the report of a directory from its tables, and prints the answer, as JSON or as text.
fn write_report(dir: &Path, beside: Beside, json: Option<bool>) -> Result<(), Exit> {
    let manifest = read_manifest(dir)?.unwrap_or_default();
    let answer = report_quantized(dir, beside, &provenance(&manifest))?;
    seal_quantized(dir)?;
    match json {
        Some(true) => say_json(&serde_json::to_value(&answer).map_err(Exit::data)?),
        Some(false) => say(answer.to_string()),
        None => Ok(()),
    }
}

/// Whether a directory of `basislab measure` or `basislab quantize` is one of the latter.
pub(super) fn is_one(dir: &Path) -> bool {
    dir.join(QuantizationRow::TABLE.file).exists()
}

/// Makes the report of a directory again.
pub(super) fn report(dir: &Path, beside: Beside, json: bool) -> CommandResult {
    let _lock = lock(dir, false)?;
    write_report(dir, beside, Some(json))?;
    Ok(None)
}

fn one(model: &Model, args: &QuantizeArgs, device: &OpenDevice, progress: &Progress) -> Result<Found, Exit> {
    let (n_tokens, length, d) = (model.sequences.tokens.len(), model.sequences.length, model.spec.d_model);
    let subject = Subject {
        spec: &model.spec,
        d_vocab: model.d_vocab,
        has_head: model.has_head,
        device: &device.device,
        sequences: &model.sequences,
    };
    let mut read = |path: &str, shape: [usize; 2]| (model.weights)(path, shape).map_err(anyhow::Error::from);
    let bases = Bases::draw(args.seed, BASES, d, n_tokens, length, NULL_TOKENS);
    let (tokens, texts) = (&model.sequences.tokens[..], &model.texts[..]);
    let plan = Plan {
        tokens: MeasuredTokens { model: &model.name, step: model.step, tokens, n_ctx: length, texts },
        bases: &bases,
        seed: args.seed,
        weights_left_out: model.stored_as_integers.as_ref().map(|types| {
            format!("they are stored as integers ({types}); rounding them to their own grid costs nearly nothing, and rotating leaves it")
        }),
        progress: &|_| progress.step(),
    };
    progress.message(|| format!("{} as it is", model.name));
    let mut panel = Panel::begin(&subject, &plan, &mut read)?;
    if let Some(site) = panel.not_finite {
        let what = format!("found an activation at {site} that is not finite, expected finite numbers");
        return Err(Exit::data(format!("{}: {what}: the weights are broken or overflow", model.name)));
    }
    let variants = panel.variants();
    progress.plan_more(variants.len() as u64 * sites(model));
    for variant in variants {
        progress.message(|| format!("{} {variant}", model.name));
        panel.run(variant, &mut read)?;
    }
    Ok(Found {
        model: model_row(model, panel.losses().len() as u64, panel.loss(), panel.loss()),
        difference_of_rotated: panel.difference_of_rotated(),
        stream: panel.model,
        rows: panel.rows,
    })
}

/// Bytes that a panel takes at its peak: what measuring takes, the streams that are compared, and a rotated head, which is made
/// from a copy of the embeddings and turned.
fn memory(model: &Model) -> f64 {
    let (n_tokens, length, d) = (model.sequences.tokens.len(), model.sequences.length, model.spec.d_model);
    let rotated = if why_not_rotated(&model.spec).is_none() { 12.0 * (model.d_vocab * d) as f64 } else { 0.0 };
    resources::measuring(&model.spec, model.d_vocab, (n_tokens, length), BASES as u64)
        + rotated
        + 12.0 * (n_tokens * d) as f64
}

/// Says where a rotated model is another one.
fn rotation_result(found: &[Found]) -> CommandResult {
    let mut code = None;
    for one in found {
        if let Some(difference) = one.difference_of_rotated.filter(|difference| *difference > MOST_DIFFERENCE) {
            let expected = format!("expected at most {MOST_DIFFERENCE:e}: rotated rows cannot be trusted");
            say(format!(
                "rotation of {} FAILED: with nothing rounded it differs by {difference:.1e}, {expected}\n",
                one.model.model
            ))?;
            code = Some(Code::Unsound);
        }
    }
    Ok(code)
}

fn manifest(args: &QuantizeArgs, models: &[Model], text: Option<&Text>, device: &OpenDevice) -> Value {
    let mut measured = json!({
        "panel": "quantization",
        "models": models.iter().map(|model| model.datasheet.clone()).collect::<Vec<_>>(),
        "names": models.iter().map(|model| (&model.name, model.step)).collect::<Vec<_>>(),
        "text": text.map(|text| json!({ "name": text.name, "sha256": text.sha256 })),
        "window": models.first().map(|model| model.sequences.length),
        "tokens": args.tokens, "random_bases": BASES, "null_tokens": NULL_TOKENS, "seed": args.seed,
    });
    let identity = sha256(measured.to_string().as_bytes());
    measured["hash"] = identity.into();
    let mut manifest = json!({ "format": FORMAT, "measured": measured });
    if let (Value::Object(all), Value::Object(build)) = (&mut manifest, build(device, &models[0].spec)) {
        all.extend(build);
    }
    manifest
}
