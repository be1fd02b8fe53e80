//! The verdict's metric and the held-out loss against a swept key, at the last step.

use super::frame::{ACROSS, LOWER, UPPER, log_if_positive};
use super::mark::{Figure, Key, Labels, Mark, Of, Panel, Weight, colour};
use super::scale::{Scale, Spacing};
use super::{Scene, in_words, units, with_arms};
use crate::index::{Losses, Values, mean, pooled_null};
use crate::narrative::last_step;
use basislab_config::{Arm, Basis, Experiment, RunName, Sweep, SweepPoint, count, value_text};
use basislab_tables::{SelectionRow, Tables};
use std::collections::BTreeMap;

/// Lines in one figure at most.
const MOST_LINES: usize = 6;

/// A figure that an experiment asks for: one key of one of its sweeps.
pub(crate) struct Planned<'a> {
    pub(crate) name: String,
    pub(crate) sweep: &'a Sweep,
    /// The place of the key in the sweep.
    pub(crate) place: usize,
}

/// One figure for each numeric key of each sweep: `sweep_ARM_KEY.svg`, with dots of the key as underscores. A name that is
/// taken gets a number.
pub(crate) fn planned(experiment: &Experiment) -> Vec<Planned<'_>> {
    let mut all: Vec<Planned<'_>> = Vec::new();
    for sweep in &experiment.sweeps {
        for place in (0..sweep.keys.len()).filter(|&place| sweep.is_numeric(place)) {
            let stem = format!("sweep_{}_{}", sweep.arm, sweep.keys[place].replace('.', "_"));
            let same = |name: &str| all.iter().any(|other| other.name == name);
            let mut name = format!("{stem}.svg");
            let mut number = 2;
            while same(&name) {
                name = format!("{stem}_{number}.svg");
                number += 1;
            }
            all.push(Planned { name, sweep, place });
        }
    }
    all
}

/// What was measured at one point of the grid; one number for each complete run.
#[derive(Default)]
struct Measured {
    metric: Vec<f64>,
    loss: Vec<f64>,
    chosen: bool,
}

/// The points that agree in all other keys, by their value of the key.
struct Line<'a> {
    others: Vec<String>,
    points: Vec<(f64, &'a SweepPoint, Measured)>,
}

pub(super) fn figure(
    experiment: &Experiment,
    tables: &Tables,
    planned: &Planned<'_>,
    selection: &[SelectionRow],
) -> Option<Figure> {
    let Planned { sweep, place, .. } = planned;
    let points = with_arms(experiment, |arm| sweep.points.iter().any(|point| point.arm == arm));
    let scene = Scene::of(&points, tables, &[]);
    let cell = points.verdict.cell();
    let values = Values::of_cell(&points, tables, &cell);
    let (tied, free) = other_keys(sweep, *place);
    let mut lines = lines(&scene, sweep, *place, &free, &values);
    for point in lines.iter_mut().flat_map(|line| &mut line.points) {
        let is_point = |row: &&SelectionRow| row.chosen && row.arm == sweep.arm && row.point == point.1.arm;
        point.2.chosen = sweep.choose.is_some() && selection.iter().any(|row| is_point(&row));
    }
    let all = lines.len();
    // The line of the chosen point is drawn whatever its place.
    if let Some(at) = lines.iter().position(|line| line.points.iter().any(|point| point.2.chosen))
        && at >= MOST_LINES
    {
        lines.swap(MOST_LINES - 1, at);
    }
    lines.truncate(MOST_LINES);
    let base = base(experiment, tables, planned);
    let metric = panel(&lines, base.as_ref(), |measured| &measured.metric);
    let loss = panel(&lines, base.as_ref(), |measured| &measured.loss);
    let crosses = Mark::Cross { at: diverged(&scene, &lines) };
    let band = band(&points, &lines, &values);
    let of_lines = lines.iter().flat_map(|line| &line.points).map(|point| point.0);
    let xs: Vec<f64> = of_lines.chain(base.as_ref().map(|base| base.x)).collect();
    let spacing = if spans_a_decade(&xs) { Spacing::Log } else { Spacing::Linear };
    let mut x = Scale::over(&xs, spacing, 0.04, ACROSS)?;
    x.ticks = ticks(&lines, base.as_ref(), *place);
    x.keep_apart(|label| 8.2 * label.chars().count() as f64 + 8.0);
    let in_band = band.iter().flat_map(|&(_, low, high)| [low, high]);
    let heights: Vec<f64> = metric.values.iter().copied().chain(in_band).collect();
    let apart = |scale: Option<Scale>| {
        scale.map(|mut scale| {
            scale.keep_apart(|_| 19.0);
            scale
        })
    };
    let keys = keys(&scene, &lines, base.as_ref(), &band, &crosses);
    let y = apart(Scale::over(&heights, log_if_positive(&heights), 0.12, UPPER))?;
    let below = apart(Scale::over(&loss.values, Spacing::Linear, 0.12, LOWER)).map(|y| {
        let marks = loss.marks.into_iter().chain([crosses.clone()]).collect();
        Panel { y, label: "held-out loss (nats)".to_owned(), marks }
    });
    let mut marks = Vec::new();
    if !band.is_empty() {
        let middle = band.iter().map(|&(at, low, high)| (at, (low + high) / 2.0)).collect();
        marks.push(Mark::band(band, middle, xs.iter().copied()));
    }
    marks.extend(metric.marks.into_iter().chain([crosses]));
    let labels = labels(&scene, planned, &tied, spacing, (lines.len(), all));
    Some(Figure { labels, x, y, marks, keys, dots: true, below })
}

