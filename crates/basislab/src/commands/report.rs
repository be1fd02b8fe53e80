//! `basislab report`.

use super::CommandResult;
use crate::build::{builder, in_words, reporter};
use crate::directories::{expect_one, is_measured};
use crate::exit::{Code, Exit};
use crate::experiments::library;
use crate::manifest::{broken_law, smoke_note, thinned};
use crate::resources;
use crate::terminal::{say, say_json};
use basislab_config::Experiment;
use basislab_export::unpack_bundle;
use basislab_report::{Answer, Beside, Provenance, Records, Written, read_answer, read_unsealed, seal};
use basislab_runs::{Opened, jobs, open, write_manifest};
use basislab_store::{FileError, Lock, LockError};
use basislab_tables::SUMS;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

pub(crate) fn report(dir: &Path, beside: Beside, json: bool) -> CommandResult {
    if dir.is_file() {
        return of_bundle(dir, json);
    }
    if is_measured(dir) && super::quantize::is_one(dir) {
        return super::quantize::report(dir, beside, json);
    }
    if is_measured(dir) {
        return super::measure::report(dir, beside, json);
    }
    let (answer, manifest) = current(dir, beside)?;
    say_answer(&answer, &manifest, json)
}

/// The answer that a bundle holds. Nothing stays unpacked.
fn of_bundle(bundle: &Path, json: bool) -> CommandResult {
    let folder =
        tempfile::tempdir().map_err(|error| Exit::write(format!("cannot create a temporary folder: {error}")))?;
    let dir = unpack_bundle(bundle, folder.path())?;
    resources::check_tables(&dir)?;
    let Opened { experiment, manifest } = open(&dir, library())?;
    let mut answer = read_answer(&dir, &experiment, thinned(&manifest))?;
    answer.directory = bundle.display().to_string();
    answer.next = vec![format!("unzip {}, for figures, page and tables", bundle.display())];
    say_answer(&answer, &manifest, json)
}

/// The answer of a directory of `basislab run`, made again where it can be, and the manifest.
pub(crate) fn current(dir: &Path, beside: Beside) -> Result<(Answer, Value), Exit> {
    expect_one(dir)?;
    resources::check_tables(dir)?;
    let Opened { experiment, mut manifest } = open(dir, library())?;
    // Parts are joined under the lock. While another process holds it, the answer is read from what there is.
    let lock = if dir.join("parts").is_dir() { Lock::wait(dir, Duration::from_secs(5)).map(Some) } else { Ok(None) };
    let answer = match lock {
        Err(LockError::ReadOnly(_)) if dir.join(SUMS).exists() => read_answer(dir, &experiment, thinned(&manifest))?,
        Err(LockError::Busy(_)) => read_unsealed(dir, &experiment)?,
        Err(LockError::ReadOnly(error)) => {
            let mut answer = read_unsealed(dir, &experiment)?;
            answer.notes.push(format!("parts were not joined, since nothing can be written here ({error})"));
            answer
        }
        Err(LockError::File(error)) => return Err(error.into()),
        Ok(_) | Err(LockError::Unsupported(_)) => write_report(dir, &experiment, &mut manifest, beside)?,
    };
    Ok((answer, manifest))
}

/// Makes the report, or reads it where it must not be made again. The seal comes last of all. To be called under the
/// directory's lock.
pub(crate) fn write_report(
    dir: &Path,
    experiment: &Experiment,
    manifest: &mut Value,
    beside: Beside,
) -> Result<Answer, Exit> {
    let records = Records::read(dir, experiment);
    let (mut answer, written, page) = basislab_report::report(dir, experiment, &records, thinned(manifest), beside)?;
    if written != Written::Nothing {
        record_builds(dir, experiment, &records, manifest)?;
    }
    if let Some(page) = page {
        let mut shown = with_notes(&answer, manifest);
        page.write(dir, &mut shown, &provenance(manifest))?;
        (answer.files, answer.next) = (shown.files, shown.next);
    }
    if written == Written::Whole {
        seal(dir, experiment)?;
    }
    Ok(answer)
}

