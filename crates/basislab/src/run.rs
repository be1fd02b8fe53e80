//! `basislab run` and `basislab report`.

use crate::args;
use crate::build::{build, differences};
use crate::check::{certificates, dtype_of_laws, to_json};
use crate::directory::{self, checkpoints, identity, short_hash};
use crate::exit::{Code, Exit};
use crate::experiments::{self, Named};
use crate::progress::Progress;
use crate::signals::Signals;
use crate::{Done, resources, say, say_json};
use basislab_config::Experiment;
use basislab_data::Corpus;
use basislab_experiment::{Control, Event, Finished, Job, Outcome, Setting, State, jobs, run as run_jobs};
use basislab_report::{
    Ending, Row, Shard, TimingRow, finish, first_picture, merge, part_dir, read_table, write_timing,
};
use basislab_store::{Checkpoint, CheckpointError, FileError, Lock, LockError, Owner, newest, save, write_atomic};
use burn::tensor::DType;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) fn run(args: &args::Run) -> Done {
    let signals = Signals::listen()?;
    let named = experiments::find(&args.which)?;
    let experiment = &named.loaded.experiment;
    let device = args.backend.device()?;
    let corpus = Corpus::open(&experiment.corpus, experiment.model.n_ctx)?;
    let identity = identity(experiment, args.backend.name(), "f32", corpus.sha256());
    let dir =
        args.out.clone().unwrap_or_else(|| PathBuf::from(format!("runs/{}-{}", named.name, short_hash(&identity))));
    let all = jobs(experiment);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = args.jobs.map_or(cores, |jobs| jobs as usize).min(all.len()).max(1);
    resources::check(experiment, corpus.d_vocab(), workers, directory::pending(&dir, &all), &dir)?;

    let owner = directory::enter(&dir, args.no_lock)?;
    let laws = (&device, dtype_of_laws(args.backend));
    let describe = || {
        let certificates = to_json(experiment, &certificates(experiment, 20, laws), laws);
        manifest(&named, args.backend.name(), &corpus, &identity, certificates)
    };
    let mut known = directory::claim(&dir, experiment, &identity, describe)?;
    let todo = directory::survey(&dir, &all)?;
    let progress = Progress::new(todo.len() as u64 * experiment.train.steps, args.quiet);
    let (place, kept) = (dir.display(), all.len() - todo.len());
    match (todo.len(), kept) {
        (0, _) => progress.line(&format!("{place} is already complete; nothing is run again")),
        (_, 0) => progress.line(&format!("{} runs -> {place}", todo.len())),
        _ => progress.line(&format!("{kept} of {} runs are complete, {} to go -> {place}", all.len(), todo.len())),
    }
    if todo.is_empty() && FINISHED.iter().all(|file| dir.join(file).exists()) {
        progress.finish();
        return print(&basislab_report::read_answer(&dir, experiment)?, &known, args.json);
    }
    owner.as_ref().map_or(Ok(()), Lock::sign)?;
    if !todo.is_empty() && dir.join("parts").exists() {
        same_build(&dir, &mut known, args.allow_version_change)?;
    }
    if let Some(tokenizer) = corpus.tokenizer_json() {
        write_atomic(&dir.join("tokenizer.json"), tokenizer.as_bytes())?;
    }
    if broken_law(&known) {
        progress.line("  a law of an optimizer is broken: see `basislab check` and the manifest");
    }
    let threads = (cores / workers.min(todo.len()).max(1)).max(1);
    let desk = Desk {
        dir: &dir,
        identity: &identity,
        experiment,
        all: &all,
        progress: &progress,
        open: Mutex::default(),
        drawn: Mutex::default(),
    };
    let control = Control {
        stop: signals.stop(),
        checkpoint_steps: args.checkpoint_steps.unwrap_or(u64::MAX),
        checkpoint_interval: Duration::from_secs(args.checkpoint_seconds),
    };
    let setting = Setting { experiment, corpus: &corpus, device: &device, dtype: DType::F32 };
    run_jobs(setting, &todo, (workers, threads), control, &|job| desk.begin(job), &|job, event| desk.take(job, event))?;
    progress.finish();
    let left = directory::pending(&dir, &todo);
    if left > 0 {
        merge(&dir, experiment)?;
        return Err(signals.goodbye(left));
    }
    print(&finish(&dir, experiment)?, &known, args.json)
}

/// What a finished directory holds besides its parts.
const FINISHED: [&str; 5] = ["SHA256SUMS", "summary.csv", "verdicts.csv", "schema.json", "figures"];

