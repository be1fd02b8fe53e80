//! `basislab measure`: the residual stream of finished models, whoever trained them.

pub(super) mod checkpoint;
pub(super) mod model;
pub(super) mod saved;

use super::CommandResult;
use super::report::provenance;
use crate::args::MeasureArgs;
use crate::backend::OpenDevice;
use crate::build::build;
use crate::exit::{Code, Exit};
use crate::manifest::thinned;
use crate::progress::Progress;
use crate::resources;
use crate::terminal::{say, say_json};
use basislab_config::{RunName, Site};
use basislab_measure::{Bases, Changes, Intervention, Measurements, Pass, SelfCheck, Sequences, Subject, Turn, run};
use basislab_report::{Beside, MeasuredAnswer, absent_page, read_measured, report_measured, seal_measured};
use basislab_runs::{FORMAT, create_output_dir, lock, read_manifest, write_manifest};
use basislab_stats::{bits_per_byte, unigram_loss};
use basislab_store::{Lock, LockError, remove, sha256};
use basislab_tables::{EvalRow, InterventionRow, MeasuredTokens, ModelRow, SUMS, Split, Verified, write_table};
use model::{Model, Text};
use saved::What;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What `--save` and the interventions ask for.
struct Wanted {
    save: Vec<(What, PathBuf)>,
    intervention: Intervention,
    /// Patches are read once the shape of the model is known.
    patches: Vec<(Site, PathBuf)>,
}

/// What was found of one model.
struct Found {
    model: ModelRow,
    measurements: Measurements,
    intervention: Option<InterventionRow>,
    self_check: Option<SelfCheck>,
}

pub(crate) fn measure(args: &MeasureArgs) -> CommandResult {
    let wanted = Wanted::of(args)?;
    let device = args.on.open()?;
    let text = args.text.as_deref().map(Text::open).transpose()?;
    let models = model::open_all(&args.into(), text.as_ref(), &device)?;
    if !wanted.is_plain() && models.len() > 1 {
        return Err(Exit::usage("--save and interventions are for one model at a time"));
    }
    // What cannot be done leaves no directory.
    let mut intervention = Intervention::default();
    for model in &models {
        let size = (model.sequences.tokens.len(), model.sequences.length);
        let need = resources::measuring(&model.spec, model.d_vocab, size, args.bases);
        resources::require(need, model.name.as_str(), "use a smaller --tokens or --window")?;
        if !wanted.is_plain() {
            intervention = wanted.fit(model)?;
        }
    }
    let (manifest, identity) = manifest(args, &models, text.as_ref(), &intervention, &device);
    let dir = args.out.clone().unwrap_or_else(|| model::default_out("measure", &models, &identity));
    create_output_dir(&dir)?;
    let _lock = take_lock(&dir)?;
    expect_same(&dir, &identity)?;
    // Without the seal the directory counts as unfinished.
    remove(&dir.join(SUMS))?;
    write_manifest(&dir, &manifest)?;
    let progress = Progress::new(args.quiet);
    progress.plan(models.iter().map(|model| sites(model) * passes(&wanted)).sum());
    let mut found = Vec::new();
    for model in &models {
        found.push(device.work(|| one(model, &wanted, &intervention, args, &device, &progress))?);
    }
    progress.finish();
    write_tables(&dir, &found)?;
    let answer = report_measured(&dir, args.figures.beside(), &provenance(&manifest))?;
    seal_measured(&dir)?;
    say_answer(&answer, args.json)?;
    self_check_result(&found, args.json, &progress)
}

/// Makes the report of a directory again from its tables.
pub(crate) fn report(dir: &Path, beside: Beside, json: bool) -> CommandResult {
    let manifest = read_manifest(dir)?.unwrap_or_default();
    // Figures of a published directory were made from tables that are not all there.
    if let Some(left_out) = thinned(&manifest) {
        absent_page(dir, &provenance(&manifest))?;
        say_answer(&read_measured(dir)?, json)?;
        if !json {
            say(format!("a part of the measurement: {left_out}\n"))?;
        }
        return Ok(None);
    }
    let _lock = lock(dir, false)?;
    let answer = report_measured(dir, beside, &provenance(&manifest))?;
    seal_measured(dir)?;
    say_answer(&answer, json)?;
    Ok(None)
}

