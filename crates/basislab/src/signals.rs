//! Signals: the first one asks for a checkpoint, a second interrupt stops at once.

use crate::exit::{Code, Exit};
use crate::terminal::quoted;
use basislab_config::count;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Set by a signal; read by every run between two updates.
pub(crate) struct Signals {
    stop: Arc<AtomicBool>,
    /// Whether it was set by the time limit.
    timed_out: Arc<AtomicBool>,
}

impl Signals {
    /// From here on INT, TERM, HUP and USR1 (what Slurm sends before its time limit) only set a flag; a second INT ends
    /// the process with 130.
    pub(crate) fn listen() -> Result<Self, Exit> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        use signal_hook::flag::{register, register_conditional_shutdown};
        let stop = Arc::new(AtomicBool::new(false));
        let interrupted = Arc::new(AtomicBool::new(false));
        let cannot = |error| Exit::write(format!("cannot listen to signals: {error}"));
        let ignored = ignored();
        if !ignored(SIGINT) {
            // In this order: the first interrupt finds the flag unset, and sets it.
            register_conditional_shutdown(SIGINT, 130, Arc::clone(&interrupted)).map_err(cannot)?;
            register(SIGINT, interrupted).map_err(cannot)?;
        }
        #[cfg(unix)]
        let all = [SIGINT, SIGTERM, signal_hook::consts::SIGHUP, signal_hook::consts::SIGUSR1];
        #[cfg(not(unix))]
        let all = [SIGINT, SIGTERM];
        for signal in all.into_iter().filter(|signal| !ignored(*signal)) {
            register(signal, Arc::clone(&stop)).map_err(cannot)?;
        }
        Ok(Self { stop, timed_out: Arc::default() })
    }

    /// Sets the flag so early that checkpoints are made before the time limit, which is counted from now.
    pub(crate) fn stop_before(&self, limit: Duration) -> Result<(), Exit> {
        let (stop, timed_out) = (Arc::clone(&self.stop), Arc::clone(&self.timed_out));
        let wait = limit - (limit / 10).min(LONGEST_STOP);
        let wake = move || {
            std::thread::sleep(wait);
            timed_out.store(true, Ordering::Relaxed);
            stop.store(true, Ordering::Relaxed);
        };
        let started = std::thread::Builder::new().spawn(wake);
        started.map(drop).map_err(|error| Exit::new(Code::TooLarge, format!("cannot start threads: {error}")))
    }

    /// The flag.
    pub(crate) fn stop(&self) -> &AtomicBool {
        &self.stop
    }

    /// How the program ends when `left` runs have not ended, with the command that resumes.
    pub(crate) fn goodbye(&self, left: usize) -> Exit {
        let command: Vec<String> = std::env::args_os().map(|word| quoted(&word.to_string_lossy())).collect();
        let command = command.join(" ");
        let by = if self.timed_out.load(Ordering::Relaxed) { "--time-limit" } else { "a signal" };
        Exit::new(Code::Stopped, format!("stopped by {by} with {} to go; resume with: {command}", count(left, "run")))
    }
}

/// What is kept of a time limit for the last updates and their checkpoints.
const LONGEST_STOP: Duration = Duration::from_secs(120);

/// A limit on the size of files (`ulimit -f`) then makes a write fail, which names the file, instead of killing the process.
#[cfg(unix)]
pub(crate) fn ignore_file_size_signal() -> Result<(), Exit> {
    // A handler that nobody reads does what ignoring would.
    let unread = Arc::new(AtomicBool::new(false));
    let cannot = |error| Exit::write(format!("cannot listen to signals: {error}"));
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, unread).map(drop).map_err(cannot)
}

/// Where memory is refused all the same, Rust's library says so and aborts the process: that ends with exit code 8 as well.
#[cfg(unix)]
pub(crate) fn end_with_8_where_memory_is_refused() -> Result<(), Exit> {
    let always = Arc::new(AtomicBool::new(true));
    let cannot = |error| Exit::write(format!("cannot listen to signals: {error}"));
    let code = Code::TooLarge as i32;
    signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGABRT, code, always)
        .map(drop)
        .map_err(cannot)
}

/// Which signals this process was started to ignore: `nohup` must stay in force.
fn ignored() -> impl Fn(i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    move |signal| mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
