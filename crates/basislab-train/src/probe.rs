//! Probes: held-out loss, and every metric at every site of the residual stream.

use crate::train::{Context, Event, Record, StepStats};
use crate::trainee::{inputs_and_targets, not_finite};
use basislab_config::{RunSpec, Site};
use basislab_model::{Transformer, at_least_f32};
use basislab_optim::optimizer_basis;
use basislab_stats::{
    LargeValues, METRICS, Measured, Metric, MetricFn, Residuals, Rotation, Wanted, measure, random_basis,
};
use burn::tensor::Tensor;
use rayon::prelude::*;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What one probe of a run records.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Updates made.
    pub step: u64,
    /// Mean held-out loss, nats per token.
    pub loss: f64,
    /// The loss of the true model on the same tokens, where it is known.
    pub floor: Option<f64>,
    /// Every site in order; without those where an activation is not finite.
    pub sites: Vec<SiteProbe>,
    /// Metrics of all layers together, by name, over all tokens in the standard basis, and the number of tokens.
    pub layers: Vec<(&'static str, usize, Option<f64>)>,
}

/// What is measured at one site.
#[derive(Debug, Clone)]
pub struct SiteProbe {
    /// The site.
    pub site: Site,
    /// Its measurements.
    pub measured: Measured,
}

/// Held-out sequences, all of which count for the loss and the first of which are measured.
#[derive(Debug, Clone, Copy)]
pub struct Capture<'a> {
    /// Sequences of `n_ctx + 1` tokens.
    pub sequences: &'a [Vec<u32>],
    /// How many are measured.
    pub measured: usize,
    /// Sequences that go through the model at a time.
    pub batch_size: usize,
}

/// Runs the model over held-out sequences: the mean loss in nats per token. `on_site` gets the residual stream of the
/// measured ones at every site in order, tokens in order, or `None` where an activation is not finite: one site at a time,
/// so that memory does not grow with depth. Ends early, with `None`, once `stop` is set.
pub fn capture(
    model: &Transformer,
    Capture { sequences, measured, batch_size }: Capture<'_>,
    stop: &AtomicBool,
    on_site: &mut dyn FnMut(Site, Option<Residuals>),
) -> Option<f64> {
    let model = model.without_autodiff();
    // Batches never straddle the last measured sequence, so that a batch is measured wholly or not at all.
    let (measured, others) = sequences.split_at(measured);
    let stopped = || stop.load(Ordering::Relaxed);
    if stopped() {
        return None;
    }
    let batches = measured.chunks(batch_size).map(|batch| inputs_and_targets(&model, batch)).collect();
    let mut losses = model.losses_with_sites(batches, &mut |site, streams| {
        if stopped() || site.is_branch() {
            return;
        }
        let rows = streams.iter().map(|stream| at_least_f32(stream.clone())).collect();
        let values = Tensor::<2>::cat(rows, 0).into_data().convert::<f64>();
        let values = values.try_into_vec::<f64>().expect("just converted to f64");
        on_site(site, Residuals::new(values, model.d_model()).ok());
    });
    for batch in others.chunks(batch_size) {
        if stopped() {
            return None;
        }
        let (inputs, targets) = inputs_and_targets(&model, batch);
        losses.push(model.loss(inputs, targets));
    }
    if stopped() {
        return None;
    }
    let sizes = measured.chunks(batch_size).chain(others.chunks(batch_size)).map(<[_]>::len);
    let means: Vec<f64> = Tensor::cat(losses, 0).into_data().iter::<f64>().collect();
    Some(means.iter().zip(sizes).map(|(mean, size)| mean * size as f64 / sequences.len() as f64).sum())
}

/// The probes of one run.
pub(crate) struct Probes {
    plan: Arc<Plan>,
    steps: Vec<u64>,
    sequences: Vec<Vec<u32>>,
    /// The last probe while a thread of its own measures it and the device trains on; its loss is known.
    measuring: Option<(JoinHandle<PendingProbe>, f64)>,
    /// Whether measuring may be left to a thread: training then waits for the device alone.
    beside: bool,
    /// For which training waited.
    time: Duration,
}

/// How a probe ended.
pub(crate) enum Probed {
    Done,
    /// It was told to stop: the probe is made again after a restart.
    Stopped,
    /// The last update broke the weights; what was not finite first.
    NotFinite(String),
}

/// What is measured at each probe.
struct Plan {
    run: RunSpec,
    seed: u64,
    floor: Option<f64>,
    /// Random bases, drawn once: the sizes of dimensions are compared with them at every probe.
    random: Vec<Rotation>,
}

impl Probes {
    pub(crate) fn new(run: &RunSpec, seed: u64, on: Context<'_>) -> Self {
        let sequences = on.corpus.held_out(seed, run.probe.loss_sequences, run.model.n_ctx + 1);
        let floor = on.corpus.floor(&sequences);
        let random = 0..run.probe.random_bases;
        let random = random.into_par_iter().map(|k| random_basis(seed, k, run.model.d_model)).collect();
        let plan = Arc::new(Plan { run: run.clone(), seed, floor, random });
        let steps = run.probe.steps(run.train.steps);
        Self { plan, steps, sequences, measuring: None, beside: on.ahead > 1, time: Duration::ZERO }
    }

    pub(crate) fn is_due(&self, step: u64) -> bool {
        self.steps.binary_search(&step).is_ok()
    }