/// Prints the answer.
fn say_answer(answer: &MeasuredAnswer, json: bool) -> Result<(), Exit> {
    match json {
        true => say_json(&serde_json::to_value(answer).map_err(Exit::data)?),
        false => say(answer.to_string()),
    }
}

impl Wanted {
    fn of(args: &MeasureArgs) -> Result<Self, Exit> {
        let save: Vec<_> = args.save.iter().map(|text| saved::parse("--save", text)).collect::<Result<_, _>>()?;
        for (_, file) in &save {
            saved::check_target(file, &args.models, args.out.as_deref())?;
        }
        let ablations = args.ablate.iter().map(|text| text.parse()).collect::<Result<_, String>>();
        let ablations = ablations.map_err(|what| Exit::usage(format!("--ablate: {what}")))?;
        let turn = args.rotate.as_deref().map(str::parse::<Turn>).transpose();
        let turn = turn.map_err(|what| Exit::usage(format!("--rotate: {what}")))?;
        let mut patches = Vec::new();
        for text in &args.patch {
            match saved::parse("--patch", text)? {
                (What::Site(site), file) => patches.push((site, file)),
                (What::Tokens, _) => return Err(Exit::usage(format!("--patch {text}: tokens cannot be patched"))),
            }
        }
        Ok(Self { save, intervention: Intervention { ablations, turn, ..Intervention::default() }, patches })
    }

    fn intervenes(&self) -> bool {
        !self.intervention.is_none() || !self.patches.is_empty()
    }

    fn is_plain(&self) -> bool {
        self.save.is_empty() && !self.intervenes()
    }

    /// The interventions in words.
    fn describe(&self) -> String {
        let ablations = self.intervention.ablations.iter().map(|one| format!("ablate {one}"));
        let patches = self.patches.iter().map(|(site, file)| format!("patch {site}={}", file.display()));
        let turn = self.intervention.turn.iter().map(|turn| format!("rotate {turn}"));
        turn.chain(patches).chain(ablations).collect::<Vec<_>>().join(", ")
    }

    /// Checks sites and dimensions against the model, and reads the patches.
    fn fit(&self, model: &Model) -> Result<Intervention, Exit> {
        let mut intervention = self.intervention.clone();
        let d = model.spec.d_model;
        let known = model.spec.sites();
        let saved =
            self.save.iter().filter_map(|(what, _)| if let What::Site(site) = what { Some(*site) } else { None });
        let patched = self.patches.iter().map(|(site, _)| *site);
        for site in intervention.sites().chain(saved).chain(patched) {
            if !known.contains(&site) {
                let (name, last) = (&model.name, model.spec.n_layers - 1);
                let what = format!("found {site}, which {name} does not have; N of its blocks is 0 to {last}");
                return Err(Exit::usage(format!("{what} (see `basislab measure --help` for sites)")));
            }
        }
        if let Some(dim) = intervention.ablations.iter().flat_map(|one| &one.dims).find(|dim| **dim >= d) {
            return Err(Exit::usage(format!("--ablate: found dimension {dim}, expected one below d_model = {d}")));
        }
        if intervention.turn.as_ref().is_some_and(|turn| turn.rotation(d).is_none()) {
            let what = format!("--rotate: a Hadamard matrix needs a power of two, and d_model is {d}; use haar:SEED");
            return Err(Exit::usage(what));
        }
        for (site, file) in &self.patches {
            intervention.patches.push((*site, saved::read(file, [model.sequences.tokens.len(), d])?));
        }
        Ok(intervention)
    }
}

pub(super) fn sites(model: &Model) -> u64 {
    model.spec.sites().len() as u64
}

fn passes(wanted: &Wanted) -> u64 {
    if wanted.intervenes() { 2 } else { 1 }
}

