//! The last probe of every run, over seeds.

use crate::index::{Losses, RunState, Runs, Values, mean, of_runs, pooled_null};
use basislab_config::{Arm, Basis, Cell, Experiment, RunName};
use basislab_stats::{mean_sd, metric, t_interval};
use basislab_tables::{SummaryRow, Tables};
use std::collections::BTreeMap;

/// Per arm: the losses, then each metric at the verdict's site and tokens in the standard basis and, where it was
/// recorded, in the optimizer's. Only complete runs enter.
pub(crate) fn summarise(experiment: &Experiment, tables: &Tables) -> Vec<SummaryRow> {
    let runs = Runs::of(experiment, tables);
    let losses = Losses::of(tables);
    let cell = experiment.verdict.cell();
    let complete: Vec<Vec<u64>> = experiment.arms.iter().map(|arm| runs.seeds_in(arm, RunState::Complete)).collect();
    // Of one metric at a time: the values of all would not fit the memory. By arm, basis and metric.
    let mut of_metrics: BTreeMap<(usize, Basis, usize), SummaryRow> = BTreeMap::new();
    for (place, metric) in metric_names(experiment, tables, &cell).into_iter().enumerate() {
        let cell = Cell { metric, ..cell.clone() };
        let values = Values::of_cell(experiment, tables, &cell);
        for (at, (arm, seeds)) in experiment.arms.iter().zip(&complete).enumerate() {
            for basis in [Basis::Standard, Basis::Optimizer] {
                if basis == Basis::Standard || !values.steps(&arm.name, basis).is_empty() {
                    let cell = Cell { basis, ..cell.clone() };
                    of_metrics.insert((at, basis, place), metric_row(experiment, arm, seeds, &cell, &values));
                }
            }
        }
    }
    let mut of_metrics = of_metrics.into_iter().peekable();
    let mut rows = Vec::new();
    for (at, (arm, seeds)) in experiment.arms.iter().zip(&complete).enumerate() {
        let first = rows.len();
        let at_end = |seed| losses.at(&arm.name, seed, arm.run.train.steps);
        let loss: Vec<f64> = seeds.iter().filter_map(|&seed| at_end(seed)?.loss).collect();
        let above: Vec<f64> = seeds.iter().filter_map(|&seed| at_end(seed)?.above_floor).collect();
        rows.push(row(arm, "loss", &loss));
        rows.push(row(arm, "loss_above_floor", &above));
        while let Some((_, row)) = of_metrics.next_if(|((of, ..), _)| *of == at) {
            rows.push(row);
        }
        let made_on = made_on(tables, arm, seeds);
        rows[first..].iter_mut().for_each(|row| row.made_on.clone_from(&made_on));
    }
    rows
}

/// Where the runs of an arm were made, each place once, in the order of the file.
fn made_on(tables: &Tables, arm: &Arm, seeds: &[u64]) -> String {
    let mut places: Vec<String> = Vec::new();
    for row in tables.timing.iter().filter(|row| arm.name == row.arm && seeds.contains(&row.seed)) {
        let place = format!("{}: {}, {}", row.backend, row.device, row.driver);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places.join(" + ")
}

/// The verdict's metric first, then the others recorded at its sites, in the order of the file.
fn metric_names(experiment: &Experiment, tables: &Tables, cell: &Cell) -> Vec<String> {
    let mut names = vec![cell.metric.clone()];
    let rows = &tables.residual;
    let sites = of_runs(rows, |arm| experiment.arm(arm).map(|arm| experiment.site(cell, arm)));
    for row in rows.of_kinds(|kind| kind.tokens == cell.tokens) {
        let kind = rows.kind_of(row);
        if sites[row.run as usize] == Some(kind.site) && !names.contains(&kind.metric) {
            names.push(kind.metric.clone());
        }
    }
    names
}

fn metric_row(experiment: &Experiment, arm: &Arm, seeds: &[u64], cell: &Cell, values: &Values<'_>) -> SummaryRow {
    let last = arm.run.train.steps;
    let measured: Vec<f64> = seeds.iter().filter_map(|&seed| values.value(&arm.name, seed, last, cell.basis)).collect();
    let draws: Vec<&[f64]> = seeds.iter().map(|&seed| values.draws(&arm.name, seed, last)).collect();
    let tokens_used = usize::try_from(values.tokens_used).unwrap_or(usize::MAX);
    let closed_form = metric(&cell.metric).and_then(|metric| Some(metric.null?(arm.run.model.d_model, tokens_used)));
    let mut row = row(arm, &cell.metric, &measured);
    let of_seed =
        |seed: u64| Some((values.value(&arm.name, seed, last, cell.basis)?, values.draws(&arm.name, seed, last)));
    let pairs: Vec<(f64, &[f64])> = seeds.iter().filter_map(|&seed| of_seed(seed)).collect();
    compare_with_null(&mut row, &draws, &pairs, closed_form);
    row.site = Some(experiment.site(cell, arm));
    row.basis = Some(cell.basis);
    row.tokens = Some(cell.tokens);
    row
}

/// What a row says of random bases: the `draws` of each run, and the value of each run that has one with its draws. Where
/// there are none, the metric's closed form is its null.
pub(crate) fn compare_with_null(
    row: &mut SummaryRow,
    draws: &[&[f64]],
    pairs: &[(f64, &[f64])],
    closed_form: Option<f64>,
) {
    let (recorded, null_sd) = pooled_null(draws);
    row.null_mean = if pairs.is_empty() { None } else { recorded.or(closed_form) };
    row.null_sd = null_sd;
    let log_ratio = |(value, draws): &(f64, &[f64])| {
        let ratio = value / mean(draws).or(closed_form)?;
        (ratio > 0.0 && ratio.is_finite()).then(|| ratio.ln())
    };
    let logs: Option<Vec<f64>> = pairs.iter().map(log_ratio).collect();
    row.ratio = logs.and_then(|logs| mean(&logs)).map(f64::exp);
    let count = |is_beyond: fn(f64, f64) -> bool| {
        let outside =
            |(value, draws): &&(f64, &[f64])| !draws.is_empty() && draws.iter().all(|draw| is_beyond(*value, *draw));
        pairs.iter().filter(outside).count()
    };
    row.bases = draws.iter().map(|draws| draws.len()).filter(|bases| *bases > 0).min().unwrap_or(0);
    row.seeds_above = count(|value, draw| value > draw);
    row.seeds_below = count(|value, draw| value < draw);
}

fn row(arm: &Arm, name: &str, values: &[f64]) -> SummaryRow {
    summary_row(&arm.name, arm.run.train.steps, arm.seeds.len(), name, values)
}

/// A row without site and null: mean, spread and interval of `values`, one for each seed.
pub(crate) fn summary_row(arm: &RunName, step: u64, seeds_planned: usize, metric: &str, values: &[f64]) -> SummaryRow {
    let interval = t_interval(values, 0.95);
    SummaryRow {
        arm: arm.clone(),
        metric: metric.to_owned(),
        site: None,
        n_seeds: values.len(),
        mean: mean(values),
        sd: mean_sd(values).map(|(_, sd)| sd),
        ci_low: interval.map(|interval| interval.low),
        ci_high: interval.map(|interval| interval.high),
        null_mean: None,
        null_sd: None,
        ratio: None,
        bases: 0,
        seeds_above: 0,
        seeds_below: 0,
        basis: None,
        tokens: None,
        step,
        seeds_planned,
        made_on: String::new(),
    }
}
