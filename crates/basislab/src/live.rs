//! What `run` and `watch` show of runs while they train: the numbers of the last probes, as the tables have them, and a table
//! that fits a terminal.

use basislab_config::{Arm, Basis, Cell, Experiment, Site};
use basislab_train::Probe;

/// Where the kurtosis of an arm is read: the cell of `[verdict]`.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    cell: Cell,
    site: Site,
}

impl Place {
    pub(crate) fn of(experiment: &Experiment, arm: &Arm) -> Self {
        let cell = experiment.verdict.cell();
        let site = experiment.site(&cell, arm);
        Self { cell, site }
    }

    /// Whether a value is of this place: `Some(true)` in its own basis, `Some(false)` in a random one.
    pub(crate) fn has(&self, site: Site, tokens: basislab_config::Tokens, basis: Basis, metric: &str) -> Option<bool> {
        let here = site == self.site && tokens == self.cell.tokens && metric == self.cell.metric;
        match basis {
            _ if !here => None,
            Basis::Random(_) => Some(false),
            basis => (basis == self.cell.basis).then_some(true),
        }
    }
}

/// What one probe says, or the means of several.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Reading {
    /// Held-out loss, nats per token.
    pub(crate) loss: Option<f64>,
    /// The same above that of the true model.
    pub(crate) above_floor: Option<f64>,
    /// The verdict's metric.
    pub(crate) value: Option<f64>,
    /// The mean of the same over random bases, where the probe has some.
    pub(crate) null: Option<f64>,
}

impl Reading {
    pub(crate) fn of(probe: &Probe, place: &Place) -> Self {
        let loss = probe.loss.is_finite().then_some(probe.loss);
        let above_floor = loss.and_then(|loss| Some(loss - probe.floor?));
        let (mut value, mut draws) = (None, Vec::new());
        for at in &probe.sites {
            for measured in &at.measured.values {
                match place.has(at.site, measured.tokens, measured.basis, measured.metric) {
                    Some(true) => value = measured.value,
                    Some(false) => draws.extend(measured.value),
                    None => {}
                }
            }
        }
        Self { loss, above_floor, value, null: mean(draws) }
    }

    /// The means over runs, each over those that have the number.
    pub(crate) fn mean(all: &[Self]) -> Self {
        let of = |number: fn(&Self) -> Option<f64>| mean(all.iter().filter_map(number));
        Self {
            loss: of(|one| one.loss),
            above_floor: of(|one| one.above_floor),
            value: of(|one| one.value),
            null: of(|one| one.null),
        }
    }
}

/// `None` of no numbers.
pub(crate) fn mean(numbers: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = numbers.into_iter().fold((0.0, 0.0), |(sum, count), number| (sum + number, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

/// A number with so many digits behind the point, as the printed answer has it.
pub(crate) fn decimals(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// A time in a few characters: `42s`, `3.5m`, `12h`, `2.0d`.
pub(crate) fn short_time(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds.filter(|seconds| seconds.is_finite()) else { return "-".to_owned() };
    let (number, unit) = match seconds {
        ..99.5 => return format!("{seconds:.0}s"),
        99.5..5970.0 => (seconds / 60.0, 'm'),
        5970.0..172_800.0 => (seconds / 3600.0, 'h'),
        _ => (seconds / 86_400.0, 'd'),
    };
    if number < 9.95 { format!("{number:.1}{unit}") } else { format!("{number:.0}{unit}") }
}

/// A number in a few characters: `87`, `9.6k`, `123k`, `4.5M`.
pub(crate) fn short_number(number: Option<f64>) -> String {
    let Some(number) = number.filter(|number| number.is_finite()) else { return "-".to_owned() };
    let (number, unit) = match number {
        ..999.5 => return format!("{number:.0}"),
        999.5..999_500.0 => (number / 1e3, 'k'),
        _ => (number / 1e6, 'M'),
    };
    if number < 9.95 { format!("{number:.1}{unit}") } else { format!("{number:.0}{unit}") }
}

/// A text in at most so many columns. Names are ASCII.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain((width > 0).then_some('…')).collect()
}

/// The widest a name is shown.
const WIDEST_NAME: usize = 20;

/// The widths of as many columns, from the left, as fit a terminal of that many columns with a space between them. The first is
/// that of names, which are cut where even they do not fit.
pub(crate) fn widths(rows: &[Vec<String>], terminal: usize) -> Vec<usize> {
    let (mut widths, mut used): (Vec<usize>, usize) = (Vec::new(), 0);
    for column in 0..rows.first().map_or(0, Vec::len) {
        let width = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let width = if column == 0 { width.min(WIDEST_NAME).min(terminal) } else { width };
        used += width + usize::from(column > 0);
        if used > terminal {
            break;
        }
        widths.push(width);
    }
    widths
}

/// Cells side by side: the first aligned left, the others right.
pub(crate) fn aligned(row: &[String], widths: &[usize]) -> String {
    let cell = |(column, width): (usize, &usize)| match column {
        0 => format!("{:<width$}", cut(&row[0], *width)),
        _ => format!(" {:>width$}", row[column]),
    };
    widths.iter().enumerate().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::{Reading, aligned, cut, short_number, short_time, widths};

    #[test]
    fn times_and_numbers_are_short() {
        let times = [(0.2, "0s"), (99.4, "99s"), (99.6, "1.7m"), (600.0, "10m"), (6000.0, "1.7h"), (200_000.0, "2.3d")];
        times.iter().for_each(|(seconds, text)| assert_eq!(short_time(Some(*seconds)), *text));
        let numbers = [(87.0, "87"), (999.6, "1.0k"), (9_940.0, "9.9k"), (9_960.0, "10k"), (4_500_000.0, "4.5M")];
        numbers.iter().for_each(|(number, text)| assert_eq!(short_number(Some(*number)), *text));
        assert_eq!((short_time(None), short_time(Some(f64::INFINITY)), short_number(None)), {
            let none = || "-".to_owned();
            (none(), none(), none())
        });
    }

    #[test]
    fn columns_are_dropped_from_the_right() {
        let rows = [["adam", "loss", "kurtosis"], ["a-name-that-is-very-long", "3.8", "6.77"]]
            .map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(widths(&rows, 80), [20, 4, 8]);
        assert_eq!(widths(&rows, 34), [20, 4, 8]);
        assert_eq!(widths(&rows, 33), [20, 4]);
        assert_eq!(widths(&rows, 24), [20]);
        assert_eq!(widths(&rows, 5), [5]);
        assert_eq!(aligned(&rows[0], &[20, 4, 8]), "adam                 loss kurtosis");
        assert_eq!(aligned(&rows[1], &[20, 4, 8]), "a-name-that-is-very…  3.8     6.77");
        assert_eq!((cut("abc", 0), cut("abc", 2)), (String::new(), "a…".to_owned()));
    }

    #[test]
    fn means_are_over_the_runs_that_have_the_number() {
        let reading = |loss, null| Reading { loss, null, ..Reading::default() };
        let mean = Reading::mean(&[reading(Some(1.0), None), reading(Some(4.0), Some(3.0)), reading(None, None)]);
        assert_eq!(mean, reading(Some(2.5), Some(3.0)));
        assert_eq!(Reading::mean(&[]), Reading::default());
    }
}
