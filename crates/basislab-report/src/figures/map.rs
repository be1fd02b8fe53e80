//! The verdict's metric over its null, against a swept key and the length of training: what a basis depends on.

use super::frame::{ACROSS, UP};
use super::mark::{Figure, Key, Labels, Mark, Of, Weight, colour, dash};
use super::scale::{Scale, Spacing};
use super::sweep::spans_a_decade;
use super::{Scene, in_words, units, with_arms};
use crate::index::{Losses, Values, mean};
use basislab_config::{Arm, Basis, Experiment, Sweep, SweepPoint, count, value_text};
use basislab_stats::metric;
use basislab_tables::Tables;
use std::collections::BTreeMap;

/// The key that is the length of a run.
const STEPS: &str = "train.steps";

/// A figure over one numeric key: with a line for each length of training, of one sweep over both; or with a line for each
/// sweep, of several over the key alone.
pub(crate) struct Planned<'a> {
    key: &'a str,
    /// With the place of the key.
    sweeps: Vec<(&'a Sweep, usize)>,
    by_length: bool,
}

impl Planned<'_> {
    /// The map, and of a map by length the trajectories of the longest runs.
    pub(crate) fn names(&self) -> Vec<String> {
        let arm = &self.sweeps[0].0.arm;
        match self.by_length {
            true => vec![format!("map_{arm}.svg"), format!("map_{arm}_within_runs.svg")],
            false => vec![format!("map_{}.svg", self.key.replace('.', "_"))],
        }
    }

    /// Of the points of all sweeps: the value of the key, as it is written.
    fn values(&self) -> impl Iterator<Item = (f64, String)> {
        let of = |point: &SweepPoint, place: usize| Some((point.number(place)?, value_text(&point.values[place])));
        let all = self.sweeps.iter().flat_map(|(sweep, place)| sweep.points.iter().map(|point| (point, *place)));
        all.filter_map(move |(point, place)| of(point, place))
    }
}

/// The maps of an experiment: of sweeps over the length of training and one other key, a number, and of keys that several sweeps
/// have as their only one.
pub(crate) fn planned(experiment: &Experiment) -> Vec<Planned<'_>> {
    let mut all: Vec<Planned<'_>> = Vec::new();
    for sweep in &experiment.sweeps {
        let steps = sweep.keys.iter().position(|key| key == STEPS);
        let others: Vec<usize> = (0..sweep.keys.len()).filter(|place| Some(*place) != steps).collect();
        if let (Some(_), [place]) = (steps, &others[..])
            && sweep.is_numeric(*place)
            && all.iter().all(|other| other.sweeps[0].0.arm != sweep.arm)
        {
            all.push(Planned { key: &sweep.keys[*place], sweeps: vec![(sweep, *place)], by_length: true });
        }
    }
    let mut by_key: BTreeMap<&str, Vec<(&Sweep, usize)>> = BTreeMap::new();
    for sweep in experiment.sweeps.iter().filter(|sweep| sweep.keys.len() == 1 && sweep.is_numeric(0)) {
        let same = by_key.entry(&sweep.keys[0]).or_default();
        if same.iter().all(|(other, _)| other.arm != sweep.arm) {
            same.push((sweep, 0));
        }
    }
    let several = by_key.into_iter().filter(|(_, sweeps)| sweeps.len() > 1);
    all.extend(several.map(|(key, sweeps)| Planned { key, sweeps, by_length: false }));
    all
}

/// The complete runs of one point: the ratio of each, and the mean held-out loss of all at the last step.
struct Measured {
    x: f64,
    ratios: Vec<f64>,
    loss: Option<f64>,
}

