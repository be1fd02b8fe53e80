//! Progress on stderr: a bar with an ETA on a terminal, a line per finished run elsewhere, nothing with `--quiet`.
//! Warnings come in every case.

use crate::terminal::shown;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::Write;

/// Where and how progress is shown.
pub(crate) struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    /// Nothing is to be made yet.
    pub(crate) fn new(quiet: bool) -> Self {
        // The second of these is hidden too on a pipe and on a terminal that cannot move its cursor (`TERM=dumb` or unset).
        let unknown = std::env::var_os("TERM").is_some_and(|term| term.is_empty());
        let hidden = quiet || unknown;
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(5) };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let template = if colour {
            "{bar:32.cyan/blue} {percent:>3}%  {elapsed} gone, {eta} to go  {msg}"
        } else {
            "{bar:32} {percent:>3}%  {elapsed} gone, {eta} to go  {msg}"
        };
        bar.set_style(ProgressStyle::with_template(template).expect("a fixed template"));
        Self { bar, quiet }
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

    /// What is going on, beside the bar.
    pub(crate) fn message(&self, text: String) {
        self.bar.set_message(text);
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
