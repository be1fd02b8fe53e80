//! Looking at a model: validation loss, and every metric at every site of the residual stream.

use crate::run::Job;
use basislab_config::Experiment;
use basislab_data::Corpus;
use basislab_model::{Site, Transformer, wide};
use basislab_optim::rotation;
use basislab_report::{DimensionRow, EvalRow, ResidualRow, Row};
use basislab_stats::{METRICS, Metric, MetricFn, Residuals, Rotation, dimensions, random_basis};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

/// What every arm of a seed is looked at with: held-out sequences and the language's floor on them.
pub(crate) struct HeldOut {
    pub(crate) sequences: Vec<Vec<u32>>,
    pub(crate) floor: Option<f64>,
}

impl HeldOut {
    pub(crate) fn new(experiment: &Experiment, corpus: &Corpus, seed: u64) -> Self {
        let sequences = corpus.held_out(seed, experiment.probe.loss_sequences, experiment.model.n_ctx + 1);
        Self { floor: corpus.floor(&sequences), sequences }
    }
}

/// A model seen from outside.
#[derive(Debug)]
pub struct Observation {
    /// Mean next-token loss over all sequences, nats.
    pub loss: f64,
    /// The residual stream at every site, for the first `residual_sequences` sequences, tokens in order.
    /// `None` where an activation is not finite.
    pub residuals: Vec<(Site, Option<Residuals>)>,
}

/// What came back from the device, in one transfer: an [`Observation`] that nobody has sorted out yet.
#[derive(Debug)]
pub struct Look {
    /// All losses, then all streams, chunk by chunk and site by site.
    values: TensorData,
    sites: Vec<Site>,
    /// Sequences in each chunk, and whether its stream was kept.
    chunks: Vec<(usize, bool)>,
    pos: usize,
    d_model: usize,
}

/// Runs the model over held-out sequences, `batch_size` at a time, and waits for the device; `None` once `stop` is set.
pub fn look(
    model: &Transformer,
    sequences: &[Vec<u32>],
    residual_sequences: usize,
    batch_size: usize,
    stop: &AtomicBool,
) -> Option<Look> {
    let model = model.without_autodiff();
    let mut sites: Vec<Site> = Vec::new();
    let (mut losses, mut streams) = (Vec::new(), Vec::new());
    // Chunks never straddle the last measured sequence, so that a chunk is measured wholly or not at all.
    let (measured, rest) = sequences.split_at(residual_sequences);
    let chunks: Vec<(&[Vec<u32>], bool)> =
        measured.chunks(batch_size).map(|c| (c, true)).chain(rest.chunks(batch_size).map(|c| (c, false))).collect();
    for &(chunk, measure) in &chunks {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let inputs: Vec<&[u32]> = chunk.iter().map(|s| &s[..s.len() - 1]).collect();
        let targets: Vec<&[u32]> = chunk.iter().map(|s| &s[1..]).collect();
        let (inputs, targets) = (model.tokens(&inputs), model.tokens(&targets));
        let mut see = |site: Site, stream: &Tensor<2>| {
            if !sites.contains(&site) {
                sites.push(site);
            }
            streams.push(wide(stream.clone()).flatten::<1>(0, 1));
        };
        losses.push(if measure { model.loss_seen(inputs, targets, &mut see) } else { model.loss(inputs, targets) });
    }
    let values = Tensor::cat([losses, streams].concat(), 0).into_data();
    let chunks = chunks.into_iter().map(|(chunk, measure)| (chunk.len(), measure)).collect();
    Some(Look { values, sites, chunks, pos: sequences[0].len() - 1, d_model: model.d_model() })
}

impl Look {
    /// Mean next-token loss over all sequences, nats.
    pub(crate) fn loss(&self) -> f64 {
        let sequences: usize = self.chunks.iter().map(|(size, _)| size).sum();
        let means = self.values.iter::<f64>().take(self.chunks.len());
        self.chunks.iter().zip(means).map(|((size, _), mean)| mean * *size as f64 / sequences as f64).sum()
    }

