//! What is watched, as text for a terminal of any size.

use super::curve;
use super::run::State;
use super::state::{ArmRuns, Summary, Totals, Watched};
use crate::live::{aligned, cut, decimals, short_number, short_time, widths};
use crate::terminal::shown;
use basislab_config::count;
use ratatui::Frame;
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use std::time::SystemTime;

/// What the lines of arms show over steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curves {
    /// Both where there is room, else the loss.
    Both,
    Loss,
    Kurtosis,
}

/// What the reader has chosen.
pub(super) struct View {
    /// The first arm that is shown.
    pub(super) first: usize,
    pub(super) curves: Curves,
    pub(super) colour: bool,
    /// What to do once all runs have ended, and where to look when some failed or wait.
    pub(super) next: Next,
}

/// Commands to run next.
pub(super) struct Next {
    pub(super) ended: String,
    pub(super) failed: String,
    pub(super) waiting: String,
}

/// From this width on there is room for two curves.
const WIDE: u16 = 100;

/// The narrowest and the widest curve.
const CURVE: (usize, usize) = (7, 40);

/// The smallest terminal.
const SMALLEST: (u16, u16) = (20, 6);

impl View {
    /// After the key `s`.
    pub(super) fn next_curves(&mut self, width: u16) {
        self.curves = match self.curves {
            Curves::Both if width >= WIDE => Curves::Loss,
            Curves::Both | Curves::Loss => Curves::Kurtosis,
            Curves::Kurtosis => Curves::Both,
        };
    }

    /// Scrolls by so many arms, or by pages of a terminal of that height.
    pub(super) fn scroll(&mut self, by: isize, arms: usize) {
        self.first = self.first.saturating_add_signed(by).min(arms.saturating_sub(1));
    }

    /// What stays on the terminal after the last screen.
    pub(super) fn last_words(&self, watched: &Watched) -> String {
        let totals = watched.totals();
        format!("{}: {}\n{}\n", watched.name, totals.in_words(), note(self, watched, &totals))
    }

    /// The curves that are drawn: of the loss, of the kurtosis.
    fn drawn(&self, width: u16) -> [bool; 2] {
        match self.curves {
            Curves::Both => [true, width >= WIDE],
            Curves::Loss => [true, false],
            Curves::Kurtosis => [false, true],
        }
    }

    fn styled(&self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }
}

/// Arms that fit a terminal of that height, as far as is known before it is drawn.
pub(super) fn page(height: u16) -> usize {
    usize::from(height).saturating_sub(6).max(1)
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, view: &mut View, watched: &Watched, now: SystemTime) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let text = format!("too small: {}x{}", SMALLEST.0, SMALLEST.1);
        frame.render_widget(Line::raw(cut(&text, width)), area);
        return;
    }
    let totals = watched.totals();
    let to_go = totals.seconds_to_go.map_or_else(String::new, |to_go| format!("; {} to go", short_time(Some(to_go))));
    let mut lines = vec![Line::styled(cut(&shown(&watched.name), width), Style::new().bold())];
    lines.extend(wrapped(&format!("{}{to_go}", totals.in_words()), width).into_iter().map(Line::raw));
    let colour = view.styled(if totals.count(State::Failed) > 0 { Color::Red } else { Color::Green });
    lines.extend(wrapped(&note(view, watched, &totals), width).into_iter().map(|text| Line::styled(text, colour)));
    let left = height.saturating_sub(lines.len() + 2).max(1);
    view.first = view.first.min(watched.arms.len().saturating_sub(left));
    let last = (view.first + left).min(watched.arms.len());
    lines.extend(table(&watched.arms[view.first..last], view, area.width, now));
    lines.resize(height - 1, Line::default());
    lines.push(Line::styled(
        cut(&keys(view, area.width, (view.first + 1, last, watched.arms.len())), width),
        Style::new().dim(),
    ));
    for (line, row) in lines.into_iter().zip(area.rows()) {
        frame.render_widget(line, row);
    }
}

/// What follows from the states of the runs, in a sentence or none.
fn note(view: &View, watched: &Watched, totals: &Totals) -> String {
    let Next { ended, failed, waiting } = &view.next;
    let failure = totals.failure.as_deref().map(shown).unwrap_or_default();
    if !watched.is_known {
        return "Looking at the runs for the first time.".to_owned();
    }
    if totals.unread > 0 {
        return format!(
            "Reading {} that {} ended.",
            count(totals.unread, "run"),
            if totals.unread == 1 { "has" } else { "have" }
        );
    }
    let failures = totals.count(State::Failed);
    if totals.is_over() && failures == 0 {
        return format!("All runs have ended. Next: {ended}");
    }
    if failures > 0 {
        return format!("{failure}. See: {failed}");
    }
    if totals.count(State::Running) == 0 {
        return format!("No process is training. {waiting}");
    }
    String::new()
}

