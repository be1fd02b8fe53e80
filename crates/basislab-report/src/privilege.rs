//! Whether the runs ended with a special basis, each tested alone.

use crate::index::{RunState, Runs, of_runs};
use basislab_config::{Basis, Experiment};
use basislab_stats::{MetricValue, PRIVILEGE_METRICS, metric, privilege};
use basislab_tables::{PrivilegeRow, Residual, ResidualRows, Tables};
use std::collections::BTreeMap;

/// One row for each complete run and basis whose metrics were measured in random bases at the last step, at the verdict's site
/// and tokens.
pub(crate) fn privileges(experiment: &Experiment, tables: &Tables) -> Vec<PrivilegeRow> {
    let runs = Runs::of(experiment, tables);
    let cell = experiment.verdict.cell();
    let recorded = &tables.residual;
    let mut read: BTreeMap<(&str, u64), Vec<Residual>> = BTreeMap::new();
    let is_read = |name: &str| name == cell.metric || PRIVILEGE_METRICS.iter().any(|(metric, _)| *metric == name);
    let end = |arm: &str| experiment.arm(arm).map(|arm| (arm.run.train.steps, experiment.site(&cell, arm)));
    let ends = of_runs(recorded, end);
    for row in recorded.of_kinds(|kind| kind.tokens == cell.tokens && is_read(&kind.metric)) {
        let ((arm, seed), kind) = (recorded.run_of(row), recorded.kind_of(row));
        if ends[row.run as usize] == Some((kind.step, kind.site)) {
            read.entry((arm, seed)).or_default().push(row);
        }
    }
    let mut all = Vec::new();
    for arm in &experiment.arms {
        for seed in runs.seeds_in(arm, RunState::Complete) {
            let Some(rows) = read.get(&(arm.name.as_str(), seed)) else { continue };
            let values: Vec<MetricValue> = rows.iter().filter_map(|row| measured(recorded, *row)).collect();
            for basis in [Basis::Standard, Basis::Optimizer] {
                let Some(test) = privilege(&values, basis) else { continue };
                let speaker = test.speaker();
                let of_verdict = || values.iter().filter(|value| value.metric == cell.metric);
                let own = of_verdict().find(|value| value.basis == basis).and_then(|value| value.value);
                let draws = of_verdict()
                    .filter(|value| matches!(value.basis, Basis::Random(_)))
                    .filter_map(|value| value.value);
                let draws: Vec<f64> = draws.collect();
                all.push(PrivilegeRow {
                    arm: arm.name.clone(),
                    seed,
                    step: arm.run.train.steps,
                    site: experiment.site(&cell, arm),
                    tokens: cell.tokens,
                    basis,
                    bases: test.bases,
                    p: test.p,
                    metric: speaker.metric.to_owned(),
                    value: speaker.value,
                    null_mean: speaker.null_mean,
                    null_sd: speaker.null_sd,
                    z_of_log: speaker.z,
                    alignment: speaker.alignment,
                    bases_at_most: own
                        .filter(|_| !draws.is_empty())
                        .map(|own| draws.iter().filter(|draw| **draw <= own).count()),
                });
            }
        }
    }
    all
}

fn measured(recorded: &ResidualRows, row: Residual) -> Option<MetricValue> {
    let kind = recorded.kind_of(row);
    let tokens_used = usize::try_from(kind.tokens_used).ok()?;
    let metric = metric(&kind.metric)?.name;
    Some(MetricValue { tokens: kind.tokens, tokens_used, basis: kind.basis, metric, value: row.value() })
}
