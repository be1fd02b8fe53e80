//! Runs parts over chunks of rows, forward and backward.

use crate::buffer::{Buffer, recycle, take};
use crate::chunks::{sequences, weight_gradients};
use crate::gemm::Packed;
use crate::linear::Linear;
use crate::part::{Part, Summed};
use crate::rows::{Chunks, Job, Rows};
use rayon::prelude::*;

/// Rows per chunk where sequences do not matter: few, so that many threads get some.
const ALONE: usize = 64;

/// Parts that run one after the other.
///
/// The tensors that it uses are given as one list: first its input `[N, D]`, then weights, gains, biases and other streams,
/// which the parts name by their places in the list. What parts read and write lies in *slots*: slot 0 is the input, and
/// each part reads one slot and writes the next one, or works in place. A chunk of rows goes through all parts while the
/// processor's cache holds it.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Positions per sequence; divides `N`.
    pos: usize,
    steps: Vec<Step>,
    /// Numbers per row of each slot.
    widths: Vec<usize>,
}

/// A part, and the slots that it reads and writes: the same one where it works in place.
#[derive(Debug, Clone)]
struct Step {
    part: Part,
    from: usize,
    to: usize,
}

/// What the backward pass needs of the forward pass.
#[derive(Debug)]
pub struct Saved {
    /// The slots between the input and the output. Those that are made again are empty.
    slots: Vec<Buffer>,
    /// What each part keeps beside them.
    kept: Vec<Buffer>,
}

impl Chain {
    /// A chain that reads rows of `d` numbers, in sequences of `pos` rows.
    pub fn new(pos: usize, d: usize, parts: Vec<Part>) -> Self {
        let mut chain = Self { pos, steps: Vec::new(), widths: vec![d] };
        if parts[0].needs_a_copy() {
            chain.push(Part::Copy);
        }
        for part in parts {
            let before = chain.steps.last().map(|step| &step.part);
            let is_changed = part.is_in_place() || matches!(part, Part::Activation(_));
            assert!(
                !matches!(part, Part::Loss(_)) || matches!(before, Some(Part::Linear(_))),
                "a loss reads what a product has written"
            );
            // The gradient of an activation needs what it has written.
            if is_changed && matches!(before, Some(Part::Activation(_))) {
                chain.push(Part::Copy);
            }
            chain.push(part);
        }
        if matches!(chain.steps[chain.steps.len() - 1].part, Part::Activation(_)) {
            chain.push(Part::Copy); // only inner slots are kept
        }
        chain
    }

    fn push(&mut self, part: Part) {
        let from = self.widths.len() - 1;
        let to = if part.is_in_place() { from } else { from + 1 };
        if to > from {
            self.widths.push(part.width(self.widths[from]));
        }
        self.steps.push(Step { part, from, to });
    }

    /// Numbers per row of what the last part writes.
    pub fn width(&self) -> usize {
        self.widths[self.last()]
    }

    /// Whether the chain ends in a loss: one number for the whole batch.
    pub fn is_loss(&self) -> bool {
        matches!(self.steps[self.steps.len() - 1].part, Part::Loss(_))
    }

    /// The last slot.
    fn last(&self) -> usize {
        self.widths.len() - 1
    }

    fn linears(&self) -> impl Iterator<Item = (&Step, &Linear)> {
        self.steps
            .iter()
            .filter_map(|step| if let Part::Linear(linear) = &step.part { Some((step, linear)) } else { None })
    }

    /// Whether the backward pass makes a slot again instead of keeping it: what a norm writes and a product reads, which
    /// costs little time and would be a third of the memory of attention.
    fn is_made_again(&self, slot: usize) -> bool {
        let is_norm = |step: &Step| step.to == slot && matches!(step.part, Part::Norm(_));
        self.steps.windows(2).any(|pair| is_norm(&pair[0]) && matches!(pair[1].part, Part::Linear(_)))
    }

    /// The rows of a batch, as chunks.
    fn chunks(&self, inputs: &[&[f32]]) -> Chunks {
        let rows = inputs[0].len() / self.widths[0];
        assert!(rows * self.widths[0] == inputs[0].len() && rows.is_multiple_of(self.pos), "whole sequences");
        assert!(rows > 0, "a batch without rows");
        Chunks { rows, most: sequences(self.pos) * self.pos }
    }

