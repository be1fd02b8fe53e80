use crate::fold::Read;
use crate::intervention::{Intervention, Turn};
use crate::self_check::SelfCheck;
use crate::sequences::Sequences;
use crate::site::{Bases, Measurements};
use anyhow::Result;
use basislab_config::{ModelSpec, Site};
use basislab_model::InParts;
use basislab_tables::MeasuredTokens;
use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation};

/// Tokens that go through a block at a time.
const BATCH: usize = 2048;

/// A model and what it is run on.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The architecture.
    pub spec: &'a ModelSpec,
    /// Entries of the vocabulary.
    pub d_vocab: usize,
    /// Whether there is a language head.
    pub has_head: bool,
    /// Where it computes.
    pub device: &'a Device,
    /// The tokens.
    pub sequences: &'a Sequences,
}

/// Takes the values of a site, `[tokens, width]`, and the width.
pub type OnSaved<'a> = &'a mut dyn FnMut(Site, &[f32], usize) -> Result<()>;

/// What one forward pass is to give, and what it gave.
#[derive(Default)]
pub struct Pass<'a> {
    /// Sites whose values, `[tokens, width]`, are passed to `on_saved`, after the interventions at the site.
    pub save: Vec<Site>,
    /// Takes the values of a site of `save`.
    pub on_saved: Option<OnSaved<'a>>,
    /// What is measured at every site of the stream: the tokens' names, and the random bases.
    pub measure: Option<(MeasuredTokens<'a>, &'a Bases)>,
    /// Whether every sum is checked.
    pub self_check: Option<SelfCheck>,
    /// Tells that a site was passed.
    pub progress: Option<&'a dyn Fn(Site)>,
    /// What was measured.
    pub measurements: Measurements,
    /// The loss of every predicted token, nats, in order.
    pub losses: Vec<f32>,
    /// Whether what the model ends with is kept, to be compared with another pass.
    pub keep_end: bool,
    /// The values at the last site.
    pub last: Vec<f32>,
    /// The logits of at most [`SAMPLED`] tokens, spread over all.
    pub logits: Vec<f32>,
}

/// What changed from one pass to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// Mean absolute change of a predicted token's loss, nats; `None` without a head.
    pub mean: Option<f64>,
    /// The largest one.
    pub largest: Option<f64>,
    /// The norm of what changed over the norm of what was: of the logits of 64 tokens, or without a head of the stream at the
    /// last site. `None` where that is 0.
    pub relative: Option<f64>,
}

/// Rows of logits that are kept to be compared.
const SAMPLED: usize = 64;

/// Runs the model once, with the changes of `intervention`. `read` gives the values of a parameter by its path and shape.
///
/// # Errors
/// The first error of `read` or of what takes saved values.
///
/// # Panics
/// If an intervention does not fit: a Hadamard matrix for a width that is no power of two, a patch of another size.
pub fn run(subject: &Subject<'_>, intervention: &Intervention, read: Read<'_>, pass: &mut Pass<'_>) -> Result<()> {
    let Subject { spec, d_vocab, has_head, device, sequences } = *subject;
    let rotation = intervention.turn.as_ref().map(|turn| {
        let q = turn.rotation(spec.d_model).expect("checked when it was asked for");
        let data = TensorData::new(q.transpose().as_slice().to_vec(), [spec.d_model; 2]);
        (turn.site, Tensor::from_data(data, (device, basislab_model::dtype(spec.param_dtype))))
    });
    let parts = InParts { spec, d_vocab, has_head, device, rotation, rounding: intervention.rounding.as_ref() };
    let (keep, stride) = (pass.keep_end, sequences.tokens.len().div_ceil(SAMPLED));
    let mut failed = None;
    let mut on_site = |site: Site, streams: &mut [Tensor<2>]| {
        if failed.is_none() {
            failed = pass.at(site, streams, intervention).err();
        }
    };
    let (mut row, mut losses, mut sampled) = (0, Vec::new(), Vec::new());
    let mut on_logits = |logits: Tensor<2>| {
        let rows = logits.dims()[0];
        for at in (0..rows).filter(|at| keep && (row + at).is_multiple_of(stride)) {
            sampled.extend(values(&[logits.clone().narrow(0, at, 1)]));
        }
        losses.extend(token_losses(logits, &sequences.targets[row..row + rows]));
        row += rows;
    };
    parts.forward(tokens(sequences, device), read, &mut on_site, &mut on_logits)?;
    (pass.losses, pass.logits) = (losses, sampled);
    failed.map_or(Ok(()), Err)
}

