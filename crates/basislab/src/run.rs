//! `basislab run` and `basislab report`.

use crate::args;
use crate::check::{certificates, dtype_of_laws, to_json};
use crate::directory::{self, claim, hex, identity, is_done, mark_done, short_hash};
use crate::exit::{Code, Exit};
use crate::experiments::{self, Named};
use crate::progress::Progress;
use crate::{Done, say, say_json};
use basislab_config::Experiment;
use basislab_data::Corpus;
use basislab_experiment::{Event, Finished, Job, Outcome, jobs, run as run_jobs};
use basislab_report::{
    ReportError, Row, Shard, TimingRow, first_picture, merge, part_dir, rebuild, write_atomic, write_timing,
};
use burn::tensor::DType;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

pub(crate) fn run(args: &args::Run) -> Done {
    let named = experiments::find(&args.which)?;
    let experiment = &named.loaded.experiment;
    let device = args.backend.device()?;
    let corpus = Corpus::open(&experiment.corpus, experiment.model.n_ctx)?;
    let identity = identity(experiment, args.backend.name(), "f32", corpus.sha256());
    let dir =
        args.out.clone().unwrap_or_else(|| PathBuf::from(format!("runs/{}-{}", named.name, short_hash(&identity))));
    let certificates = certificates(experiment, 20, (&device, dtype_of_laws(args.backend)));
    let lawless = certificates.iter().flat_map(|(_, laws)| laws).any(|law| law.holds() == Some(false));
    let certificate = to_json(experiment, &certificates, (&device, dtype_of_laws(args.backend)));
    claim(&dir, experiment, &manifest(&named, args.backend.name(), &corpus, &identity, certificate))?;
    let _owner = directory::lock(&dir)?;
    if let Some(tokenizer) = corpus.tokenizer_json() {
        write_atomic(&dir.join("tokenizer.json"), tokenizer.as_bytes())?;
    }

    let all = jobs(experiment);
    let todo: Vec<Job<'_>> = all.iter().filter(|job| !is_done(&dir, job)).copied().collect();
    for job in &todo {
        directory::clear(&dir, job)?;
    }
    let progress = Progress::new(todo.len() as u64 * experiment.train.steps, args.quiet);
    let kept = all.len() - todo.len();
    match (todo.len(), kept) {
        (0, _) => progress.line(&format!("{} is already complete; nothing is run again", dir.display())),
        (_, 0) => progress.line(&format!("{} runs -> {}", todo.len(), dir.display())),
        _ => progress.line(&format!(
            "{kept} of {} runs are complete, {} to go -> {}",
            all.len(),
            todo.len(),
            dir.display()
        )),
    }
    if lawless {
        progress.line("  a law of an optimizer is broken: see `basislab check` and the manifest");
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = args.jobs.map_or(cores, |jobs| jobs as usize).min(todo.len()).max(1);
    let threads = (cores / workers).max(1);
    let desk =
        Desk { dir: &dir, experiment, all: &all, progress: &progress, open: Mutex::default(), drawn: Mutex::default() };
    run_jobs(experiment, &corpus, (&device, DType::F32), &todo, (workers, threads), &|job, event| {
        desk.take(job, event)
    })?;
    progress.finish();
    merge(&dir, experiment).map_err(ReportError::from)?;
    let done = finish(&dir, experiment, args.json)?;
    Ok(if lawless { Some(Code::Numbers) } else { done })
}

pub(crate) fn report(dir: &Path, json: bool) -> Done {
    let path = dir.join("config.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Exit::data(format!("{}: cannot read: {error}; expected a directory of `basislab run`", path.display()))
    })?;
    let experiment = basislab_config::load(&text, &path.display().to_string(), &[])?.experiment;
    directory::check_config(dir, &experiment)?;
    finish(dir, &experiment, json)
}

fn finish(dir: &Path, experiment: &Experiment, json: bool) -> Done {
    let answer = rebuild(dir, experiment)?;
    if json {
        say_json(&serde_json::to_value(&answer).map_err(Exit::write)?)?
    } else {
        say(format!("{answer}\n"))?
    }
    Ok((answer.runs_diverged > 0).then_some(Code::Numbers))
}

/// Where the runs' events arrive.
struct Desk<'a> {
    dir: &'a Path,
    experiment: &'a Experiment,
    all: &'a [Job<'a>],
    progress: &'a Progress,
    /// Runs in progress, by arm and seed.
    open: Mutex<BTreeMap<(String, u64), Open>>,
    /// Held while the report is rebuilt.
    drawn: Mutex<bool>,
}

