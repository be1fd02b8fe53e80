//! The verdict's metric over the depth of the model, at the last step, and for the page at each probed one.

use super::frame::{ACROSS, UP, log_if_positive};
use super::mark::{Figure, Key, Labels, Mark};
use super::scale::{Scale, Spacing};
use super::{Curve, Curves, Scene, bases, evenly, units};
use crate::index::{Values, of_runs, pooled_null};
use crate::narrative::last_step;
use basislab_config::{Arm, Basis, Site};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn figure(scene: &Scene<'_>) -> Option<Figure> {
    let last = |arm: &str| scene.experiment.arm(arm).map(|arm| arm.run.train.steps);
    let sites = sites(scene, last);
    let depth = Depth::at(scene, &sites, last);
    depth.figure(scene, &sites, &last_step(scene.experiment), None)
}

/// The most steps that [`at_each_step`] draws.
const MOST_STEPS: usize = 32;

/// The most runs of which it draws any: reading every step of more takes longer than all other figures.
const MOST_RUNS: usize = 500;

/// A figure at one moment of training.
pub(crate) struct Moment {
    /// `step 16`.
    pub(crate) when: String,
    pub(crate) figure: Figure,
    /// What stands at 0, 1, 2, ... of the x axis.
    pub(crate) places: Vec<String>,
}

/// At each probed step what [`figure`] draws at the last, over one y axis; evenly chosen where there are many. An arm that
/// has ended is not drawn any more; where arms end at different steps, the last moment is the end of each.
pub(super) fn at_each_step(scene: &Scene<'_>) -> Vec<Moment> {
    let experiment = scene.experiment;
    if experiment.arms.iter().map(|arm| scene.complete(arm).len()).sum::<usize>() > MOST_RUNS {
        return Vec::new();
    }
    let values = Values::of_cell(experiment, scene.tables, &experiment.verdict.cell());
    let of_arm = |arm: &Arm| values.steps(&arm.name, Basis::Standard);
    let probed: BTreeSet<u64> = scene.arms().iter().flat_map(|(arm, _)| of_arm(arm)).collect();
    let probed: Vec<u64> = probed.into_iter().collect();
    let ends: BTreeSet<u64> = experiment.arms.iter().map(|arm| arm.run.train.steps).collect();
    let chosen = evenly(probed.len(), MOST_STEPS).into_iter().map(|place| Some(probed[place]));
    let chosen = chosen.chain((ends.len() > 1).then_some(None));
    let of_step = |step: Option<u64>| {
        let at = move |arm: &str| step.or_else(|| Some(experiment.arm(arm)?.run.train.steps));
        let sites = sites(scene, at);
        (step, Depth::at(scene, &sites, at), sites)
    };
    let all: Vec<(Option<u64>, Depth, Vec<Site>)> =
        chosen.map(of_step).filter(|(_, _, sites)| sites.len() > 1).collect();
    let heights: Vec<f64> = all.iter().flat_map(|(_, depth, _)| depth.curves.values.iter().copied()).collect();
    let Some(y) = Scale::over(&heights, log_if_positive(&heights), 0.05, UP) else { return Vec::new() };
    let drawn = |(step, depth, sites): (Option<u64>, Depth, Vec<Site>)| {
        let when = step.map_or_else(|| last_step(experiment), |step| format!("step {step}"));
        let figure = depth.figure(scene, &sites, &when, Some(y.clone()))?;
        Some(Moment { when, figure, places: sites.into_iter().map(short_site).collect() })
    };
    all.into_iter().filter_map(drawn).collect()
}

/// Where the verdict's metric was measured in some run at the step that `step_of` its arm gives, in the order of the file.
fn sites(scene: &Scene<'_>, step_of: impl Fn(&str) -> Option<u64>) -> Vec<Site> {
    let rows = &scene.tables.residual;
    let steps = of_runs(rows, step_of);
    let mut sites: Vec<Site> = Vec::new();
    for row in rows.of_kinds(|kind| kind.metric == scene.experiment.verdict.metric) {
        let kind = rows.kind_of(row);
        if steps[row.run as usize] == Some(kind.step) && !sites.contains(&kind.site) {
            sites.push(kind.site);
        }
    }
    sites
}

