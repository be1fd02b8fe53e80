//! `basislab run`.

use crate::args;
use crate::backend::OpenDevice;
use crate::build::{build, reporter};
use crate::check::{certificates, to_json};
use crate::exit::{Code, Exit};
use crate::experiments::{self, Named, library};
use crate::progress::Progress;
use crate::report::{say_answer, thinned, write_report};
use crate::signals::Signals;
use crate::{CommandResult, resources, threads};
use basislab_config::{Experiment, Origin};
use basislab_report::{answer_about, choose, is_finished, read_answer, report_so_far, resolve};
use basislab_runs::{
    Job, Notice, Opened, Session, Taken, claim, enter, finished, identity, in_parallel, jobs, lock, open, pending,
    plan_hash, survey, tidy,
};
use basislab_store::{Lock, remove, write_atomic};
use basislab_tables::{Ending, RunEnd, SUMS, is_published, merge, read_optional, read_tables};
use basislab_train::Control;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) fn run(args: &args::RunArgs) -> CommandResult {
    let signals = Signals::listen()?;
    let named = experiments::find(&args.which)?;
    let device = args.on.open()?;
    device.require(&named.loaded.experiment)?;
    device.work(|| run_on(&device, &named, args, &signals))
}

const ADVICE: resources::Advice = resources::Advice {
    memory: "use fewer --jobs, or a smaller model, batch or context",
    disk: "free some, or choose another --out",
};

fn run_on(device: &OpenDevice, named: &Named, args: &args::RunArgs, signals: &Signals) -> CommandResult {
    let experiment = &named.loaded.experiment;
    let corpora = experiments::corpora(&named.loaded)?;
    let backend = device.info.backend;
    let dir = args
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("runs/{}-{}", named.name, plan_hash(experiment, &corpora, backend))));
    let planned = selected(experiment, args.only.as_deref())?;
    let cores = threads::cores();
    // A GPU is shared by all runs; whether several at once are faster there is not known.
    let usual = if device.info.kind == "cpu" { cores } else { 1 };
    let workers = args.jobs.map_or(usual, |jobs| jobs as usize).min(planned.len()).max(1);
    resources::check(experiment, workers, pending(&dir, &planned), &dir, &device.info, &ADVICE)?;

    enter(&dir)?;
    let progress = Progress::new(args.quiet);
    let describe = || {
        if device.info.kind != "cpu" {
            let name = &device.info.name;
            progress.line(&format!("checking the laws of every optimizer on {name} before the first run"));
        }
        let certificates = to_json(experiment, &certificates(experiment, 20, device), device);
        manifest(named, device, certificates)
    };
    let (opened, only_read) = {
        let held = lock(&dir, args.no_lock)?;
        let only_read = held.is_none() && !args.no_lock;
        if let Some(lock) = held.as_ref().filter(|_| !dir.join(SUMS).exists()) {
            lock.sign()?;
            tidy(&dir)?;
        }
        (claim(&dir, experiment, &corpora, backend, library(), describe)?, only_read)
    };
    let Opened { experiment, manifest } = opened;
    let mut plan = Plan::of(&dir, &experiment, args)?;
    let identify = |job: &Job<'_>| {
        let run = &job.arm.run;
        identity(run, job.seed, corpora.of(run).sha256(), backend)
    };
    let (planned, todo) = (plan.jobs(), survey(&dir, &plan.jobs(), &identify, !args.no_lock)?);
    announce(&progress, &dir, &planned, &todo);
    if args.which.smoke {
        progress.line("  a smoke test of a few updates: its numbers mean nothing");
    }
    if only_read && !todo.is_empty() {
        let (at, left) = (dir.display(), todo.len());
        return Err(Exit::write(format!("{at}: cannot lock it to write, and {left} of its runs have not ended")));
    }
    if todo.is_empty() && plan.undecided.is_empty() && (only_read || is_finished(&dir)?) {
        progress.finish();
        return say_answer(&read_answer(&dir, &experiment, thinned(&manifest))?, &manifest, args.json);
    }
    if !todo.is_empty() {
        let _lock = lock(&dir, args.no_lock)?;
        // What was finished is not any more, and summary and verdicts are written again as runs end.
        remove(&dir.join(SUMS))?;
        for corpus in corpora.iter() {
            if let Some(tokenizer) = corpus.tokenizer_json() {
                write_atomic(&dir.join("tokenizer.json"), tokenizer.as_bytes())?;
            }
        }
    }
    if broken_law(&manifest) {
        progress.warn("  warning: a law of an optimizer is broken: see `basislab check` and the manifest");
    }
    let drawn = Mutex::new(false);
    loop {
        let runs = Runs { dir: &dir, experiment: &plan.experiment, args, progress: &progress, drawn: &drawn };
        let session = Session {
            dir: &dir,
            name: &named.name,
            experiment: &plan.experiment,
            corpora: &corpora,
            device: &device.device,
            ahead: device.ahead(),
            device_names: [backend.to_owned(), device.info.name.clone(), device.info.driver.clone()],
            build: build(device, &experiment),
            reuse: !args.no_reuse,
            lock: !args.no_lock,
            known: Default::default(),
            control: Control {
                stop: signals.stop(),
                checkpoint_steps: args.checkpoint_steps.unwrap_or(u64::MAX),
                checkpoint_interval: Duration::from_secs(args.checkpoint_seconds),
            },
            tell: &|job, notice| runs.tell(job, &notice),
        };
        let busy =
            train_all(&session, &survey(&dir, &plan.jobs(), &identify, !args.no_lock)?, workers, &runs, signals)?;
        let left = pending(&dir, &plan.jobs());
        if left > 0 {
            progress.finish();
            let _lock = lock(&dir, args.no_lock)?;
            merge(&dir, &open(&dir, library())?.experiment)?;
            return Err(match busy.first() {
                Some(owner) if !signals.stop().load(Ordering::Relaxed) => Exit::new(
                    Code::Busy,
                    format!(
                        "{}: other processes have {left} of its runs ({owner}); the last of them makes the report, or \
                         `basislab report` once they are done",
                        dir.display()
                    ),
                ),
                _ => signals.goodbye(left),
            });
        }
        if plan.undecided.is_empty() {
            break;
        }
        let next = Plan::of(&dir, &experiment, args)?;
        if next.undecided.len() == plan.undecided.len() {
            break;
        }
        progress.plan_more(
            survey(&dir, &next.jobs(), &identify, !args.no_lock)?.iter().map(|job| job.arm.run.train.steps).sum(),
        );
        plan = next;
    }
    progress.finish();
    let _lock = lock(&dir, args.no_lock)?;
    // Another process may have added seeds, arms or claims meanwhile: the report is on what the directory plans now.
    let Opened { experiment, mut manifest } = open(&dir, library())?;
    let mut answer = if pending(&dir, &jobs(&experiment)) > 0 {
        report_so_far(&dir, &experiment)?
    } else {
        write_report(&dir, &experiment, &mut manifest)?
    };
    if let Some(only) = &args.only {
        answer = answer_about(&dir, &experiment, &only_arms(only))?;
    }
    say_answer(&answer, &manifest, args.json)
}

