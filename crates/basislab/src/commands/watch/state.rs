//! All runs that are watched, arm by arm, from their files alone. A round visits each run once and reads only what is new.

use super::run::{Of, Run, State};
use crate::live::{Place, Reading, mean};
use crate::run_state::RunState;
use basislab_config::{Arm, Experiment, RunName, count};
use basislab_runs::{PlanFile, jobs};
use basislab_tables::is_published;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// What is watched.
pub(super) struct Watched {
    /// As it is named at the top.
    pub(super) name: String,
    pub(super) arms: Vec<ArmRuns>,
    /// Whether all runs were looked at.
    pub(super) is_known: bool,
    sources: Vec<Source>,
    /// The arm that the round visits next.
    next: usize,
}

/// An experiment's directory.
struct Source {
    dir: PathBuf,
    /// Before the names of its arms, where there are several experiments.
    prefix: String,
    /// Length and time of the configuration as it was read; `None` where a plan says what is trained.
    config: Option<Stamp>,
}

type Stamp = (u64, Option<SystemTime>);

/// The runs of an arm.
pub(super) struct ArmRuns {
    pub(super) label: String,
    pub(super) steps: u64,
    pub(super) runs: Vec<Run>,
    source: usize,
    name: RunName,
    place: Place,
    tokens_per_step: u64,
    /// The run that the round visits next, and the seeds whose folders exist.
    next: usize,
    folders: [BTreeSet<u64>; 2],
}

/// All runs in a few numbers.
pub(super) struct Totals {
    /// How many are in each state of [`RunState::WORDS`].
    counts: [usize; RunState::WORDS.len()],
    /// Seconds until the last has ended, with as many at once as now.
    pub(super) seconds_to_go: Option<f64>,
    /// Runs of which not all was read yet.
    pub(super) unread: usize,
    /// Why a run failed.
    pub(super) failure: Option<String>,
}

/// An arm in a few numbers.
pub(super) struct Summary {
    pub(super) ended: usize,
    pub(super) running: usize,
    pub(super) failed: usize,
    /// Of the runs that train, else of those that have ended.
    pub(super) reading: Reading,
    pub(super) step: Option<f64>,
    /// Of all running runs together.
    pub(super) tokens_per_second: Option<f64>,
    pub(super) seconds_to_go: Option<f64>,
    /// The last change of a file.
    pub(super) changed: Option<SystemTime>,
}

impl Watched {
    /// The experiments of directories that `basislab run` wrote. The configurations are read again when they change.
    pub(super) fn of_directories(name: String, experiments: &[(PathBuf, Experiment)]) -> Self {
        let mut watched = Self { name, arms: Vec::new(), is_known: false, sources: Vec::new(), next: 0 };
        for (dir, experiment) in experiments {
            let prefix = prefix(dir, experiments.len());
            watched.sources.push(Source { dir: dir.clone(), prefix, config: Some(stamp(dir)) });
            watched.plan(watched.sources.len() - 1, experiment);
        }
        watched
    }

    /// The runs of a plan, whose directories may not be there yet; `dir` says where they will be.
    pub(super) fn of_plan(name: String, plan: &PlanFile, dir: impl Fn(&Path) -> PathBuf) -> Self {
        let mut watched = Self { name, arms: Vec::new(), is_known: false, sources: Vec::new(), next: 0 };
        for of in &plan.experiments {
            let dir = dir(&of.dir);
            let prefix = prefix(&dir, plan.experiments.len());
            watched.sources.push(Source { dir, prefix, config: None });
            watched.plan(watched.sources.len() - 1, &of.loaded.experiment);
        }
        for (source, _) in plan.experiments.iter().enumerate() {
            let of_plan: BTreeSet<(&RunName, u64)> = plan
                .lines
                .iter()
                .filter(|line| line.experiment == source)
                .map(|line| (&plan.experiments[source].loaded.experiment.arms[line.arm].name, line.seed))
                .collect();
            for arm in watched.arms.iter_mut().filter(|arm| arm.source == source) {
                let ArmRuns { name, runs, .. } = arm;
                runs.retain(|run| of_plan.contains(&(&*name, run.seed)));
            }
        }
        watched.arms.retain(|arm| !arm.runs.is_empty());
        watched
    }

