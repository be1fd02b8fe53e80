//! The verdict's metric against the held-out loss, both at the last step of each complete run.

use super::frame::{ACROSS, UP, log_if_positive};
use super::mark::{Figure, Key, Labels, Mark, Of};
use super::scale::{Scale, Spacing, digits};
use super::{Scene, bases, units};
use crate::index::{Losses, Values, mean, pooled_null};
use crate::narrative::last_step;
use basislab_config::Basis;

pub(super) fn drawn(scene: &Scene<'_>) -> Option<Figure> {
    let experiment = scene.experiment;
    let cell = experiment.verdict.cell();
    let (values, losses) = (Values::of_cell(experiment, scene.tables, &cell), Losses::of(scene.tables));
    let (mut marks, mut keys, mut points) = (Vec::new(), Vec::new(), Vec::new());
    for (arm, ink) in scene.arms() {
        let last = arm.run.train.steps;
        for (basis, label) in bases(arm, &[&values]) {
            let at_end = |&seed: &u64| {
                let loss = losses.at(&arm.name, seed, last)?.loss?;
                Some((seed, (loss, values.value(&arm.name, seed, last, basis)?)))
            };
            let runs: Vec<(u64, (f64, f64))> = scene.complete(arm).iter().filter_map(at_end).collect();
            let average = |of: fn(&(f64, f64)) -> f64| mean(&runs.iter().map(|(_, run)| of(run)).collect::<Vec<_>>());
            let (Some(loss), Some(value)) = (average(|run| run.0), average(|run| run.1)) else { continue };
            points.extend(runs.iter().map(|run| run.1));
            let hollow = basis == Basis::Optimizer;
            let of_run = |(seed, point)| {
                let of = Of { key: keys.len(), seed: Some(seed) };
                Mark::Dots { points: vec![point], colour: ink.colour, hollow, of }
            };
            marks.extend(runs.into_iter().map(of_run));
            let detail = format!("mean {} at {loss:.3}", digits(value));
            keys.push(Key::Dots { label: format!("{label} ({detail})"), colour: ink.colour, hollow });
        }
    }
    let losses: Vec<f64> = points.iter().map(|point| point.0).collect();
    let x = Scale::over(&losses, Spacing::Linear, 0.06, ACROSS)?;
    let mut heights: Vec<f64> = points.iter().map(|point| point.1).collect();
    let runs = values.draws_at(|arm| experiment.arm(arm).map(|arm| arm.run.train.steps));
    if let (Some(mean), Some(sd)) = pooled_null(&runs) {
        let (low, high) = (mean - 2.0 * sd, mean + 2.0 * sd);
        heights.extend([low, high]);
        let mut measured = losses.clone();
        measured.sort_by(f64::total_cmp);
        measured.dedup();
        let points = measured.iter().map(|&loss| (loss, low, high)).collect();
        let middle = measured.iter().map(|&loss| (loss, mean)).collect();
        marks.insert(0, Mark::band(points, middle, measured));
        keys.push(Key::Band { label: "random bases".to_owned(), detail: format!("{} ± 2 × {sd:.2}", digits(mean)) });
    }
    let labels = Labels {
        title: format!("{} against held-out loss, {}", scene.metric(), last_step(experiment)),
        subtitle: format!("{}, {}; a dot for each seed", scene.site(), scene.which_tokens()),
        x: units::LOSS.to_owned(),
        y: units::of_metric(&cell.metric),
    };
    let y = Scale::over(&heights, log_if_positive(&heights), 0.05, UP)?;
    Some(Figure { labels, x, y, marks, keys, dots: false, below: None })
}
