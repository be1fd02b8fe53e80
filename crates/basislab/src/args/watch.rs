use clap::Args;
use std::path::PathBuf;

pub(super) const WATCH_EXAMPLES: &str = "\
Columns:
  done        runs of the arm that have ended, of those that are planned
  curves      loss and kurtosis over steps, from the smallest value to the
              largest; means over the arm's runs
  loss        held-out loss of the last probe, in nats per token
  kurt.       the metric of [verdict] at its site, at the last probe
  null        the mean of the same in random bases, where the probe has them
  step        the last update whose rows are in the files
  run, fail   runs that train now, and runs that failed
  ETA, tok/s  by the runs' times, or those of their files
  last        time since a file of the arm changed
Loss, kurtosis, null and step are means over the runs that train; once none
does, over the complete ones. Rows reach the files with each probe and each
checkpoint (every minute).

A run counts as training while its process lives, or on another computer while
its files have changed within 10 minutes.

Keys: q, Esc or Ctrl-C leave; arrows, PgUp, PgDn, Home and End scroll; s
switches between loss and kurtosis.

Examples:
  basislab watch runs/adam-vs-sgd-1a2b3c4d
  basislab watch runs                            all experiments in runs/
  basislab watch plan.jsonl                      on the login node of a cluster
  basislab watch runs/mine --exit-when-done && basislab report runs/mine";

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// A directory that `run` wrote, a directory of such directories, or a plan
    #[arg(value_name = "DIR|PLAN", value_parser = super::folder())]
    pub(crate) path: PathBuf,
    /// Seconds between reads of the files
    #[arg(long, value_name = "SECONDS", default_value = "2", allow_hyphen_values = true, value_parser = seconds)]
    pub(crate) interval: f64,
    /// Leave once all runs have ended or failed
    #[arg(long)]
    pub(crate) exit_when_done: bool,
    /// Of a plan: look for the directories here, instead of where the plan was made for
    #[arg(long, value_name = "DIR", value_parser = super::folder())]
    pub(crate) out: Option<PathBuf>,
}

/// The value of `--interval`.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.ok_or_else(|| format!("found {text:?}, expected a number from 0.1 to 3600"))
}
