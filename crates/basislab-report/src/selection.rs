//! Which point of a grid an arm takes over: the one with the least mean held-out loss on the selection seeds.

use crate::figures::digits;
use crate::index::{Losses, RunState, Runs, mean};
use crate::note::list;
use basislab_config::{Choose, Criterion, Experiment, RunName, Sweep, SweepPoint, count, value_text};
use basislab_stats::mean_sd;
use basislab_tables::{SelectionRow, Tables};

/// One row for each point of every grid with a choice, in the order of the configuration.
///
/// The chosen point has the least mean of the held-out loss at the last step over the selection seeds (nats per token); of
/// equal means the first. A point with a run that diverged is never chosen. While a run of any other point is missing, none
/// is chosen.
pub fn choose(experiment: &Experiment, tables: &Tables) -> Vec<SelectionRow> {
    let (runs, losses) = (Runs::of(experiment, tables), Losses::of(tables));
    let mut all = Vec::new();
    for (sweep, how) in experiment.choices() {
        let Choose { by: Criterion::Loss, on_seeds } = how;
        let of_point = |point: &SweepPoint| row(experiment, sweep, &point.arm, on_seeds, &runs, &losses);
        let mut rows: Vec<SelectionRow> = sweep.points.iter().map(of_point).collect();
        if let Some(best) = best_of(&rows) {
            rows[best].chosen = true;
            let best = rows[best].point.clone();
            let last = |point: &RunName| experiment.arm(point).map_or(0, |arm| arm.run.train.steps);
            let loss = |point: &RunName, seed| losses.at(point, seed, last(point))?.loss;
            for row in rows.iter_mut().filter(|row| row.n_diverged == 0 && row.n_missing == 0) {
                let behind = on_seeds.iter().map(|&seed| Some(loss(&row.point, seed)? - loss(&best, seed)?));
                let Some(behind) = behind.collect::<Option<Vec<f64>>>() else { continue };
                row.behind = mean(&behind);
                row.behind_se = mean_sd(&behind).map(|(_, sd)| sd / (behind.len() as f64).sqrt());
                row.near_best = row.chosen || row.behind.zip(row.behind_se).is_some_and(|(behind, se)| behind <= se);
            }
        }
        all.extend(rows);
    }
    all
}

fn row(
    experiment: &Experiment,
    sweep: &Sweep,
    point: &RunName,
    on_seeds: &[u64],
    runs: &Runs<'_>,
    losses: &Losses<'_>,
) -> SelectionRow {
    let last = experiment.arm(point).map_or(0, |arm| arm.run.train.steps);
    let (mut seeds, mut values) = (Vec::new(), Vec::new());
    let (mut n_diverged, mut n_missing) = (0, 0);
    for &seed in on_seeds {
        let loss = losses.at(point, seed, last).and_then(|eval| eval.loss).filter(|loss| loss.is_finite());
        match (runs.state(point, seed), loss) {
            (RunState::Complete, Some(loss)) => {
                seeds.push(seed);
                values.push(loss);
            }
            (RunState::Missing, _) => n_missing += 1,
            (RunState::Diverged, _) | (RunState::Complete, None) => n_diverged += 1,
        }
    }
    let at = sweep.points.iter().find(|one| one.arm == *point);
    SelectionRow {
        arm: sweep.arm.clone(),
        point: point.clone(),
        values: at.map_or_else(String::new, |at| at.in_words(&sweep.keys)),
        seeds: list(&seeds),
        mean_loss: mean(&values),
        sd: mean_sd(&values).map(|(_, sd)| sd),
        behind: None,
        behind_se: None,
        near_best: false,
        n_diverged,
        n_missing,
        chosen: false,
    }
}

/// The place of the chosen row among those of one sweep.
fn best_of(rows: &[SelectionRow]) -> Option<usize> {
    let whole = |row: &SelectionRow| row.n_diverged == 0;
    if rows.iter().any(|row| whole(row) && row.n_missing > 0) {
        return None;
    }
    let losses = rows.iter().enumerate().filter(|(_, row)| whole(row));
    let losses = losses.filter_map(|(place, row)| Some((place, row.mean_loss?)));
    // Of equal ones the first.
    losses.reduce(|best, next| if next.1 < best.1 { next } else { best }).map(|(place, _)| place)
}