fn one(
    model: &Model,
    wanted: &Wanted,
    intervention: &Intervention,
    args: &MeasureArgs,
    device: &OpenDevice,
    progress: &Progress,
) -> Result<Found, Exit> {
    let Sequences { length, tokens, .. } = &model.sequences;
    let (d, n_tokens) = (model.spec.d_model, tokens.len());
    let subject = Subject {
        spec: &model.spec,
        d_vocab: model.d_vocab,
        has_head: model.has_head,
        device: &device.device,
        sequences: &model.sequences,
    };
    let mut read = |path: &str, shape: [usize; 2]| (model.weights)(path, shape).map_err(anyhow::Error::from);
    let step = |_: Site| progress.step();
    let mut before = None;
    if wanted.intervenes() {
        let mut pass = Pass { progress: Some(&step), keep_end: true, ..Pass::default() };
        run(&subject, &Intervention::default(), &mut read, &mut pass)?;
        before = Some(pass);
    }
    let bases = Bases::draw(args.seed, args.bases as usize, d, n_tokens, *length, args.null_tokens as usize);
    let names = MeasuredTokens { model: &model.name, step: model.step, tokens, n_ctx: *length, texts: &model.texts };
    let of_site = |site: Site| wanted.save.iter().filter(move |(what, _)| *what == What::Site(site));
    let mut on_saved = |site: Site, values: &[f32], width: usize| {
        let shape = [n_tokens, width];
        of_site(site).try_for_each(|(_, file)| Ok(saved::write(file, &site.to_string(), shape, values)?))
    };
    let mut pass = Pass {
        save: model.spec.sites().into_iter().filter(|site| of_site(*site).next().is_some()).collect(),
        on_saved: Some(&mut on_saved),
        measure: Some((names, &bases)),
        self_check: args.self_check.then(SelfCheck::default),
        progress: Some(&step),
        keep_end: before.is_some(),
        ..Pass::default()
    };
    run(&subject, intervention, &mut read, &mut pass)?;
    for (_, file) in wanted.save.iter().filter(|(what, _)| *what == What::Tokens) {
        saved::write_tokens(file, [model.sequences.count(), *length], tokens)?;
    }
    if let Some(site) = pass.measurements.not_finite {
        let what = format!("found an activation at {site} that is not finite, expected finite numbers");
        return Err(Exit::data(format!("{}: {what}: the weights are broken or overflow", model.name)));
    }
    let (loss, loss_before) = (pass.loss(), before.as_ref().map_or_else(|| pass.loss(), Pass::loss));
    let turn = intervention.turn.as_ref();
    let changes = before.as_ref().map(|before| before.changes(&pass, turn, d));
    let intervention = changes.map(|Changes { mean, largest, relative }| InterventionRow {
        model: model.name.clone(),
        step: model.step,
        interventions: wanted.describe(),
        loss_before,
        loss,
        mean_change: mean,
        largest_change: largest,
        relative_change: relative,
    });
    let model = model_row(model, pass.losses.len() as u64, loss, loss_before);
    let Pass { measurements, self_check, .. } = pass;
    Ok(Found { model, measurements, intervention, self_check })
}

/// `loss_before` is that without interventions, which tells whether the forward pass is right.
pub(super) fn model_row(model: &Model, predicted_tokens: u64, loss: Option<f64>, loss_before: Option<f64>) -> ModelRow {
    let predicted = model.sequences.predicted();
    let [loss, loss_before] = [loss, loss_before].map(|loss| loss.filter(|loss| loss.is_finite()));
    let unigram = if model.has_head { unigram_loss(&predicted, model.d_vocab) } else { None };
    let predicted_bytes = if model.has_head { model.predicted_bytes } else { 0 };
    ModelRow {
        model: model.name.clone(),
        step: model.step,
        format: model.format.to_owned(),
        architecture: model.architecture.clone(),
        parameters: model.parameters,
        d_model: model.spec.d_model,
        n_layers: model.spec.n_layers,
        d_vocab: model.d_vocab,
        sequences: model.sequences.count(),
        tokens: model.sequences.tokens.len() as u64,
        predicted_tokens,
        predicted_bytes,
        loss,
        bits_per_byte: loss.and_then(|loss| bits_per_byte(loss, predicted_tokens, predicted_bytes)),
        unigram_loss: unigram,
        verified: Verified::of(model.has_head, loss_before, unigram),
    }
}

