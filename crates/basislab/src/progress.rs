//! Progress on stderr: a bar with an ETA and a line per arm on a terminal, a line per finished run elsewhere, nothing with
//! `--quiet`. Warnings come in every case.

mod arms;

use crate::terminal::shown;
use arms::Arms;
use basislab_config::Experiment;
use basislab_runs::Job;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where and how progress is shown.
pub(crate) struct Progress {
    bar: ProgressBar,
    quiet: bool,
    /// The arms that are shown below the bar, if any, and when that was.
    arms: Mutex<Option<(Arms, Option<Instant>)>>,
}

/// The lines of arms are made again after this time: a small model makes thousands of updates in a second.
const PAUSE: Duration = Duration::from_millis(200);

impl Progress {
    /// Nothing is to be made yet.
    pub(crate) fn new(quiet: bool) -> Self {
        // The second of these is hidden too on a pipe and on a terminal that cannot move its cursor (`TERM=dumb` or unset).
        let unknown = std::env::var_os("TERM").is_some_and(|term| term.is_empty());
        let hidden = quiet || unknown;
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(5) };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        bar.set_style(style("  {msg}"));
        Self { bar, quiet, arms: Mutex::default() }
    }

    /// `steps` updates are to be made.
    pub(crate) fn plan(&self, steps: u64) {
        self.bar.set_length(steps);
    }

    /// That many more updates are to be made.
    pub(crate) fn plan_more(&self, steps: u64) {
        self.bar.inc_length(steps);
    }

    /// One update was made.
    pub(crate) fn step(&self) {
        self.bar.inc(1);
    }

    /// Updates that will not be made (a diverged run).
    pub(crate) fn skip(&self, steps: u64) {
        self.bar.inc(steps);
    }

    /// What is going on, beside the bar. Left out where arms are shown.
    pub(crate) fn message(&self, text: impl FnOnce() -> String) {
        if !self.bar.is_hidden() && self.arms.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.bar.set_message(text());
        }
    }

    /// Shows the arms that have runs to train, of all runs that are planned.
    pub(crate) fn show_arms(&self, experiment: &Experiment, planned: &[Job<'_>], todo: &[Job<'_>]) {
        if !self.bar.is_hidden() && !todo.is_empty() {
            let mut shown = self.arms.lock().unwrap_or_else(PoisonError::into_inner);
            let (arms, _) = shown.get_or_insert_default();
            arms.add(experiment, planned, todo);
            arms.changed = true;
            self.bar.set_style(style("\n{msg}"));
        }
    }

    /// Changes what is shown of arms, where they are shown.
    pub(crate) fn arms(&self, change: impl FnOnce(&mut Arms, Instant)) {
        let mut shown = self.arms.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((arms, drawn)) = shown.as_mut() else { return };
        let now = Instant::now();
        change(arms, now);
        if std::mem::take(&mut arms.changed) || drawn.is_none_or(|drawn| now.duration_since(drawn) >= PAUSE) {
            *drawn = Some(now);
            self.bar.set_message(arms.lines(size(), now).join("\n"));
        }
    }

    /// A line that stays.
    pub(crate) fn line(&self, text: &str) {
        if !self.quiet {
            self.warn(text);
        }
    }

    /// A line that stays, with `--quiet` too.
    pub(crate) fn warn(&self, text: &str) {
        let text = shown(text);
        if self.bar.is_hidden() {
            // Progress is a courtesy: a closed stderr must not end a run.
            let _ = writeln!(std::io::stderr(), "{text}");
        } else {
            self.bar.println(&text);
        }
    }

    /// A line that stays, where no bar is shown.
    pub(crate) fn line_without_bar(&self, text: &str) {
        if self.bar.is_hidden() {
            self.line(text);
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The bar, and the message after it.
fn style(message: &str) -> ProgressStyle {
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let bar = if colour { "{bar:32.cyan/blue}" } else { "{bar:32}" };
    let template = match size().0 {
        ..64 => format!("{{percent:>3}}%  {{eta}} to go{message}"),
        _ => format!("{bar} {{percent:>3}}%  {{elapsed}} gone, {{eta}} to go{message}"),
    };
    ProgressStyle::with_template(&template).expect("a fixed template")
}

/// Columns and lines of the terminal that are left for arms.
fn size() -> (usize, usize) {
    let size = terminal_size::terminal_size_of(std::io::stderr());
    let (width, height) = size.map_or((80, 24), |(width, height)| (usize::from(width.0), usize::from(height.0)));
    // Lines that end in the last column wrap on some terminals. The bar, and the line of the cursor.
    (width.saturating_sub(1), height.saturating_sub(2))
}
