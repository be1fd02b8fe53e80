//! `basislab run` and `basislab report`.

use crate::args;
use crate::backend::Place;
use crate::build::{build, builder, differences, in_words, reporter};
use crate::check::{certificates, to_json};
use crate::desk::Desk;
use crate::directory::{self, identity, short_hash};
use crate::exit::{Code, Exit};
use crate::experiments::{self, Named};
use crate::progress::Progress;
use crate::signals::Signals;
use crate::terminal::{say, say_json};
use crate::{Done, resources, threads};
use basislab_config::Experiment;
use basislab_data::Corpus;
use basislab_experiment::{Control, Parallelism, jobs, run as run_jobs};
use basislab_report::{Answer, SUMS, Written, is_finished, is_published, merge, read_answer, seal};
use basislab_store::{Lock, LockError, remove, write_atomic};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

pub(crate) fn run(args: &args::Run) -> Done {
    let signals = Signals::listen()?;
    let named = experiments::find(&args.which)?;
    let place = args.on.open()?;
    place.require(&named.loaded.experiment.model)?;
    place.work(|| run_on(&place, &named, args, &signals))
}

const ADVICE: resources::Advice = resources::Advice {
    memory: "use fewer --jobs, or a smaller model, batch or context",
    disk: "free some, or choose another --out",
};

fn run_on(place: &Place, named: &Named, args: &args::Run, signals: &Signals) -> Done {
    let experiment = &named.loaded.experiment;
    let corpus = experiments::corpus(&named.loaded)?;
    let stack = args.stack_seeds.map_or(1, |most| most as usize).min(experiment.seeds.len());
    let identity = identity(experiment, place.facts.backend, corpus.sha256(), stack);
    let dir =
        args.out.clone().unwrap_or_else(|| PathBuf::from(format!("runs/{}-{}", named.name, short_hash(&identity))));
    let all = jobs(experiment);
    let cores = threads::cores();
    // A GPU is shared by all runs; whether several at once are faster there is not known.
    let usual = if place.facts.kind == "cpu" { cores } else { 1 };
    let workers = args.jobs.map_or(usual, |jobs| jobs as usize).min(all.len()).max(1);
    resources::check(
        experiment,
        corpus.d_vocab(),
        workers * stack,
        directory::pending(&dir, &all),
        &dir,
        &place.facts,
        &ADVICE,
    )?;

    let owner = directory::enter(&dir, args.no_lock)?;
    let progress = Progress::new(args.quiet);
    let describe = || {
        if place.facts.kind != "cpu" {
            progress.line(&format!("the laws of every optimizer on {} come first, then the runs", place.facts.name));
        }
        let certificates = to_json(experiment, &certificates(experiment, 20, place), place);
        manifest(named, place, &corpus, &identity, certificates)
    };
    let mut known = directory::claim(&dir, experiment, &identity, describe)?;
    let todo = directory::survey(&dir, &all)?;
    progress.plan(todo.len() as u64 * experiment.train.steps);
    let (at, kept) = (dir.display(), all.len() - todo.len());
    match (todo.len(), kept) {
        (0, _) if is_published(&dir) && !dir.join(SUMS).is_file() => {
            progress.line(&format!("{at} holds tables without the parts they were made from; nothing is run there"));
        }
        (0, _) => progress.line(&format!("{at} is already complete; nothing is run again")),
        (_, 0) => progress.line(&format!("{} runs -> {at}", todo.len())),
        _ => progress.line(&format!("{kept} of {} runs are complete, {} to go -> {at}", all.len(), todo.len())),
    }
    let only_read = owner.is_none() && !args.no_lock;
    if only_read && !todo.is_empty() {
        let (at, left) = (dir.display(), todo.len());
        return Err(Exit::write(format!("{at}: cannot lock it to write, and {left} of its runs have not ended")));
    }
    if todo.is_empty() && (only_read || is_finished(&dir)?) {
        progress.finish();
        return say_answer(&read_answer(&dir, experiment, thinned(&known))?, &known, args.json);
    }
    owner.as_ref().map_or(Ok(()), Lock::sign)?;
    if !todo.is_empty() && dir.join("parts").exists() {
        same_build(&dir, &mut known, build(place, &experiment.model), args.allow_version_change)?;
    }
    if !todo.is_empty() {
        // What was finished is not any more, and summary and verdicts are written again as runs end.
        remove(&dir.join(SUMS))?;
        directory::sign_report(&dir, &mut known)?;
    }
    if let Some(tokenizer) = corpus.tokenizer_json() {
        write_atomic(&dir.join("tokenizer.json"), tokenizer.as_bytes())?;
    }
    if broken_law(&known) {
        progress.warn("  warning: a law of an optimizer is broken: see `basislab check` and the manifest");
    }
    let workers = workers.min(todo.len()).max(1);
    let pools = threads::pools(workers, (cores / workers).max(1));
    if pools.len() < workers {
        let granted = pools.len().max(1);
        progress.warn(&format!(
            "  warning: the system refuses more threads: {granted} instead of {workers} --jobs (see `ulimit -u`)"
        ));
    }
    let desk = Desk {
        dir: &dir,
        identity: &identity,
        experiment,
        all: &all,
        facts: &place.facts,
        progress: &progress,
        open: Mutex::default(),
        drawn: Mutex::default(),
    };
    let control = Control {
        stop: signals.stop(),
        checkpoint_steps: args.checkpoint_steps.unwrap_or(u64::MAX),
        checkpoint_interval: Duration::from_secs(args.checkpoint_seconds),
    };
    let (setting, parallelism) = (place.setting(experiment, &corpus), Parallelism { pools: &pools, stack });
    run_jobs(setting, &todo, parallelism, control, &|jobs| desk.begin(jobs), &|job, event| desk.take(job, event))?;
    progress.finish();
    let left = directory::pending(&dir, &todo);
    if left > 0 {
        merge(&dir, experiment)?;
        return Err(signals.goodbye(left));
    }
    say_answer(&write_report(&dir, experiment, &mut known)?, &known, args.json)
}