/// The ratio at the last step against the key, a line for each length of training or each sweep. Every point is a run with a
/// whole schedule of its own.
pub(super) fn map(experiment: &Experiment, tables: &Tables, planned: &Planned<'_>) -> Option<Figure> {
    let points = points_of(experiment, planned);
    let scene = Scene::of(&points, tables, &[]);
    let values = Values::of_cell(&points, tables, &points.verdict.cell());
    let losses = Losses::of(tables);
    let mut lines: BTreeMap<(usize, u64), Vec<Measured>> = BTreeMap::new();
    for (index, x, arm) in each_point(&points, planned) {
        let steps = arm.run.train.steps;
        let seeds = scene.complete(arm);
        let ratios: Vec<f64> = seeds.iter().filter_map(|&seed| ratio(&values, arm, seed, steps)).collect();
        let of_seed = |&seed: &u64| losses.at(&arm.name, seed, steps)?.loss;
        let loss = mean(&seeds.iter().filter_map(of_seed).collect::<Vec<_>>());
        if !ratios.is_empty() {
            lines.entry(if planned.by_length { (0, steps) } else { (index, 0) }).or_default().push(Measured {
                x,
                ratios,
                loss,
            });
        }
    }
    lines.values_mut().for_each(|line| line.sort_by(|a, b| a.x.total_cmp(&b.x)));
    let (mut marks, mut dots, mut rings, mut keys) = (vec![Mark::Level { y: 1.0 }], Vec::new(), Vec::new(), Vec::new());
    for (index, ((sweep, steps), line)) in lines.iter().enumerate() {
        let centre = |point: &Measured| (point.x, geometric_mean(&point.ratios));
        let weight = Weight::Thick(dash(index, false));
        let (points, of) = (line.iter().map(centre).collect(), Of::key(index));
        marks.push(Mark::Line { points, colour: colour(index), weight, of });
        let runs = line.iter().flat_map(|point| point.ratios.iter().map(|ratio| (point.x, *ratio))).collect();
        dots.push(Mark::Dots { points: runs, colour: colour(index), hollow: false, of });
        let with_loss = line.iter().filter_map(|point| Some((point, point.loss?)));
        let best = with_loss.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(point, _)| point);
        rings.extend(best.map(centre));
        let is_end = |point: &Measured| [line.first(), line.last()].iter().flatten().any(|end| end.x == point.x);
        let edge = if best.is_some_and(is_end) { ", the edge" } else { "" };
        let detail = best.map_or_else(String::new, |point| format!("best at {}{edge}", written(planned, point.x)));
        let label = if planned.by_length { count(*steps, "step") } else { planned.sweeps[*sweep].0.arm.to_string() };
        keys.push(Key::Line { label, detail, colour: colour(index), weight });
    }
    if points.arms.iter().any(|arm| scene.complete(arm).len() > 1) {
        keys.push(Key::Dots { label: "one seed".to_owned(), colour: colour(0), hollow: false });
    }
    keys.push(Key::Ring {
        label: "least mean loss".to_owned(),
        detail: if planned.by_length { "of this length" } else { "of this arm" }.to_owned(),
    });
    keys.push(Key::Level { label: "random bases".to_owned(), detail: "1".to_owned() });
    let of_runs = || lines.values().flatten();
    let xs: Vec<f64> = of_runs().map(|point| point.x).collect();
    let heights: Vec<f64> = of_runs().flat_map(|point| point.ratios.iter().copied()).chain([1.0]).collect();
    let spacing = if spans_a_decade(&xs) { Spacing::Log } else { Spacing::Linear };
    let mut x = Scale::over(&xs, spacing, 0.04, ACROSS)?;
    x.ticks = ticks(planned, &xs);
    x.keep_apart(|label| 8.2 * label.chars().count() as f64 + 8.0);
    let y = Scale::over(&heights, Spacing::Log, 0.08, UP)?;
    marks.extend(dots);
    marks.push(Mark::Ring { points: rings });
    let key = planned.key;
    let title = match planned.by_length {
        true => format!("{} of {} over its null, by {key} and length", scene.metric(), planned.sweeps[0].0.arm),
        false => format!("{} over its null, by {key} and arm", scene.metric()),
    };
    let axis = units::of_key(key) + if spacing == Spacing::Log { ", log axis" } else { "" };
    let labels = labels(&scene, &points, &title, &axis);
    Some(Figure { labels, x, y, marks, keys, dots: true, below: None })
}

