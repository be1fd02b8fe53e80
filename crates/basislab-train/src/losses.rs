use crate::train::{Context, Event, Record, StepStats};
use crate::trainee::Trainee;
use basislab_config::RunSpec;
use basislab_optim::{clip, clip_on_device};
use burn::tensor::{Bool, DType, Tensor};

/// Loss and gradient norm of updates that the device has been given, until the host reads them. A host that computes itself
/// reads each at once; elsewhere reading waits for the device, and is put off.
#[derive(Debug)]
pub(crate) struct Losses<'a> {
    run: &'a RunSpec,
    /// Updates that may be unread.
    most: usize,
    /// Loss and gradient norm of each, `[2]`.
    unread: Vec<Tensor<1>>,
    /// Whether something was not finite so far, `[1]`; kept on the device.
    halted: Option<Tensor<1, Bool>>,
}

impl<'a> Losses<'a> {
    pub(crate) fn new(run: &'a RunSpec, on: Context<'_>) -> Self {
        Self { run, most: on.ahead, unread: Vec::new(), halted: None }
    }

    /// Clips to a largest norm; the norm before that, `[1]`. The host sums in f64, a device in its own type.
    pub(crate) fn clip(&self, gradients: Vec<Tensor<2>>, max_norm: f64) -> (Vec<Tensor<2>>, Tensor<1>) {
        if self.most > 1 {
            return clip_on_device(gradients, max_norm);
        }
        let device = gradients[0].device();
        let (gradients, norm) = clip(gradients, max_norm);
        (gradients, Tensor::from_data([norm], (&device, DType::F64)))
    }

    /// One update of the weights. From the first one with a loss or norm that is not finite on, they stay as they were.
    pub(crate) fn update(
        &mut self,
        trainee: &mut Trainee,
        lr_factor: f64,
        gradients: Vec<Tensor<2>>,
        (loss, norm): (Tensor<1>, Tensor<1>),
    ) {
        let own = norm.dtype();
        let stats = Tensor::cat(vec![loss.cast(own), norm], 0);
        self.unread.push(stats.clone());
        if self.most <= 1 {
            if stats.into_data().iter::<f64>().all(f64::is_finite) {
                trainee.step(lr_factor, gradients);
            }
            return;
        }
        let bad = stats.is_finite().bool_not().any();
        let halted = match self.halted.take() {
            Some(before) => before.bool_or(bad),
            None => bad,
        };
        let before: Vec<Tensor<2>> = trainee.model.values().into_iter().map(Tensor::inner).collect();
        trainee.step(lr_factor, gradients);
        let kept = trainee.model.values().into_iter().map(Tensor::inner).zip(before).map(|(after, before)| {
            let shape = after.dims();
            after.mask_where(halted.clone().reshape([1, 1]).expand(shape), before)
        });
        trainee.model.set_values(kept.collect());
        self.halted = Some(halted);
    }

    /// Records the unread updates up to `step`, where that is `due` or as many are unread as may be. Returns the first one that
    /// was not finite, which was not made.
    pub(crate) fn record(&mut self, step: u64, due: bool, record: Record<'_>) -> anyhow::Result<Option<u64>> {
        if !due && self.unread.len() < self.most {
            return Ok(None);
        }
        let first = step + 1 - self.unread.len() as u64;
        for (step, read) in (first..).zip(self.read()) {
            record(Event::Step(StepStats::of(self.run, step, read)))?;
            if read.is_none() {
                return Ok(Some(step));
            }
        }
        Ok(None)
    }

    /// Whether no update is unread.
    pub(crate) fn are_recorded(&self) -> bool {
        self.unread.is_empty()
    }

    /// Loss and gradient norm of the unread updates, in one transfer; `None` where they are not finite.
    fn read(&mut self) -> Vec<Option<(f64, f64)>> {
        if self.unread.is_empty() {
            return Vec::new();
        }
        let values: Vec<f64> = Tensor::cat(std::mem::take(&mut self.unread), 0).into_data().iter::<f64>().collect();
        values.chunks(2).map(|pair| pair.iter().all(|x| x.is_finite()).then_some((pair[0], pair[1]))).collect()
    }
}