    /// The output, and what the backward pass needs where one will follow (`keep`).
    ///
    /// # Shapes
    /// `inputs[0] [N, D]`, others as the parts that name them say -> `[N, width]`, or `[1]` of a loss
    pub fn forward(&self, inputs: &[&[f32]], keep: bool) -> (Vec<f32>, Option<Saved>) {
        let (mut chunks, last) = (self.chunks(inputs), self.last());
        let needs_chunks = |step: &Step| matches!(step.part, Part::Attention(_) | Part::Rope(_) | Part::Loss(_));
        if !keep && !self.steps.iter().any(needs_chunks) {
            chunks.most = ALONE; // there may be few rows
        }
        let linears: Vec<&Linear> = self.linears().map(|(_, linear)| linear).collect();
        let packed: Vec<Packed> = linears.par_iter().map(|linear| linear.pack(inputs)).collect();
        // The logits of a loss are a slot to be kept; what else the last part writes is the output.
        let inner = if self.is_loss() { last } else { last - 1 };
        let slot_width = |slot: usize| if keep && !self.is_made_again(slot) { self.widths[slot] } else { 0 };
        let kept_width = |step: &Step| if keep { step.part.kept(self.pos) } else { 0 };
        let mut saved = Saved {
            slots: (1..=inner).map(|slot| Buffer::new(chunks.rows * slot_width(slot))).collect(),
            kept: self.steps.iter().map(|step| Buffer::new(chunks.rows * kept_width(step))).collect(),
        };
        let mut out = if self.is_loss() { Vec::new() } else { take(chunks.rows * self.width()) };
        let mut jobs: Vec<Job<'_>> = chunks.jobs();
        saved.slots.iter_mut().for_each(|slot| chunks.share(&mut jobs, slot, |job| &mut job.slots));
        saved.kept.iter_mut().for_each(|kept| chunks.share(&mut jobs, kept, |job| &mut job.beside));
        if !self.is_loss() {
            chunks.share(&mut jobs, &mut out, |job| &mut job.slots);
        }
        let losses: Vec<f64> = jobs.into_par_iter().map(|job| self.forward_chunk(inputs, &packed, job)).collect();
        if self.is_loss() {
            out = vec![(losses.iter().sum::<f64>() / chunks.rows as f64) as f32];
        }
        (out, keep.then_some(saved))
    }

    /// Takes one chunk through all parts; the sum of its losses.
    fn forward_chunk(&self, inputs: &[&[f32]], packed: &[Packed], mut job: Job<'_>) -> f64 {
        // What is not kept is the chunk's own. Attention does without, others have little.
        for (slot, width) in job.slots.iter_mut().zip(&self.widths[1..]) {
            slot.get_or_insert_with(|| Rows::Own(Buffer::new(job.rows * width)));
        }
        for (beside, Step { part, .. }) in job.beside.iter_mut().zip(&self.steps) {
            let width = if matches!(part, Part::Attention(_)) { 0 } else { part.kept(self.pos) };
            beside.get_or_insert_with(|| Rows::Own(Buffer::new(job.rows * width)));
        }
        let (mut packed, mut loss) = (packed.iter(), 0.0);
        for (Step { part, from, to }, beside) in self.steps.iter().zip(&mut job.beside) {
            let (read, written) = job.slots.split_at_mut(*from);
            let x: &mut [f32] = match read.last_mut() {
                Some(slot) => slot.as_mut().expect("one per slot"),
                None => &mut [],
            };
            if from == to {
                match part {
                    Part::Add(input) => add(x, of_chunk(inputs[*input], self.widths[*from], job.first)),
                    Part::Rope(rope) => rope.rotate(x, self.pos, 1.0),
                    Part::Loss(targets) => loss = targets.forward(x, self.widths[*from], job.first),
                    _ => unreachable!("no part that works in place"),
                }
                continue;
            }
            let y: &mut [f32] = written[0].as_mut().expect("one per slot");
            let kept: &mut [f32] = beside.as_mut().expect("one per part");
            if let Part::Activation(activation) = part {
                activation.forward(x, y, self.widths[*from]);
                continue;
            }
            let x = if *from == 0 {
                &of_chunk(inputs[0], self.widths[0], job.first)[..job.rows * self.widths[0]]
            } else {
                &*x
            };
            match part {
                Part::Copy => y.copy_from_slice(x),
                Part::Norm(norm) => norm.forward(x, inputs, y, kept),
                Part::Linear(linear) => linear.forward(x, inputs, packed.next().expect("one each"), y),
                Part::HeadNorms(norms) => norms.forward(x, inputs, y, kept),
                Part::Attention(attention) => attention.forward(x, self.pos, y, kept),
                Part::Activation(_) | Part::Add(_) | Part::Rope(_) | Part::Loss(_) => unreachable!("done above"),
            }
        }
        loss
    }