/// The places of the other keys: those whose value follows from that of the key, as in a zipped grid, and the rest.
fn other_keys(sweep: &Sweep, place: usize) -> (Vec<usize>, Vec<usize>) {
    let follows = |other: &usize| {
        let differs =
            |a: &SweepPoint, b: &SweepPoint| a.values[place] == b.values[place] && a.values[*other] != b.values[*other];
        !sweep.points.iter().any(|a| sweep.points.iter().any(|b| differs(a, b)))
    };
    (0..sweep.keys.len()).filter(|other| *other != place).partition(follows)
}

fn lines<'a>(scene: &Scene<'_>, sweep: &'a Sweep, place: usize, free: &[usize], values: &Values<'_>) -> Vec<Line<'a>> {
    let losses = Losses::of(scene.tables);
    let mut lines: Vec<Line<'a>> = Vec::new();
    for point in &sweep.points {
        let (Some(x), Some(arm)) = (point.number(place), scene.experiment.arm(&point.arm)) else { continue };
        let last_part = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
        let others: Vec<String> = free
            .iter()
            .map(|&other| format!("{} = {}", last_part(&sweep.keys[other]), value_text(&point.values[other])))
            .collect();
        let measured = measured(scene, arm, values, &losses);
        let index = lines.iter().position(|line| line.others == others).unwrap_or_else(|| {
            lines.push(Line { others, points: Vec::new() });
            lines.len() - 1
        });
        if lines[index].points.iter().all(|other| other.0 != x) {
            lines[index].points.push((x, point, measured));
        }
    }
    lines.iter_mut().for_each(|line| line.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
    lines
}

/// The marks of one panel from back to front, and every number in it.
struct Drawn {
    marks: Vec<Mark>,
    values: Vec<f64>,
}

/// The swept arm itself, where its values are not a point of the sweep.
struct Base {
    arm: RunName,
    x: f64,
    written: String,
    measured: Measured,
}

fn base(experiment: &Experiment, tables: &Tables, planned: &Planned<'_>) -> Option<Base> {
    let Planned { sweep, place, .. } = planned;
    let own = with_arms(experiment, |arm| *arm == *sweep.arm);
    let arm = own.arms.first()?;
    let settings = arm.run.settings();
    let number = |key: &String| settings.get(key)?.parse::<f64>().ok();
    let is_point = |point: &SweepPoint| {
        let same = |(at, key): (usize, &String)| match point.number(at) {
            Some(value) => number(key) == Some(value),
            None => settings.get(key).map(String::as_str) == Some(point.values[at].to_string().trim()),
        };
        sweep.keys.iter().enumerate().all(same)
    };
    let x = number(&sweep.keys[*place])?;
    if sweep.points.iter().any(is_point) {
        return None;
    }
    let (scene, cell) = (Scene::of(&own, tables, &[]), own.verdict.cell());
    let measured = measured(&scene, arm, &Values::of_cell(&own, tables, &cell), &Losses::of(tables));
    let written = settings.get(&sweep.keys[*place])?.clone();
    (!measured.metric.is_empty()).then(|| Base { arm: arm.name.clone(), x, written, measured })
}

