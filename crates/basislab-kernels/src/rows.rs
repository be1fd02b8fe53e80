//! The chunks of a batch, and their rows of buffers.

use crate::buffer::Buffer;
use std::ops::{Deref, DerefMut};

/// How the rows of a batch are cut: into chunks that depend on the sequence length alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunks {
    pub(crate) rows: usize,
    /// Rows of each chunk but the last, which may have fewer.
    pub(crate) most: usize,
}

/// One chunk, and its rows of buffers.
pub(crate) struct Job<'a> {
    pub(crate) first: usize,
    pub(crate) rows: usize,
    /// Of each slot.
    pub(crate) slots: Vec<Option<Rows<'a>>>,
    /// Of each part: what it keeps, or the gradient of the stream that it adds.
    pub(crate) beside: Vec<Option<Rows<'a>>>,
    /// Of each slot that the backward pass makes again.
    pub(crate) again: Vec<Option<Rows<'a>>>,
    /// Of each part.
    pub(crate) sums: Vec<&'a mut [f32]>,
}

impl Chunks {
    pub(crate) fn jobs<'a>(self) -> Vec<Job<'a>> {
        let job = |first: usize| {
            let rows = self.most.min(self.rows - first);
            Job { first, rows, slots: Vec::new(), beside: Vec::new(), again: Vec::new(), sums: Vec::new() }
        };
        (0..self.rows).step_by(self.most).map(job).collect()
    }

    /// Gives each job its rows of a buffer, or nothing of an empty one.
    pub(crate) fn share<'a>(
        self,
        jobs: &mut [Job<'a>],
        buffer: &'a mut [f32],
        list: for<'b> fn(&'b mut Job<'a>) -> &'b mut Vec<Option<Rows<'a>>>,
    ) {
        let width = buffer.len() / self.rows;
        let mut rest = buffer;
        for job in jobs {
            let (own, others) = rest.split_at_mut(job.rows * width);
            rest = others;
            list(job).push((width > 0).then_some(Rows::Shared(own)));
        }
    }

    /// A buffer of `width` sums per chunk, from 0.
    pub(crate) fn sums(self, width: usize) -> Buffer {
        let mut sums = Buffer::new(self.rows.div_ceil(self.most) * width);
        sums.fill(0.0);
        sums
    }

    /// Gives each job its sums.
    pub(crate) fn share_sums<'a>(self, jobs: &mut [Job<'a>], sums: &'a mut [f32]) {
        let width = sums.len() / jobs.len();
        let mut rest = sums;
        for job in jobs {
            let (own, others) = rest.split_at_mut(width);
            rest = others;
            job.sums.push(own);
        }
    }
}

/// The rows of one chunk.
pub(crate) enum Rows<'a> {
    Shared(&'a mut [f32]),
    Own(Buffer),
}

impl Deref for Rows<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match self {
            Self::Shared(rows) => rows,
            Self::Own(buffer) => buffer,
        }
    }
}

impl DerefMut for Rows<'_> {
    fn deref_mut(&mut self) -> &mut [f32] {
        match self {
            Self::Shared(rows) => rows,
            Self::Own(buffer) => buffer,
        }
    }
}
