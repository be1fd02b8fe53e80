use basislab_config::{Basis, RunName, Site, Tokens};
use basislab_tables::{DimensionRow, DimensionStepRow, EvalRow, ResidualRow, Row, Split, Status, StepRow};
use basislab_train::{Probe, StepStats};

/// The row of an update.
pub fn step_row(arm: &RunName, seed: u64, stats: &StepStats) -> Row {
    let StepStats { step, tokens, lr, loss_and_norm } = *stats;
    let (train_loss, grad_norm) = loss_and_norm.unzip();
    let status = if loss_and_norm.is_some() { Status::Ok } else { Status::Diverged };
    Row::Step(StepRow { arm: arm.clone(), seed, step, tokens, lr, train_loss, grad_norm, status })
}

/// The rows of a probe: the loss, then site by site its metrics, dimensions and their sizes, then the metrics of all layers together.
pub fn rows(arm: &RunName, seed: u64, probe: &Probe) -> Vec<Row> {
    let (step, is_finite) = (probe.step, probe.loss.is_finite());
    let loss_above_floor = probe.floor.filter(|_| is_finite).map(|floor| probe.loss - floor);
    let (loss, split) = (is_finite.then_some(probe.loss), Split::HeldOut);
    let mut rows = vec![Row::Eval(EvalRow { arm: arm.clone(), seed, step, split, loss, loss_above_floor })];
    let residual = |site: Site, tokens: Tokens, tokens_used: usize, basis: Basis, metric: &str, value: Option<f64>| {
        let (arm, layer, tokens_used) = (arm.clone(), site.layer(), tokens_used as u64);
        Row::Residual(ResidualRow {
            arm,
            seed,
            step,
            site,
            layer,
            tokens,
            tokens_used,
            basis,
            metric: metric.to_owned(),
            value,
        })
    };
    for at in &probe.sites {
        let site = at.site;
        let values = at.measured.values.iter();
        rows.extend(values.map(|v| residual(site, v.tokens, v.tokens_used, v.basis, v.metric, v.value)));
        rows.extend(
            at.measured.dimensions.iter().map(|(tokens, basis, m)| {
                Row::Dimension(DimensionRow::of(arm, seed, step, site, (*tokens, *basis), m))
            }),
        );
        let sizes = at.measured.sizes.iter();
        rows.extend(sizes.map(|sizes| Row::DimensionStep(DimensionStepRow::of(arm, seed, step, site, sizes))));
    }
    rows.extend(probe.layers.iter().map(|(metric, tokens_used, value)| {
        residual(Site::EveryResidPost, Tokens::All, *tokens_used, Basis::Standard, metric, *value)
    }));
    rows
}