/// Makes the report, or reads it where it must not be made again. The seal comes last of all.
fn write_report(dir: &Path, experiment: &Experiment, manifest: &mut Value) -> Result<Answer, Exit> {
    let (answer, written) = basislab_report::report(dir, experiment, thinned(manifest))?;
    if written != Written::Nothing {
        directory::sign_report(dir, manifest)?;
    }
    if written == Written::Whole {
        seal(dir)?;
    }
    Ok(answer)
}

/// What was left out of the tables of a published directory, as `scripts/thin_run.py` says it.
fn thinned(manifest: &Value) -> Option<&str> {
    manifest["thinned"].as_str()
}

pub(crate) fn report(dir: &Path, json: bool) -> Done {
    resources::check_tables(dir)?;
    let (experiment, mut manifest) = directory::open(dir)?;
    // Parts are joined under the lock. While a run holds it, the answer is read from what it has written.
    let lock = if dir.join("parts").is_dir() { Lock::take(dir).map(Some) } else { Ok(None) };
    let answer = match lock {
        Err(LockError::ReadOnly(_)) if dir.join(SUMS).exists() => read_answer(dir, &experiment, thinned(&manifest))?,
        Err(LockError::Busy(_)) => basislab_report::read_unsealed(dir, &experiment)?,
        Err(LockError::ReadOnly(error)) => {
            let mut answer = basislab_report::read_unsealed(dir, &experiment)?;
            answer.notes.push(format!("parts were not joined, since nothing can be written here ({error})"));
            answer
        }
        Err(LockError::File(error)) => return Err(error.into()),
        Ok(_) | Err(LockError::Unsupported(_)) => write_report(dir, &experiment, &mut manifest)?,
    };
    say_answer(&answer, &manifest, json)
}

fn say_answer(answer: &Answer, manifest: &Value, json: bool) -> Done {
    let later = manifest["continued_by"].as_array().into_iter().flatten();
    let runs_by: Vec<Value> = std::iter::once(manifest).chain(later).map(builder).collect();
    // Manifests of earlier versions do not say who made the report.
    let report_by = &manifest["report"];
    if json {
        let mut value = serde_json::to_value(answer).map_err(Exit::write)?;
        value["runs_by"] = runs_by.into();
        value["report_by"] = report_by.clone();
        say_json(&value)?
    } else {
        let mut notes = String::new();
        if runs_by.len() > 1 {
            notes +=
                &format!("Made by {} different builds of basislab or machines: see the manifest.\n", runs_by.len());
        }
        if !report_by.is_null() && runs_by.iter().any(|runs| runs != report_by) {
            let runs: Vec<String> = runs_by.iter().map(in_words).collect();
            notes += &format!("Runs made by {}; report made by {}.\n", runs.join(", then "), in_words(report_by));
        }
        say(format!("{answer}\n{notes}"))?
    }
    let failed = answer.runs_diverged > 0 || answer.self_test_failed() || broken_law(manifest);
    Ok(failed.then_some(Code::Numbers))
}

/// Whether the manifest holds a law that was measured and did not hold.
fn broken_law(manifest: &Value) -> bool {
    let optimizers = manifest["certificates"]["optimizers"].as_array();
    let laws = optimizers.into_iter().flatten().filter_map(|optimizer| optimizer["laws"].as_array()).flatten();
    laws.into_iter().any(|law| law["holds"] == false)
}

/// Numbers of one directory come from one build on one kind of machine, unless the user says otherwise.
fn same_build(dir: &Path, manifest: &mut Value, here: Value, allowed: bool) -> Result<(), Exit> {
    let last = manifest["continued_by"].as_array().and_then(|all| all.last()).unwrap_or(manifest);
    let differences = differences(last, &here);
    if differences.is_empty() {
        return Ok(());
    }
    if !allowed {
        return Err(Exit::new(
            Code::Identity,
            format!(
                "{}: was begun by another build or machine ({}); go on there, choose another --out, or accept the mixture with --allow-version-change",
                dir.display(),
                differences.join("; ")
            ),
        ));
    }
    let mut all = manifest["continued_by"].as_array().cloned().unwrap_or_default();
    all.push(here);
    manifest["continued_by"] = all.into();
    Ok(directory::write_manifest(dir, manifest)?)
}

/// Everything about a directory that is not a measurement. Holds no wall-clock time: equal runs have equal manifests.
fn manifest(named: &Named, place: &Place, corpus: &Corpus, identity: &Value, certificates: Value) -> Value {
    let experiment = &named.loaded.experiment;
    let origin =
        |(path, value, origin): &(String, String, basislab_config::Origin)| json!([path, value, origin.to_string()]);
    let origins: Vec<Value> = named.loaded.origins.iter().map(origin).collect();
    let mut manifest = json!({
        "format": 1,
        "experiment": named.name,
        "identity": identity,
        "verdict_rule_sha256": experiment.verdict_hash(),
    });
    let rest = json!({
        "seeds": experiment.seeds,
        "corpus_sha256": corpus.sha256(),
        "certificates": certificates,
        "origins": origins,
        "report": reporter(),
    });
    for part in [build(place, &experiment.model), rest] {
        if let (Value::Object(all), Value::Object(part)) = (&mut manifest, part) {
            all.extend(part);
        }
    }
    manifest
}