/// The last step of the complete runs of an arm.
fn measured(scene: &Scene<'_>, arm: &Arm, values: &Values<'_>, losses: &Losses<'_>) -> Measured {
    let (seeds, last) = (scene.complete(arm), arm.run.train.steps);
    Measured {
        metric: seeds.iter().filter_map(|&seed| values.value(&arm.name, seed, last, Basis::Standard)).collect(),
        loss: seeds.iter().filter_map(|&seed| losses.at(&arm.name, seed, last)?.loss).collect(),
        chosen: false,
    }
}

fn panel(lines: &[Line<'_>], base: Option<&Base>, of: impl Fn(&Measured) -> &Vec<f64>) -> Drawn {
    let (mut dots, mut means, mut rings, mut values) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (index, line) in lines.iter().enumerate() {
        let runs = line.points.iter().flat_map(|(x, _, measured)| of(measured).iter().map(|&value| (*x, value)));
        let runs: Vec<(f64, f64)> = runs.collect();
        let average =
            |(x, _, measured): &(f64, &SweepPoint, Measured)| Some(((*x, mean(of(measured))?), measured.chosen));
        let averages: Vec<((f64, f64), bool)> = line.points.iter().filter_map(average).collect();
        values.extend(runs.iter().map(|run| run.1));
        rings.extend(averages.iter().filter(|(_, chosen)| *chosen).map(|(point, _)| *point));
        if runs.len() > averages.len() {
            dots.push(Mark::Dots { points: runs, colour: colour(index), hollow: false, of: Of::key(index) });
        }
        let points: Vec<(f64, f64)> = averages.into_iter().map(|(point, _)| point).collect();
        if !points.is_empty() {
            means.push(Mark::Line { points, colour: colour(index), weight: Weight::SOLID, of: Of::key(index) });
        }
    }
    let rings = if rings.is_empty() { Vec::new() } else { vec![Mark::Ring { points: rings }] };
    let own = base.and_then(|base| Some((base.x, mean(of(&base.measured))?)));
    values.extend(own.map(|point| point.1));
    let squares = own.map(|point| Mark::Square { points: vec![point] });
    Drawn { marks: means.into_iter().chain(dots).chain(rings).chain(squares).collect(), values }
}

/// Where a run diverged.
fn diverged(scene: &Scene<'_>, lines: &[Line<'_>]) -> Vec<f64> {
    let mut at: Vec<f64> = Vec::new();
    for (x, point, _) in lines.iter().flat_map(|line| &line.points) {
        let arm = scene.experiment.arm(&point.arm);
        let any = arm.is_some_and(|arm| !scene.runs.seeds_in(arm, crate::index::RunState::Diverged).is_empty());
        if any && !at.contains(x) {
            at.push(*x);
        }
    }
    at
}