    /// The loss and the streams in f64.
    pub fn observation(self) -> Observation {
        let Self { sites, chunks, pos, d_model, .. } = &self;
        let loss = self.loss();
        let mut all: Vec<(Site, Vec<f64>)> = sites.iter().map(|site| (*site, Vec::new())).collect();
        let (losses, pos, d_model) = (chunks.len(), *pos, *d_model);
        let measured: Vec<usize> = chunks.iter().filter(|(_, measure)| *measure).map(|(size, _)| *size).collect();
        let values = self.values.convert::<f64>().try_into_vec::<f64>().expect("just converted to f64");
        let mut values = &values[losses..];
        for size in measured {
            for (_, stream) in &mut all {
                let (now, later) = values.split_at(size * pos * d_model);
                stream.extend_from_slice(now);
                values = later;
            }
        }
        let residuals = all.into_iter().map(|(site, values)| (site, Residuals::new(values, d_model).ok())).collect();
        Observation { loss, residuals }
    }
}

/// Everything a probe records of what was `seen`: the loss; every metric at every site for all, first and remaining
/// tokens, in the standard basis and the optimizer's own; at full probes also in random bases and per dimension. Sites are
/// shared out over the rayon pool that it finds itself in. `None` once `stop` is set.
pub(crate) fn probe_rows(
    experiment: &Experiment,
    job: Job<'_>,
    step: u64,
    seen: &Observation,
    floor: Option<f64>,
    stop: &AtomicBool,
) -> Option<Vec<Row>> {
    let Experiment { model: spec, train, probe, .. } = experiment;
    let Job { arm, seed } = job;
    let finite = seen.loss.is_finite();
    let mut rows = vec![Row::Eval(EvalRow {
        arm: arm.name.to_string(),
        seed,
        step,
        split: "held-out".to_owned(),
        loss: finite.then_some(seen.loss),
        loss_above_floor: floor.filter(|_| finite).map(|floor| seen.loss - floor),
    })];
    let full = probe.is_full(train.steps, step);
    let own = arm.basis.shared_rotation().map(|q| rotation(q, seed, 0, spec.d_model));
    let random = if full { probe.random_bases } else { 0 };
    let random = (0..random).into_par_iter().map(|k| random_basis(seed, k, spec.d_model)).collect();
    let probe = Probe { experiment, job, step, full, own, random };
    let of_site = |(site, stream): &(Site, Option<Residuals>)| {
        let rows = || stream.as_ref().map_or_else(Vec::new, |stream| probe.site_rows(site, stream));
        (!stop.load(Ordering::Relaxed)).then(rows)
    };
    let of_sites: Option<Vec<Vec<Row>>> = seen.residuals.par_iter().map(of_site).collect();
    rows.extend(of_sites?.into_iter().flatten());
    probe.stack_rows(&mut rows, seen);
    Some(rows)
}

/// One look of one run.
struct Probe<'a> {
    experiment: &'a Experiment,
    job: Job<'a>,
    step: u64,
    full: bool,
    /// The optimizer's basis.
    own: Option<Rotation>,
    random: Vec<Rotation>,
}

