//! The verdict's metric over steps.

use super::frame::{ACROSS, UP, log_if_positive};
use super::mark::{Figure, Key, Labels, Mark};
use super::scale::{Scale, Spacing, digits};
use super::{Curve, Curves, Scene, bases, titles, units};
use crate::index::{Values, pooled_null};
use basislab_config::Basis;
use basislab_stats::metric;

pub(super) fn figure(scene: &Scene<'_>) -> Option<Figure> {
    let experiment = scene.experiment;
    let cell = experiment.verdict.cell();
    let values = Values::of_cell(experiment, scene.tables, &cell);
    let mut curves = Curves::default();
    let mut all_steps = vec![0.0];
    for (arm, ink) in scene.arms() {
        let complete = scene.complete(arm);
        for (basis, label) in bases(arm, &[&values]) {
            let steps: Vec<(u64, f64)> = values.steps(&arm.name, basis).into_iter().map(|s| (s, s as f64)).collect();
            all_steps.extend(steps.iter().map(|step| step.1));
            let value = |seed, step| values.value(&arm.name, seed, step, basis);
            let curve = Curve::over(&arm.seeds, &complete, &steps, value);
            if curve.is_empty() {
                continue;
            }
            let detail = curve.mean.last().map_or(String::new(), |(_, last)| format!("{} at the end", digits(*last)));
            curves.add(label, detail, ink, basis == Basis::Optimizer, curve);
        }
    }
    if curves.is_empty() {
        return None;
    }
    let mut band = Vec::new();
    let mut middle = Vec::new();
    let mut end = (0.0, 0.0);
    for (step, runs) in values.draws_by_step() {
        if let (Some(mean), Some(sd)) = pooled_null(&runs) {
            let mean = closed_form(scene).unwrap_or(mean);
            band.push((step as f64, mean - 2.0 * sd, mean + 2.0 * sd));
            middle.push((step as f64, mean));
            end = (mean, sd);
        }
    }
    let mut behind = Vec::new();
    if !band.is_empty() {
        curves.values.extend(band.iter().flat_map(|&(_, low, high)| [low, high]));
        behind.push(Mark::band(band, middle, all_steps.iter().copied()));
        let detail = format!("{} ± 2 × {:.2}", digits(end.0), end.1);
        curves.keys.push(Key::Band { label: "random bases".to_owned(), detail });
    }
    let labels = Labels {
        title: titles::of_nulls(scene)
            .unwrap_or_else(|| format!("{} of the residual stream during training", scene.metric())),
        subtitle: format!("{}, {}; {}", scene.site(), scene.which_tokens(), scene.seeds_phrase()),
        x: units::STEPS.to_owned(),
        y: units::of_metric(&cell.metric),
    };
    let x = Scale::over(&all_steps, Spacing::LogOnePlus, 0.01, ACROSS)?;
    let y = Scale::over(&curves.values, log_if_positive(&curves.values), 0.05, UP)?;
    let (marks, keys) = curves.stack(behind);
    Some(Figure { labels, x, y, marks, keys, dots: false, below: None })
}

/// The mean over random bases of any activations, where the metric has one and all arms are equally wide.
fn closed_form(scene: &Scene<'_>) -> Option<f64> {
    let metric = metric(&scene.experiment.verdict.metric).filter(|metric| metric.null_is_exact)?;
    let mut widths = scene.experiment.arms.iter().map(|arm| arm.run.model.d_model);
    let width = widths.next().filter(|first| widths.all(|width| width == *first))?;
    // Exact nulls depend on the width alone.
    metric.null.map(|null| null(width, 1))
}