    /// Seconds for which probes blocked training.
    pub(crate) fn seconds(&self) -> f64 {
        self.time.as_secs_f64()
    }

    /// Probes the model after `step` updates, and records what was measured: at once, or where a thread measures it, by the
    /// next call of this or of [`Probes::settle`].
    pub(crate) fn probe(
        &mut self,
        step: u64,
        model: &Transformer,
        stop: &AtomicBool,
        record: Record<'_>,
    ) -> anyhow::Result<Probed> {
        self.settle(record)?;
        let begun = Instant::now();
        let pending = PendingProbe::new(Arc::clone(&self.plan), step);
        let probed = if self.beside { self.begin(pending, model, stop) } else { self.measure(pending, model, stop) };
        self.time += begun.elapsed();
        let (loss, probe) = match probed {
            None => return Ok(Probed::Stopped),
            Some(probed) => probed,
        };
        probe.map_or(Ok(()), |probe| record(Event::Probe(probe)))?;
        if loss.is_finite() {
            return Ok(Probed::Done);
        }
        self.settle(record)?;
        let run = &self.plan.run;
        // Update `step` was made and has its row; the one after it cannot be made.
        record(Event::Step(StepStats::of(run, step + 1, None)))?;
        Ok(Probed::NotFinite(not_finite(model, &run.train, &self.sequences, &[])))
    }

    /// Records the probe that a thread still measures, if there is one.
    pub(crate) fn settle(&mut self, record: Record<'_>) -> anyhow::Result<()> {
        let Some((thread, loss)) = self.measuring.take() else { return Ok(()) };
        let pending = thread.join().unwrap_or_else(|reason| resume_unwind(reason));
        record(Event::Probe(pending.finish(loss)))
    }

    /// Measures here and now: the loss and the probe.
    fn measure(
        &self,
        mut pending: PendingProbe,
        model: &Transformer,
        stop: &AtomicBool,
    ) -> Option<(f64, Option<Probe>)> {
        let loss = capture(model, self.captured(), stop, &mut |site, x| pending.measure(site, x))?;
        Some((loss, Some(pending.finish(loss))))
    }

    /// Leaves measuring to a thread: the loss alone.
    fn begin(
        &mut self,
        mut pending: PendingProbe,
        model: &Transformer,
        stop: &AtomicBool,
    ) -> Option<(f64, Option<Probe>)> {
        let (send, receive) = sync_channel::<(Site, Option<Residuals>)>(2);
        let thread = std::thread::spawn(move || {
            receive.into_iter().for_each(|(site, x)| pending.measure(site, x));
            pending
        });
        // Nobody receives if the thread panicked: joining it tells.
        let loss = capture(model, self.captured(), stop, &mut |site, x| _ = send.send((site, x)))?;
        self.measuring = Some((thread, loss));
        Some((loss, None))
    }

    fn captured(&self) -> Capture<'_> {
        let RunSpec { train, probe, .. } = &self.plan.run;
        Capture { sequences: &self.sequences, measured: probe.residual_sequences, batch_size: train.batch_size }
    }
}

/// A probe while it is made.
struct PendingProbe {
    plan: Arc<Plan>,
    step: u64,
    /// The optimizer's basis.
    optimizer: Option<Rotation>,
    sites: Vec<SiteProbe>,
}

impl PendingProbe {
    fn new(plan: Arc<Plan>, step: u64) -> Self {
        let (_, basis, _) = plan.run.optimizer_at(step);
        let model = &plan.run.model;
        let optimizer = optimizer_basis(basis, plan.seed, model.d_model);
        Self { plan, step, optimizer, sites: Vec::new() }
    }

    /// Measures a site and forgets its activations.
    fn measure(&mut self, site: Site, x: Option<Residuals>) {
        let Some(x) = x else { return };
        let RunSpec { model, train, probe, .. } = &self.plan.run;
        let is_full = probe.is_full(train.steps, self.step);
        let is_null_site = probe.null_sites.iter().any(|pattern| pattern.resolve(model.n_layers) == site);
        let (last, metrics) = match self.step == train.steps {
            true => (probe.null_bases, &probe.null_metrics[..]),
            false => probe.band(),
        };
        let random = if is_full { &self.plan.random[..] } else { &[] };
        let first = random.len();
        let further = (is_null_site && first < last).then(|| (self.plan.seed, first..last, metrics));
        let wanted = Wanted {
            n_ctx: Some(model.n_ctx),
            optimizer: self.optimizer.as_ref(),
            detailed: probe.tokens,
            random,
            further,
            dimensions: is_full,
            sizes: Some(&self.plan.random),
        };
        self.sites.push(SiteProbe { site, measured: measure(&x, &wanted) });
    }

    fn finish(self, loss: f64) -> Probe {
        let posts = self.sites.iter().filter(|at| matches!(at.site, Site::ResidPost(_)));
        let large: Vec<LargeValues> = posts.map(|at| at.measured.large.clone()).collect();
        let of_layers = |metric: &Metric| match metric.of {
            MetricFn::Layers { join, .. } => Some((metric.name, large.first()?.tokens, join(&large))),
            MetricFn::Matrix(_) => None,
        };
        // A layer that is not finite leaves no value of all of them.
        let whole = large.len() == self.plan.run.model.n_layers;
        let layers = METRICS.iter().filter(|_| whole).filter_map(of_layers).collect();
        Probe { step: self.step, loss, floor: self.plan.floor, sites: self.sites, layers }
    }
}