impl Probe<'_> {
    fn site_rows(&self, site: &Site, stream: &Residuals) -> Vec<Row> {
        let Experiment { model: spec, train, verdict, .. } = self.experiment;
        let (seed, name, mut rows) = (self.job.seed, site.to_string(), Vec::new());
        let turned = self.own.as_ref().map(|q| stream.rotated(q));
        // `all` comes first: what a metric computes of each token serves the subsets too.
        for tokens in ["all", "first", "rest"] {
            let Some(x) = subset(stream, spec.n_ctx, tokens) else { continue };
            let turned = turned.as_ref().and_then(|turned| subset(turned, spec.n_ctx, tokens));
            let at = |basis: &str| self.at(&name, site.layer(), tokens, x.n_tokens(), basis);
            measure(&mut rows, &x, &at("standard"), |_| true);
            if let Some(turned) = &turned {
                measure(&mut rows, turned, &at("optimizer"), |metric| metric.basis_dependent);
            }
            if tokens != verdict.tokens || !self.full {
                continue;
            }
            for (k, q) in self.random.iter().enumerate() {
                measure(&mut rows, &x.rotated(q), &at(&format!("random:{k}")), |metric| metric.basis_dependent);
            }
            if self.step == train.steps && name == self.experiment.verdict_site() {
                let more = (self.random.len()..verdict.null_bases).into_par_iter().map(|k| {
                    let (mut rows, turned) = (Vec::new(), x.rotated(&random_basis(seed, k, spec.d_model)));
                    measure(&mut rows, &turned, &at(&format!("random:{k}")), |metric| metric.name == verdict.metric);
                    rows
                });
                rows.extend(more.collect::<Vec<_>>().into_iter().flatten());
            }
            let bases = std::iter::once(("standard", &x)).chain(turned.iter().map(|turned| ("optimizer", turned)));
            for (basis, x) in bases {
                rows.extend(dimensions(x).into_iter().map(|m| {
                    Row::Dimension(DimensionRow {
                        arm: self.job.arm.name.to_string(),
                        seed,
                        step: self.step,
                        site: name.clone(),
                        layer: site.layer(),
                        dim: m.dim,
                        mean: m.mean,
                        rms: m.rms,
                        variance: m.variance,
                        skewness: m.skewness,
                        kurtosis: m.kurtosis,
                        min: m.min,
                        max: m.max,
                        max_abs: m.max_abs,
                        share_of_energy: m.share_of_energy,
                        basis: basis.to_owned(),
                        tokens: tokens.to_owned(),
                    })
                }));
            }
        }
        rows
    }

    /// Metrics that look at several layers at once: over the stream after each block, all tokens.
    fn stack_rows(&self, rows: &mut Vec<Row>, seen: &Observation) {
        use basislab_model::Point::ResidPost;
        let posts = seen.residuals.iter().filter(|(site, _)| matches!(site, Site::Block(_, ResidPost)));
        let Some(stack) = posts.map(|(_, x)| x.clone()).collect::<Option<Vec<_>>>() else { return };
        let tokens = stack.first().map_or(0, Residuals::n_tokens);
        for metric in METRICS {
            if let MetricFn::Stack(of) = metric.of {
                let at = self.at("blocks.*.resid_post", None, "all", tokens, "standard");
                rows.push(Row::Residual(ResidualRow { metric: metric.name.to_owned(), value: of(&stack), ..at }));
            }
        }
    }

    /// The key columns of a row.
    fn at(&self, site: &str, layer: Option<usize>, tokens: &str, tokens_used: usize, basis: &str) -> ResidualRow {
        ResidualRow {
            arm: self.job.arm.name.to_string(),
            seed: self.job.seed,
            step: self.step,
            site: site.to_owned(),
            layer,
            tokens: tokens.to_owned(),
            tokens_used: tokens_used as u64,
            basis: basis.to_owned(),
            metric: String::new(),
            value: None,
        }
    }
}

fn measure(rows: &mut Vec<Row>, x: &Residuals, at: &ResidualRow, wanted: impl Fn(&Metric) -> bool) {
    for metric in METRICS.iter().filter(|metric| wanted(metric)) {
        if let MetricFn::Matrix(of) = metric.of {
            rows.push(Row::Residual(ResidualRow { metric: metric.name.to_owned(), value: of(x), ..at.clone() }));
        }
    }
}

/// `all` tokens, the `first` of each sequence, or the `rest`; `None` when too few are left to measure.
fn subset<'a>(x: &'a Residuals, n_ctx: usize, tokens: &str) -> Option<Cow<'a, Residuals>> {
    if tokens == "all" {
        return Some(Cow::Borrowed(x));
    }
    let picked: Vec<usize> =
        (0..x.n_tokens()).filter(|token| token.is_multiple_of(n_ctx) == (tokens == "first")).collect();
    (picked.len() >= 2).then(|| Cow::Owned(x.subset(&picked)))
}