pub(crate) fn report(dir: &Path, json: bool) -> Done {
    let (experiment, manifest) = directory::open(dir)?;
    // Parts are joined under the lock. While a run holds it, the answer is read from what it has written.
    let lock = if dir.join("parts").is_dir() { Lock::take(dir).map(Some) } else { Ok(None) };
    let answer = match lock {
        Err(LockError::Busy(_)) => basislab_report::read_unsealed(dir, &experiment)?,
        Err(LockError::File(error)) => return Err(error.into()),
        Ok(_) | Err(LockError::Unsupported(_)) => basislab_report::report(dir, &experiment)?,
    };
    print(&answer, &manifest, json)
}

fn print(answer: &basislab_report::Answer, manifest: &Value, json: bool) -> Done {
    if json {
        say_json(&serde_json::to_value(answer).map_err(Exit::write)?)?
    } else {
        let builds = manifest["continued_by"].as_array().map_or(0, Vec::len);
        let note = format!("Made by {} different builds of basislab or machines: see the manifest.\n", builds + 1);
        say(format!("{answer}\n{}", if builds > 0 { note.as_str() } else { "" }))?
    }
    Ok((answer.runs_diverged > 0 || broken_law(manifest)).then_some(Code::Numbers))
}

/// Whether the manifest holds a law that was measured and did not hold.
fn broken_law(manifest: &Value) -> bool {
    let optimizers = manifest["certificates"]["optimizers"].as_array();
    let laws = optimizers.into_iter().flatten().filter_map(|optimizer| optimizer["laws"].as_array()).flatten();
    laws.into_iter().any(|law| law["holds"] == false)
}

/// Numbers of one directory come from one build on one kind of machine, unless the user says otherwise.
fn same_build(dir: &Path, manifest: &mut Value, allowed: bool) -> Result<(), Exit> {
    let here = build();
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

/// Where the runs' events arrive.
struct Desk<'a> {
    dir: &'a Path,
    identity: &'a Value,
    experiment: &'a Experiment,
    all: &'a [Job<'a>],
    progress: &'a Progress,
    /// Runs in progress, by arm and seed.
    open: Mutex<OpenRuns>,
    /// Held while the report is rebuilt.
    drawn: Mutex<bool>,
}

type OpenRuns = BTreeMap<(String, u64), Arc<Mutex<Open>>>;

/// A run in progress: its files, and what it cost before this process.
struct Open {
    shard: Shard,
    begun: Instant,
    before: Option<TimingRow>,
    started: String,
}

