use crate::activation::Activation;
use crate::attention::Attention;
use crate::linear::Linear;
use crate::loss::Loss;
use crate::norm::{HeadNorms, Norm};
use crate::rope::Rope;

/// The place of a tensor in the list that a chain is given; 0 is the chain's own input.
pub type Input = usize;

/// One step of a [`Chain`](crate::Chain): rows `[n, a]` -> rows `[n, b]`.
#[derive(Debug, Clone)]
pub enum Part {
    /// Normalises rows.
    Norm(Norm),
    /// Multiplies by weights.
    Linear(Linear),
    /// Adds rows `[N, D]`: a residual connection. In place.
    Add(Input),
    /// Normalises each head's queries and keys.
    HeadNorms(HeadNorms),
    /// Rotates queries and keys by their position. In place.
    Rope(Rope),
    /// Mixes values.
    Attention(Attention),
    /// The non-linearity of an MLP. Leaves what its gradient needs in the values that it reads.
    Activation(Activation),
    /// The loss, which ends a chain. Leaves its gradient in the logits that it reads.
    Loss(Loss),
    /// Copies, where a part may not change what it reads.
    Copy,
}

impl Part {
    pub(crate) fn is_in_place(&self) -> bool {
        matches!(self, Self::Add(_) | Self::Rope(_) | Self::Loss(_))
    }

    /// Whether it cannot read the chain's own input: it changes what it reads, or writes the gradient of that where a
    /// residual connection has added to it.
    pub(crate) fn needs_a_copy(&self) -> bool {
        self.is_in_place() || matches!(self, Self::Activation(_) | Self::Attention(_) | Self::HeadNorms(_))
    }

    /// Numbers per row of what it writes, given those of what it reads.
    pub(crate) fn width(&self, read: usize) -> usize {
        match self {
            Self::Linear(linear) => linear.width(),
            Self::Attention(attention) => attention.heads.queries(),
            Self::Activation(activation) => activation.width(read),
            Self::Norm(_) | Self::Add(_) | Self::HeadNorms(_) | Self::Rope(_) | Self::Loss(_) | Self::Copy => read,
        }
    }

    /// Numbers per row that it keeps for the backward pass beside what it reads and writes.
    pub(crate) fn kept(&self, pos: usize) -> usize {
        match self {
            Self::Norm(norm) => norm.kept(),
            Self::HeadNorms(norms) => norms.kept(),
            Self::Attention(attention) => attention.kept(pos),
            Self::Linear(_) | Self::Add(_) | Self::Rope(_) | Self::Activation(_) | Self::Loss(_) | Self::Copy => 0,
        }
    }

    /// Numbers that a chunk adds up for the gradients of gains and biases.
    pub(crate) fn sums(&self, read: usize) -> usize {
        match self {
            Self::Norm(norm) => norm.sums(read),
            Self::HeadNorms(norms) => norms.sums(),
            Self::Linear(linear) => linear.sums(),
            Self::Add(_) | Self::Rope(_) | Self::Attention(_) | Self::Activation(_) | Self::Loss(_) | Self::Copy => 0,
        }
    }

    /// Which inputs these sums are the gradients of.
    pub(crate) fn summed(&self, read: usize) -> Vec<Summed> {
        match self {
            Self::Norm(norm) => norm.summed(read),
            Self::HeadNorms(norms) => norms.summed(),
            Self::Linear(linear) => linear.summed(),
            Self::Add(_) | Self::Rope(_) | Self::Attention(_) | Self::Activation(_) | Self::Loss(_) | Self::Copy => {
                Vec::new()
            }
        }
    }
}

/// A gradient that is a sum over rows: `count` of a chunk's sums from `first` on, or their total where the input is one number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Summed {
    pub(crate) input: Input,
    pub(crate) first: usize,
    pub(crate) count: usize,
}

/// How queries, keys and values lie in a row: those of all heads, in this order, side by side.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Heads.
    pub heads: usize,
    /// Heads that have keys and values of their own, each shared by as many neighbouring heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub d_head: usize,
}

impl Heads {
    /// Numbers per row of the queries, and of what attention writes.
    pub(crate) fn queries(&self) -> usize {
        self.heads * self.d_head
    }

    /// Numbers per row of the keys, and of the values.
    pub(crate) fn keys(&self) -> usize {
        self.kv_heads * self.d_head
    }

    /// Numbers per row of queries, keys and values.
    pub(crate) fn width(&self) -> usize {
        self.queries() + 2 * self.keys()
    }
}
