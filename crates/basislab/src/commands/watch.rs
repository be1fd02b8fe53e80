//! `basislab watch`: follows runs while other processes train them, by their files alone.

mod curve;
mod run;
mod screen;
mod state;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests;

use self::screen::{Curves, Next, View, draw, page};
use self::state::Watched;
use super::{CommandResult, plan};
use crate::args::WatchArgs;
use crate::directories::{expect_one, inside, is_one};
use crate::exit::Exit;
use crate::experiments::library;
use crate::signals::Signals;
use crate::terminal::{quoted, say};
use basislab_config::Experiment;
use basislab_runs::open;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, restore, try_init};
use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

/// How long the keyboard waits at most.
const TICK: Duration = Duration::from_millis(100);

pub(crate) fn watch(args: &WatchArgs) -> CommandResult {
    let at = args.path.display();
    let name = quoted(&args.path.display().to_string());
    let is_plan = !args.path.is_dir();
    let mut watched = if is_plan {
        Watched::of_plan(at.to_string(), &plan::read(&args.path)?, |dir| plan::in_root(dir, args.out.as_deref()))
    } else {
        of_directory(&args.path)?
    };
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if !stdout().is_terminal() || (cfg!(unix) && dumb) {
        let other =
            if is_plan { format!("basislab plan status {name} --watch") } else { format!("basislab status {name}") };
        return Err(Exit::usage(format!("{at}: found no terminal to draw on, expected one; without one use: {other}")));
    }
    let next = match is_plan {
        true => Next {
            ended: format!("basislab collect {name}"),
            failed: format!("basislab plan status {name}"),
            waiting: format!("Next: basislab work {name} --claim"),
        },
        false => Next {
            ended: format!("basislab report {name}"),
            failed: format!("basislab status {name}"),
            waiting: format!("How to resume: basislab status {name}"),
        },
    };
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut view = View { first: 0, curves: Curves::Both, colour, next };
    let signals = Signals::listen()?;
    // Restores the terminal after a panic too.
    let mut terminal = try_init().map_err(|error| Exit::write(format!("stdout: {error}")))?;
    let ended = follow(&mut terminal, &mut watched, &mut view, args, &signals);
    // Shows the cursor again.
    drop(terminal);
    restore();
    ended.map_err(|error| Exit::write(format!("stdout: {error}")))?;
    if args.exit_when_done {
        say(view.last_words(&watched))?;
    }
    Ok(None)
}

/// One experiment, or all in a directory.
fn of_directory(dir: &Path) -> Result<Watched, Exit> {
    let folders = if is_one(dir) { vec![dir.to_owned()] } else { inside(dir)? };
    if folders.is_empty() {
        let what = "found no manifest.json here or one folder down, expected a directory of `basislab run` or a plan";
        return Err(Exit::data(format!("{}: {what}", dir.display())));
    }
    if let [one] = &folders[..] {
        expect_one(one)?;
    }
    let experiment = |dir: PathBuf| Ok((dir.clone(), open(&dir, library())?.experiment));
    let experiments = folders.into_iter().map(experiment).collect::<Result<Vec<_>, Exit>>()?;
    Ok(Watched::of_directories(dir.display().to_string(), &experiments))
}

/// Draws and obeys keys until one ends it, or a signal does.
fn follow(
    terminal: &mut DefaultTerminal,
    watched: &mut Watched,
    view: &mut View,
    args: &WatchArgs,
    signals: &Signals,
) -> std::io::Result<()> {
    let reload = |dir: &Path| -> Option<Experiment> { Some(open(dir, library()).ok()?.experiment) };
    let interval = Duration::from_secs_f64(args.interval);
    // When the next round begins; `None` within one.
    let mut next: Option<Instant> = None;
    let mut drawn: Option<Instant> = None;
    while !signals.stop().load(Ordering::Relaxed) {
        let now = Instant::now();
        let mut is_new = true;
        if next.is_none_or(|next| now >= next) {
            let is_over = watched.look(now + TICK, SystemTime::now(), &reload);
            next = is_over.then(|| Instant::now() + interval);
        } else {
            is_new = watched.read_ended(now + TICK);
        }
        let totals = watched.totals();
        // While much is read, not after each bit of it.
        let is_still = next.is_some() && totals.unread == 0;
        if is_new && (is_still || drawn.is_none_or(|drawn| drawn.elapsed() >= 3 * TICK)) {
            terminal.draw(|frame| draw(frame, view, watched, SystemTime::now()))?;
            drawn = Some(Instant::now());
        }
        if args.exit_when_done && is_still && totals.is_over() {
            return Ok(());
        }
        if event::poll(if is_still { TICK } else { Duration::ZERO })? {
            if leaves(&event::read()?, view, watched.arms.len(), terminal.size()?) {
                return Ok(());
            }
            terminal.draw(|frame| draw(frame, view, watched, SystemTime::now()))?;
        }
    }
    Ok(())
}

/// Obeys a key. Says whether it is one that leaves.
fn leaves(event: &Event, view: &mut View, arms: usize, size: ratatui::layout::Size) -> bool {
    let Event::Key(key) = event else { return false };
    if key.kind == KeyEventKind::Release {
        return false;
    }
    let page = page(size.height) as isize;
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
        KeyCode::Char('s') => view.next_curves(size.width),
        KeyCode::Up => view.scroll(-1, arms),
        KeyCode::Down => view.scroll(1, arms),
        KeyCode::PageUp => view.scroll(-page, arms),
        KeyCode::PageDown => view.scroll(page, arms),
        KeyCode::Home => view.first = 0,
        KeyCode::End => view.scroll(arms as isize, arms),
        _ => {}
    }
    false
}
