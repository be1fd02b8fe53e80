//! The last look of every run, over seeds.

use crate::read::Tables;
use crate::rows::SummaryRow;
use crate::select::{Cells, Losses, RunState, Runs, pooled_null};
use basislab_config::{Arm, Experiment};
use basislab_stats::{mean_sd, metric, t_interval};

/// Per arm: the losses, then each metric at the verdict's site and tokens in the standard basis and, where it was
/// recorded, in the optimizer's. Only complete runs enter.
pub fn summarise(experiment: &Experiment, tables: &Tables) -> Vec<SummaryRow> {
    let runs = Runs::of(experiment, tables);
    let losses = Losses::of(tables);
    let site = experiment.verdict_site();
    let tokens = &experiment.verdict.tokens;
    let names = metric_names(experiment, tables, &site);
    let cells: Vec<Cells<'_>> = names.iter().map(|name| Cells::of(tables, name, &site, tokens)).collect();
    let mut rows = Vec::new();
    for arm in &experiment.arms {
        let first = rows.len();
        let seeds = runs.seeds_in(experiment, arm, RunState::Complete);
        let at_end = |seed| losses.at(&arm.name, seed, experiment.train.steps);
        let loss: Vec<f64> = seeds.iter().filter_map(|&seed| at_end(seed)?.loss).collect();
        let above: Vec<f64> = seeds.iter().filter_map(|&seed| at_end(seed)?.above_floor).collect();
        rows.push(row(experiment, arm, "loss", &loss));
        rows.push(row(experiment, arm, "loss_above_floor", &above));
        for basis in ["standard", "optimizer"] {
            for (name, cells) in names.iter().zip(&cells) {
                if basis == "standard" || !cells.steps(&arm.name, basis).is_empty() {
                    rows.push(metric_row(experiment, arm, &seeds, name, cells, basis));
                }
            }
        }
        let made_on = made_on(tables, arm, &seeds);
        rows[first..].iter_mut().for_each(|row| row.made_on.clone_from(&made_on));
    }
    rows
}

/// Where the runs of an arm were made, each place once, in the order of the file.
fn made_on(tables: &Tables, arm: &Arm, seeds: &[u64]) -> String {
    let mut places: Vec<String> = Vec::new();
    for row in tables.timing.iter().filter(|row| arm.name == *row.arm && seeds.contains(&row.seed)) {
        let place = format!("{}: {}, {}", row.backend, row.device, row.driver);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places.join(" + ")
}

/// The verdict's metric first, then the others recorded at its site, in the order of the file.
fn metric_names(experiment: &Experiment, tables: &Tables, site: &str) -> Vec<String> {
    let mut names = vec![experiment.verdict.metric.clone()];
    for row in tables.residual.iter().filter(|row| row.site == site && row.tokens == experiment.verdict.tokens) {
        if !names.contains(&row.metric) {
            names.push(row.metric.clone());
        }
    }
    names
}

fn metric_row(
    experiment: &Experiment,
    arm: &Arm,
    seeds: &[u64],
    name: &str,
    cells: &Cells<'_>,
    basis: &str,
) -> SummaryRow {
    let last = experiment.train.steps;
    let values: Vec<f64> = seeds.iter().filter_map(|&seed| cells.value(&arm.name, seed, last, basis)).collect();
    let draws: Vec<&[f64]> = seeds.iter().map(|&seed| cells.draws(&arm.name, seed, last)).collect();
    let (recorded, null_sd) = pooled_null(&draws);
    let tokens_used = usize::try_from(cells.tokens_used).unwrap_or(usize::MAX);
    let closed_form = || metric(name)?.null.map(|null| null(experiment.model.d_model, tokens_used));
    let null_mean = if values.is_empty() { None } else { recorded.or_else(closed_form) };
    let mut row = row(experiment, arm, name, &values);
    row.null_mean = null_mean;
    row.null_sd = null_sd;
    row.z = match (row.mean, null_mean, null_sd) {
        (Some(mean), Some(null), Some(sd)) if sd > 0.0 => Some((mean - null) / sd),
        _ => None,
    };
    row.site = experiment.verdict_site();
    row.basis = basis.to_owned();
    row.tokens.clone_from(&experiment.verdict.tokens);
    row
}

fn row(experiment: &Experiment, arm: &Arm, name: &str, values: &[f64]) -> SummaryRow {
    let interval = t_interval(values, 0.95);
    SummaryRow {
        arm: arm.name.to_string(),
        metric: name.to_owned(),
        site: String::new(),
        n_seeds: values.len(),
        mean: crate::select::mean(values),
        sd: mean_sd(values).map(|(_, sd)| sd),
        ci_low: interval.map(|interval| interval.low),
        ci_high: interval.map(|interval| interval.high),
        null_mean: None,
        null_sd: None,
        z: None,
        basis: String::new(),
        tokens: String::new(),
        step: experiment.train.steps,
        seeds_planned: experiment.seeds_of(arm).len(),
        made_on: String::new(),
    }
}