    /// Plans the runs of an experiment, and keeps what is known of those that were planned before.
    fn plan(&mut self, source: usize, experiment: &Experiment) {
        let place = self.arms.iter().position(|arm| arm.source == source).unwrap_or(self.arms.len());
        let end = place + self.arms.iter().filter(|arm| arm.source == source).count();
        let mut known: BTreeMap<(RunName, u64), Run> = BTreeMap::new();
        for ArmRuns { name, runs, .. } in self.arms.drain(place..end) {
            known.extend(runs.into_iter().map(|run| ((name.clone(), run.seed), run)));
        }
        let mut runs: BTreeMap<&RunName, Vec<Run>> = BTreeMap::new();
        for job in jobs(experiment) {
            let run = known.remove(&(job.arm.name.clone(), job.seed)).unwrap_or_else(|| Run::new(job.seed));
            runs.entry(&job.arm.name).or_default().push(run);
        }
        let arm = |arm: &Arm| ArmRuns {
            label: format!("{}{}", self.sources[source].prefix, arm.name),
            steps: arm.run.train.steps,
            runs: runs.remove(&arm.name).unwrap_or_default(),
            source,
            name: arm.name.clone(),
            place: Place::of(experiment, arm),
            tokens_per_step: (arm.run.train.batch_size * arm.run.model.n_ctx) as u64,
            next: 0,
            folders: Default::default(),
        };
        let planned: Vec<ArmRuns> = experiment.arms.iter().map(arm).collect();
        self.arms.splice(place..place, planned);
    }

    /// Goes on with a round until it is over, which is what it says, or until the time has come. `reload` reads an experiment
    /// whose configuration has changed; where it cannot, the one before stays.
    pub(super) fn look(
        &mut self,
        until: Instant,
        now: SystemTime,
        reload: &dyn Fn(&Path) -> Option<Experiment>,
    ) -> bool {
        if self.next == 0 {
            for source in 0..self.sources.len() {
                let Source { dir, config, .. } = &mut self.sources[source];
                let found = config.is_some().then(|| stamp(dir));
                if *config != found
                    && let Some(experiment) = reload(dir)
                {
                    *config = found;
                    self.plan(source, &experiment);
                }
            }
        }
        while let Some(arm) = self.arms.get_mut(self.next) {
            if !arm.look(&self.sources[arm.source].dir, until, now) {
                return false;
            }
            self.next += 1;
        }
        (self.next, self.is_known) = (0, true);
        true
    }

    /// Reads what runs that have ended hold, until the time has come. Says whether there was anything to read.
    pub(super) fn read_ended(&mut self, until: Instant) -> bool {
        let mut is_new = false;
        for arm in &mut self.arms {
            let dir = &self.sources[arm.source].dir;
            let of = Of { dir, arm: &arm.name, place: &arm.place, tokens_per_step: arm.tokens_per_step };
            for run in arm.runs.iter_mut().filter(|run| run.is_unread) {
                is_new = true;
                if !run.read(&of, until) || Instant::now() >= until {
                    return true;
                }
            }
        }
        is_new
    }

    pub(super) fn totals(&self) -> Totals {
        let runs = || self.arms.iter().flat_map(|arm| arm.runs.iter());
        let mut counts = [0; RunState::WORDS.len()];
        runs().for_each(|run| counts[run.state as usize] += 1);
        let all = mean(runs().filter_map(|run| run.pace));
        let to_go: Option<f64> = self.arms.iter().map(|arm| arm.work_to_go(all)).sum();
        let running = counts[State::Running as usize];
        let failed = self.arms.iter().find_map(|arm| Some((arm, arm.runs.iter().find(|run| run.failure.is_some())?)));
        let failure = failed.map(|(arm, run)| {
            format!("{} seed {} failed: {}", arm.label, run.seed, run.failure.as_deref().unwrap_or_default())
        });
        Totals {
            counts,
            seconds_to_go: to_go.filter(|_| running > 0).map(|seconds| seconds / running as f64),
            unread: runs().filter(|run| run.is_unread && run.state.has_ended()).count(),
            failure,
        }
    }
}

