//! What a run will take, from a few updates and probes of one like it.

use crate::backend::OpenDevice;
use crate::exit::Exit;
use crate::threads;
use basislab_config::RunSpec;
use basislab_runs::Corpora;
use basislab_train::{Context, Control, train};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Seconds of each kind of run: on a CPU those of one core, else those of the device.
pub(super) struct Calibration<'a> {
    device: &'a OpenDevice,
    corpora: &'a Corpora,
    known: BTreeMap<String, Cost>,
}

/// Seconds of the pieces of a run.
#[derive(Clone, Copy)]
struct Cost {
    /// Of the beginning, one update, and two probes with random bases.
    least: f64,
    update: f64,
    /// Of a probe without random bases.
    probe: f64,
}

/// Updates are made for about so many seconds.
const SECONDS: f64 = 0.5;
const MOST_UPDATES: u64 = 64;

impl<'a> Calibration<'a> {
    pub(super) fn new(device: &'a OpenDevice, corpora: &'a Corpora) -> Self {
        Self { device, corpora, known: BTreeMap::new() }
    }

    /// Seconds that a run will take. The first of its kind is tried, which `show` is told.
    pub(super) fn seconds(&mut self, run: &RunSpec, show: impl Fn(&str)) -> Result<f64, Exit> {
        let kind = kind(run);
        let cost = match self.known.get(&kind) {
            Some(cost) => *cost,
            None => {
                show("trying a few updates");
                let cost = self.cost(run)?;
                self.known.insert(kind, cost);
                cost
            }
        };
        let probes = run.probe.steps(run.train.steps);
        let full = probes.iter().filter(|step| run.probe.is_full(run.train.steps, **step)).count() as f64;
        let updates = run.train.steps.saturating_sub(1) as f64;
        let (full, light) = ((full - 2.0).max(0.0), probes.len() as f64 - full);
        Ok(cost.least + updates * cost.update + full * 0.5 * cost.least + light * cost.probe)
    }

    fn cost(&self, run: &RunSpec) -> Result<Cost, Exit> {
        let least = self.tried(run, 1, false)?;
        let few = self.tried(run, 4, false)?;
        let rough = ((few - least) / 3.0).max(1e-5);
        let more = ((SECONDS / rough) as u64).clamp(3, MOST_UPDATES);
        let update = ((self.tried(run, 1 + more, false)? - least) / more as f64).max(1e-6);
        // Probed after each of four updates: one more of the middle with random bases, and two without.
        let probe = (self.tried(run, 4, true)? - few - 0.5 * least).max(0.0) / 2.0;
        Ok(Cost { least, update, probe })
    }

    /// Seconds of a run with so many updates, probed at both ends or after each update.
    fn tried(&self, run: &RunSpec, steps: u64, probed: bool) -> Result<f64, Exit> {
        let mut run = run.clone();
        run.train.steps = steps;
        run.train.warmup_steps = run.train.warmup_steps.min(1);
        run.probe.log_until = 0;
        run.probe.every = if probed { 1 } else { steps };
        run.phases.clear();
        let on = Context { corpus: self.corpora.of(&run), device: &self.device.device, ahead: self.device.ahead() };
        let stop = AtomicBool::new(false);
        let control = Control { stop: &stop, checkpoint_steps: u64::MAX, checkpoint_interval: Duration::MAX };
        let begun = self.now();
        let tried = || train(&run, 0, on, None, control, &mut |_| Ok(()));
        // As a worker's run has it.
        threads::pools(1, 1).first().map_or_else(tried, |pool| pool.install(tried)).map_err(Exit::from)?;
        Ok(self.now() - begun)
    }

    /// Seconds of all cores of this process, or of the clock where a device computes.
    fn now(&self) -> f64 {
        #[cfg(unix)]
        if self.device.info.kind == "cpu" {
            let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
            return spent.tv_sec as f64 + 1e-9 * spent.tv_nsec as f64;
        }
        use std::sync::OnceLock;
        static BEGUN: OnceLock<Instant> = OnceLock::new();
        BEGUN.get_or_init(Instant::now).elapsed().as_secs_f64()
    }
}

/// Runs of one kind take the same time for each update and each probe: they differ in numbers of the optimizer alone.
fn kind(run: &RunSpec) -> String {
    let mut like = run.clone();
    (like.train.steps, like.train.warmup_steps) = (1, 0);
    like.probe.log_until = 0;
    like.probe.every = 1;
    let optimizers = std::iter::once(&run.optimizer).chain(run.phases.iter().map(|phase| &phase.optimizer));
    let names: Vec<String> = optimizers.map(basislab_config::OptimizerSpec::name).collect();
    format!("{:?} {:?} {:?} {:?} {:?} {names:?}", like.model, like.corpus, like.train, like.probe, like.basis)
}