fn write_tables(dir: &Path, found: &[Found]) -> Result<(), Exit> {
    let rows = |of: fn(&Found) -> &Measurements| found.iter().map(of);
    let all = |found: &Found| -> EvalRow {
        let model = &found.model;
        let (arm, step, split) = (model.model.clone(), model.step, Split::HeldOut);
        EvalRow { arm, seed: 0, step, split, loss: model.loss, loss_above_floor: None }
    };
    write_table(dir, &found.iter().map(|found| found.model.clone()).collect::<Vec<_>>())?;
    write_table(dir, &found.iter().map(all).collect::<Vec<_>>())?;
    let of = |found: &Found| -> Vec<_> { found.measurements.special(&found.model.model, found.model.step) };
    write_table(dir, &found.iter().flat_map(of).collect::<Vec<_>>())?;
    let measurements = || rows(|found| &found.measurements);
    write_table(dir, &measurements().flat_map(|all| all.residual.clone()).collect::<Vec<_>>())?;
    write_table(dir, &measurements().flat_map(|all| all.dimensions.clone()).collect::<Vec<_>>())?;
    write_table(dir, &measurements().flat_map(|all| all.massive.clone()).collect::<Vec<_>>())?;
    write_table(dir, &measurements().flat_map(|all| all.dominant.clone()).collect::<Vec<_>>())?;
    let interventions: Vec<InterventionRow> = found.iter().filter_map(|found| found.intervention.clone()).collect();
    if !interventions.is_empty() {
        write_table(dir, &interventions)?;
    }
    Ok(())
}

/// Says how the self-check ended; on stderr where stdout is JSON.
fn self_check_result(found: &[Found], json: bool, progress: &Progress) -> CommandResult {
    let mut code = None;
    for (model, check) in found.iter().filter_map(|found| Some((&found.model.model, found.self_check.as_ref()?))) {
        let compared = check.compared;
        let line = match &check.wrong[..] {
            [] => format!("self-check of {model}: {compared} sums of stream and writes, all equal bit for bit"),
            [first, ..] => {
                code = Some(Code::Unsound);
                let (wrong, site, largest) = (check.wrong.len(), first.site, first.largest);
                let what = format!("{wrong} of {compared} sums differ; first at {site}, by up to {largest:e}");
                format!("self-check of {model} FAILED: {what}")
            }
        };
        match json {
            true => progress.warn(&line),
            false => say(line + "\n")?,
        }
    }
    Ok(code)
}

/// The lock of the directory, which another measurement may hold for long.
fn take_lock(dir: &Path) -> Result<Option<Lock>, Exit> {
    match Lock::take(dir) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Busy(owner)) => {
            let what = format!("another process measures there ({owner}); wait for it, or choose another --out");
            Err(Exit::new(Code::Busy, format!("{}: {what}", dir.display())))
        }
        Err(_) => Ok(lock(dir, false)?),
    }
}

/// A directory of another measurement, or of an experiment, is left alone.
pub(super) fn expect_same(dir: &Path, identity: &str) -> Result<(), Exit> {
    let Some(there) = read_manifest(dir)? else { return Ok(()) };
    if let Some(left_out) = thinned(&there) {
        let what = format!("holds a published measurement ({left_out}), which would be overwritten");
        return Err(Exit::new(Code::Identity, format!("{}: {what}; choose another --out", dir.display())));
    }
    if there["measured"]["hash"] == identity {
        return Ok(());
    }
    let what = if there["measured"].is_object() { "another measurement" } else { "an experiment" };
    Err(Exit::new(Code::Identity, format!("{}: belongs to {what}; choose another --out", dir.display())))
}

/// The manifest, and the hash of what decides the numbers.
fn manifest(
    args: &MeasureArgs,
    models: &[Model],
    text: Option<&Text>,
    intervention: &Intervention,
    device: &OpenDevice,
) -> (Value, String) {
    let names: Vec<(&RunName, u64)> = models.iter().map(|model| (&model.name, model.step)).collect();
    let patched = |(site, values): &(Site, Vec<f32>)| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        json!([site, sha256(&bytes)])
    };
    let mut measured = json!({
        "models": models.iter().map(|model| model.datasheet.clone()).collect::<Vec<_>>(),
        "names": names,
        "text_sha256": text.map(|text| &text.sha256),
        "window": models.first().map(|model| model.sequences.length),
        "tokens": args.tokens, "random_bases": args.bases, "null_tokens": args.null_tokens, "seed": args.seed,
        "rotate": args.rotate, "ablate": args.ablate,
        "patch": intervention.patches.iter().map(patched).collect::<Vec<_>>(),
    });
    let identity = sha256(measured.to_string().as_bytes());
    measured["hash"] = identity.clone().into();
    // A text is known by its hash, wherever it lies.
    measured["text"] = text.map(|text| text.name.clone()).into();
    let mut manifest = json!({ "format": FORMAT, "measured": measured });
    if let (Value::Object(all), Value::Object(build)) = (&mut manifest, build(device, &models[0].spec)) {
        all.extend(build);
    }
    (manifest, identity)
}