    /// The gradients of all inputs from that of the output, which is used up.
    ///
    /// # Shapes
    /// `upstream [N, width]`, or `[1]` of a loss -> each like its input
    pub fn backward(&self, inputs: &[&[f32]], saved: &Saved, mut upstream: Vec<f32>) -> Vec<Vec<f32>> {
        let (chunks, last) = (self.chunks(inputs), self.last());
        // A loss has left the gradient of its logits, times the number of rows, in their slot.
        let scale = if self.is_loss() { upstream[0] / chunks.rows as f32 } else { 1.0 };
        let linears: Vec<&Linear> = self.linears().map(|(_, linear)| linear).collect();
        let packed: Vec<Vec<Packed>> = linears.par_iter().map(|linear| linear.pack_transposed(inputs)).collect();

        let mut grads: Vec<Vec<f32>> = inputs.iter().map(|input| take(input.len())).collect();
        // The gradients of what products have written: those of the weights need them of all rows at once.
        let mut written: Vec<Option<Buffer>> = self.widths.iter().map(|_| None).collect();
        for (step, _) in self.linears().filter(|(step, _)| step.to < last) {
            written[step.to] = Some(Buffer::new(chunks.rows * self.widths[step.to]));
        }
        let mut again: Vec<Buffer> = (0..=last)
            .map(|slot| Buffer::new(if self.is_made_again(slot) { chunks.rows * self.widths[slot] } else { 0 }))
            .collect();
        let mut sums: Vec<Buffer> =
            self.steps.iter().map(|step| chunks.sums(step.part.sums(self.widths[step.from]))).collect();
        let mut jobs: Vec<Job<'_>> = chunks.jobs();
        let mut free: Vec<Option<&mut Vec<f32>>> = grads.iter_mut().map(Some).collect();
        let mut flows: Vec<Option<&mut [f32]>> = written.iter_mut().map(Option::as_deref_mut).collect();
        flows[0] = free[0].take().map(Vec::as_mut_slice);
        if !self.is_loss() {
            flows[last] = Some(&mut upstream);
        }
        for flow in flows {
            match flow {
                Some(buffer) => chunks.share(&mut jobs, buffer, |job| &mut job.slots),
                None => jobs.iter_mut().for_each(|job| job.slots.push(None)),
            }
        }
        again.iter_mut().for_each(|slot| chunks.share(&mut jobs, slot, |job| &mut job.again));
        for step in &self.steps {
            match step.part {
                Part::Add(input) if input > 0 => {
                    chunks.share(&mut jobs, free[input].take().expect("added once"), |job| &mut job.beside);
                }
                _ => jobs.iter_mut().for_each(|job| job.beside.push(None)),
            }
        }
        sums.iter_mut().for_each(|sums| chunks.share_sums(&mut jobs, sums));
        jobs.into_par_iter().for_each(|job| self.backward_chunk(inputs, saved, &packed, scale, job));

        let value = |slot: usize| -> &[f32] {
            match slot {
                0 => inputs[0],
                _ if self.is_made_again(slot) => &again[slot],
                _ => &saved.slots[slot - 1],
            }
        };
        let dy = |slot: usize| -> &[f32] {
            match &written[slot] {
                Some(buffer) => buffer,
                None if self.is_loss() => value(slot),
                None => &upstream,
            }
        };
        let all = self.linears().flat_map(|(step, linear)| {
            let scale = if step.to == last { scale } else { 1.0 };
            linear.gradients(value(step.from), dy(step.to), scale, inputs[0].len() / self.widths[0], &mut free)
        });
        weight_gradients(all.collect());
        for (step, sums) in self.steps.iter().zip(&sums) {
            let width = step.part.sums(self.widths[step.from]);
            for summed in step.part.summed(self.widths[step.from]) {
                total(sums, width, summed, &mut grads[summed.input]);
            }
        }
        recycle(upstream);
        grads
    }

