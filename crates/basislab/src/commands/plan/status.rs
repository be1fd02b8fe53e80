//! `basislab plan status`: how far the runs of a plan are, and when they will have ended.

use super::{in_root, read};
use crate::commands::CommandResult;
use crate::exit::Exit;
use crate::run_state::RunState;
use crate::terminal::{quoted, say, say_json, shown};
use basislab_config::count;
use basislab_runs::{PlanFile, PlanLine};
use basislab_tables::{TimingRow, is_published, part_dir, read_table};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long `--watch` waits before it prints again.
const PAUSE: Duration = Duration::from_secs(5);

pub(super) fn status(path: &Path, watch: bool, json: bool, root: Option<&Path>) -> CommandResult {
    let plan = read(path)?;
    loop {
        let status = Status::of(&plan, root)?;
        let again = watch && !status.is_over();
        if json {
            say_json(&status.json())?;
        } else {
            // On a terminal each status replaces the one before.
            if watch && stdout().is_terminal() {
                let _ = write!(stdout(), "{CLEAR}");
            }
            say(status.text(path, &plan))?;
        }
        if !again {
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

/// To the top left, and nothing below.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// All runs of a plan at one time.
struct Status<'p> {
    runs: Vec<Run<'p>>,
    /// How many are in each state of [`RunState::WORDS`].
    counts: [usize; RunState::WORDS.len()],
    /// Seconds of all runs that have not ended, one after another, by those that have.
    to_go: Option<f64>,
}

struct Run<'p> {
    experiment: &'p str,
    dir: PathBuf,
    arm: &'p str,
    seed: u64,
    state: RunState,
}

impl<'p> Status<'p> {
    fn of(plan: &'p PlanFile, root: Option<&Path>) -> Result<Self, Exit> {
        let (mut runs, mut counts, mut rates) = (Vec::new(), [0; RunState::WORDS.len()], Rates::default());
        for line in &plan.lines {
            let of = &plan.experiments[line.experiment];
            let job = PlanFile::job(line, &of.loaded.experiment);
            let dir = in_root(&of.dir, root);
            // One run whose files cannot be read must not hide the others.
            let state = if is_published(&dir) { Ok(RunState::Complete) } else { RunState::of(&dir, &job) };
            let state = state.unwrap_or_else(|exit| RunState::Failed(exit.to_string(), None));
            if let Some(at) = RunState::WORDS.iter().position(|word| *word == state.word()) {
                counts[at] += 1;
            }
            rates.add(line, job.arm.run.train.steps, &state, || {
                read_table::<TimingRow>(&part_dir(&dir, &job.arm.name, job.seed)).ok()?.first().map(|row| row.seconds)
            });
            runs.push(Run { experiment: &of.name, dir, arm: &job.arm.name, seed: job.seed, state });
        }
        Ok(Self { runs, counts, to_go: rates.to_go() })
    }

    /// Whether no worker will take any of the runs: all have ended or failed.
    fn is_over(&self) -> bool {
        self.runs.iter().all(|run| run.state.has_ended() || matches!(run.state, RunState::Failed(..)))
    }

    /// `5 complete, 2 running, 1 failed`.
    fn in_words(&self) -> String {
        let all = std::iter::zip(RunState::WORDS, self.counts).filter(|(_, n)| *n > 0);
        all.map(|(word, n)| format!("{n} {word}")).collect::<Vec<_>>().join(", ")
    }

    fn count(&self, word: &str) -> usize {
        std::iter::zip(RunState::WORDS, self.counts).filter(|(known, _)| *known == word).map(|(_, n)| n).sum()
    }

    fn text(&self, path: &Path, plan: &PlanFile) -> String {
        let name = path.display().to_string();
        let mut text = format!("{}: {}: {}\n", shown(&name), count(self.runs.len(), "run"), self.in_words());
        for run in &self.runs {
            let what = match &run.state {
                RunState::Complete | RunState::NotStarted => continue,
                RunState::Running(holder, step) => {
                    let step = step
                        .map_or_else(|| "no checkpoint yet".to_owned(), |step| format!("checkpoint of step {step}"));
                    format!("running: {holder}, {step}")
                }
                state => state.sentence(),
            };
            let experiment = if plan.experiments.len() > 1 { format!("{} ", run.experiment) } else { String::new() };
            text += &format!("  {experiment}{:<20} seed {:<4} {}\n", run.arm, run.seed, shown(&what));
        }
        let running = self.count("running");
        match (self.to_go, running) {
            (Some(seconds), 1..) => {
                let (left, at_once) = (in_words(seconds / running as f64), count(running, "run"));
                text +=
                    &format!("about {left} to go with {at_once} at once, by the times of the runs that have ended\n");
            }
            (Some(seconds), 0) if seconds > 0.0 => {
                text += &format!("no worker is running; about {} to go, one run after another\n", in_words(seconds));
            }
            _ => {}
        }
        text + &self.next(&quoted(&name))
    }

    /// What to do next.
    fn next(&self, plan: &str) -> String {
        let left = self.runs.len() - self.counts[0] - self.counts[1];
        let failed = self.count("failed");
        if left == 0 {
            format!("\nAll runs have ended:  basislab collect {plan}\n")
        } else if self.count("running") > 0 {
            String::new()
        } else if left == failed {
            format!("\nTry the failed runs again:  basislab work {plan} --claim --retry-failed\n")
        } else {
            format!("\nTrain the rest:  basislab work {plan} --claim  # or `basislab plan script`\n")
        }
    }

    fn json(&self) -> Value {
        let run = |run: &Run<'_>| {
            let (mut step, mut holder, mut reason) = (None, None, None);
            match &run.state {
                RunState::Complete | RunState::NotStarted => {}
                RunState::Diverged(at, tensor) => (step, reason) = (Some(*at), tensor.clone()),
                RunState::Running(by, at) => (holder, step) = (Some(by), *at),
                RunState::Failed(failure, at) => (reason, step) = (Some(failure.clone()), *at),
                RunState::Interrupted(at) => step = *at,
            }
            json!({
                "experiment": run.experiment, "directory": run.dir, "arm": run.arm, "seed": run.seed,
                "state": run.state.word(), "step": step, "holder": holder, "reason": reason,
            })
        };
        let counts: Value =
            std::iter::zip(RunState::WORDS, self.counts).map(|(word, n)| (word.to_owned(), Value::from(n))).collect();
        let runs: Vec<Value> = self.runs.iter().map(run).collect();
        json!({ "counts": counts, "seconds_to_go_one_at_a_time": self.to_go, "runs": runs })
    }
}