/// What is drawn of one step of each arm.
struct Depth {
    curves: Curves,
    band: Vec<(f64, f64, f64)>,
}

impl Depth {
    fn at(scene: &Scene<'_>, sites: &[Site], step_of: impl Fn(&str) -> Option<u64>) -> Self {
        let verdict = &scene.experiment.verdict;
        let steps: BTreeMap<&str, u64> =
            scene.experiment.arms.iter().filter_map(|arm| Some((arm.name.as_str(), step_of(&arm.name)?))).collect();
        let is_read = |arm: &str, step| steps.get(arm) == Some(&step);
        let at_site =
            |site: &Site| Values::of_steps(scene.tables, &verdict.metric, verdict.tokens, |_| Some(*site), is_read);
        let all: Vec<Values<'_>> = sites.iter().map(at_site).collect();
        let places: Vec<(usize, f64)> = (0..sites.len()).map(|index| (index, index as f64)).collect();
        let mut curves = Curves::default();
        for (arm, ink) in scene.arms() {
            let (complete, Some(&step)) = (scene.complete(arm), steps.get(arm.name.as_str())) else { continue };
            for (basis, label) in bases(arm, &all.iter().collect::<Vec<_>>()) {
                let value = |seed, index: usize| all[index].value(&arm.name, seed, step, basis);
                let curve = Curve::over(&complete, &complete, &places, value);
                if !curve.is_empty() {
                    curves.add(label, String::new(), ink, basis == Basis::Optimizer, curve);
                }
            }
        }
        let mut band = Vec::new();
        for (values, &(_, x)) in all.iter().zip(&places) {
            let runs = values.draws_at(&step_of);
            if let (Some(mean), Some(sd)) = pooled_null(&runs) {
                band.push((x, mean - 2.0 * sd, mean + 2.0 * sd));
            }
        }
        if !band.is_empty() {
            curves.values.extend(band.iter().flat_map(|&(_, low, high)| [low, high]));
        }
        Self { curves, band }
    }

    /// `when` ends the title; `y` is the axis, where it is shared.
    fn figure(self, scene: &Scene<'_>, sites: &[Site], when: &str, y: Option<Scale>) -> Option<Figure> {
        let Self { mut curves, band } = self;
        if curves.is_empty() {
            return None;
        }
        let mut behind = Vec::new();
        if !band.is_empty() {
            let middle = band.iter().map(|&(at, low, high)| (at, (low + high) / 2.0)).collect();
            behind.push(Mark::band(band, middle, (0..sites.len()).map(|place| place as f64)));
            curves.keys.push(Key::Band { label: "random bases".to_owned(), detail: "mean ± 2 sd of one".to_owned() });
        }
        let labels = Labels {
            title: format!("{} through the depth of the model, {when}", scene.metric()),
            subtitle: format!("{}; {}", scene.which_tokens(), scene.seeds_phrase()),
            x: units::SITES.to_owned(),
            y: units::of_metric(&scene.experiment.verdict.metric),
        };
        let places: Vec<f64> = (0..sites.len()).map(|index| index as f64).collect();
        let mut x = Scale::over(&places, Spacing::Linear, 0.04, ACROSS)?;
        let stride = sites.len().div_ceil(8);
        let ticks = places.iter().zip(sites).step_by(stride);
        x.ticks = ticks.map(|(&at, &site)| (at, short_site(site))).collect();
        let y = y.or_else(|| Scale::over(&curves.values, log_if_positive(&curves.values), 0.05, UP))?;
        let (marks, keys) = curves.stack(behind);
        Some(Figure { labels, x, y, marks, keys, dots: true, below: None })
    }
}

/// `blocks.3.resid_mid` as `3.mid`.
pub(crate) fn short_site(site: Site) -> String {
    match site {
        Site::ResidMid(layer) => format!("{layer}.mid"),
        Site::ResidPost(layer) => format!("{layer}.post"),
        Site::AttnSum(layer) => format!("{layer}.attn_sum"),
        Site::MlpSum(layer) => format!("{layer}.mlp_sum"),
        _ => site.to_string(),
    }
}