/// What can be trained now.
struct Plan {
    /// The experiment, in which arms have taken over the choices that are made.
    experiment: Experiment,
    /// Arms whose choice is not made yet.
    undecided: Vec<String>,
    only: Option<String>,
}

impl Plan {
    /// From the runs that have ended in the directory.
    fn of(dir: &Path, experiment: &Experiment, args: &args::RunArgs) -> Result<Self, Exit> {
        selected(experiment, args.only.as_deref())?;
        let (mut resolved, mut undecided) = (experiment.clone(), Vec::new());
        if experiment.choices().next().is_some() {
            let mut rows = Vec::new();
            if is_published(dir) {
                rows = read_optional(dir)?;
            } else if dir.join("parts").is_dir() {
                let _lock = lock(dir, args.no_lock)?;
                merge(dir, experiment)?;
                rows = choose(experiment, &read_tables(dir)?);
            }
            let is_decided = |arm: &str| rows.iter().any(|row| row.arm == arm && row.chosen);
            let arms = experiment.choices().map(|(sweep, _)| sweep.arm.to_string());
            undecided = arms.filter(|arm| !is_decided(arm)).collect();
            resolved = resolve(experiment, &rows);
        }
        Ok(Self { experiment: resolved, undecided, only: args.only.clone() })
    }

    /// The runs that `--only` selects, of arms whose choice is made.
    fn jobs(&self) -> Vec<Job<'_>> {
        let all = selected(&self.experiment, self.only.as_deref()).unwrap_or_default();
        let is_ready = |job: &Job<'_>| !self.undecided.iter().any(|arm| job.arm.name == arm.as_str());
        all.into_iter().filter(is_ready).collect()
    }
}

