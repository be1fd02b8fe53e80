//! The verdict's metric over the depth of the model, at the last step.

use super::frame::{ACROSS, Figure, Key, Labels, Mark, UP, log_if_positive};
use super::scale::{Scale, Spacing};
use super::{Curve, Curves, Scene, bases, in_words};
use crate::index::{Values, of_runs, pooled_null};
use crate::narrative::last_step;
use basislab_config::{Basis, Site};
use std::collections::BTreeMap;

pub(super) fn figure(scene: &Scene<'_>) -> Option<Figure> {
    let experiment = scene.experiment;
    let verdict = &experiment.verdict;
    let last = |arm: &str| experiment.arm(arm).map(|arm| arm.run.train.steps);
    let mut sites: Vec<Site> = Vec::new();
    let rows = &scene.tables.residual;
    let ends = of_runs(rows, last);
    for row in rows.of_kinds(|kind| kind.metric == verdict.metric) {
        let kind = rows.kind_of(row);
        if ends[row.run as usize] == Some(kind.step) && !sites.contains(&kind.site) {
            sites.push(kind.site);
        }
    }
    let ends: BTreeMap<&str, u64> =
        experiment.arms.iter().map(|arm| (arm.name.as_str(), arm.run.train.steps)).collect();
    let is_end = |arm: &str, step| ends.get(arm) == Some(&step);
    let at_site =
        |site: &Site| Values::of_steps(scene.tables, &verdict.metric, verdict.tokens, |_| Some(*site), is_end);
    let all: Vec<Values<'_>> = sites.iter().map(at_site).collect();
    let places: Vec<(usize, f64)> = (0..sites.len()).map(|index| (index, index as f64)).collect();
    let mut curves = Curves::default();
    for (arm, ink) in scene.arms() {
        let complete = scene.complete(arm);
        for (basis, label) in bases(arm, &all.iter().collect::<Vec<_>>()) {
            let value = |seed, index: usize| all[index].value(&arm.name, seed, arm.run.train.steps, basis);
            let curve = Curve::over(&complete, &complete, &places, value);
            if !curve.is_empty() {
                curves.add(label, String::new(), ink, basis == Basis::Optimizer, curve);
            }
        }
    }
    if curves.is_empty() {
        return None;
    }
    let mut band = Vec::new();
    for (values, &(_, x)) in all.iter().zip(&places) {
        let runs = values.draws_at(last);
        if let (Some(mean), Some(sd)) = pooled_null(&runs) {
            band.push((x, mean - 2.0 * sd, mean + 2.0 * sd));
        }
    }
    let mut behind = Vec::new();
    if band.len() > 1 {
        curves.values.extend(band.iter().flat_map(|&(_, low, high)| [low, high]));
        let middle = band.iter().map(|&(at, low, high)| (at, (low + high) / 2.0)).collect();
        behind.push(Mark::Band { points: band, middle, bars: false });
        curves.keys.push(Key::Band { label: "random bases".to_owned(), detail: "mean ± 2 sd of one".to_owned() });
    }
    let title = scene.metric();
    let labels = Labels {
        title: format!("{title} through the depth of the model, {}", last_step(experiment)),
        subtitle: format!("{}; {}", scene.which_tokens(), scene.seeds_phrase()),
        x: "site of the residual stream (block and point)".to_owned(),
        y: in_words(&verdict.metric),
    };
    let ends: Vec<f64> = places.iter().map(|place| place.1).collect();
    let mut x = Scale::over(&ends, Spacing::Linear, 0.04, ACROSS)?;
    let stride = sites.len().div_ceil(8);
    x.ticks = places.iter().step_by(stride).map(|&(index, at)| (at, short_site(sites[index]))).collect();
    let y = Scale::over(&curves.values, log_if_positive(&curves.values), 0.05, UP)?;
    let (marks, keys) = curves.stack(behind);
    Some(Figure { labels, x, y, marks, keys, dots: true, below: None })
}

/// `blocks.3.resid_mid` as `3.mid`.
pub(super) fn short_site(site: Site) -> String {
    match site {
        Site::ResidMid(layer) => format!("{layer}.mid"),
        Site::ResidPost(layer) => format!("{layer}.post"),
        Site::AttnSum(layer) => format!("{layer}.attn_sum"),
        Site::MlpSum(layer) => format!("{layer}.mlp_sum"),
        _ => site.to_string(),
    }
}
