use crate::cell::{PROBED, SitePattern, Tokens};
use crate::keys::{Kind, choice, table};
use crate::model::SIZE;

table! {
    /// How long, how much at a time, and the learning-rate schedule.
    pub struct TrainSpec {
        /// Optimizer updates.
        steps: u64 = Kind::Integer(1, 1 << 40);
        /// Sequences per update.
        batch_size: usize = Kind::Integer(1, SIZE);
        /// Parts of a batch whose gradients are averaged; divides `batch_size`.
        micro_batches: usize = Kind::Integer(1, SIZE);
        /// Largest global gradient norm, PyTorch's `max_norm / (norm + 1e-6)`; 0 switches clipping off.
        clip_norm: f64 = Kind::Float(0.0, 1e9);
        /// Shape of the learning rate after warm-up.
        schedule: ScheduleKind = ScheduleKind::KIND;
        /// Updates over which the learning rate rises linearly from 0.
        warmup_steps: u64 = Kind::Integer(0, 1 << 40);
        /// The schedule's last value as a share of the peak.
        final_lr_fraction: f64 = Kind::Float(0.0, 1.0);
    }
}

impl TrainSpec {
    /// The factor on the peak learning rate for update `step` (0-based): linear warm-up, then the schedule, which
    /// reaches `final_lr_fraction` at the last update.
    pub fn lr_factor(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return (step + 1) as f64 / self.warmup_steps as f64;
        }
        let span = self.steps.saturating_sub(self.warmup_steps + 1).max(1) as f64;
        let progress = (step - self.warmup_steps) as f64 / span;
        let last = self.final_lr_fraction;
        match self.schedule {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Linear => 1.0 - (1.0 - last) * progress,
            ScheduleKind::Cosine => last + (1.0 - last) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        }
    }
}

choice! {
    /// Shape of the learning rate after warm-up.
    pub enum ScheduleKind {
        /// Stays at the peak.
        Constant = "constant",
        /// Falls in a straight line to `final_lr_fraction`.
        Linear = "linear",
        /// Falls along half a cosine to `final_lr_fraction`.
        Cosine = "cosine",
    }
}

table! {
    /// When to measure, and how many tokens. All arms of a seed are measured on the same held-out sequences.
    pub struct ProbeSpec {
        /// Probes are made after updates 0, 1, 2, 4, 8 and so on, up to this one; `every` follows.
        log_until: u64 = Kind::Integer(1, 1 << 40);
        /// After `log_until`, probes are made at every multiple of this, and after the last update.
        every: u64 = Kind::Integer(1, 1 << 40);
        /// Held-out sequences for the validation loss.
        loss_sequences: usize = Kind::Integer(1, SIZE);
        /// How many of those have their residual stream measured; at most `loss_sequences`.
        residual_sequences: usize = Kind::Integer(2, SIZE);
        /// Haar bases in which the same activations are measured again, at the first, middle and last probe.
        random_bases: usize = Kind::Integer(8, 4096);
        /// Which tokens are measured in random bases and dimension by dimension.
        tokens: Tokens = PROBED;
        /// Haar bases at the last probe for `null_metrics` at `null_sites`, which claims are decided against.
        null_bases: usize = Kind::Integer(8, 4096);
        /// Metrics that are measured in all `null_bases`.
        null_metrics: Vec<String> = Kind::Names(0);
        /// Sites that are measured in all `null_bases`, and in `band_bases`.
        null_sites: Vec<SitePattern> = Kind::Sites;
        /// Haar bases at every probe for `band_metrics` at `null_sites`: the null over training; at most `null_bases`.
        band_bases: Option<usize> = Kind::Integer(0, 4096), optional;
        /// Metrics that are measured in `band_bases` at every probe; some of `null_metrics`.
        band_metrics: Option<Vec<String>> = Kind::Names(0), optional;
    }
}

impl ProbeSpec {
    /// The updates after which a run of `steps` updates is probed, ascending; 0 and `steps` are always among them.
    pub fn steps(&self, steps: u64) -> Vec<u64> {
        let powers = (0..63).map(|power| 1u64 << power).take_while(|&step| step <= self.log_until);
        let linear = (self.log_until / self.every + 1..).map(|k| k * self.every).take_while(|&s| s < steps);
        let mut all: Vec<u64> = std::iter::once(0).chain(powers.filter(|&s| s < steps)).chain(linear).collect();
        all.push(steps);
        all.dedup();
        all
    }

    /// The Haar bases in which a metric is measured at a site that is, or is not, among `null_sites`, at a probe.
    pub fn bases(&self, steps: u64, step: u64, metric: &str, is_null_site: bool) -> usize {
        let is_in = |names: &[String]| is_null_site && names.iter().any(|name| name == metric);
        let full = if self.is_full(steps, step) { self.random_bases } else { 0 };
        let null = if step == steps && is_in(&self.null_metrics) { self.null_bases } else { 0 };
        let (bases, metrics) = self.band();
        full.max(null).max(if is_in(metrics) { bases } else { 0 })
    }

    /// The Haar bases that are measured at every probe, and the metrics; none where the configuration says nothing of them.
    pub fn band(&self) -> (usize, &[String]) {
        (self.band_bases.unwrap_or(0), self.band_metrics.as_deref().unwrap_or_default())
    }

    /// Whether this probe is the first, middle or last: there random bases and single dimensions are recorded too.
    pub fn is_full(&self, steps: u64, step: u64) -> bool {
        let all = self.steps(steps);
        step == 0 || step == steps || step == all[all.len() / 2]
    }
}