/// The experiment in which each arm has the run of its chosen point. Where no point is chosen yet, the arm stays as it is.
pub fn resolve(experiment: &Experiment, rows: &[SelectionRow]) -> Experiment {
    let chosen: Vec<(RunName, RunName)> =
        rows.iter().filter(|row| row.chosen).map(|row| (row.arm.clone(), row.point.clone())).collect();
    experiment.with_chosen(&chosen)
}

/// A sentence for each choice: what was chosen, from which values, by what, and whether it lies at the edge of the grid.
pub fn choice_sentences(experiment: &Experiment, rows: &[SelectionRow]) -> Vec<String> {
    let sentence = |(sweep, how): (&Sweep, &Choose)| {
        let rows: Vec<&SelectionRow> = rows.iter().filter(|row| row.arm == sweep.arm).collect();
        made(sweep, how, &rows).unwrap_or_else(|| not_made(sweep, &rows))
    };
    experiment.choices().map(sentence).collect()
}

fn made(sweep: &Sweep, how: &Choose, rows: &[&SelectionRow]) -> Option<String> {
    let row = rows.iter().find(|row| row.chosen)?;
    let point = sweep.points.iter().find(|point| point.arm == row.point)?;
    let among = |place: usize| sweep.values_at(place).into_iter().map(value_text).collect::<Vec<_>>().join(", ");
    let keys = sweep.keys.iter().zip(&point.values).enumerate();
    let keys: Vec<String> =
        keys.map(|(place, (key, value))| format!("{key} = {} of {}", value_text(value), among(place))).collect();
    let seeds = list(&how.on_seeds);
    let mut text = format!("{}: {}, by the least mean held-out loss on seeds {seeds}", sweep.arm, keys.join(" and "));
    text += &row.mean_loss.map_or_else(String::new, |loss| format!(" ({} nats)", digits(loss)));
    let near = rows.iter().filter(|row| row.near_best && !row.chosen);
    let near: Vec<&str> = near.map(|row| row.values.as_str()).collect();
    if !near.is_empty() {
        text += &format!("; within one standard error of it: {}", near.join("; "));
    }
    match rows.iter().filter(|row| row.n_diverged > 0).count() {
        0 => {}
        n => text += &format!("; {} diverged", count(n, "point")),
    }
    let at_edge: Vec<&str> = (0..sweep.keys.len())
        .filter(|&place| point.number(place).is_some_and(|value| is_edge(&numbers(sweep, place), value)))
        .map(|place| sweep.keys[place].as_str())
        .collect();
    if !at_edge.is_empty() {
        let verb = if at_edge.len() == 1 { "lies" } else { "lie" };
        text += &format!("; {} {verb} at the edge of the grid", at_edge.join(" and "));
    }
    Some(text + ".")
}

fn not_made(sweep: &Sweep, rows: &[&SelectionRow]) -> String {
    let (arm, keys) = (&sweep.arm, sweep.keys.join(" and "));
    let missing: usize = rows.iter().filter(|row| row.n_diverged == 0).map(|row| row.n_missing).sum();
    match missing {
        0 if rows.is_empty() => format!("{arm}: no choice of {keys} was recorded."),
        0 => format!("{arm}: no point of {keys} can be chosen: a run of each diverged."),
        n => {
            let verb = if n == 1 { "is" } else { "are" };
            format!("{arm}: {keys} is not chosen yet: {} {verb} missing.", count(n, "selection run"))
        }
    }
}

/// The values of a key in the order of the grid; none where one is not a number.
fn numbers(sweep: &Sweep, place: usize) -> Vec<f64> {
    let mut all: Vec<f64> = Vec::new();
    for point in &sweep.points {
        let Some(number) = point.number(place) else { return Vec::new() };
        if !all.contains(&number) {
            all.push(number);
        }
    }
    all
}

/// Whether the value is the first or last of a list that rises or falls throughout.
fn is_edge(values: &[f64], value: f64) -> bool {
    let ordered = values.is_sorted_by(|a, b| a < b) || values.is_sorted_by(|a, b| a > b);
    values.len() >= 2 && ordered && (values.first() == Some(&value) || values.last() == Some(&value))
}
