use super::plan_script::{SCRIPT_EXAMPLES, ScriptArgs};
use super::run::TrainingArgs;
use super::{Backend, ChangeArgs, count, folder};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

pub(super) const PLAN_EXAMPLES: &str = "\
A plan holds one complete run per line, with its identity: arm, seed, the whole
configuration, and the directory that `basislab run` would use. It is made once
and read by any number of workers; nothing in it is started by basislab.

Examples:
  basislab plan adam-vs-sgd my-experiment.toml > plan.jsonl
  basislab plan adam-vs-sgd --seeds 0..32 --set train.steps=4000 > plan.jsonl
  basislab plan show plan.jsonl                  runs, core-hours, memory
  basislab plan script slurm plan.jsonl > job.sh && sh job.sh
  basislab work plan.jsonl --claim               or without any scheduler
  basislab plan status plan.jsonl --watch
  basislab collect plan.jsonl

docs/clusters.md leads from the installation to the verdicts.";

pub(super) const WORK_EXAMPLES: &str = "\
Finished runs are skipped, interrupted ones resume from their last checkpoint. A
run that fails is not tried again: `basislab plan status` says why it failed.

Exit codes:
   0  nothing is left to take; with --shard or --index all its runs have ended
   6  other processes have the rest, or it needs runs of stage 1 that have not
      ended; run the command again later
  75  stopped by INT, TERM, HUP, USR1 or --time-limit, after a checkpoint; run
      the command again to resume
  else the code of the first run that failed (see `basislab --help`)

Examples:
  basislab work plan.jsonl --shard $SLURM_ARRAY_TASK_ID/40 --time-limit 2:00:00
  basislab work plan.jsonl --claim --jobs 4
  basislab work plan.jsonl --index 17
  basislab work plan.jsonl --shard 3/40 --out /scratch/me     no common folder";

pub(super) const COLLECT_EXAMPLES: &str = "\
Refuses with exit code 6 while runs of the plan are missing.

Examples:
  basislab collect plan.jsonl
  basislab collect plan.jsonl --partial                  what there is so far
  basislab collect plan.jsonl --from node1 --from node2  join copies of --out";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct PlanArgs {
    #[command(subcommand)]
    pub(crate) command: Option<PlanCommand>,
    /// Names of built-in experiments (see `basislab list`) or paths of TOML files
    #[arg(required = true, value_name = "EXPERIMENT")]
    pub(crate) experiments: Vec<String>,
    #[command(flatten)]
    pub(crate) changes: ChangeArgs,
    /// Backend to compute on; `basislab backends` lists what is available
    #[arg(long, value_enum, default_value_t = Backend::Cpu)]
    pub(crate) backend: Backend,
    /// The directory of the experiments' directories
    #[arg(long, value_name = "DIR", default_value = "runs", value_parser = folder())]
    pub(crate) out: PathBuf,
    /// The only class of CPU that may train the runs: results repeat bit for bit on machines of one class
    #[arg(long, value_name = "CLASS", value_enum)]
    pub(crate) require_cpu: Option<CpuClass>,
}

/// CPUs on which a run has the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CpuClass {
    /// With AVX-512
    Avx512,
    /// With AVX2 and FMA, without AVX-512
    Avx2,
    /// Any other
    Scalar,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Print runs, core-hours and memory of a plan, by a few updates of each kind of run on this machine
    Show {
        /// A file that `basislab plan` printed
        plan: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Do not print progress on stderr
        #[arg(long, short)]
        quiet: bool,
    },
    /// Print a script that trains the plan on an engine; submits nothing
    #[command(after_help = SCRIPT_EXAMPLES)]
    Script(ScriptArgs),
    /// Show which runs are complete, running, interrupted, failed or not begun
    Status {
        /// A file that `basislab plan` printed
        plan: PathBuf,
        /// Print again every few seconds until all runs have ended or failed
        #[arg(long)]
        watch: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The directory of the experiments' directories, in place of the plan's
        #[arg(long, value_name = "DIR", value_parser = folder())]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("share").required(true).args(["index", "shard", "claim"]))]
pub(crate) struct WorkArgs {
    /// A file that `basislab plan` printed
    pub(crate) plan: PathBuf,
    /// Lines of the plan, from 0: `17`, `3,5` or `0..8` (8 excluded)
    #[arg(long, value_name = "LINES", allow_hyphen_values = true)]
    pub(crate) index: Option<String>,
    /// One of N shares: lines I, I+N, I+2N, ..., with I from 0 to N-1
    #[arg(long, value_name = "I/N", allow_hyphen_values = true)]
    pub(crate) shard: Option<String>,
    /// Whatever has not ended and no other worker has. Needs a file system whose locks hold between the workers
    #[arg(long, conflicts_with = "no_lock")]
    pub(crate) claim: bool,
    /// Only lines of this stage; 2 is that of arms whose values are chosen from a grid, once its runs have ended
    #[arg(long, value_name = "STAGE", allow_hyphen_values = true, value_parser = count(1, 2))]
    pub(crate) stage: Option<u64>,
    /// Which of the backend's devices, by its number in `basislab backends`
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true, value_parser = count(0, 65_535))]
    pub(crate) device: u64,
    /// Runs to train in parallel; on a CPU, results do not depend on it [default: one per thread; 1 on a GPU]
    #[arg(long, allow_hyphen_values = true, value_parser = count(1, 4096))]
    pub(crate) jobs: Option<u64>,
    /// Threads to compute with, shared by the runs [default: all cores]
    #[arg(long, allow_hyphen_values = true, value_parser = count(1, 4096))]
    pub(crate) threads: Option<u64>,
    /// Stop with a checkpoint before this time has passed: H:MM:SS or D-H:MM:SS. A tenth of it, at most two minutes, is
    /// kept for the checkpoints
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) time_limit: Option<Duration>,
    /// Try runs again that have failed
    #[arg(long)]
    pub(crate) retry_failed: bool,
    /// The directory of the experiments' directories, in place of the plan's; `basislab collect --from` joins copies of it
    #[arg(long, value_name = "DIR", value_parser = folder())]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) training: TrainingArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CollectArgs {
    /// A file that `basislab plan` printed
    pub(crate) plan: PathBuf,
    /// Report on the runs that have ended
    #[arg(long)]
    pub(crate) partial: bool,
    /// Join the runs of a worker that had this --out, or of a copy of it. Repeatable
    #[arg(long, value_name = "DIR", value_parser = folder())]
    pub(crate) from: Vec<PathBuf>,
    /// Which of the backend's devices measures rounding, where the experiment asks for it
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true, value_parser = count(0, 65_535))]
    pub(crate) device: u64,
    /// Do not print progress on stderr
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Print the answers as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `H:MM:SS` or `D-H:MM:SS`, as schedulers write it.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let fail = || "expected H:MM:SS or D-H:MM:SS, for example 2:00:00".to_owned();
    let (days, clock) = text.split_once('-').map_or((Ok(0), text), |(days, clock)| (days.parse::<u64>(), clock));
    let parts: Vec<u64> = clock.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| fail())?;
    let (Ok(days), [hours, minutes, seconds]) = (days, &parts[..]) else { return Err(fail()) };
    let fits = days < 1000 && *hours < 1000 && *minutes < 60 && *seconds < 60;
    let seconds = 60 * (60 * (24 * days + hours) + minutes) + seconds;
    if fits && seconds > 0 { Ok(Duration::from_secs(seconds)) } else { Err(fail()) }
}