impl Pass<'_> {
    /// Mean loss of the predicted tokens, nats; `None` without any.
    pub fn loss(&self) -> Option<f64> {
        mean(self.losses.iter().map(|&loss| f64::from(loss)))
    }

    /// What changed from this pass to `after`, whose stream of width `d` was rotated by `turn`. Both must have kept their ends.
    pub fn changes(&self, after: &Pass<'_>, turn: Option<&Turn>, d: usize) -> Changes {
        let pairs = self.losses.iter().zip(&after.losses);
        let losses: Vec<f64> = pairs.map(|(a, b)| f64::from((b - a).abs())).collect();
        let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
        let (was, is) = match self.logits.is_empty() {
            false => (wide(&self.logits), wide(&after.logits)),
            true => {
                let (back, is) = (turn.and_then(|turn| turn.rotation(d)).map(|q| q.transpose()), wide(&after.last));
                (wide(&self.last), back.map_or_else(|| is.clone(), |q| q.apply_rows(&is)))
            }
        };
        let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
        let changed = squares(&mut was.iter().zip(&is).map(|(a, b)| b - a));
        let relative = (changed / squares(&mut was.iter().copied())).sqrt();
        Changes {
            mean: mean(losses.iter().copied()),
            largest: losses.iter().copied().reduce(f64::max),
            relative: Some(relative).filter(|relative| relative.is_finite()),
        }
    }

    fn at(&mut self, site: Site, streams: &mut [Tensor<2>], intervention: &Intervention) -> Result<()> {
        // Where a rotation begins, the stream is no sum.
        let begins = intervention.turn.as_ref().is_some_and(|turn| turn.site == site);
        if let Some(check) = self.self_check.as_mut().filter(|_| !begins) {
            check.before(site, &values(streams));
        }
        intervention.apply(site, streams);
        let measured = self.measure.as_ref().filter(|_| !site.is_branch());
        let saved = self.save.contains(&site);
        if let Some(progress) = self.progress {
            progress(site);
        }
        if self.self_check.is_none() && measured.is_none() && !saved && !self.keep_end {
            return Ok(());
        }
        let width = streams[0].dims()[1];
        let found = values(streams);
        if let Some((tokens, bases)) = measured {
            self.measurements.site(site, &found, tokens, bases);
        }
        if let Some(on_saved) = self.on_saved.as_mut().filter(|_| saved) {
            on_saved(site, &found, width)?;
        }
        if let Some(check) = &mut self.self_check {
            check.after(site, &found);
        }
        if self.keep_end {
            self.last = found;
        }
        Ok(())
    }
}

/// `None` where there are none, or where it is not finite.
pub(crate) fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let n = values.len() as f64;
    Some(values.sum::<f64>() / n).filter(|mean| mean.is_finite())
}

/// Equally long sequences, some at a time.
fn tokens(sequences: &Sequences, device: &Device) -> Vec<Tensor<2, Int>> {
    let (length, count) = (sequences.length, sequences.count());
    let at_once = (BATCH / length).max(1);
    let batch = |start: usize| {
        let rows = sequences.rows(start..(start + at_once).min(count));
        let data: Vec<i32> = rows.iter().flat_map(|row| row.iter().map(|&token| token as i32)).collect();
        Tensor::from_data(TensorData::new(data, [rows.len(), length]), (device, DType::I32))
    };
    (0..count).step_by(at_once).map(batch).collect()
}

/// The streams of all batches, one after another, on the host.
fn values(streams: &[Tensor<2>]) -> Vec<f32> {
    let mut all = Vec::new();
    for x in streams {
        let data = x.clone().into_data().convert::<f32>();
        all.extend(data.try_into_vec::<f32>().expect("just converted to f32"));
    }
    all
}

/// The loss of each row that has a target. `[rows, V]`
fn token_losses(logits: Tensor<2>, targets: &[Option<u32>]) -> Vec<f32> {
    let data: Vec<i32> = targets.iter().map(|target| target.unwrap_or(0) as i32).collect();
    let index = TensorData::new(data, [targets.len(), 1]);
    let index = Tensor::<2, Int>::from_data(index, (&logits.device(), DType::I32));
    let losses = activation::log_softmax(logits, 1).gather(1, index).neg();
    let losses = losses.into_data().convert::<f32>().try_into_vec::<f32>().expect("just converted to f32");
    losses.into_iter().zip(targets).filter(|(_, target)| target.is_some()).map(|(loss, _)| loss).collect()
}