impl ArmRuns {
    /// As [`Watched::look`], of one arm.
    fn look(&mut self, dir: &Path, until: Instant, now: SystemTime) -> bool {
        let published = is_published(dir);
        if self.next == 0 {
            self.folders = folders(&dir.join("parts").join(&self.name));
        }
        let of = Of { dir, arm: &self.name, place: &self.place, tokens_per_step: self.tokens_per_step };
        while let Some(run) = self.runs.get_mut(self.next) {
            if published {
                // Its tables are those of all runs together.
                (run.state, run.step) = (State::Complete, self.steps);
            } else {
                run.look(&of, (self.folders[0].contains(&run.seed), self.folders[1].contains(&run.seed)), now);
            }
            if !run.state.has_ended() && !run.read(&of, until) {
                return false;
            }
            self.next += 1;
            if Instant::now() >= until {
                return false;
            }
        }
        self.next = 0;
        true
    }

    /// Seconds of all runs that are to go, one after another; `other` is the pace where none of the arm is known.
    fn work_to_go(&self, other: Option<f64>) -> Option<f64> {
        let steps: u64 = self.to_go().map(|run| self.steps.saturating_sub(run.step)).sum();
        if steps == 0 {
            return Some(0.0);
        }
        let of = |running: bool| {
            let runs = self.runs.iter().filter(|run| (run.state == State::Running) == running);
            mean(runs.filter_map(|run| run.pace))
        };
        Some(of(true).or_else(|| of(false)).or(other)? * steps as f64)
    }

    /// Runs that have neither ended nor failed.
    fn to_go(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| !run.state.has_ended() && run.state != State::Failed)
    }

    pub(super) fn summary(&self) -> Summary {
        let of = |state| self.runs.iter().filter(move |run| run.state == state);
        let running: Vec<&Run> = of(State::Running).collect();
        let shown = if running.is_empty() { of(State::Complete).collect() } else { running.clone() };
        let reading = Reading::mean(&shown.iter().map(|run| run.reading).collect::<Vec<_>>());
        let rates: Vec<f64> = running.iter().filter_map(|run| Some(self.tokens_per_step as f64 / run.pace?)).collect();
        Summary {
            ended: self.runs.iter().filter(|run| run.state.has_ended()).count(),
            running: running.len(),
            failed: of(State::Failed).count(),
            reading,
            step: mean(shown.iter().map(|run| run.step as f64)),
            tokens_per_second: (!rates.is_empty()).then(|| rates.iter().sum()),
            seconds_to_go: self
                .work_to_go(None)
                .filter(|_| !running.is_empty())
                .map(|seconds| seconds / running.len() as f64),
            changed: self.runs.iter().filter_map(|run| run.changed).max(),
        }
    }
}

impl Totals {
    pub(super) fn count(&self, state: State) -> usize {
        self.counts[state as usize]
    }

    fn all(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Whether nobody will train any of the runs: all have ended or failed.
    pub(super) fn is_over(&self) -> bool {
        [State::Complete, State::Diverged, State::Failed].iter().map(|state| self.count(*state)).sum::<usize>()
            == self.all()
    }

    /// `8 runs: 5 complete, 2 running, 1 failed`.
    pub(super) fn in_words(&self) -> String {
        let some = std::iter::zip(RunState::WORDS, self.counts).filter(|(_, number)| *number > 0);
        let words: Vec<String> = some.map(|(word, number)| format!("{number} {word}")).collect();
        format!("{}: {}", count(self.all(), "run"), words.join(", "))
    }
}

/// The seeds that have a folder `SEED`, and those that have one `SEED.work`.
fn folders(arm: &Path) -> [BTreeSet<u64>; 2] {
    let mut seeds: [BTreeSet<u64>; 2] = Default::default();
    for entry in fs::read_dir(arm).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (seed, at) = name.strip_suffix(".work").map_or((name.as_str(), 0), |seed| (seed, 1));
        if let Ok(seed) = seed.parse() {
            seeds[at].insert(seed);
        }
    }
    seeds
}

fn stamp(dir: &Path) -> Stamp {
    let info = fs::metadata(dir.join("config.toml"));
    info.map_or((0, None), |info| (info.len(), info.modified().ok()))
}

/// What tells the arms of one experiment from those of another.
fn prefix(dir: &Path, experiments: usize) -> String {
    let name = dir.file_name().filter(|_| experiments > 1);
    name.map_or_else(String::new, |name| format!("{}/", name.to_string_lossy()))
}