impl Desk<'_> {
    /// Opens a run's files, at its last checkpoint if there is one.
    fn begin(&self, job: &Job<'_>) -> anyhow::Result<Option<State>> {
        let part = part_dir(self.dir, &job.arm.name, job.seed);
        let name = format!("{} seed {}", job.arm.name, job.seed);
        let mut shard = None;
        let mut fits = |checkpoint: &Checkpoint| {
            shard = Shard::resume(&part, &checkpoint.tables)?;
            Ok(shard.is_none().then(|| "the run's tables are not what they were when it was made".to_owned()))
        };
        let mut warn = |error: &CheckpointError| self.progress.line(&format!("  warning: {name}: {error}; not used"));
        let found = newest(&checkpoints(self.dir, job), &self.owner(job), &mut fits, &mut warn)?;
        let resumed = shard.zip(found);
        let (shard, state, before) = match resumed {
            Some((shard, Checkpoint { step, files, .. })) => {
                self.progress.skip(step);
                self.progress.line(&format!("  {name}: goes on after step {step}"));
                let before = read_table::<TimingRow>(&part).ok().and_then(|rows| rows.into_iter().next());
                (shard, Some(State { step, files }), before)
            }
            None => {
                match fs::remove_dir_all(&part) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(FileError::new("remove an interrupted run in", &part, error).into());
                    }
                    _ => {}
                }
                (Shard::create(&part)?, None, None)
            }
        };
        let started = before.as_ref().map_or_else(|| Timestamp::now().to_string(), |row| row.started.clone());
        let open = Open { shard, begun: Instant::now(), before, started };
        self.open.lock().expect("no panic while held").insert(key(job), Arc::new(Mutex::new(open)));
        Ok(state)
    }

    fn take(&self, job: &Job<'_>, event: Event) -> anyhow::Result<()> {
        let open = Arc::clone(&self.open.lock().expect("no panic while held")[&key(job)]);
        let mut open = open.lock().expect("no panic while held");
        match event {
            Event::Rows(rows) => {
                if let Some(Row::Step(row)) = rows.first() {
                    self.progress.step();
                    if let Some(loss) = row.train_loss.filter(|_| row.step % 10 == 0) {
                        self.progress
                            .message(format!("{} seed {} step {} loss {loss:.3}", job.arm.name, job.seed, row.step));
                    }
                }
                // A probe's rows come together, led by its loss: lines reach the disk from probe to probe.
                let probe = matches!(rows.first(), Some(Row::Eval(_)));
                for row in rows {
                    open.shard.push(row)?;
                }
                if probe {
                    open.shard.commit()?;
                }
                Ok(())
            }
            Event::Checkpoint { state, probe_seconds } => {
                let tables = open.shard.sync()?;
                self.write_timing(job, &open, state.step, probe_seconds)?;
                let State { step, files } = state;
                save(&checkpoints(self.dir, job), &self.owner(job), &Checkpoint { step, files, tables })?;
                Ok(())
            }
            Event::Finished(finished) => self.finished(job, &mut open, finished),
        }
    }

    fn finished(&self, job: &Job<'_>, open: &mut Open, finished: Finished) -> anyhow::Result<()> {
        let (name, seed, steps) = (&job.arm.name, job.seed, self.experiment.train.steps);
        self.open.lock().expect("no panic while held").remove(&key(job));
        let (state, step, tensor) = match finished.outcome {
            Outcome::Complete => (Ending::Complete, steps, None),
            Outcome::Diverged { step, tensor } => (Ending::Diverged, step, Some(tensor)),
            Outcome::Stopped(step) => {
                self.progress.line(&format!("  {name} seed {seed}: stopped after step {step}"));
                return Ok(());
            }
        };
        let made = if state == Ending::Complete { steps } else { step.saturating_sub(1) };
        let seconds = self.write_timing(job, open, made, finished.probe_seconds)?;
        let tables = open.shard.sync()?;
        let done = basislab_report::Done { state, step, tensor: tensor.clone(), tables };
        done.write(&part_dir(self.dir, name, seed))?;
        match tensor {
            None => self.progress.line(&format!("  {name} seed {seed}: {seconds:.1} s")),
            Some(tensor) => {
                self.progress.skip(steps - step);
                self.progress.line(&format!("  {name} seed {seed}: diverged at step {step}: {tensor} is not finite"));
            }
        }
        self.draw(seed)
    }

    /// Writes what the run has cost up to `step`, and returns the seconds.
    fn write_timing(&self, job: &Job<'_>, open: &Open, step: u64, probe_seconds: f64) -> Result<f64, FileError> {
        let before = open.before.as_ref().map_or((0.0, 0.0), |row| (row.seconds, row.probe_seconds));
        let seconds = before.0 + open.begun.elapsed().as_secs_f64();
        let probe_seconds = before.1 + probe_seconds;
        let train_seconds = seconds - probe_seconds;
        let tokens = step * (self.experiment.train.batch_size * self.experiment.model.n_ctx) as u64;
        let timing = TimingRow {
            arm: job.arm.name.to_string(),
            seed: job.seed,
            seconds,
            train_seconds,
            probe_seconds,
            tokens_per_second: tokens as f64 / train_seconds,
            started: open.started.clone(),
        };
        write_timing(&part_dir(self.dir, &job.arm.name, job.seed), &timing)?;
        Ok(seconds)
    }

    /// A first picture as soon as the first run is through, then one whenever a seed is through in every arm.
    fn draw(&self, seed: u64) -> anyhow::Result<()> {
        let mut drawn = self.drawn.lock().expect("no panic while held");
        let mut through = true;
        for job in self.all.iter().filter(|job| job.seed == seed) {
            through &= directory::done(self.dir, job)?.is_some();
        }
        if seed != self.experiment.seeds[0] && !through {
            return Ok(());
        }
        first_picture(self.dir, self.experiment)?;
        if !*drawn {
            let figure = self.dir.join("figures/kurtosis_over_steps.svg");
            self.progress.line(&format!("  first picture: {} (redrawn as runs finish)", figure.display()));
            *drawn = true;
        }
        Ok(())
    }

    fn owner(&self, job: &Job<'_>) -> Owner {
        Owner { identity: self.identity.clone(), arm: job.arm.name.to_string(), seed: job.seed }
    }
}

fn key(job: &Job<'_>) -> (String, u64) {
    (job.arm.name.to_string(), job.seed)
}

/// Everything about a directory that is not a measurement. Holds no wall-clock time: equal runs have equal manifests.
fn manifest(named: &Named, backend: &str, corpus: &Corpus, identity: &Value, certificates: Value) -> Value {
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
        "backend": backend,
        "dtype": "f32",
        "seeds": experiment.seeds,
        "corpus_sha256": corpus.sha256(),
        "certificates": certificates,
        "origins": origins,
    });
    for part in [build(), rest] {
        if let (Value::Object(all), Value::Object(part)) = (&mut manifest, part) {
            all.extend(part);
        }
    }
    manifest
}