/// A run in progress: its files, and when it began by the monotonic and the wall clock.
type Open = (Shard, Instant, Timestamp);

impl Desk<'_> {
    fn take(&self, job: &Job<'_>, event: Event) -> anyhow::Result<()> {
        let key = (job.arm.name.clone(), job.seed);
        match event {
            Event::Started => {
                let shard = Shard::create(&part_dir(self.dir, &job.arm.name, job.seed))?;
                self.open.lock().expect("no panic while held").insert(key, (shard, Instant::now(), Timestamp::now()));
            }
            Event::Rows(rows) => {
                if let Some(Row::Step(row)) = rows.first() {
                    self.progress.step();
                    if let Some(loss) = row.train_loss.filter(|_| row.step % 10 == 0) {
                        self.progress
                            .message(format!("{} seed {} step {} loss {loss:.3}", job.arm.name, job.seed, row.step));
                    }
                }
                let mut open = self.open.lock().expect("no panic while held");
                let (shard, ..) = open.get_mut(&key).expect("started before its rows");
                // A probe's rows come together, led by its loss: lines reach the disk from probe to probe.
                let probe = matches!(rows.first(), Some(Row::Eval(_)));
                for row in rows {
                    shard.push(row)?;
                }
                if probe {
                    shard.commit_probe()?;
                }
            }
            Event::Finished(finished) => self.finished(job, key, finished)?,
        }
        Ok(())
    }

    fn finished(&self, job: &Job<'_>, key: (String, u64), finished: Finished) -> anyhow::Result<()> {
        let (shard, began, clock) = self.open.lock().expect("no panic while held").remove(&key).expect("started");
        let (name, seed, steps) = (&job.arm.name, job.seed, self.experiment.train.steps);
        let seconds = began.elapsed().as_secs_f64();
        let train_seconds = seconds - finished.probe_seconds;
        let made = match finished.outcome {
            Outcome::Complete => steps,
            Outcome::Diverged(step) => step - 1,
        };
        let tokens = made * (self.experiment.train.batch_size * self.experiment.model.n_ctx) as u64;
        let timing = TimingRow {
            arm: name.clone(),
            seed,
            seconds,
            train_seconds,
            probe_seconds: finished.probe_seconds,
            tokens_per_second: tokens as f64 / train_seconds,
            started: clock.to_string(),
        };
        write_timing(&part_dir(self.dir, name, seed), &timing)?;
        shard.finish()?;
        mark_done(self.dir, job, finished.outcome)?;
        match finished.outcome {
            Outcome::Complete => self.progress.line(&format!("  {name} seed {seed}: {seconds:.1} s")),
            Outcome::Diverged(step) => {
                self.progress.skip(steps - step);
                self.progress.line(&format!("  {name} seed {seed}: diverged at step {step}"));
            }
        }
        self.draw(seed)
    }

    /// A first picture as soon as the first run is through, then one whenever a seed is through in every arm.
    fn draw(&self, seed: u64) -> anyhow::Result<()> {
        let mut drawn = self.drawn.lock().expect("no panic while held");
        let through = self.all.iter().filter(|job| job.seed == seed).all(|job| is_done(self.dir, job));
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
}

/// Everything about a directory that is not a measurement. Holds no wall-clock time: equal runs have equal manifests.
fn manifest(named: &Named, backend: &str, corpus: &Corpus, identity: &Value, certificates: Value) -> Value {
    let experiment = &named.loaded.experiment;
    let origin =
        |(path, value, origin): &(String, String, basislab_config::Origin)| json!([path, value, origin.to_string()]);
    let origins: Vec<Value> = named.loaded.origins.iter().map(origin).collect();
    json!({
        "format": 1,
        "experiment": named.name,
        "identity": identity,
        "verdict_rule_sha256": experiment.verdict_hash(),
        "basislab": { "version": env!("CARGO_PKG_VERSION"), "commit": env!("BASISLAB_COMMIT"), "dirty": env!("BASISLAB_DIRTY") },
        "rustc": env!("BASISLAB_RUSTC"),
        "burn": env!("BASISLAB_BURN"),
        "cargo_lock_sha256": hex(&Sha256::digest(include_bytes!("../../../Cargo.lock"))),
        "machine": { "os": std::env::consts::OS, "arch": std::env::consts::ARCH, "cpu": cpu(), "cpu_features": cpu_features() },
        "backend": backend,
        "dtype": "f32",
        "seeds": experiment.seeds,
        "corpus_sha256": corpus.sha256(),
        "certificates": certificates,
        "origins": origins,
    })
}

/// The CPU's own name, where the system tells it.
fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn cpu_features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let found = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
        ];
        found.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}
