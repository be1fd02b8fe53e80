use crate::buffer::Buffer;
use crate::gemm::{Mat, matmul, transpose};
use crate::part::Heads;
use crate::simd::{LANES, dispatch, dot, exp, max, sum};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Queries that share a matrix product. A causal block computes no score beyond its last query's key, so that little of what
/// causality masks is computed.
const QUERIES: usize = 32;

/// From this sequence length on the blocks of a sequence are divided among threads: there may be few sequences.
const LONG: usize = 512;

/// Attention: rows of queries, keys and values -> each head's mixed values, `[n, heads d_head]`.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// How a row is divided.
    pub heads: Heads,
    /// Whether a query sees its own and earlier keys alone.
    pub is_causal: bool,
    /// Whether a head may attend to nothing: `exp(s_i) / (1 + sum_j exp(s_j))`.
    pub has_nothing: bool,
}

/// Queries `first..end` of a sequence, which see keys `0..keys` at most.
#[derive(Debug, Clone, Copy)]
struct Block {
    first: usize,
    end: usize,
    keys: usize,
}

impl Block {
    fn queries(self) -> usize {
        self.end - self.first
    }
}

impl Attention {
    /// Numbers per row that hold the attention weights of a sequence: of each block of queries those of its heads, one after
    /// the other, `[queries, keys that the block sees]`.
    pub(crate) fn kept(&self, pos: usize) -> usize {
        self.blocks(pos).map(|block| self.weights_of(block)).sum::<usize>().div_ceil(pos)
    }

    /// The attention weights of a block, all heads.
    fn weights_of(&self, block: Block) -> usize {
        self.heads.heads * block.queries() * block.keys
    }

    fn blocks(&self, pos: usize) -> impl DoubleEndedIterator<Item = Block> + use<> {
        let is_causal = self.is_causal;
        (0..pos).step_by(QUERIES).collect::<Vec<_>>().into_iter().map(move |first| {
            let end = (first + QUERIES).min(pos);
            Block { first, end, keys: if is_causal { end } else { pos } }
        })
    }

    /// Scores are divided by the root of a head's width.
    fn scale(&self) -> f32 {
        1.0 / (self.heads.d_head as f32).sqrt()
    }

    /// The head of keys and values that a head uses.
    fn shared(&self, head: usize) -> usize {
        head / (self.heads.heads / self.heads.kv_heads)
    }

    /// `x [n, queries keys values]` -> `y [n, heads d_head]`. Where `kept` is empty the weights are not kept.
    pub(crate) fn forward(&self, x: &[f32], pos: usize, y: &mut [f32], kept: &mut [f32]) {
        let width = self.heads.width();
        for (number, (x, y)) in
            x.chunks_exact(pos * width).zip(y.chunks_exact_mut(pos * self.heads.queries())).enumerate()
        {
            let mut keys_t = Buffer::new(self.heads.keys() * pos);
            for (head, to) in keys_t.chunks_exact_mut(self.heads.d_head * pos).enumerate() {
                transpose(self.keys(x, head), to);
            }
            let of_sequence = pos * self.kept(pos);
            let (mut y, mut kept) = match kept.get_mut(number * of_sequence..) {
                Some([]) | None => (y, &mut [][..]),
                Some(kept) => (y, &mut kept[..of_sequence]),
            };
            let mut jobs = Vec::new();
            for block in self.blocks(pos) {
                let (own, rest) = y.split_at_mut(block.queries() * self.heads.queries());
                let (weights, others) = kept.split_at_mut(self.weights_of(block).min(kept.len()));
                (y, kept) = (rest, others);
                jobs.push((block, own, weights));
            }
            let run = |(block, y, kept): (Block, &mut [f32], &mut [f32])| {
                let mut own = Buffer::new(if kept.is_empty() { self.weights_of(block) } else { 0 });
                let weights: &mut [f32] = if kept.is_empty() { &mut own } else { kept };
                dispatch(Forward { attention: self, block, pos, x, keys_t: &keys_t, y, weights });
            };
            if pos < LONG { jobs.into_iter().for_each(run) } else { jobs.into_par_iter().for_each(run) }
        }
    }

    /// `dy [n, heads d_head]` -> `dx [n, queries keys values]`
    pub(crate) fn backward(&self, dy: &[f32], x: &[f32], pos: usize, kept: &[f32], dx: &mut [f32]) {
        let of_pos = pos * self.kept(pos);
        let width = self.heads.width();
        let sequences = x.chunks_exact(pos * width).zip(dy.chunks_exact(pos * self.heads.queries()));
        for (((x, dy), kept), dx) in sequences.zip(kept.chunks_exact(of_pos)).zip(dx.chunks_exact_mut(pos * width)) {
            dispatch(Backward { attention: self, pos, x, dy, weights: kept, dx });
        }
    }