/// Trains what is to be done, and what other processes had meanwhile: who has the rest.
fn train_all(
    session: &Session<'_>,
    todo: &[Job<'_>],
    workers: usize,
    runs: &Runs<'_>,
    signals: &Signals,
) -> Result<Vec<String>, Exit> {
    let workers = workers.min(todo.len()).max(1);
    let pools = threads::pools(workers, (threads::cores() / workers).max(1));
    if !todo.is_empty() && pools.len() < workers {
        let granted = pools.len().max(1);
        runs.progress.warn(&format!(
            "  warning: the system refuses more threads: {granted} instead of {workers} --jobs (see `ulimit -u`)"
        ));
    }
    let mut left = todo.to_vec();
    loop {
        let busy: Mutex<Vec<(usize, String)>> = Mutex::default();
        let numbered: Vec<(usize, Job<'_>)> = left.iter().copied().enumerate().collect();
        in_parallel(&numbered, &pools, signals.stop(), &|(number, job), failed| {
            match session.take(job, failed)? {
                Taken::Busy(owner) => busy.lock().expect("no panic while held").push((*number, owner)),
                taken => runs.taken(job, &taken)?,
            }
            Ok(())
        })?;
        let mut busy = busy.into_inner().expect("no panic while held");
        busy.sort();
        // Runs that a process gave up meanwhile are taken in another round.
        if busy.is_empty() || busy.len() == left.len() || signals.stop().load(Ordering::Relaxed) {
            return Ok(busy.into_iter().map(|(_, owner)| owner).collect());
        }
        left = busy.iter().map(|(number, _)| left[*number]).collect();
    }
}

/// The planned runs that `--only` selects; all of them without it.
fn selected<'a>(experiment: &'a Experiment, only: Option<&str>) -> Result<Vec<Job<'a>>, Exit> {
    let all = jobs(experiment);
    let Some(only) = only else { return Ok(all) };
    let (arms, seed) = (only_arms(only), only_seed(only)?);
    if let Some(unknown) = arms.iter().find(|arm| experiment.arm(arm).is_none()) {
        let names: Vec<&str> = experiment.arms.iter().map(|arm| arm.name.as_str()).collect();
        let expected = basislab_config::one_of(&names, Some(unknown));
        return Err(Exit::usage(format!("--only {only}: found arm {unknown:?}, expected {expected}")));
    }
    let wanted =
        |job: &Job<'_>| arms.iter().any(|arm| job.arm.name.as_str() == arm) && seed.is_none_or(|seed| job.seed == seed);
    let chosen: Vec<Job<'a>> = all.into_iter().filter(wanted).collect();
    if chosen.is_empty() {
        return Err(Exit::usage(format!("--only {only}: found no such run, expected a seed that the arms have")));
    }
    Ok(chosen)
}

/// The arms in `A,B[/SEED]`.
fn only_arms(only: &str) -> Vec<String> {
    let arms = only.split_once('/').map_or(only, |(arms, _)| arms);
    arms.split(',').map(|arm| arm.trim().to_owned()).collect()
}

fn only_seed(only: &str) -> Result<Option<u64>, Exit> {
    let Some((_, seed)) = only.split_once('/') else { return Ok(None) };
    let seed = basislab_config::integer(seed.trim(), 0, basislab_config::MAX_SEED);
    seed.map(Some).map_err(|what| Exit::usage(format!("--only {only}: {what}, expected ARM,ARM or ARM/SEED")))
}

fn announce(progress: &Progress, dir: &Path, planned: &[Job<'_>], todo: &[Job<'_>]) {
    progress.plan(todo.iter().map(|job| job.arm.run.train.steps).sum());
    let (at, kept) = (dir.display(), planned.len() - todo.len());
    match (todo.len(), kept) {
        (0, _) if is_published(dir) && !dir.join(SUMS).is_file() => {
            progress.line(&format!("{at} holds tables without the parts they were made from; nothing is run there"));
        }
        (0, _) => progress.line(&format!("{at} is already complete; nothing is run again")),
        (_, 0) => progress.line(&format!("{} runs -> {at}", todo.len())),
        _ => progress.line(&format!("{kept} of {} runs are complete, {} to go -> {at}", planned.len(), todo.len())),
    }
}