/// At each value of the key the random bases of all its runs: `(x, mean - 2 sd, mean + 2 sd)`.
fn band(points: &Experiment, lines: &[Line<'_>], values: &Values<'_>) -> Vec<(f64, f64, f64)> {
    let mut at: BTreeMap<u64, (f64, Vec<&[f64]>)> = BTreeMap::new();
    for (x, point, _) in lines.iter().flat_map(|line| &line.points) {
        let Some(arm) = points.arm(&point.arm) else { continue };
        let draws = arm.seeds.iter().map(|&seed| values.draws(&arm.name, seed, arm.run.train.steps));
        let draws = draws.filter(|draws| !draws.is_empty());
        at.entry(x.to_bits()).or_insert((*x, Vec::new())).1.extend(draws);
    }
    let spread = |(x, runs): &(f64, Vec<&[f64]>)| {
        let (centre, sd) = pooled_null(runs);
        Some((*x, centre? - 2.0 * sd?, centre? + 2.0 * sd?))
    };
    let mut band: Vec<(f64, f64, f64)> = at.values().filter_map(spread).collect();
    band.sort_by(|a, b| a.0.total_cmp(&b.0));
    band
}

/// Whether all values are above 0 and the largest is at least 10 times the smallest.
pub(super) fn spans_a_decade(values: &[f64]) -> bool {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    low > 0.0 && high >= 10.0 * low * (1.0 - 1e-12)
}

/// The values of the key as they are written, ascending.
fn ticks(lines: &[Line<'_>], base: Option<&Base>, place: usize) -> Vec<(f64, String)> {
    let mut ticks: Vec<(f64, String)> = base.map(|base| (base.x, base.written.clone())).into_iter().collect();
    for (x, point, _) in lines.iter().flat_map(|line| &line.points) {
        if ticks.iter().all(|tick| tick.0 != *x) {
            ticks.push((*x, value_text(&point.values[place])));
        }
    }
    ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
    ticks
}

fn keys(
    scene: &Scene<'_>,
    lines: &[Line<'_>],
    base: Option<&Base>,
    band: &[(f64, f64, f64)],
    crosses: &Mark,
) -> Vec<Key> {
    let mut keys = Vec::new();
    let most = scene.experiment.arms.iter().map(|arm| scene.complete(arm).len()).max().unwrap_or(0);
    for (index, line) in lines.iter().enumerate() {
        let label = line.others.first().map_or_else(|| "mean over seeds".to_owned(), Clone::clone);
        let detail = line.others.get(1..).unwrap_or_default().join(", ");
        keys.push(Key::Line { label, detail, colour: colour(index), weight: Weight::SOLID });
    }
    if most > 1 {
        keys.push(Key::Dots { label: "one seed".to_owned(), colour: colour(0), hollow: false });
    }
    if let Some(base) = base {
        keys.push(Key::Square { label: base.arm.to_string(), detail: "as configured".to_owned() });
    }
    if !band.is_empty() {
        keys.push(Key::Band { label: "random bases".to_owned(), detail: "mean ± 2 sd of one".to_owned() });
    }
    if lines.iter().any(|line| line.points.iter().any(|point| point.2.chosen)) {
        keys.push(Key::Ring { label: "chosen".to_owned(), detail: "least mean loss".to_owned() });
    }
    if matches!(crosses, Mark::Cross { at } if !at.is_empty()) {
        keys.push(Key::Cross { label: "a run diverged".to_owned() });
    }
    keys
}

fn labels(
    scene: &Scene<'_>,
    planned: &Planned<'_>,
    tied: &[usize],
    spacing: Spacing,
    (shown, all): (usize, usize),
) -> Labels {
    let Planned { sweep, place, .. } = planned;
    let (key, metric) = (&sweep.keys[*place], in_words(&scene.experiment.verdict.metric));
    let title = format!("{}: {metric} and held-out loss against {key}", sweep.arm);
    let some = if shown < all { format!(" ({shown} of {})", count(all, "combination")) } else { String::new() };
    let seeds = match scene.experiment.arms.iter().map(|arm| scene.complete(arm).len()).max() {
        Some(n) if n > 1 => format!("mean of {}, each seed a dot", count(n, "seed")),
        _ => count(1, "seed"),
    };
    let axis = if spacing == Spacing::Log { ", log axis" } else { "" };
    let with: Vec<&str> = tied.iter().map(|&other| sweep.keys[other].as_str()).collect();
    let with = if with.is_empty() { String::new() } else { format!(" with {}", with.join(", ")) };
    Labels {
        title: title + &some,
        subtitle: format!("{}, {}; {seeds}", scene.site(), scene.which_tokens()),
        x: format!("{}{with}{axis}; {}", units::of_key(key), last_step(scene.experiment)),
        y: units::of_metric(&scene.experiment.verdict.metric),
    }
}