    fn queries<'a>(&self, x: &'a [f32], head: usize, block: Block) -> Mat<'a> {
        let width = self.heads.width();
        let at = block.first * width + head * self.heads.d_head;
        Mat::new(&x[at..], block.queries(), self.heads.d_head, width)
    }

    /// All keys of a head of keys, `[pos, d_head]`.
    fn keys<'a>(&self, x: &'a [f32], head: usize) -> Mat<'a> {
        let width = self.heads.width();
        Mat::new(&x[self.heads.queries() + head * self.heads.d_head..], x.len() / width, self.heads.d_head, width)
    }

    /// All values of a head of values, `[pos, d_head]`.
    fn values<'a>(&self, x: &'a [f32], head: usize) -> Mat<'a> {
        let width = self.heads.width();
        let at = self.heads.queries() + self.heads.keys() + head * self.heads.d_head;
        Mat::new(&x[at..], x.len() / width, self.heads.d_head, width)
    }
}

/// So many keys, and the rest of the last vector: loops over rows of scores then have no rest.
fn whole(keys: usize) -> usize {
    keys.next_multiple_of(LANES)
}

/// One block of queries of a sequence, all heads.
struct Forward<'a> {
    attention: &'a Attention,
    block: Block,
    pos: usize,
    /// The sequence.
    x: &'a [f32],
    /// The transposed keys of each head of keys, `[d_head, pos]`.
    keys_t: &'a [f32],
    /// The rows of the block.
    y: &'a mut [f32],
    weights: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { attention, block, pos, x, keys_t, y, weights } = self;
        let (count, stride, d_head) = (block.queries(), attention.heads.queries(), attention.heads.d_head);
        for (head, weights) in weights.chunks_exact_mut(count * block.keys).enumerate() {
            let shared = attention.shared(head);
            let keys_t = Mat::new(&keys_t[shared * d_head * pos..], d_head, pos, pos).columns(0, block.keys);
            matmul(attention.queries(x, head, block), keys_t, weights, block.keys, false, attention.scale());
            for (i, row) in weights.chunks_exact_mut(block.keys).enumerate() {
                let seen = if attention.is_causal { block.first + i + 1 } else { pos };
                let (row, hidden) = row.split_at_mut(whole(seen).min(block.keys));
                row[seen..].fill(f32::NEG_INFINITY);
                let most = max(row);
                let most = if attention.has_nothing && most < 0.0 { 0.0 } else { most };
                for score in &mut *row {
                    *score = exp::<S>(*score - most);
                }
                let nothing = if attention.has_nothing { exp::<S>(-most) } else { 0.0 };
                let share = 1.0 / (sum(row) + nothing);
                for score in &mut *row {
                    *score *= share;
                }
                hidden.fill(0.0);
            }
            let weights = Mat::dense(weights, block.keys);
            let values = attention.values(x, shared).rows(0, block.keys);
            matmul(weights, values, &mut y[head * d_head..], stride, false, 1.0);
        }
    }
}

/// One sequence, all heads.
struct Backward<'a> {
    attention: &'a Attention,
    pos: usize,
    x: &'a [f32],
    dy: &'a [f32],
    weights: &'a [f32],
    dx: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { attention, pos, x, dy, weights, dx } = self;
        let Heads { heads, kv_heads, d_head } = attention.heads;
        let (width, stride, scale) = (attention.heads.width(), attention.heads.queries(), attention.scale());
        let mut d_scores = Buffer::new(QUERIES * pos);
        let mut values_t = Buffer::new(d_head * pos);
        let mut end = 0;
        let blocks: Vec<(Block, usize)> = attention
            .blocks(pos)
            .map(|block| {
                end += attention.weights_of(block);
                (block, end - attention.weights_of(block))
            })
            .collect();
        for head in 0..heads {
            let shared = attention.shared(head);
            let (keys, values) = (attention.keys(x, shared), attention.values(x, shared));
            let values_t = transpose(values, &mut values_t);
            let to_keys = attention.heads.queries() + shared * d_head;
            let to_values = to_keys + attention.heads.keys();
            let is_first = head % (heads / kv_heads) == 0;
            // The last block sees every key: with a head's first query head it writes the gradients, all others add to them.
            for &(block, first_weight) in blocks.iter().rev() {
                let add = !is_first || block.end < pos;
                let count = block.queries();
                let dy = Mat::new(&dy[block.first * stride + head * d_head..], count, d_head, stride);
                let weights = &weights[first_weight + head * count * block.keys..][..count * block.keys];
                matmul(dy, values_t.columns(0, block.keys), &mut d_scores, block.keys, false, 1.0);
                let rows = d_scores.chunks_exact_mut(block.keys).zip(weights.chunks_exact(block.keys));
                for ((ds, p), query) in rows.zip(block.first..) {
                    let seen = if attention.is_causal { whole(query + 1).min(block.keys) } else { pos };
                    let (ds, hidden) = ds.split_at_mut(seen);
                    let mean = dot::<S>(ds, &p[..seen]);
                    for (ds, p) in ds.iter_mut().zip(p) {
                        *ds = p * (*ds - mean);
                    }
                    hidden.fill(0.0);
                }
                let weights = Mat::dense(weights, block.keys);
                let ds = Mat::new(&d_scores, count, block.keys, block.keys);
                matmul(weights.transposed(), dy, &mut dx[to_values..], width, add, 1.0);
                matmul(
                    ds,
                    keys.rows(0, block.keys),
                    &mut dx[block.first * width + head * d_head..],
                    width,
                    false,
                    scale,
                );
                matmul(ds.transposed(), attention.queries(x, head, block), &mut dx[to_keys..], width, add, scale);
            }
        }
    }
}