/// What is shown and drawn while runs train.
struct Runs<'a> {
    dir: &'a Path,
    experiment: &'a Experiment,
    args: &'a args::RunArgs,
    progress: &'a Progress,
    /// Whether there is a first picture. Held while the report is made.
    drawn: &'a Mutex<bool>,
}

impl Runs<'_> {
    fn tell(&self, job: &Job<'_>, notice: &Notice) {
        let (arm, seed) = (&job.arm.name, job.seed);
        match notice {
            Notice::Resumed(step) => {
                self.progress.skip(*step);
                self.progress.line(&format!("  {arm} seed {seed}: resuming from step {step}"));
            }
            Notice::Unusable(error) => {
                self.progress.warn(&format!("  warning: {arm} seed {seed}: {error}; not used"));
            }
            Notice::Step(stats) => {
                self.progress.step();
                if let Some((loss, _)) = stats.loss_and_norm.filter(|_| stats.step % 10 == 0) {
                    self.progress.message(format!("{arm} seed {seed} step {} loss {loss:.3}", stats.step));
                }
            }
        }
    }

    fn taken(&self, job: &Job<'_>, taken: &Taken) -> anyhow::Result<()> {
        let (arm, seed, steps) = (&job.arm.name, job.seed, job.arm.run.train.steps);
        match taken {
            Taken::Trained(RunEnd { state: Ending::Complete, .. }, seconds) => {
                self.progress.line(&format!("  {arm} seed {seed}: {seconds:.1} s"));
            }
            Taken::Trained(RunEnd { step, tensor, .. }, _) => {
                self.progress.skip(steps - step);
                let tensor = tensor.as_deref().unwrap_or("loss");
                self.progress.line(&format!("  {arm} seed {seed}: diverged at step {step}: {tensor} is not finite"));
            }
            Taken::Reused(from) => {
                self.progress.skip(steps);
                let from = from.display();
                self.progress
                    .line(&format!("  {arm} seed {seed}: copied from {from}, a finished run of the same identity"));
            }
            Taken::Stopped(step) => {
                self.progress.line(&format!("  {arm} seed {seed}: stopped after step {step}"));
                return Ok(());
            }
            Taken::Ended | Taken::Busy(_) => return Ok(()),
        }
        self.draw(seed)
    }

    /// A first picture as soon as the first run is through, then one whenever a seed is through in every arm. Left out while
    /// another process has the directory's lock.
    fn draw(&self, seed: u64) -> anyhow::Result<()> {
        let mut drawn = self.drawn.lock().expect("no panic while held");
        let mut through = true;
        for job in jobs(self.experiment).iter().filter(|job| job.seed == seed) {
            through &= finished(self.dir, job)?.is_some();
        }
        if seed != self.experiment.seeds[0] && !through {
            return Ok(());
        }
        let _lock = match Lock::take(self.dir) {
            _ if self.args.no_lock => None,
            Ok(lock) => Some(lock),
            Err(_) => return Ok(()),
        };
        report_so_far(self.dir, &open(self.dir, library())?.experiment)?;
        if !*drawn {
            let figure = self.dir.join("figures/kurtosis_over_steps.svg");
            self.progress.line(&format!("  first picture: {} (redrawn as runs finish)", figure.display()));
            *drawn = true;
        }
        Ok(())
    }
}

/// Whether the manifest holds a law that was measured and did not hold.
pub(crate) fn broken_law(manifest: &Value) -> bool {
    let optimizers = manifest["certificates"]["optimizers"].as_array();
    let laws = optimizers.into_iter().flatten().filter_map(|optimizer| optimizer["laws"].as_array()).flatten();
    laws.into_iter().any(|law| law["holds"] == false)
}

/// Everything about a directory that is not a measurement. Holds no wall-clock time: equal runs have equal manifests.
fn manifest(named: &Named, device: &OpenDevice, certificates: Value) -> Value {
    let experiment = &named.loaded.experiment;
    let origin = |(path, value, origin): &(String, String, Origin)| json!([path, value, origin.to_string()]);
    let origins: Vec<Value> = named.loaded.origins.iter().map(origin).collect();
    let mut manifest = json!({ "experiment": named.name });
    let rest = json!({ "certificates": certificates, "origins": origins, "report": reporter() });
    for part in [build(device, experiment), rest] {
        if let (Value::Object(all), Value::Object(part)) = (&mut manifest, part) {
            all.extend(part);
        }
    }
    manifest
}
