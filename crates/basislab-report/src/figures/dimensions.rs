//! The size of each dimension at the verdict's site, at the last step.

use super::frame::{ACROSS, UP, log_if_positive};
use super::mark::{Figure, Key, Labels, Mark};
use super::scale::{Scale, Spacing, digits};
use super::{Curve, Curves, Scene};
use crate::narrative::last_step;
use basislab_config::Basis;
use std::collections::BTreeMap;

pub(super) fn figure(scene: &Scene<'_>) -> Option<Figure> {
    let experiment = scene.experiment;
    let profiles = profiles(scene);
    let mut curves = Curves::default();
    let mut d_model = 1;
    for (arm, ink) in scene.arms() {
        let complete = scene.complete(arm);
        for (basis, label) in [(Basis::Standard, ""), (Basis::Optimizer, ", own basis")] {
            let of = |seed: u64| profiles.get(&(arm.name.as_str(), seed, basis));
            let longest = complete.iter().filter_map(|&seed| of(seed).map(Vec::len)).max().unwrap_or(0);
            d_model = d_model.max(longest);
            let ranks: Vec<(usize, f64)> = (0..longest).map(|rank| (rank, rank as f64 + 1.0)).collect();
            let value = |seed, rank: usize| of(seed)?.get(rank).copied();
            let curve = Curve::over(&complete, &complete, &ranks, value);
            if curve.is_empty() {
                continue;
            }
            let detail =
                curve.mean.first().map_or(String::new(), |(_, top)| format!("largest {} × median", digits(*top)));
            curves.add(format!("{}{label}", arm.name), detail, ink, basis == Basis::Optimizer, curve);
        }
    }
    if curves.is_empty() {
        return None;
    }
    curves.keys.push(Key::Level { label: "median dimension".to_owned(), detail: String::new() });
    let labels = Labels {
        title: format!("Size of each residual dimension, sorted, {}", last_step(experiment)),
        subtitle: format!("{}, {}; {}", scene.site(), scene.which_tokens(), scene.seeds_phrase()),
        x: "rank of the dimension by RMS over tokens (1: largest)".to_owned(),
        y: "RMS / RMS of the median dimension (ratio)".to_owned(),
    };
    let mut x = Scale::over(&[1.0, d_model as f64], Spacing::Linear, 0.015, ACROSS)?;
    let quarters = (1..=4).map(|quarter| (d_model * quarter / 4) as f64);
    x.ticks = std::iter::once(1.0).chain(quarters).map(|rank| (rank, rank.to_string())).collect();
    let y = Scale::over(&curves.values, log_if_positive(&curves.values), 0.05, UP)?;
    let (marks, keys) = curves.stack(vec![Mark::Level { y: 1.0 }]);
    Some(Figure { labels, x, y, marks, keys, dots: false, below: None })
}

/// Each run's RMS values, largest first, over their median.
fn profiles<'a>(scene: &Scene<'a>) -> BTreeMap<(&'a str, u64, Basis), Vec<f64>> {
    let mut profiles: BTreeMap<(&str, u64, Basis), Vec<f64>> = BTreeMap::new();
    let cell = scene.experiment.verdict.cell();
    for row in scene.tables.dimensions.iter().filter(|row| row.tokens == cell.tokens) {
        let Some(arm) = scene.experiment.arm(&row.arm) else { continue };
        if row.step == arm.run.train.steps && row.site == scene.experiment.site(&cell, arm) {
            profiles.entry((&row.arm, row.seed, row.basis)).or_default().push(row.rms);
        }
    }
    profiles.retain(|_, sizes| {
        sizes.sort_by(|a, b| b.total_cmp(a));
        let median = median_of_sorted(sizes);
        sizes.iter_mut().for_each(|size| *size /= median);
        median > 0.0
    });
    profiles
}

/// The median of values in order, at least one.
pub(crate) fn median_of_sorted(sizes: &[f64]) -> f64 {
    let middle = sizes.len() / 2;
    if sizes.len().is_multiple_of(2) { (sizes[middle - 1] + sizes[middle]) / 2.0 } else { sizes[middle] }
}