/// Seconds of an update, by the runs that have ended: of the same arm where there are some.
#[derive(Default)]
struct Rates {
    /// By experiment and arm: seconds and updates.
    ended: std::collections::BTreeMap<(usize, usize), (f64, f64)>,
    /// Of runs that have not ended: experiment and arm, and updates to go.
    left: Vec<((usize, usize), f64)>,
}

impl Rates {
    fn add(&mut self, line: &PlanLine, steps: u64, state: &RunState, seconds: impl Fn() -> Option<f64>) {
        let arm = (line.experiment, line.arm);
        let made = match state {
            RunState::Complete => {
                let known = self.ended.entry(arm).or_default();
                // A few of each arm tell enough.
                if known.1 < 4.0 * steps as f64
                    && let Some(seconds) = seconds()
                {
                    *known = (known.0 + seconds, known.1 + steps as f64);
                }
                return;
            }
            RunState::Diverged(..) => return,
            RunState::Running(_, step) | RunState::Failed(_, step) | RunState::Interrupted(step) => step.unwrap_or(0),
            RunState::NotStarted => 0,
        };
        self.left.push((arm, steps.saturating_sub(made) as f64));
    }

    /// `None` where no run has ended.
    fn to_go(&self) -> Option<f64> {
        let sums = self.ended.values().fold((0.0, 0.0), |sum, known| (sum.0 + known.0, sum.1 + known.1));
        let rate = |(seconds, steps): (f64, f64)| (steps > 0.0).then_some(seconds / steps);
        let all = rate(sums)?;
        let of_arm = |arm: &(usize, usize)| self.ended.get(arm).and_then(|known| rate(*known)).unwrap_or(all);
        Some(self.left.iter().map(|(arm, steps)| steps * of_arm(arm)).sum())
    }
}

/// A time for people.
fn in_words(seconds: f64) -> String {
    let (number, unit) = match seconds {
        ..100.0 => (seconds, "s"),
        100.0..6000.0 => (seconds / 60.0, "min"),
        6000.0..172_800.0 => (seconds / 3600.0, "h"),
        _ => (seconds / 86_400.0, "days"),
    };
    if number < 10.0 { format!("{number:.1} {unit}") } else { format!("{number:.0} {unit}") }
}