    /// Takes the gradient of one chunk back through all parts.
    fn backward_chunk(&self, inputs: &[&[f32]], saved: &Saved, packed: &[Vec<Packed>], scale: f32, mut job: Job<'_>) {
        let (first, rows) = (job.first, job.rows);
        let value = |slot: usize| -> &[f32] {
            let all = if slot == 0 { inputs[0] } else { &saved.slots[slot - 1] };
            &of_chunk(all, self.widths[slot], first)[..rows * self.widths[slot]]
        };
        for step in &self.steps {
            if let (Part::Norm(norm), Some(again)) = (&step.part, &mut job.again[step.to]) {
                let mut kept = Buffer::new(rows * norm.kept());
                norm.forward(value(step.from), inputs, again, &mut kept);
            }
        }
        let mut packed = packed.iter().rev();
        // Whether the gradient of the input holds that of a residual connection, to be added to.
        let mut is_begun = false;
        for (number, Step { part, from, to }) in self.steps.iter().enumerate().rev() {
            let (from, to) = (*from, *to);
            if from == to {
                match part {
                    Part::Add(0) => {
                        let (dx, others) = job.slots.split_at_mut(1);
                        let dx: &mut [f32] = dx[0].as_mut().expect("slot 0 is shared");
                        let dy: &[f32] = others[to - 1].as_ref().expect("written before");
                        if is_begun {
                            add(dx, dy);
                        } else {
                            dx.copy_from_slice(dy);
                        }
                        is_begun = true;
                    }
                    Part::Add(_) => {
                        let dx: &mut [f32] = job.beside[number].as_mut().expect("one per stream that is added");
                        dx.copy_from_slice(job.slots[to].as_ref().expect("written before"));
                    }
                    Part::Rope(rope) => rope.rotate(job.slots[to].as_mut().expect("written before"), self.pos, -1.0),
                    _ => {}
                }
                continue;
            }
            let mut dx = job.slots[from].take().unwrap_or_else(|| Rows::Own(Buffer::new(rows * self.widths[from])));
            let is_added = from == 0 && is_begun;
            let sums = &mut job.sums[number];
            let dy = job.slots[to].as_deref_mut();
            if let Part::Linear(linear) = part {
                // A loss has no buffer for the gradient of its logits, and no other part has a scale.
                let (dy, scale): (&[f32], f32) = dy.map_or_else(|| (value(to), scale), |dy| (&*dy, 1.0));
                linear.backward(dy, packed.next().expect("one each"), scale, is_added, &mut dx, sums);
            } else {
                let dy = dy.expect("written before");
                let kept = &saved.kept[number];
                let kept = &of_chunk(kept, part.kept(self.pos), first)[..rows * part.kept(self.pos)];
                match part {
                    Part::Copy if is_added => add(&mut dx, dy),
                    Part::Copy => dx.copy_from_slice(dy),
                    Part::Norm(norm) => {
                        if !is_added {
                            dx.fill(0.0);
                        }
                        norm.backward(dy, value(from), inputs, kept, &mut dx, sums);
                    }
                    Part::HeadNorms(norms) => norms.backward(dy, value(from), inputs, kept, &mut dx, sums),
                    Part::Attention(attention) => attention.backward(dy, value(from), self.pos, kept, &mut dx),
                    Part::Activation(activation) => {
                        activation.backward(dy, value(from), value(to), self.widths[from], &mut dx);
                    }
                    Part::Linear(_) | Part::Add(_) | Part::Rope(_) | Part::Loss(_) => unreachable!("done above"),
                }
            }
            job.slots[from] = Some(dx);
            job.slots[to] = None;
        }
    }
}

/// `x += y`
fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// From the first row of a chunk on.
fn of_chunk(x: &[f32], width: usize, first: usize) -> &[f32] {
    &x[first * width..]
}

/// Adds up what the chunks have summed, in their order and in f64.
fn total(sums: &[f32], width: usize, Summed { first, count, .. }: Summed, into: &mut [f32]) {
    let column = |j: usize| sums.chunks_exact(width).map(|chunk| f64::from(chunk[first + j])).sum::<f64>();
    if let [one] = into {
        *one = (0..count).map(column).sum::<f64>() as f32;
    } else {
        into.iter_mut().enumerate().for_each(|(j, into)| *into = column(j) as f32);
    }
}