/// Records which builds made the runs, besides the manifest's own, and which one makes the report: summary and verdicts
/// follow from the tables by its code.
fn record_builds(
    dir: &Path,
    experiment: &Experiment,
    records: &Records,
    manifest: &mut Value,
) -> Result<(), FileError> {
    let before = manifest.clone();
    let mut others: Vec<Value> = Vec::new();
    // The report says how many records cannot be read.
    for record in jobs(experiment).iter().filter_map(|job| records.of_run(&job.arm.name, job.seed)) {
        for build in record.builds.iter() {
            let is_first =
                build.as_object().is_some_and(|keys| keys.iter().all(|(key, value)| manifest[key] == *value));
            if !is_first && !others.contains(build) {
                others.push(build.clone());
            }
        }
    }
    if !others.is_empty() {
        manifest["continued_by"] = others.into();
    }
    manifest["report"] = reporter();
    if *manifest == before { Ok(()) } else { write_manifest(dir, manifest) }
}

pub(crate) fn say_answer(answer: &Answer, manifest: &Value, json: bool) -> CommandResult {
    if json {
        say_json(&answer_value(answer, manifest)?)?
    } else {
        say(answer_text(answer, manifest))?
    }
    Ok(is_unsound(answer, manifest).then_some(Code::Unsound))
}

/// Whether a run diverged, or a law or a self-test failed.
pub(crate) fn is_unsound(answer: &Answer, manifest: &Value) -> bool {
    answer.runs_diverged > 0 || answer.self_test_failed() || broken_law(manifest)
}

/// The answer as JSON.
pub(crate) fn answer_value(answer: &Answer, manifest: &Value) -> Result<Value, Exit> {
    let mut value = serde_json::to_value(with_notes(answer, manifest)).map_err(Exit::write)?;
    value["runs_by"] = runs_by(manifest).into();
    value["report_by"] = manifest["report"].clone();
    Ok(value)
}

/// The answer as text.
pub(crate) fn answer_text(answer: &Answer, manifest: &Value) -> String {
    let builds: String = builds(manifest).iter().map(|sentence| format!("{sentence}\n")).collect();
    format!("{}\n{builds}", with_notes(answer, manifest))
}

/// A sentence where several builds made the runs, and one where another one made the report.
fn builds(manifest: &Value) -> Vec<String> {
    let (runs_by, report_by) = (runs_by(manifest), &manifest["report"]);
    let mut sentences = Vec::new();
    if runs_by.len() > 1 {
        let count = runs_by.len();
        sentences.push(format!("Made by {count} different builds of basislab or machines: see the manifest."));
    }
    if !report_by.is_null() && runs_by.iter().any(|runs| runs != report_by) {
        let runs: Vec<String> = runs_by.iter().map(in_words).collect();
        sentences.push(format!("Runs made by {}; report made by {}.", runs.join(" and "), in_words(report_by)));
    }
    sentences
}

/// What the page says of builds and versions.
pub(super) fn provenance(manifest: &Value) -> Provenance {
    let mut builds = builds(manifest);
    if builds.is_empty() {
        builds.push(format!("Runs and report made by {}.", in_words(&builder(manifest))));
    }
    let of = |key: &str| manifest[key].as_str().unwrap_or_default().to_owned();
    let mut versions = vec![("rustc".to_owned(), of("rustc")), ("burn".to_owned(), of("burn"))];
    // Of models that other programs trained there is none.
    versions.extend(
        manifest["numerics"].as_u64().map(|version| ("version of the numbers".to_owned(), version.to_string())),
    );
    Provenance { name: of("experiment"), builds, versions }
}

fn with_notes(answer: &Answer, manifest: &Value) -> Answer {
    let mut answer = answer.clone();
    answer.notes.extend(smoke_note(manifest).map(str::to_owned));
    answer
}

/// The builds that made the runs.
fn runs_by(manifest: &Value) -> Vec<Value> {
    let others = manifest["continued_by"].as_array().into_iter().flatten();
    std::iter::once(manifest).chain(others).map(builder).collect()
}