/// The ratio over the steps of the longest runs, a line for each value of the key.
pub(super) fn within_runs(experiment: &Experiment, tables: &Tables, planned: &Planned<'_>) -> Option<Figure> {
    let points = points_of(experiment, planned);
    let scene = Scene::of(&points, tables, &[]);
    let values = Values::of_cell(&points, tables, &points.verdict.cell());
    let longest = points.arms.iter().map(|arm| arm.run.train.steps).max()?;
    let all = each_point(&points, planned).filter(|(_, _, arm)| arm.run.train.steps == longest);
    let mut all: Vec<(f64, &Arm)> = all.map(|(_, x, arm)| (x, arm)).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut marks, mut keys) = (vec![Mark::Level { y: 1.0 }], Vec::new());
    let (mut xs, mut heights) = (vec![0.0], vec![1.0]);
    for (index, (x, arm)) in all.into_iter().enumerate() {
        let seeds = scene.complete(arm);
        let at = |step: u64| {
            let ratios: Option<Vec<f64>> = seeds.iter().map(|&seed| ratio(&values, arm, seed, step)).collect();
            ratios.filter(|ratios| !ratios.is_empty()).map(|ratios| (step as f64, geometric_mean(&ratios)))
        };
        let line: Vec<(f64, f64)> = values.steps(&arm.name, Basis::Standard).into_iter().filter_map(at).collect();
        if line.is_empty() {
            continue;
        }
        xs.extend(line.iter().map(|point| point.0));
        heights.extend(line.iter().map(|point| point.1));
        let weight = Weight::SOLID;
        marks.push(Mark::Line { points: line, colour: colour(index), weight, of: Of::key(keys.len()) });
        keys.push(Key::Line { label: written(planned, x), detail: String::new(), colour: colour(index), weight });
    }
    if keys.is_empty() {
        return None;
    }
    keys.push(Key::Level { label: "random bases".to_owned(), detail: "1".to_owned() });
    let key = planned.key;
    let title = format!(
        "{} of {} over its null within runs of {}, by {key}",
        scene.metric(),
        planned.sweeps[0].0.arm,
        count(longest, "step")
    );
    let labels = labels(&scene, &points, &title, units::STEPS);
    let x = Scale::over(&xs, Spacing::LogOnePlus, 0.01, ACROSS)?;
    let y = Scale::over(&heights, Spacing::Log, 0.08, UP)?;
    Some(Figure { labels, x, y, marks, keys, dots: false, below: None })
}

fn points_of(experiment: &Experiment, planned: &Planned<'_>) -> Experiment {
    let is_point =
        |arm: &str| planned.sweeps.iter().any(|(sweep, _)| sweep.points.iter().any(|point| point.arm == arm));
    with_arms(experiment, is_point)
}

/// Every point with the place of its sweep, its value of the key and its arm.
fn each_point<'a>(points: &'a Experiment, planned: &'a Planned<'_>) -> impl Iterator<Item = (usize, f64, &'a Arm)> {
    planned.sweeps.iter().enumerate().flat_map(move |(index, (sweep, place))| {
        sweep.points.iter().filter_map(move |point| Some((index, point.number(*place)?, points.arm(&point.arm)?)))
    })
}

/// The metric over its null in one run: the closed form where it holds for any activations, else the mean over random bases.
fn ratio(values: &Values<'_>, arm: &Arm, seed: u64, step: u64) -> Option<f64> {
    let exact = || {
        let metric = metric(values.metric()).filter(|metric| metric.null_is_exact)?;
        metric.null.map(|null| null(arm.run.model.d_model, 1))
    };
    let null = exact().or_else(|| mean(values.draws(&arm.name, seed, step)))?;
    let ratio = values.value(&arm.name, seed, step, Basis::Standard)? / null;
    (ratio > 0.0 && ratio.is_finite()).then_some(ratio)
}

fn geometric_mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

/// A value of the key as the configuration has it.
fn written(planned: &Planned<'_>, x: f64) -> String {
    planned.values().find(|(value, _)| *value == x).map_or_else(|| x.to_string(), |(_, text)| text)
}

fn ticks(planned: &Planned<'_>, xs: &[f64]) -> Vec<(f64, String)> {
    let mut ticks: Vec<(f64, String)> = planned.values().filter(|(x, _)| xs.contains(x)).collect();
    ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
    ticks.dedup_by_key(|tick| tick.0);
    ticks
}

fn labels(scene: &Scene<'_>, points: &Experiment, title: &str, x: &str) -> Labels {
    let most = points.arms.iter().map(|arm| scene.complete(arm).len()).max().unwrap_or(0);
    let seeds = if most > 1 { format!("geometric mean of {}", count(most, "seed")) } else { count(most, "seed") };
    Labels {
        title: title.to_owned(),
        subtitle: format!("{}, {}; {seeds}", scene.site(), scene.which_tokens()),
        x: x.to_owned(),
        y: format!("{} / random bases (ratio), log axis", in_words(&points.verdict.metric)),
    }
}
