//! Probes: held-out loss, and every metric at every site of the residual stream.

use crate::trainee::inputs_and_targets;
use basislab_config::{ProbeSpec, RunSpec, Site};
use basislab_data::Corpus;
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
        if stopped() {
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
    last: Last,
}

/// The last probe, until it is taken.
enum Last {
    Taken,
    Measured(Probe),
    /// A thread of its own measures it while the device trains on; its loss is known.
    Measuring(JoinHandle<Making>, f64),
}

/// What is measured at each probe.
struct Plan {
    run: RunSpec,
    seed: u64,
    floor: Option<f64>,
}

impl Probes {
    pub(crate) fn new(run: &RunSpec, seed: u64, corpus: &Corpus) -> Self {
        let sequences = corpus.held_out(seed, run.probe.loss_sequences, run.model.n_ctx + 1);
        let floor = corpus.floor(&sequences);
        let (plan, steps) = (Arc::new(Plan { run: run.clone(), seed, floor }), run.probe.steps(run.train.steps));
        Self { plan, steps, sequences, last: Last::Taken }
    }

    pub(crate) fn is_due(&self, step: u64) -> bool {
        self.steps.binary_search(&step).is_ok()
    }

    /// The sequences that losses are of.
    pub(crate) fn sequences(&self) -> &[Vec<u32>] {
        &self.sequences
    }

    /// Probes the model after `step` updates; the held-out loss. [`Probes::take`] gives the rest: where measuring is to run
    /// `beside` training, that waits for it. `None` once `stop` is set: the probe is made again after a restart.
    pub(crate) fn probe(&mut self, step: u64, model: &Transformer, beside: bool, stop: &AtomicBool) -> Option<f64> {
        let ProbeSpec { residual_sequences, .. } = self.plan.run.probe;
        let what = Capture {
            sequences: &self.sequences,
            measured: residual_sequences,
            batch_size: self.plan.run.train.batch_size,
        };
        let mut making = Making::new(Arc::clone(&self.plan), step);
        if !beside {
            let loss = capture(model, what, stop, &mut |site, x| making.measure(site, x))?;
            self.last = Last::Measured(making.finish(loss));
            return Some(loss);
        }
        let (send, receive) = sync_channel::<(Site, Option<Residuals>)>(2);
        let thread = std::thread::spawn(move || {
            receive.into_iter().for_each(|(site, x)| making.measure(site, x));
            making
        });
        // Nobody receives if the thread panicked: joining it tells.
        let loss = capture(model, what, stop, &mut |site, x| _ = send.send((site, x)))?;
        self.last = Last::Measuring(thread, loss);
        Some(loss)
    }

    /// The last probe, once; waits until it is measured.
    pub(crate) fn take(&mut self) -> Option<Probe> {
        match std::mem::replace(&mut self.last, Last::Taken) {
            Last::Taken => None,
            Last::Measured(probe) => Some(probe),
            Last::Measuring(thread, loss) => {
                Some(thread.join().unwrap_or_else(|reason| resume_unwind(reason)).finish(loss))
            }
        }
    }
}

/// A probe while it is made.
struct Making {
    plan: Arc<Plan>,
    step: u64,
    /// The optimizer's basis.
    optimizer: Option<Rotation>,
    random: Vec<Rotation>,
    sites: Vec<SiteProbe>,
}

impl Making {
    fn new(plan: Arc<Plan>, step: u64) -> Self {
        let RunSpec { model, train, probe, .. } = &plan.run;
        let (_, basis, _) = plan.run.optimizer_at(step);
        let optimizer = optimizer_basis(basis, plan.seed, model.d_model);
        let bases = if probe.is_full(train.steps, step) { probe.random_bases } else { 0 };
        let random = (0..bases).into_par_iter().map(|k| random_basis(plan.seed, k, model.d_model)).collect();
        Self { plan, step, optimizer, random, sites: Vec::new() }
    }

    /// Measures a site and forgets its activations.
    fn measure(&mut self, site: Site, x: Option<Residuals>) {
        let Some(x) = x else { return };
        let RunSpec { model, train, probe, .. } = &self.plan.run;
        let is_full = probe.is_full(train.steps, self.step);
        let is_null_site = probe.null_sites.iter().any(|pattern| pattern.resolve(model.n_layers) == site);
        let further = (self.step == train.steps && is_null_site)
            .then(|| (self.plan.seed, probe.random_bases..probe.null_bases, &probe.null_metrics[..]));
        let wanted = Wanted {
            n_ctx: Some(model.n_ctx),
            optimizer: self.optimizer.as_ref(),
            detailed: probe.tokens,
            random: &self.random,
            further,
            dimensions: is_full,
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
