//! Held-out loss over steps.

use super::frame::{ACROSS, UP, log_if_positive};
use super::mark::{Figure, Key, Labels, Mark};
use super::scale::{Scale, Spacing};
use super::{Curve, Curves, Scene, titles, units};
use crate::index::{Losses, mean};
use std::collections::BTreeSet;

pub(super) fn figure(scene: &Scene<'_>) -> Option<Figure> {
    let losses = Losses::of(scene.tables);
    let mut curves = Curves::default();
    let mut all_steps = vec![0.0];
    let mut floors = Vec::new();
    for (arm, ink) in scene.arms() {
        let seeds = &arm.seeds;
        let complete = scene.complete(arm);
        let probed: BTreeSet<u64> =
            seeds.iter().flat_map(|&seed| losses.of_run(&arm.name, seed)).map(|eval| eval.step).collect();
        let steps: Vec<(u64, f64)> = probed.into_iter().map(|step| (step, step as f64)).collect();
        all_steps.extend(steps.iter().map(|step| step.1));
        for &seed in seeds {
            let evals = losses.of_run(&arm.name, seed).iter();
            floors.extend(evals.filter_map(|eval| Some(eval.loss? - eval.above_floor?)));
        }
        let curve = Curve::over(seeds, &complete, &steps, |seed, step| losses.at(&arm.name, seed, step)?.loss);
        if curve.is_empty() {
            continue;
        }
        let detail = curve.mean.last().map_or(String::new(), |(_, last)| format!("{last:.3} at the end"));
        curves.add(arm.name.to_string(), detail, ink, false, curve);
    }
    if curves.is_empty() {
        return None;
    }
    let mut behind = Vec::new();
    let mut about_floor = "";
    if let Some(floor) = mean(&floors) {
        curves.values.push(floor);
        behind.push(Mark::Level { y: floor });
        curves.keys.push(Key::Level { label: "floor (true model)".to_owned(), detail: format!("{floor:.3}") });
        about_floor = "; floor: loss of the model that made the text";
    }
    let labels = Labels {
        title: titles::of_losses(scene).unwrap_or_else(|| "Held-out loss during training".to_owned()),
        subtitle: format!("{}{about_floor}", scene.seeds_phrase()),
        x: units::STEPS.to_owned(),
        y: units::LOSS.to_owned(),
    };
    let x = Scale::over(&all_steps, Spacing::LogOnePlus, 0.01, ACROSS)?;
    // A loss that explodes would hide all others on a linear axis.
    let (least, most) = curves.values.iter().fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(*x), b.max(*x)));
    let spacing = if most > 10.0 * least { log_if_positive(&curves.values) } else { Spacing::Linear };
    let y = Scale::over(&curves.values, spacing, 0.05, UP)?;
    let (marks, keys) = curves.stack(behind);
    Some(Figure { labels, x, y, marks, keys, dots: false, below: None })
}