/// The table of arms, with its header.
fn table(arms: &[ArmRuns], view: &View, width: u16, now: SystemTime) -> Vec<Line<'static>> {
    let summaries: Vec<Summary> = arms.iter().map(ArmRuns::summary).collect();
    let some_failed = summaries.iter().any(|summary| summary.failed > 0);
    let drawn = view.drawn(width);
    let room = " ".repeat(CURVE.0);
    let cells = |first: [String; 2], rest: [String; 9]| -> Vec<String> {
        let curves = drawn.iter().filter(|drawn| **drawn).map(|_| room.clone());
        let rest = rest.into_iter().enumerate().filter(|(at, _)| *at != FAILED || some_failed).map(|(_, cell)| cell);
        first.into_iter().chain(curves).chain(rest).collect()
    };
    let header = ["  loss", " kurt.", " null", " step", "run", "fail", "  ETA", "tok/s", " last"];
    let mut rows = vec![cells(["arm", " done"].map(str::to_owned), header.map(str::to_owned))];
    for (arm, summary) in arms.iter().zip(&summaries) {
        let (name, done) = (shown(&arm.label), format!("{}/{}", summary.ended, arm.runs.len()));
        rows.push(cells([name, done], of_summary(summary, now)));
    }
    let mut widths = widths(&rows, usize::from(width));
    // Curves take what is left.
    let used = widths.iter().sum::<usize>() + widths.len().saturating_sub(1);
    let curves: Vec<usize> = (2..widths.len()).take(drawn.iter().filter(|drawn| **drawn).count()).collect();
    for &column in &curves {
        widths[column] = (CURVE.0 + (usize::from(width) - used) / curves.len()).min(CURVE.1);
    }
    let kinds = [(drawn[0], ["loss curve", "loss"]), (drawn[1], ["kurtosis curve", "kurtosis"])];
    for (&column, (at, (_, title))) in curves.iter().zip(kinds.iter().enumerate().filter(|(_, (drawn, _))| *drawn)) {
        let title = title.iter().find(|title| title.len() <= widths[column]).copied().unwrap_or_default();
        rows[0][column] = format!("{title:<0$}", widths[column]);
        for (row, arm) in rows[1..].iter_mut().zip(arms) {
            let of = arm.runs.iter().map(|run| if at == 0 { &run.losses } else { &run.values });
            row[column] = curve::line(of, arm.steps, widths[column]);
        }
    }
    let line = |(at, row): (usize, &Vec<String>)| match at {
        0 => Line::styled(aligned(row, &widths), Style::new().underlined()),
        _ => coloured(aligned(row, &widths), &widths, curves.len(), view.styled(Color::Cyan)),
    };
    rows.iter().enumerate().map(line).collect()
}

/// A row whose curves have a style of their own.
fn coloured(row: String, widths: &[usize], curves: usize, style: Style) -> Line<'static> {
    let begin: usize = widths.iter().take(2).map(|width| width + 1).sum();
    let end = begin + widths.iter().skip(2).take(curves).map(|width| width + 1).sum::<usize>();
    let part = |from: usize, to: usize| row.chars().skip(from).take(to - from).collect::<String>();
    Line::from(vec![
        Span::raw(part(0, begin)),
        Span::styled(part(begin, end), style),
        Span::raw(part(end, row.chars().count().max(end))),
    ])
}

/// The place of the column that is left out where no run failed.
const FAILED: usize = 5;

fn of_summary(summary: &Summary, now: SystemTime) -> [String; 9] {
    let age = summary.changed.map(|changed| now.duration_since(changed).unwrap_or_default().as_secs_f64());
    [
        decimals(summary.reading.loss, 3),
        decimals(summary.reading.value, 2),
        decimals(summary.reading.null, 2),
        decimals(summary.step.map(f64::floor).filter(|step| *step > 0.0), 0),
        summary.running.to_string(),
        summary.failed.to_string(),
        short_time(summary.seconds_to_go),
        short_number(summary.tokens_per_second),
        short_time(age),
    ]
}

fn keys(view: &View, width: u16, (first, last, all): (usize, usize, usize)) -> String {
    let next = match (view.drawn(width), width >= WIDE) {
        ([true, true], _) => "loss alone",
        ([true, false], _) => "kurtosis",
        ([false, _], true) => "loss and kurtosis",
        ([false, _], false) => "loss",
    };
    let arms = if last - (first - 1).min(last) < all {
        format!("  arms {first}-{last} of {all}: arrows, PgUp, PgDn")
    } else {
        String::new()
    };
    format!("q quit  s {next}{arms}")
}

/// A text in lines of at most that width, broken at spaces where there are some.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => *line += &format!(" {word}"),
            _ => lines.push(cut(word, width)),
        }
    }
    lines.truncate(MOST_LINES);
    lines
}

/// Of a sentence above the table.
const MOST_LINES: usize = 3;
