use super::count;
use super::plan::time;
use clap::{Args, ValueEnum};
use std::fmt;
use std::path::PathBuf;

pub(super) const SCRIPT_EXAMPLES: &str = "\
Nothing is submitted: read the script, then run it. docs/clusters.md goes
through it step by step.

Examples:
  basislab plan script slurm plan.jsonl > job.sh && sh job.sh
  basislab plan script slurm plan.jsonl --time 12:00:00 --cpus 4 \\
      --option=--account=physics --option=--partition=short > job.sh
  basislab plan script hq plan.jsonl | sh
  basislab plan script parallel plan.jsonl | sh
  basislab plan script snakemake plan.jsonl > Snakefile && snakemake -c 16
  basislab plan script k8s plan.jsonl --image registry/basislab:1 \\
      --volume-claim shared > jobs.yaml && kubectl apply -f jobs.yaml";

/// What runs the tasks of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// Job arrays of Slurm
    Slurm,
    /// Task arrays of HyperQueue
    Hq,
    /// GNU parallel, on this machine
    Parallel,
    /// Indexed Jobs of Kubernetes
    K8s,
    /// A Snakefile
    Snakemake,
}

impl Engine {
    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

#[derive(Debug, Args)]
pub(crate) struct ScriptArgs {
    /// What is to run the plan
    #[arg(value_enum)]
    pub(crate) engine: Engine,
    /// A file that `basislab plan` printed
    pub(crate) plan: PathBuf,
    /// Runs per task, one after another or, with --cpus, side by side [default: the least number that makes at most
    /// 1000 tasks]
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = count(1, 1_000_000))]
    pub(crate) chunk: Option<u64>,
    /// For slurm: time limit of a task [default: 1:00:00]; shortly before it the task makes checkpoints and goes back
    /// into the queue. For hq: least lifetime of a worker that may begin a task. For snakemake: `runtime` of a job
    #[arg(long, value_name = "[D-]H:MM:SS", allow_hyphen_values = true, value_parser = time_limit)]
    pub(crate) time: Option<TimeLimit>,
    /// CPUs of a task: it trains as many runs at once
    #[arg(long, value_name = "N", default_value_t = 1, allow_hyphen_values = true, value_parser = count(1, 4096))]
    pub(crate) cpus: u64,
    /// For slurm, hq, parallel: an option to pass on to sbatch, hq submit or parallel, e.g. `--option=--account=abc`.
    /// Repeatable
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) option: Vec<String>,
    /// The program that tasks run, as they see it [default: this one; for k8s `basislab`]
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<String>,
    /// For k8s: the container image, which has basislab in it
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// For k8s: the PersistentVolumeClaim that holds the plan and receives the runs; mounted at /work
    #[arg(long, value_name = "NAME")]
    pub(crate) volume_claim: Option<String>,
}

/// A time limit in whole seconds, at least a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeLimit {
    pub(crate) seconds: u64,
}

/// As Slurm writes it: with days where there are some.
impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (minutes, hours) = (self.seconds / 60, self.seconds / 3600);
        if hours >= 24 {
            write!(f, "{}-", hours / 24)?;
        }
        write!(f, "{}:{:02}:{:02}", hours % 24, minutes % 60, self.seconds % 60)
    }
}

fn time_limit(text: &str) -> Result<TimeLimit, String> {
    let seconds = time(text)?.as_secs();
    if seconds < 60 { Err("expected at least 0:01:00".to_owned()) } else { Ok(TimeLimit { seconds }) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests {
    use super::*;

    #[test]
    fn time_limits_are_read_and_written_back() {
        for (text, seconds, written) in [
            ("1:00:00", 3600, "1:00:00"),
            ("0:01:00", 60, "0:01:00"),
            ("00:09:59", 599, "0:09:59"),
            ("48:00:01", 172_801, "2-0:00:01"),
            ("7-12:30:00", 649_800, "7-12:30:00"),
        ] {
            let limit = time_limit(text).unwrap();
            assert_eq!((limit.seconds, limit.to_string().as_str()), (seconds, written), "{text}");
            assert_eq!(time_limit(written), Ok(limit), "{text}");
        }
        for text in ["60", "1:00", "1:60:00", "0:00:59", "0:00:00"] {
            time_limit(text).unwrap_err();
        }
    }
}
